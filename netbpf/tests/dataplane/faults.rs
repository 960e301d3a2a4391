//! An error and a kill before each single step of a change.

use std::{env, fs, path::PathBuf, process::Command};

use netbpf::{
    dataplane::{
        attach::Place,
        maps::{Contents, Maps},
    },
    host::{bpffs::PinDirs, link::Framing},
    reconcile::{self, Fault, Mode},
    state::{Journal, Pending, fingerprint},
};
use netbpf_common::verdict::Hook;

use crate::bed::{self, Bed};

/// More steps than any change here has.
const STEPS_MAX: u32 = 400;

/// A first apply loads the programs each time, which takes long: only some of its steps are tried,
/// with a stride that meets every kind of step. What fails and what is killed begin at others.
const STRIDE: usize = 7;
const FIRST_KILLED: u32 = 3;

/// Another document than [`Bed::document`]: something comes, goes, moves and changes.
fn other(bed: &Bed) -> String {
    bed.document()
        .replace("8080:80", "8081:80")
        .replace("icc = false", "icc = true")
        .replace("name = \"web2\"", "name = \"web3\"")
        .replace("container = \"web2\"", "container = \"web3\"")
        .replace("172.29.0.0/24", "172.30.0.0/24")
}

#[test]
fn first_apply_that_fails_at_any_step_leaves_nothing() {
    bed::with(|bed| {
        let before = bed.snapshot();
        let document = bed.document();
        for step in (0..STEPS_MAX).step_by(STRIDE) {
            match bed.try_apply(&document, Mode::Apply, Fault::Fail(step)) {
                Ok(_) => {
                    assert!(step > 20, "{step} steps are too few");
                    reconcile::purge(&bed.host, &bed.instance).unwrap();
                    return;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(
                        error.contains("the host is as it was before"),
                        "{step}: {error}"
                    );
                    bed::assert_same(&before, &bed.snapshot(), &format!("{step}: {error}"));
                }
            }
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

#[test]
fn change_that_fails_at_any_step_leaves_what_was_there() {
    bed::with(|bed| {
        let document = bed.document();
        let other = other(bed);
        bed.apply(&document);
        let before = bed.shape();
        for step in 0..STEPS_MAX {
            match bed.try_apply(&other, Mode::Apply, Fault::Fail(step)) {
                Ok(_) => {
                    assert!(step > 20, "{step} steps are too few");
                    reconcile::purge(&bed.host, &bed.instance).unwrap();
                    return;
                }
                Err(error) => {
                    let error = format!("{error:#}");
                    assert!(
                        error.contains("the host is as it was before"),
                        "{step}: {error}"
                    );
                    bed::assert_same(&before, &bed.shape(), &format!("{step}: {error}"));
                    let again = bed.apply(&document);
                    assert!(!again.changed, "{step}: {error}: {again:#?}");
                }
            }
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

const DIR: &str = "NETBPF_TEST_KILLED_DIR";
const NAME: &str = "NETBPF_TEST_KILLED_NAME";
const STEP: &str = "NETBPF_TEST_KILLED_STEP";

/// What the process that is killed applies, in the directory of its bed.
const DOCUMENT: &str = "next.toml";

/// The process that the tests below kill; by itself it does nothing.
#[test]
fn a_process_to_be_killed() {
    let (Ok(dir), Ok(name), Ok(step)) = (env::var(DIR), env::var(NAME), env::var(STEP)) else {
        return;
    };
    bed::inside(&PathBuf::from(dir), &name, |bed| {
        let fault = Fault::Kill(step.parse().unwrap());
        let document = fs::read_to_string(bed.dir.join(DOCUMENT)).unwrap();
        bed.try_apply(&document, Mode::Apply, fault).unwrap();
    });
}

/// Whether the apply of `document` came to its end before it was to be killed.
fn ends_before(bed: &Bed, document: &str, step: u32) -> bool {
    fs::write(bed.dir.join(DOCUMENT), document).unwrap();
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "faults::a_process_to_be_killed"])
        .env(DIR, &bed.dir)
        .env(NAME, bed.instance.name())
        .env(STEP, step.to_string())
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn first_apply_that_is_killed_at_any_step_is_taken_back() {
    bed::with(|bed| {
        let before = bed.snapshot();
        for step in (FIRST_KILLED..STEPS_MAX).step_by(STRIDE) {
            if ends_before(bed, &other(bed), step) {
                assert!(step > 20, "{step} steps are too few");
                reconcile::purge(&bed.host, &bed.instance).unwrap();
                bed::assert_same(&before, &bed.snapshot(), "in the end");
                return;
            }
            // By turns the two ways out of it.
            if step % 2 == 0 {
                reconcile::recover(&bed.host, &bed.instance).unwrap();
            } else {
                reconcile::purge(&bed.host, &bed.instance).unwrap();
            }
            bed::assert_same(&before, &bed.snapshot(), &format!("{step}"));
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

#[test]
fn change_that_is_killed_at_any_step_is_taken_back_by_the_next_command() {
    bed::with(|bed| {
        let document = bed.document();
        bed.apply(&document);
        let before = bed.shape();
        for step in 0..STEPS_MAX {
            if ends_before(bed, &other(bed), step) {
                assert!(step > 20, "{step} steps are too few");
                reconcile::purge(&bed.host, &bed.instance).unwrap();
                return;
            }
            reconcile::recover(&bed.host, &bed.instance).unwrap();
            bed::assert_same(&before, &bed.shape(), &format!("{step}"));
            let again = bed.apply(&document);
            assert!(!again.changed, "{step}: {again:#?}");
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

/// The number of an interface that goes, and of another one that comes.
const REUSED: u32 = 901;

/// Whether packets from that interface meet the programs.
fn is_hooked(bed: &Bed, interface: &str) -> bool {
    let place = Place {
        hook: Hook::FromNetdev,
        framing: Framing::Ethernet,
        interface: interface.to_owned(),
    };
    let pins = PinDirs::of(bed.instance.name());
    place.is_hooked(&pins, REUSED).unwrap()
}

fn is_trusted(contents: &Contents) -> bool {
    let mut keys = contents.trusted_interfaces.keys();
    keys.any(|key| key.ifindex == REUSED)
}

#[test]
fn an_interface_with_the_number_of_a_trusted_one_is_hooked_without_its_trust() {
    bed::with(|bed| {
        let document = bed.document().replace("uplinks = [\"up0\"]", "").replace(
            "name = \"front\"\nsubnets",
            "name = \"front\"\ntrusted_interfaces = [\"vpn0\"]\nsubnets",
        );
        let link = |name: &str| {
            bed.ip(&format!(
                "link add {name} index {REUSED} type veth peer name {name}p"
            ));
        };
        let contents = || {
            let pins = PinDirs::of(bed.instance.name());
            Maps::open(&pins.maps).unwrap().read().unwrap()
        };
        for step in 0..STEPS_MAX {
            link("vpn0");
            bed.apply(&document);
            assert!(is_trusted(&contents()) && is_hooked(bed, "vpn0"));
            bed.ip("link del vpn0");
            link("lan0");
            let is_done = ends_before(bed, &document, step);
            let seen = contents();
            if is_hooked(bed, "lan0") {
                assert!(!is_trusted(&seen), "{step}");
            }
            reconcile::recover(&bed.host, &bed.instance).unwrap();
            assert!(is_hooked(bed, "lan0") && !is_trusted(&contents()), "{step}");
            bed.ip("link del lan0");
            if is_done {
                assert!(step > 3, "{step} steps are too few");
                reconcile::purge(&bed.host, &bed.instance).unwrap();
                return;
            }
        }
        panic!("more than {STEPS_MAX} steps");
    });
}

/// The names in the directory of pinned links.
fn links(bed: &Bed) -> Vec<String> {
    let entries = fs::read_dir(PinDirs::of(bed.instance.name()).links).unwrap();
    let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
    names.collect()
}

#[test]
fn a_pin_that_did_not_get_its_name_goes_with_the_change_it_was_for() {
    bed::with(|bed| {
        let network = "[[network]]\nname = \"front\"\nsubnets = [\"172.28.0.0/24\"]\n";
        let plain = format!("{}\n[host]\nuplinks = []\n{network}", bed::TABLES);
        bed.apply(&plain);
        let before = links(bed);
        bed.apply(&bed.document());
        let dir = PinDirs::of(bed.instance.name()).links;
        let mut renamed = 0;
        for name in links(bed) {
            if name.ends_with("-cgroup") || name.starts_with("from_netdev-") {
                fs::rename(dir.join(&name), dir.join(format!("{name}_new"))).unwrap();
                renamed += 1;
            }
        }
        assert!(renamed > 8, "{renamed}");
        let lock = bed.instance.lock().unwrap();
        let mut journal = Journal::open(&bed.instance, &lock, bed.host.netns().id()).unwrap();
        bed.instance.write_desired(&lock, &plain).unwrap();
        let pending = Pending {
            document: Some(fingerprint(&plain)),
            ..Pending::default()
        };
        journal.begin(pending).unwrap();
        drop(lock);
        reconcile::recover(&bed.host, &bed.instance).unwrap();
        assert_eq!(links(bed), before);
        assert!(!bed.apply(&plain).changed);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}
