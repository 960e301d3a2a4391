//! Documents that change under a standing dataplane: containers that move, bridges that were
//! there, things of somebody else's, another version of the programs.

use std::{fs, net::TcpListener, os::unix::fs::symlink};

use aya::{
    maps::MapInfo,
    programs::links::{FdLink, PinnedLink},
};
use netbpf::{
    error,
    host::{Host, bpffs::PinDirs, netns},
    reconcile::{self, Fault, Mode, Options, Reservations},
    state::Instance,
    status::{self, State},
};

use crate::bed::{self, Bed, TABLES};

/// What an apply that must not be says, when it is the host's fault and changed nothing.
fn refused(bed: &Bed, document: &str) -> String {
    let before = bed.snapshot();
    let error = bed
        .try_apply(document, Mode::Apply, Fault::None)
        .unwrap_err();
    assert_eq!(error::exit_code(&error), 1, "{error:#}");
    bed::assert_same(&before, &bed.snapshot(), &format!("{error:#}"));
    format!("{error:#}")
}

/// Applies, and again: the second time changes nothing, and all of it stands.
fn apply_twice(bed: &Bed, document: &str) {
    assert!(bed.apply(document).changed);
    let again = bed.apply(document);
    assert!(!again.changed, "{again:#?}");
    let status = status::status(&bed.host, &bed.instance).unwrap();
    assert_eq!(status.state, State::Active);
}

#[test]
fn adopted_bridge_whose_mac_was_never_set_is_settled_once() {
    bed::with(|bed| {
        let document = bed.document();
        bed.ip("link add nb-front type bridge");
        apply_twice(bed, &document);
        reconcile::purge(&bed.host, &bed.instance).unwrap();

        bed.ip("link delete nb-front");
        bed.ip("link add nb-front type bridge");
        bed.ip("link add port0 type veth peer name port1");
        bed.ip("link set port0 master nb-front");
        bed.ip("link set port0 nomaster");
        let bridge = bed.ip("link show nb-front");
        assert!(bridge.contains("00:00:00:00:00:00"), "{bridge}");
        apply_twice(bed, &document);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed.ip("link show nb-front");
    });
}

