//! The lock, the files and the journal of an instance, each below a directory of the test's own.

use std::{fs, path::Path, sync::mpsc, thread, time::Duration};

use netbpf::{
    allocations::Allocations,
    host::{
        Netns, NetnsId, netns,
        sysctl::{Knob, Sysctl},
    },
    state::{Allocated, Change, Changes, Error, Instance, Journal, Origin, Pending, fingerprint},
};
use tempfile::TempDir;

/// A namespace that is there as long as the test: the one it was started in.
fn here() -> NetnsId {
    Netns::current().unwrap().id()
}

fn gone() -> NetnsId {
    NetnsId { dev: 0, inode: 1 }
}

fn forwarding(old: &str) -> Change {
    Change::Sysctl {
        sysctl: Sysctl::new(Knob::Ipv4Forwarding, "nb-front"),
        old: old.into(),
    }
}

fn web(id: NetnsId) -> Change {
    Change::Netns {
        container: "web".into(),
        path: "/run/netns/web".into(),
        id: Some(id),
        origin: Origin::Made,
    }
}

fn of<const N: usize>(changes: [Change; N]) -> Changes {
    changes.into_iter().collect()
}

fn bed() -> (TempDir, Instance) {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let instance = Instance::under(dir.path(), "test");
    (dir, instance)
}

#[test]
fn a_second_writer_is_told_who_holds_the_lock() {
    let (_dir, instance) = bed();
    let _lock = instance.lock().unwrap();
    let error = instance.lock_within(Duration::ZERO).unwrap_err();
    let pid = std::process::id();
    assert_eq!(
        error.to_string(),
        format!("instance test is locked by process {pid}")
    );
}

#[test]
fn a_second_writer_goes_on_when_the_first_ends() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    thread::scope(|scope| {
        let (started, start) = mpsc::channel();
        let instance = &instance;
        let second = scope.spawn(move || {
            started.send(()).unwrap();
            instance.lock().map(drop)
        });
        start.recv().unwrap();
        drop(lock);
        second.join().unwrap().unwrap();
    });
}

#[test]
fn a_writer_that_waited_for_a_purge_holds_a_lock_that_is_there() {
    let (dir, instance) = bed();
    let lock = instance.lock().unwrap();
    instance.write_desired(&lock, "").unwrap();
    thread::scope(|scope| {
        let second = scope.spawn(|| instance.lock().unwrap());
        instance.remove(lock).unwrap();
        let second = second.join().unwrap();
        assert!(instance.run_dir().join("lock").exists());
        assert!(!instance.exists());
        instance.remove(second).unwrap();
    });
    for directory in ["var/lib/netbpf", "run/netbpf"] {
        assert!(!dir.path().join(directory).exists(), "{directory}");
    }
}

#[test]
fn a_document_is_kept_byte_for_byte_and_a_reader_needs_no_lock() {
    let (_dir, instance) = bed();
    assert_eq!(instance.desired().unwrap(), None);
    let lock = instance.lock().unwrap();
    let text = "# mine\r\n[[network]]\nname = \"front\"\n\n";
    instance.write_desired(&lock, text).unwrap();
    assert_eq!(instance.desired().unwrap().as_deref(), Some(text));
    assert!(instance.exists());
    instance.remove_desired(&lock).unwrap();
    instance.remove_desired(&lock).unwrap();
    assert_eq!(instance.desired().unwrap(), None);
}

#[test]
fn the_first_old_value_of_a_sysctl_is_the_one_to_go_back_to() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    journal.extend(&[forwarding("0")]).unwrap();
    journal.extend(&[forwarding("1"), web(gone())]).unwrap();
    let written = instance.inventory().unwrap().unwrap();
    assert_eq!(written.changes, of([forwarding("0"), web(gone())]));

    journal
        .identify_netns(Path::new("/run/netns/web"), here())
        .unwrap();
    journal.forget(&[forwarding("7")]).unwrap();
    let again = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(again.changes(), &of([web(here())]));
}

#[test]
fn an_unfinished_change_is_found_with_what_to_go_back_to() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    assert!(journal.pending().is_none());
    let before = Pending {
        document: Some(fingerprint("# old")),
        ..Pending::default()
    };
    journal.begin(before).unwrap();
    journal.begin(Pending::default()).unwrap();

    let mut found = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(found.pending(), Some(&before));
    found.finish().unwrap();
    assert!(
        Journal::open(&instance, &lock, here())
            .unwrap()
            .pending()
            .is_none()
    );
}

