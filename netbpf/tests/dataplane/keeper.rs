//! A process that stays changes ports by what it knows: to the same end as one that looks at the
//! whole, and taken back like that, whatever fails or is killed.

use std::{env, path::PathBuf, process::Command};

use netbpf::{
    dataplane::maps::{Contents, Maps},
    edit::{Edit, Keys, Kind, Value},
    host::bpffs::PinDirs,
    reconcile::{self, Fault, Keeper, Mode, Options, Report, Reservations},
};

use crate::bed::{self, Bed};

/// More steps than any change here has.
const STEPS_MAX: u32 = 60;

fn add(container: &str, port: Value) -> Edit {
    Edit::Publish {
        container: container.to_owned(),
        ports: vec![port],
    }
}

fn text(port: &str) -> Value {
    Value::Text(port.to_owned())
}

fn remove(container: &str, port: &str) -> Edit {
    Edit::Unpublish {
        container: container.to_owned(),
        ports: vec![port.to_owned()],
    }
}

/// A port with lists of sources: more maps than one.
fn listed() -> Value {
    let keys = Keys::default()
        .text("port", Some("9200:90"))
        .texts("allow", &["198.51.100.0/24".to_owned()])
        .texts(
            "deny",
            &["198.51.100.7".to_owned(), "2001:db8::/64".to_owned()],
        );
    Value::Table(keys)
}

fn edit(keeper: &mut Keeper, bed: &Bed, edit: Edit, fault: Fault) -> anyhow::Result<Report> {
    let mode = Mode::Apply;
    let options = Options { mode, fault };
    keeper.edit(&bed.host, &bed.instance, &[edit], options)
}

/// A process that stays, after it has applied what is committed.
fn keeper(bed: &Bed) -> Keeper {
    let mut keeper = Keeper::lasting();
    keeper
        .apply(&bed.host, &bed.instance, None, Options::default())
        .unwrap();
    keeper
}

fn contents(bed: &Bed) -> Contents {
    let pins = PinDirs::of(bed.instance.name());
    Maps::open(&pins.maps).unwrap().read().unwrap()
}

fn generation(bed: &Bed) -> u32 {
    let pins = PinDirs::of(bed.instance.name());
    let config = Maps::open(&pins.maps).unwrap().config().unwrap();
    config.generation
}

/// Another process looks at everything and finds it as the document says.
#[track_caller]
fn assert_whole(bed: &Bed) {
    let before = bed.instance.allocations().unwrap();
    let report = reconcile::apply(
        &bed.host,
        &bed.instance,
        None,
        Options::default(),
        &mut Reservations::momentary(),
    );
    let report = report.unwrap();
    assert!(!report.changed, "{report:#?}");
    assert_eq!(bed.instance.allocations().unwrap(), before);
}

