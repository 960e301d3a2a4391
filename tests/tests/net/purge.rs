//! `purge` leaves the host as it was before the first `apply`.

use std::{collections::BTreeSet, fs, path::Path, time::Duration};

use netbpf_tests::{
    netns::{Netns, wait_until},
    scene::Scene,
};

use crate::{SMALL, steady};

/// Everything about a host that netbpf could change.
#[derive(Debug, Eq, PartialEq)]
struct Snapshot {
    parts: Vec<(String, BTreeSet<String>)>,
}

impl Snapshot {
    fn of(scene: &Scene) -> Self {
        let host = &scene.topology.host;
        let mut parts = Vec::new();
        let mut add = |name: &str, text: String| {
            parts.push((name.to_owned(), text.lines().map(str::to_owned).collect()));
        };
        for line in [
            "-d link",
            "-d addr",
            "-4 route show table all",
            "-6 route show table all",
            "rule",
            "-6 rule",
            "neigh show nud permanent",
        ] {
            add(line, steady(&host.ip(line)));
        }
        add("tc", host.run("tc -d qdisc") + &filters(host));
        add("fdb", host.run("bridge fdb"));
        add("nft", host.run("nft list ruleset"));
        add("sysctls", settings(host));
        let places = [
            scene.instance.pins(),
            scene.instance.state(),
            scene.instance.run_dir(),
        ];
        add(
            "places",
            places
                .iter()
                .filter(|path| path.exists())
                .map(|path| path.display().to_string())
                .collect(),
        );
        let own = format!("{}-", scene.topology.id);
        add(
            "namespaces",
            names("/run/netns")
                .into_iter()
                .filter(|name| name.starts_with(&own))
                .collect::<Vec<_>>()
                .join("\n"),
        );
        Self { parts }
    }

    /// What differs, in words.
    fn difference(&self, other: &Self) -> String {
        let mut words = String::new();
        for ((name, old), (_, new)) in self.parts.iter().zip(&other.parts) {
            for gone in old.difference(new) {
                words.push_str(&format!("{name}: - {gone}\n"));
            }
            for come in new.difference(old) {
                words.push_str(&format!("{name}: + {come}\n"));
            }
        }
        words
    }
}

fn filters(host: &Netns) -> String {
    let side = |side| host.run(&format!("tc filter show dev up0 {side}"));
    side("ingress") + &side("egress")
}

/// The settings among the sysctls, without the ones that only report.
fn settings(host: &Netns) -> String {
    let reports = [
        "nf_conntrack_count",
        "nf_conntrack_buckets",
        "/core/",
        "stable_secret",
    ];
    let all = host.sysctls();
    let kept = all
        .lines()
        .filter(|line| !reports.iter().any(|report| line.contains(report)));
    kept.collect::<Vec<_>>().join("\n")
}

fn names(directory: &str) -> Vec<String> {
    fs::read_dir(Path::new(directory))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.file_name().to_string_lossy().into_owned())
        .collect()
}

#[test]
fn the_host_is_as_before_after_purge() {
    let scene = Scene::bare();
    let before = Snapshot::of(&scene);
    scene.apply(include_str!("../../../examples/quickstart.toml"));
    assert_ne!(Snapshot::of(&scene), before);
    scene.instance.purge();
    let after = Snapshot::of(&scene);
    assert!(after == before, "{}", before.difference(&after));
}

#[test]
fn the_host_is_as_before_after_changes_failures_and_purge() {
    let scene = Scene::bare();
    let before = Snapshot::of(&scene);
    scene.apply(SMALL);
    let _ = scene
        .try_apply(&SMALL.replace("\"up0\"", "\"up9\""))
        .failed_with(1);
    scene.apply(include_str!("../../../examples/quickstart.toml"));
    scene.apply(SMALL);
    scene.instance.purge();
    let after = Snapshot::of(&scene);
    assert!(after == before, "{}", before.difference(&after));
    scene.instance.purge();
    let after = Snapshot::of(&scene);
    assert!(after == before, "{}", before.difference(&after));
}

#[test]
fn purge_removes_what_lost_its_namespace_or_its_link() {
    let scene = Scene::bare();
    let before = Snapshot::of(&scene);
    scene.apply(SMALL);
    let web = scene.container("web");
    let name = web
        .file_name()
        .unwrap_or_default()
        .to_string_lossy()
        .into_owned();
    netbpf_tests::netns::run(std::process::Command::new("ip").args(["netns", "del", &name]));
    scene.topology.host.ip("link del nb-front");
    scene.instance.purge();
    let after = Snapshot::of(&scene);
    assert!(after == before, "{}", before.difference(&after));
}

#[test]
fn apply_puts_back_what_somebody_took_away() {
    let scene = Scene::with(SMALL);
    scene.topology.host.ip("link del nb-front");
    let mended = scene.apply(SMALL);
    assert_eq!(mended["changed"], true, "{mended}");
    assert_eq!(scene.apply(SMALL)["changed"], false);
    scene.topology.host.ip("-o link show nb-front");
}

#[test]
fn an_adopted_namespace_and_an_adopted_bridge_stay_as_they_were() {
    let scene = Scene::bare();
    let namespace = Netns::create(&format!("{}-web", scene.topology.id));
    let host = &scene.topology.host;
    host.ip("link add mybr mtu 1400 type bridge");
    // A bridge whose MAC nobody set loses it with its last port, and can't be made to again once
    // somebody did: netbpf must, for the programs know the bridge by it.
    host.ip("link set mybr address 02:00:0a:09:09:01");
    host.ip("addr add 10.9.9.1/24 dev mybr");
    host.ip("link set mybr mtu 1400");
    host.ip("link set mybr addrgenmode none");
    host.ip("link set mybr up");
    // A bridge whose ports are gone has no carrier, and the routes of one that had: one that never
    // had a port differs in both.
    host.ip("link add once master mybr type veth peer name twice");
    host.ip("link set once up");
    host.ip("link set twice up");
    wait_until("the bridge has a carrier", Duration::from_secs(5), || {
        host.ip("link show mybr").contains("state UP")
    });
    host.ip("link del once");
    wait_until("the bridge has no carrier", Duration::from_secs(5), || {
        host.ip("link show mybr").contains("state DOWN")
    });
    let before = Snapshot::of(&scene);
    let inside = namespace.ip("-d link");
    scene.apply(&SMALL.replace(
        "name = \"front\"\nsubnets",
        "name = \"front\"\nbridge = \"mybr\"\nsubnets",
    ));
    scene.instance.purge();
    let after = Snapshot::of(&scene);
    assert!(after == before, "{}", before.difference(&after));
    assert_eq!(steady(&namespace.ip("-d link")), steady(&inside));
}

#[test]
fn purge_after_a_killed_apply_leaves_the_host_as_before() {
    let scene = Scene::bare();
    let before = Snapshot::of(&scene);
    let config = scene.private(include_str!("../../../examples/quickstart.toml"));
    let path = scene.instance.write_config(&config);
    for changes in (1..60).step_by(8) {
        scene.instance.kill_apply_at(&path, changes);
        // Something stands: half of it, or, where it ended in time, all.
        assert_ne!(scene.instance.json(&["status"])["state"], "absent");
        scene.instance.purge();
        let after = Snapshot::of(&scene);
        assert!(
            after == before,
            "after {changes} changes: {}",
            before.difference(&after)
        );
    }
}
