//! Bridges and namespaces of somebody else's that vanish, or give way to others, while we use them.

use netbpf::{
    host::{Netns, netns},
    reconcile::{self, Action, Fault, Mode},
    status::{self, State},
};

use crate::bed::{self, Bed};

/// A bridge that is somebody's, with its own MAC and MTU.
fn make_bridge(bed: &Bed, mac: &str) {
    bed.ip(&format!("link add nb-front address {mac} type bridge"));
    bed.ip("link set nb-front mtu 1400 addrgenmode none");
    bed.ip("link set nb-front up");
}

fn state(bed: &Bed) -> State {
    status::status(&bed.host, &bed.instance).unwrap().state
}

/// Applies, which must mend something, and again, which must not; the changes of those kinds.
fn mend(bed: &Bed, document: &str) -> Vec<String> {
    let report = bed.apply(document);
    assert!(!bed.apply(document).changed);
    assert_eq!(state(bed), State::Active);
    let told = report.changes.iter();
    told.filter(|change| change.action == Action::Change)
        .map(|change| format!("{} {}: {}", change.kind, change.name, change.detail))
        .filter(|words| words.contains("the adopted one is gone"))
        .collect()
}

#[test]
fn what_was_adopted_and_vanished_is_made_and_then_removed() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document();
        make_bridge(bed, "02:00:00:00:00:77");
        let web = bed.dir.join("web");
        netns::create(&web).unwrap();
        bed.apply(&document);

        bed.ip("link delete nb-front");
        netns::delete(&web).unwrap();
        assert_eq!(state(bed), State::Degraded);
        let told = mend(bed, &document);
        assert_eq!(told.len(), 2, "{told:#?}");
        assert!(
            told[0].starts_with("network front: bridge nb-front with "),
            "{told:#?}"
        );
        assert_eq!(
            told[1],
            format!("netns {}: made, for the adopted one is gone", web.display())
        );

        reconcile::purge(&bed.host, &bed.instance).unwrap();
        assert!(!web.exists());
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn purge_copes_with_what_vanished_and_leaves_what_came_instead() {
    bed::with(|bed| {
        let document = bed.document();
        let web = bed.dir.join("web");
        make_bridge(bed, "02:00:00:00:00:77");
        netns::create(&web).unwrap();
        bed.apply(&document);
        bed.ip("link delete nb-front");
        netns::delete(&web).unwrap();
        make_bridge(bed, "02:00:00:00:00:88");
        bed.ip("link set nb-front mtu 1300");
        netns::create(&web).unwrap();
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        let bridge = bed.ip("-o link show nb-front");
        assert!(
            bridge.contains("02:00:00:00:00:88") && bridge.contains("mtu 1300"),
            "{bridge}"
        );
        assert!(Netns::open(&web).unwrap().is_some());
        netns::delete(&web).unwrap();
    });
}

#[test]
fn what_came_instead_is_adopted_in_its_turn() {
    bed::with(|bed| {
        let document = bed.document();
        let web = bed.dir.join("web");
        make_bridge(bed, "02:00:00:00:00:77");
        netns::create(&web).unwrap();
        bed.apply(&document);
        bed.ip("link delete nb-front");
        netns::delete(&web).unwrap();
        make_bridge(bed, "02:00:00:00:00:88");
        netns::create(&web).unwrap();
        let before = bed.ip("-o link show nb-front");
        assert_eq!(mend(bed, &document), [""; 0]);

        reconcile::purge(&bed.host, &bed.instance).unwrap();
        let after = bed.ip("-o link show nb-front");
        assert!(
            before.contains("02:00:00:00:00:88") && before.contains("mtu 1400"),
            "{before}"
        );
        assert!(
            after.contains("02:00:00:00:00:88") && after.contains("mtu 1400"),
            "{after}"
        );
        assert!(Netns::open(&web).unwrap().is_some());
        netns::delete(&web).unwrap();
    });
}

#[test]
fn one_namespace_under_two_names_is_refused() {
    bed::with(|bed| {
        let (web, web2) = (bed.dir.join("web"), bed.dir.join("web2"));
        netns::create(&web).unwrap();
        std::os::unix::fs::symlink(&web, &web2).unwrap();
        let before = bed.snapshot();
        let error = bed
            .try_apply(&bed.document(), Mode::Apply, Fault::None)
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            format!(
                "container \"web2\": {} is the network namespace of container \"web\" under another \
                 name; one that shares it has mode = \"container:web\"",
                web2.display()
            )
        );
        assert_eq!(netbpf::error::exit_code(&error), 1);
        bed::assert_same(&before, &bed.snapshot(), "in the end");
        std::fs::remove_file(&web2).unwrap();
        netns::delete(&web).unwrap();
    });
}
