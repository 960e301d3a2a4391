//! Namespaces.

use std::{fs, path::Path, process, thread};

use netbpf::host::{Done, Error, Netns, netns};
use tempfile::TempDir;

#[test]
fn a_namespace_is_made_once_and_deleted_once() {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let path = dir.path().join("web");
    assert!(Netns::open(&path).unwrap().is_none());

    assert_eq!(netns::create(&path).unwrap(), Done::Changed);
    let id = Netns::existing(&path).unwrap().id();
    assert_eq!(netns::create(&path).unwrap(), Done::Already);
    assert_eq!(Netns::existing(&path).unwrap().id(), id);
    assert!(netns::is_alive(id).unwrap());
    assert_ne!(Netns::current().unwrap().id(), id);

    assert_eq!(netns::delete(&path).unwrap(), Done::Changed);
    assert!(!netns::is_alive(id).unwrap());
    assert_eq!(netns::delete(&path).unwrap(), Done::Already);
    assert!(!path.exists());
}

#[test]
fn a_name_stands_in_run_netns_and_ip_sees_it() {
    let name = format!("nbhost{}", process::id());
    let path = netns::path_of(&name);
    assert_eq!(path, Path::new("/run/netns").join(&name));
    assert_eq!(netns::path_of("./web"), Path::new("./web"));

    netns::create(&path).unwrap();
    let listed = process::Command::new("ip")
        .args(["netns", "list"])
        .output()
        .unwrap();
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap();
    netns::delete(&path).unwrap();

    let listed = String::from_utf8(listed.stdout).unwrap();
    assert!(
        listed.lines().any(|line| line.starts_with(&name)),
        "{listed}"
    );
    let directory = mountinfo
        .lines()
        .find(|line| line.contains(" /run/netns "))
        .unwrap();
    assert!(directory.contains(" shared:"), "{directory}");
}

#[test]
fn an_empty_file_left_by_a_kill_is_no_namespace_and_is_mounted_over() {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let path = dir.path().join("web");
    fs::write(&path, "").unwrap();
    assert!(Netns::open(&path).unwrap().is_none());
    assert_eq!(netns::create(&path).unwrap(), Done::Changed);
    assert!(Netns::open(&path).unwrap().is_some());
    netns::delete(&path).unwrap();
}

#[test]
fn a_file_with_something_in_it_is_refused_and_kept() {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let path = dir.path().join("web");
    fs::write(&path, "mine").unwrap();
    assert!(matches!(netns::create(&path), Err(Error::Foreign(_))));
    assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_task_runs_inside_and_leaves_its_caller_outside() {
    let dir = TempDir::with_prefix("nbhost").unwrap();
    let path = dir.path().join("web");
    netns::create(&path).unwrap();
    let web = Netns::existing(&path).unwrap();
    let outside = Netns::current().unwrap().id();

    assert_eq!(
        web.run(|| Netns::current().unwrap().id()).unwrap(),
        web.id()
    );
    assert_eq!(Netns::current().unwrap().id(), outside);

    let inherited = thread::scope(|scope| {
        let enter = || {
            web.enter().unwrap();
            thread::spawn(|| Netns::current().unwrap().id())
                .join()
                .unwrap()
        };
        scope.spawn(enter).join().unwrap()
    });
    assert_eq!(inherited, web.id());
    netns::delete(&path).unwrap();
}