#[test]
fn netns_paths_with_a_file_or_without_a_directory_are_refused() {
    bed::with(|bed| {
        let document = bed.document();
        let path = bed.dir.join("web");
        fs::write(&path, "").unwrap();
        let error = refused(bed, &document);
        assert!(
            error.contains("exists and is not a network namespace"),
            "{error}"
        );
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        assert!(path.exists());
        fs::remove_file(&path).unwrap();

        let error = refused(bed, &document.replace("/web\"", "/none/web\""));
        assert!(error.contains("/none is no directory"), "{error}");
        assert!(!bed.dir.join("none").exists());
        bed.apply(&document);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

/// The steps of a change, each known by the failure before it. None of them is done in the end.
fn steps(bed: &Bed, document: &str) -> Vec<String> {
    let mut steps = Vec::new();
    loop {
        let fault = Fault::Fail(u32::try_from(steps.len()).unwrap());
        let error = bed.try_apply(document, Mode::Apply, fault).unwrap_err();
        let step = format!("{:#}", error.root_cause());
        if step == "stopped before commit" {
            return steps;
        }
        steps.push(step);
    }
}

#[test]
fn packets_are_sent_only_by_uplinks_that_are_hooked() {
    bed::with(|bed| {
        let with_it = bed.document();
        let without = with_it.replace("uplinks = [\"up0\"]", "uplinks = []");
        let place = |steps: &[String], step: &str| {
            let place = steps.iter().position(|it| it.contains(step));
            place.unwrap_or_else(|| panic!("no {step} in {steps:#?}"))
        };
        bed.apply(&without);
        let coming = steps(bed, &with_it);
        assert!(place(&coming, "ToNetdev") < place(&coming, "WritePlaces"));
        assert!(place(&coming, "FromNetdev") < place(&coming, "WritePlaces"));

        bed.apply(&with_it);
        let leaving = steps(bed, &without);
        assert!(place(&leaving, "DeleteKeys") < place(&leaving, "Detach"));
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn container_can_change_in_every_way() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document();
        apply_twice(bed, &document);
        let whole = bed.shape();
        for (what, old, new) in [
            ("its address", "172.28.0.10", "172.28.0.20"),
            ("its namespace", "/web\"", "/elsewhere\""),
            ("its name", "\"web\"", "\"www\""),
            (
                "its network",
                "networks = [{ name = \"back\" }]",
                "networks = [{ name = \"front\" }]",
            ),
            (
                "its interface",
                "fd00:28::10\" }",
                "fd00:28::10\", interface = \"net0\" }",
            ),
            ("the subnet", "172.29.0.0/24", "172.30.0.0/24"),
            ("the MTU", "icc = false", "icc = false\nmtu = 1400"),
            (
                "the bridge",
                "name = \"back\"\n",
                "name = \"back\"\nbridge = \"br-back\"\n",
            ),
            ("the network's name", "name = \"back\"", "name = \"rear\""),
            ("the virtual address", "\"172.28.0.100\", ", ""),
            ("the way out", "internal = true", "internal = false"),
        ] {
            let changed = document.replace(old, new);
            assert_ne!(changed, document, "{what}");
            apply_twice(bed, &changed);
            apply_twice(bed, &document);
            bed::assert_same(&whole, &bed.shape(), what);
        }
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn bridge_that_was_there_is_put_back() {
    bed::with(|bed| {
        bed.ip("link add nb-front address 02:00:00:00:00:77 type bridge");
        bed.ip("link set nb-front mtu 1400 addrgenmode none");
        bed.ip("link set nb-front up");
        bed.ip("address add 172.28.0.7/24 dev nb-front");
        let before = bed.snapshot();
        let document = bed.document();
        apply_twice(bed, &document);
        assert!(
            bed.ip("address show dev nb-front")
                .contains("172.28.0.7/24")
        );
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn what_is_not_ours_is_left_alone() {
    bed::with(|bed| {
        let document = bed.document();
        bed.ip("link add nb-front type bridge");
        bed.ip("link add stranger type veth peer name other");
        bed.ip("link set stranger master nb-front");
        assert_eq!(
            refused(bed, &document),
            "network \"front\": bridge nb-front has a port that is not ours: stranger"
        );
        bed.ip("link delete nb-front");
        bed.ip("link set stranger name nb-front");
        assert_eq!(
            refused(bed, &document),
            "network \"front\": nb-front exists and is no bridge but a veth"
        );
        bed.ip("link delete nb-front");
        bed.ip("address add 172.28.0.9/28 dev far0");
        assert_eq!(
            refused(bed, &document),
            "network \"front\": subnet 172.28.0.0/24 overlaps address 172.28.0.9/28 of far0"
        );
    });
}

#[test]
fn port_that_a_process_listens_on_is_refused() {
    bed::with(|bed| {
        let listener = TcpListener::bind("198.51.100.1:8080").unwrap();
        assert_eq!(
            refused(bed, &bed.document()),
            "container \"web\": failed to bind host port 0.0.0.0:8080/tcp: address already in use"
        );
        drop(listener);
        apply_twice(bed, &bed.document());
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn full_map_is_refused_before_anything_is_written() {
    bed::with(|bed| {
        let document = bed.document();
        apply_twice(bed, &document);
        let ports: Vec<String> = (1..=4097)
            .map(|port| format!("\"{port}:{port}\""))
            .collect();
        let full = document.replace("\"80:8080\"", &ports.join(", "));
        let whole = bed.shape();
        let error = bed.try_apply(&full, Mode::Apply, Fault::None).unwrap_err();
        assert!(
            format!("{error:#}").contains("map SERVICES_V4 is full"),
            "{error:#}"
        );
        bed::assert_same(&whole, &bed.shape(), "in the end");
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn other_programs_take_over_maps_and_hooks() {
    bed::with(|bed| {
        let pins = PinDirs::of(bed.instance.name());
        let document = bed.document();
        apply_twice(bed, &document);
        let ids = || {
            let mut ids: Vec<(String, u32)> = Vec::new();
            for entry in fs::read_dir(&pins.links).unwrap().flatten() {
                let link = FdLink::from(PinnedLink::from_pin(entry.path()).unwrap());
                ids.push((
                    entry.path().display().to_string(),
                    link.info().unwrap().id(),
                ));
            }
            for entry in fs::read_dir(&pins.maps).unwrap().flatten() {
                let map = MapInfo::from_pin(entry.path()).unwrap();
                ids.push((entry.path().display().to_string(), map.id()));
            }
            ids.sort();
            ids
        };
        let (before, programs) = (ids(), netbpf::dataplane::program_ids(&pins));
        // As an older release would have left it.
        fs::remove_file(pins.base.join("object")).unwrap();
        symlink(
            "/netbpf,0.0.9,abi1,0000000000000001",
            pins.base.join("object"),
        )
        .unwrap();
        apply_twice(bed, &document);
        assert_eq!(ids(), before);
        let replaced = netbpf::dataplane::program_ids(&pins);
        assert!(
            programs.iter().zip(&replaced).all(|(old, new)| old != new),
            "{replaced:?}"
        );
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn maps_of_another_version_are_left_alone_and_can_be_purged() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let pins = PinDirs::of(bed.instance.name());
        bed.apply(TABLES);
        fs::remove_file(pins.base.join("object")).unwrap();
        symlink(
            "/netbpf,9.9.9,abi99,0000000000000001",
            pins.base.join("object"),
        )
        .unwrap();
        let error = refused(bed, TABLES);
        assert!(
            error.contains("9.9.9") && error.contains(env!("CARGO_PKG_VERSION")),
            "{error}"
        );
        reconcile::purge(&bed.host, &bed.instance).unwrap();
        bed::assert_same(&before, &bed.snapshot(), "in the end");
    });
}

#[test]
fn instance_belongs_to_its_namespace_and_holds_its_containers() {
    bed::with(|bed| {
        let document = bed.document();
        apply_twice(bed, &document);
        netns::create(&bed.dir.join("host2")).unwrap();
        let asked = |name: &str, document: &str| {
            std::thread::scope(|scope| {
                let apply = || {
                    let host = Host::enter(bed.dir.join("host2").to_str()).unwrap();
                    let instance = Instance::under(&bed.dir, name);
                    let source = Bed::source(document);
                    let options = Options::default();
                    let error = reconcile::apply(
                        &host,
                        &instance,
                        Some(&source),
                        options,
                        &mut Reservations::momentary(),
                    );
                    let error = error.unwrap_err();
                    assert_eq!(error::exit_code(&error), 1, "{error:#}");
                    format!("{error:#}")
                };
                scope.spawn(apply).join().unwrap()
            })
        };
        let error = asked(bed.instance.name(), TABLES);
        assert!(
            error.contains("belongs to the network namespace"),
            "{error}"
        );
        let other = format!("{}b", bed.instance.name());
        let error = asked(
            &other,
            &document.replace("uplinks = [\"up0\"]", "uplinks = []"),
        );
        assert!(error.contains("is held by instance"), "{error}");
        assert!(!bed.dir.join("var/lib/netbpf").join(other).exists());
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}
