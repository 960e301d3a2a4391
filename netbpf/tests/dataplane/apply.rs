//! What an apply makes, what a second one changes, what a purge leaves.

use netbpf::{
    host::bpffs::PinDirs,
    reconcile::{self, Action, Fault, Mode},
    status::{self, State},
};

use crate::bed::{self, TABLES};

#[test]
fn apply_makes_it_once_and_purge_leaves_nothing() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document();

        let report = bed.apply(&document);
        assert!(report.changed);
        let status = status::status(&bed.host, &bed.instance).unwrap();
        assert_eq!(status.state, State::Active, "{status:#?}");
        let hooks: usize = status.interfaces.iter().map(|it| it.hooks.len()).sum();
        // Three containers and one uplink with two hooks each, two bridges and lo with one.
        assert_eq!(hooks, 11, "{:#?}", status.interfaces);

        let again = bed.apply(&document);
        assert!(!again.changed, "{again:#?}");

        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
        let nothing = reconcile::purge(&bed.host, &bed.instance).unwrap();
        assert!(!nothing.changed);
    });
}

#[test]
fn dry_run_tells_the_same_changes_and_makes_none() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document();
        let told = bed.try_apply(&document, Mode::DryRun, Fault::None).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
        let done = bed.apply(&document);
        assert_eq!(told, done);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn changed_document_changes_only_the_difference() {
    bed::with(|bed| {
        let document = bed.document();
        bed.apply(&document);

        let moved = document
            .replace("8080:80", "8081:80")
            .replace("icc = false", "icc = true");
        let report = bed.apply(&moved);
        let told: Vec<(Action, &str, &str)> = report
            .changes
            .iter()
            .map(|change| (change.action, change.kind.as_ref(), change.name.as_str()))
            .collect();
        assert_eq!(
            told,
            [
                (Action::Change, "network", "back"),
                (Action::Add, "port", "0.0.0.0:8081/tcp"),
                (Action::Remove, "port", "0.0.0.0:8080/tcp"),
                (Action::Add, "port", "[::]:8081/tcp"),
                (Action::Remove, "port", "[::]:8080/tcp"),
            ],
            "{report:#?}"
        );
        assert!(!bed.apply(&moved).changed);

        let report = bed.apply(TABLES);
        assert!(
            report
                .changes
                .iter()
                .all(|change| change.action != Action::Change),
            "{report:#?}"
        );
        assert!(!bed.apply(TABLES).changed);
        assert!(
            bed.ip("-br link")
                .lines()
                .all(|line| !line.starts_with("nb"))
        );
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn missing_uplink_changes_nothing() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document().replace("\"up0\"", "\"up0\", \"up9\"");
        let error = bed
            .try_apply(&document, Mode::Apply, Fault::None)
            .unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "uplink \"up9\": there is no such interface"
        );
        assert_eq!(netbpf::error::exit_code(&error), 1);
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn bigger_tables_than_loaded_ones_are_refused() {
    bed::with(|bed| {
        bed.apply(TABLES);
        let bigger = TABLES.replace("1024", "2048");
        let error = bed
            .try_apply(&bigger, Mode::Apply, Fault::None)
            .unwrap_err();
        assert!(format!("{error:#}").contains("purge first"), "{error:#}");
        assert_eq!(netbpf::error::exit_code(&error), 1);
        let smaller = TABLES.replace("1024", "512");
        assert!(bed.apply(&smaller).changed);
        assert!(!bed.apply(&smaller).changed);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn lost_link_is_seen_as_degraded_and_mended() {
    bed::with(|bed| {
        let document = bed.document();
        bed.apply(&document);
        let whole = bed.shape();
        let state = || status::status(&bed.host, &bed.instance).unwrap().state;
        bed.ip(&format!("link delete {}", veth(bed, "web")));
        assert_eq!(state(), State::Degraded);
        assert!(bed.apply(&document).changed);
        assert_eq!(state(), State::Active);
        bed::assert_same(&whole, &bed.shape(), "in the end");
        assert!(!bed.apply(&document).changed);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn lost_pin_is_named_and_mended() {
    bed::with(|bed| {
        let document = bed.document();
        bed.apply(&document);
        let whole = bed.shape();
        let pins = PinDirs::of(bed.instance.name());
        for (pin, name) in [
            (pins.maps.join("published_v4"), "map published_v4"),
            (pins.progs.join("from_netdev"), "program from_netdev"),
        ] {
            std::fs::remove_file(&pin).unwrap();
            let status = status::status(&bed.host, &bed.instance).unwrap();
            assert_eq!(status.state, State::Degraded);
            assert_eq!(status.missing, [name]);
            let report = bed.apply(&document);
            assert!(report.changes[0].detail.ends_with(name), "{report:#?}");
            bed::assert_same(&whole, &bed.shape(), name);
            let again = bed.apply(&document);
            assert!(!again.changed, "{again:#?}");
        }
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn lost_document_is_named_and_one_that_can_not_be_read_is_degraded() {
    bed::with(|bed| {
        let document = bed.document();
        bed.apply(&document);
        let path = bed.instance.desired_path();
        std::fs::remove_file(&path).unwrap();
        let status = status::status(&bed.host, &bed.instance).unwrap();
        assert_eq!(status.state, State::Degraded);
        assert_eq!(status.missing, [format!("file {}", path.display())]);
        // No text, and nothing that can be read at all.
        std::fs::write(&path, b"\xff").unwrap();
        let status = status::status(&bed.host, &bed.instance).unwrap();
        assert_eq!((status.state, status.missing), (State::Degraded, vec![]));
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        let status = status::status(&bed.host, &bed.instance).unwrap();
        assert_eq!((status.state, status.missing), (State::Degraded, vec![]));
        std::fs::remove_dir(&path).unwrap();
        bed.apply(&document);
        let status = status::status(&bed.host, &bed.instance).unwrap();
        assert_eq!(status.state, State::Active);
        assert!(status.missing.is_empty());
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

fn veth(bed: &bed::Bed, container: &str) -> String {
    netbpf::naming::veth(bed.instance.name(), container, "front")
}