#[test]
fn an_instance_belongs_to_its_namespace_as_long_as_that_lives() {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let path = dir.path().join("host");
    netns::create(&path).unwrap();
    let host = Netns::existing(&path).unwrap().id();
    let instance = Instance::under(dir.path(), "test");
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, host).unwrap();
    journal.extend(&[forwarding("0"), web(gone())]).unwrap();

    let error = Journal::open(&instance, &lock, here()).unwrap_err();
    assert!(
        matches!(error, Error::ElsewhereBound { owner, .. } if owner == host),
        "{error}"
    );

    netns::delete(&path).unwrap();
    let inherited = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(inherited.changes(), &of([web(gone())]));
    assert_eq!(inherited.inventory().bounds.host, here());
}

#[test]
fn after_a_reboot_the_inventory_is_void_and_the_document_stays() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    instance.write_desired(&lock, "# mine").unwrap();
    let mut journal = Journal::open(&instance, &lock, gone()).unwrap();
    journal.extend(&[forwarding("0")]).unwrap();
    let path = instance.state_dir().join("journal.jsonl");
    let boot = instance.inventory().unwrap().unwrap().bounds.boot;
    let written = fs::read_to_string(&path).unwrap();
    fs::write(&path, written.replace(&boot, "another")).unwrap();

    let journal = Journal::open(&instance, &lock, here()).unwrap();
    assert!(journal.changes().is_empty());
    assert_eq!(instance.desired().unwrap().as_deref(), Some("# mine"));
}

#[test]
fn a_container_of_another_instance_is_refused_by_that_instances_name() {
    let (dir, instance) = bed();
    let other = Instance::under(dir.path(), "other");
    let lock = other.lock().unwrap();
    Journal::open(&other, &lock, gone())
        .unwrap()
        .extend(&[web(here())])
        .unwrap();
    // Somebody else's broken file is not our failure.
    let broken = Instance::under(dir.path(), "broken");
    fs::create_dir_all(broken.state_dir()).unwrap();
    fs::write(broken.state_dir().join("journal.jsonl"), "{\n").unwrap();

    let lock = instance.lock().unwrap();
    let journal = Journal::open(&instance, &lock, here()).unwrap();
    let path = Path::new("/run/netns/mine");
    let error = journal
        .check_containers(&instance, &[("mine", path, here())])
        .unwrap_err();
    assert_eq!(
        error.to_string(),
        "container \"mine\": the network namespace /run/netns/mine is held by instance other"
    );
    journal
        .check_containers(&instance, &[("mine", path, gone())])
        .unwrap();
}

#[test]
fn a_broken_journal_is_named() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    fs::create_dir_all(instance.state_dir()).unwrap();
    fs::write(instance.state_dir().join("journal.jsonl"), "{\n").unwrap();
    let error = Journal::open(&instance, &lock, here()).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("var/lib/netbpf/test/journal.jsonl:1: "),
        "{error}"
    );
}

/// A later version may note what this one has no word for: purge still undoes the rest.
#[test]
fn what_can_be_read_of_a_journal_is_read_for_those_who_go_on() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    journal.extend(&[forwarding("0")]).unwrap();
    let path = instance.state_dir().join("journal.jsonl");
    let written = fs::read_to_string(&path).unwrap();
    let (bounds, rest) = written.split_once('\n').unwrap();
    for broken in [
        format!("{written}{{\"later\":{{}}}}\n"),
        format!("{bounds}\nx\n{rest}"),
        format!("x\n{rest}"),
    ] {
        fs::write(&path, broken).unwrap();
        let (found, unreadable) = Journal::open_readable(&instance, &lock, here()).unwrap();
        assert_eq!(found.changes(), &of([forwarding("0")]));
        assert_eq!(unreadable.len(), 1);
    }
}

#[test]
fn a_journal_that_stays_open_does_not_grow_with_what_has_ended() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    journal.extend(&[forwarding("0")]).unwrap();
    for _ in 0..2000 {
        journal.begin(Pending::default()).unwrap();
        journal.finish().unwrap();
    }
    let path = instance.state_dir().join("journal.jsonl");
    assert!(fs::metadata(path).unwrap().len() < 64 << 10);
    let again = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(again.changes(), &of([forwarding("0")]));
}