#[test]
fn ports_change_by_what_is_known_as_they_do_by_looking() {
    bed::with(|bed| {
        bed.apply(&bed.document());
        let before = contents(bed);
        let mut keeper = keeper(bed);
        let looks = keeper.looks();
        let come = [
            add("web", text("9000:90")),
            add("web", text("127.0.0.1:9001:90/udp")),
            add("web", text("[::1]:9002:91")),
            add("web", text("9100-9103:92-95")),
            add("web", listed()),
            add("web", text("96")),
            add("web", text("9300-9301:97")),
        ];
        for change in come {
            let what = format!("{change:?}");
            let report = edit(&mut keeper, bed, change, Fault::None).unwrap();
            assert!(report.changes.iter().any(|it| it.kind == "port"), "{what}");
            assert_eq!(keeper.looks(), looks, "{what}");
            assert_whole(bed);
            assert!(keeper.can_rest(), "{what}");
            keeper.rest();
            assert!(!keeper.can_rest(), "{what}");
        }
        let asked = generation(bed);
        for port in [
            "9000:90/TCP",
            "127.0.0.1:9001:90/udp",
            "9100-9103:92-95",
            "9200:90",
        ] {
            let report = edit(&mut keeper, bed, remove("web", port), Fault::None).unwrap();
            assert!(report.changes.iter().any(|it| it.kind == "port"), "{port}");
            assert_eq!(keeper.looks(), looks, "{port}");
            assert_whole(bed);
        }
        assert_eq!(generation(bed), asked + 4, "flows ask policy again");
        // What was chosen is looked at when it goes.
        for port in ["96", "9300-9301:97", "[::1]:9002:91"] {
            edit(&mut keeper, bed, remove("web", port), Fault::None).unwrap();
            assert_whole(bed);
        }
        assert_eq!(keeper.looks(), looks + 2);
        assert_eq!(contents(bed), before);
        assert_eq!(bed.instance.desired().unwrap().unwrap(), bed.document());
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn what_is_not_plain_is_looked_at() {
    bed::with(|bed| {
        bed.apply(&bed.document());
        let mut keeper = keeper(bed);
        let mut looks = keeper.looks();
        let mut looked = |keeper: &Keeper| {
            let since = keeper.looks() - looks;
            looks = keeper.looks();
            since
        };
        let mut refused = |change: Edit| {
            let error = edit(&mut keeper, bed, change, Fault::None).unwrap_err();
            assert_eq!(looked(&keeper), 1);
            assert_whole(bed);
            format!("{error:#}")
        };
        // In the words of those who look.
        let met = refused(add("web", text("8080:81")));
        assert!(
            met.contains("port is already allocated (by container \"web\")"),
            "{met}"
        );
        let wrong = refused(add("web", text("8082:99999")));
        assert!(wrong.contains("99999"), "{wrong}");
        let missing = refused(remove("web", "1:1"));
        assert!(missing.contains("does not publish 1:1"), "{missing}");
        let nobody = refused(add("nobody", text("1:1")));
        assert!(nobody.contains("no such container"), "{nobody}");

        // The first port of a container, and one after a change of something else.
        edit(&mut keeper, bed, add("web2", text("9000:90")), Fault::None).unwrap();
        assert_eq!(looked(&keeper), 1);
        let another = Edit::Set {
            kind: Kind::Network,
            name: "back".to_owned(),
            keys: Keys::default().flag("icc", Some(true)),
        };
        edit(&mut keeper, bed, another, Fault::None).unwrap();
        assert_eq!(looked(&keeper), 1);
        edit(&mut keeper, bed, add("web2", text("9001:91")), Fault::None).unwrap();
        assert_eq!(looked(&keeper), 0);
        assert_whole(bed);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn what_somebody_else_changed_is_not_taken_for_known() {
    bed::with(|bed| {
        bed.apply(&bed.document());
        let mut keeper = keeper(bed);
        bed.apply(&bed.document().replace("8080:80", "8081:80"));
        let looks = keeper.looks();
        edit(&mut keeper, bed, add("web", text("8080:80")), Fault::None).unwrap();
        assert_eq!(keeper.looks(), looks + 1);
        assert_whole(bed);
        // The host says that it changed.
        keeper.forget();
        edit(&mut keeper, bed, add("web", text("8082:82")), Fault::None).unwrap();
        assert_eq!(keeper.looks(), looks + 2);
        // A change that was cut short by somebody else is taken back first.
        assert!(!ends_before(bed, &["8083:83"], 3));
        edit(&mut keeper, bed, add("web", text("8084:84")), Fault::None).unwrap();
        assert_eq!(keeper.looks(), looks + 3);
        assert!(!bed.instance.desired().unwrap().unwrap().contains("8083"));
        assert_whole(bed);
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

#[test]
fn change_by_what_is_known_that_fails_at_any_step_leaves_what_was_there() {
    bed::with(|bed| {
        bed.apply(&bed.document());
        let mut keeper = keeper(bed);
        for change in [add("web", listed()), remove("web", "9200:90")] {
            let (before, document) = (contents(bed), bed.instance.desired().unwrap());
            for step in 0.. {
                assert!(step < STEPS_MAX, "more than {STEPS_MAX} steps");
                let Err(error) = edit(&mut keeper, bed, change.clone(), Fault::Fail(step)) else {
                    assert!(step > 6, "{step} steps are too few");
                    break;
                };
                let error = format!("{error:#}");
                assert!(
                    error.contains("the host is as it was before"),
                    "{step}: {error}"
                );
                assert_eq!(contents(bed), before, "{step}: {error}");
                assert_eq!(bed.instance.desired().unwrap(), document, "{step}: {error}");
                assert_whole(bed);
                // So that the next one fails where nothing is looked at.
                keeper
                    .apply(&bed.host, &bed.instance, None, Options::default())
                    .unwrap();
            }
            assert_whole(bed);
        }
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}

const DIR: &str = "NETBPF_TEST_KEEPER_DIR";
const NAME: &str = "NETBPF_TEST_KEEPER_NAME";
const STEP: &str = "NETBPF_TEST_KEEPER_STEP";
const PORTS: &str = "NETBPF_TEST_KEEPER_PORTS";

/// The process that the tests here kill: it adds ports, or removes the one that begins with a dash.
#[test]
fn a_keeper_to_be_killed() {
    let (Ok(dir), Ok(name), Ok(step)) = (env::var(DIR), env::var(NAME), env::var(STEP)) else {
        return;
    };
    let ports = env::var(PORTS).unwrap();
    bed::inside(&PathBuf::from(dir), &name, |bed| {
        let mut keeper = keeper(bed);
        let looks = keeper.looks();
        for port in ports.split(' ') {
            let change = match port.strip_prefix('-') {
                Some(port) => remove("web", port),
                None => add("web", text(port)),
            };
            let fault = Fault::Kill(step.parse().unwrap());
            edit(&mut keeper, bed, change, fault).unwrap();
        }
        assert_eq!(keeper.looks(), looks);
    });
}

/// Whether those changes came to their end before the step at which they were to be killed.
fn ends_before(bed: &Bed, ports: &[&str], step: u32) -> bool {
    Command::new(env::current_exe().unwrap())
        .args(["--exact", "keeper::a_keeper_to_be_killed"])
        .env(DIR, &bed.dir)
        .env(NAME, bed.instance.name())
        .env(STEP, step.to_string())
        .env(PORTS, ports.join(" "))
        .output()
        .unwrap()
        .status
        .success()
}

#[test]
fn change_by_what_is_known_that_is_killed_at_any_step_is_taken_back_by_the_next_verb() {
    bed::with(|bed| {
        bed.apply(&bed.document());
        for port in ["9000:90", "-9000:90"] {
            for step in 0.. {
                assert!(step < STEPS_MAX, "more than {STEPS_MAX} steps");
                let (before, document) = (contents(bed), bed.instance.desired().unwrap());
                let is_done = ends_before(bed, &[port], step);
                // A verb right after: what it finds half done goes first.
                let change = [add("web", text("9500:95"))];
                let options = Options::default();
                let reservations = &mut Reservations::momentary();
                reconcile::edit(&bed.host, &bed.instance, &change, options, reservations).unwrap();
                assert_whole(bed);
                let change = [remove("web", "9500:95")];
                let options = Options::default();
                reconcile::edit(&bed.host, &bed.instance, &change, options, reservations).unwrap();
                if is_done {
                    assert!(step > 4, "{step} steps are too few");
                    assert_ne!(bed.instance.desired().unwrap(), document);
                    break;
                }
                assert_eq!(contents(bed), before, "{port} {step}");
                assert_eq!(bed.instance.desired().unwrap(), document, "{port} {step}");
            }
        }
        reconcile::purge(&bed.host, &bed.instance).unwrap();
    });
}