#[test]
fn a_journal_that_lost_its_bytes_in_a_power_cut_is_begun_anew() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    fs::create_dir_all(instance.state_dir()).unwrap();
    for lost in ["", "\0\0\0", "{\"bounds\""] {
        fs::write(instance.state_dir().join("journal.jsonl"), lost).unwrap();
        assert_eq!(instance.inventory().unwrap(), None);
        assert!(Journal::open(&instance, &lock, here()).is_ok());
    }
}

#[test]
fn an_instance_that_holds_nothing_leaves_nothing() {
    let (dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    journal.begin(Pending::default()).unwrap();
    journal.extend(&[forwarding("0")]).unwrap();
    instance.remove_if_unused(lock).unwrap();
    assert!(instance.exists());

    let lock = instance.lock().unwrap();
    journal.forget(&[forwarding("0")]).unwrap();
    journal.finish().unwrap();
    instance.remove_if_unused(lock).unwrap();
    assert!(!dir.path().join("var/lib/netbpf").exists() && !dir.path().join("run/netbpf").exists());
}

#[test]
fn a_journal_grows_by_what_is_noted_and_not_by_what_stands() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let path = instance.state_dir().join("journal.jsonl");
    let length = || fs::metadata(&path).unwrap().len();
    let veth = |number: u32| Change::Veth {
        name: format!("nbv{number}"),
        alias: String::new(),
        mac: [0; 6],
        container: String::new(),
    };
    let mut journal = Journal::open(&instance, &lock, here()).unwrap();
    let many: Vec<Change> = (0..20_000).map(veth).collect();
    journal.extend(&many).unwrap();
    let before = length();
    journal.extend(&[veth(1), veth(20_000)]).unwrap();
    journal.forget(&[veth(7)]).unwrap();
    assert!(length() < before + 300, "{before} {}", length());

    // What was forgotten does not stay in the file for good.
    journal.forget(&many[8..]).unwrap();
    let mut again = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(again.changes(), journal.changes());
    again.extend(&[veth(20_001)]).unwrap();
    assert!(length() < before / 100, "{before} {}", length());
    let third = Journal::open(&instance, &lock, here()).unwrap();
    assert_eq!(third.changes(), again.changes());
}

#[test]
fn choices_are_kept_a_change_a_line_and_taken_back_to_where_they_were() {
    let (_dir, instance) = bed();
    let lock = instance.lock().unwrap();
    let with = |networks: &[(&str, u32)]| Allocations {
        networks: networks
            .iter()
            .map(|(name, id)| ((*name).to_owned(), *id))
            .collect(),
        ..Allocations::default()
    };
    let path = instance.state_dir().join("allocations.jsonl");
    let mut allocated = Allocated::open(&instance, &lock).unwrap();
    allocated.change_to(&with(&[("front", 1)])).unwrap();
    let before = allocated.length();
    allocated
        .change_to(&with(&[("back", 2), ("front", 1)]))
        .unwrap();
    allocated.change_to(&with(&[("back", 2)])).unwrap();
    assert_eq!(instance.allocations().unwrap(), with(&[("back", 2)]));
    assert_eq!(fs::read_to_string(&path).unwrap().lines().count(), 3);

    // What a kill has left without an end counts as never written.
    let whole = fs::read(&path).unwrap();
    fs::write(&path, [&whole[..], b"{\"change\":{\"net"].concat()).unwrap();
    let mut again = Allocated::open(&instance, &lock).unwrap();
    assert_eq!(again.now(), &with(&[("back", 2)]));
    again.go_back(before).unwrap();
    assert_eq!(instance.allocations().unwrap(), with(&[("front", 1)]));
    again.change_to(&with(&[("new", 3)])).unwrap();
    assert_eq!(instance.allocations().unwrap(), with(&[("new", 3)]));

    // Many changes become one line again.
    let name = "n".repeat(1000);
    for id in 0..200 {
        again.change_to(&with(&[(&name, id)])).unwrap();
        again.tidy().unwrap();
    }
    assert!(fs::metadata(&path).unwrap().len() < 80_000);
    assert_eq!(instance.allocations().unwrap(), with(&[(&name, 199)]));
}
