//! What kernels before 6.7 do instead: filters of `clsact`, and masquerade addresses by the loader.

use std::{fs, net::SocketAddr};

use aya::maps::MapInfo;
use netbpf_tests::{
    matrix::OWN_SERVICE,
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, serve},
    topology::Family,
};

use crate::uplinks::{addr, answers, every_uplink};

/// A hostile host on which netbpf does as on Linux 6.1.
fn old_kernel() -> Scene {
    let mut scene = Scene::bare();
    let instance = netbpf_tests::product::Instance::new(&scene.topology.id, &scene.topology.host);
    scene.instance.keep();
    scene.instance = instance
        .without("tcx,fib_skip_neigh,fib_lookup_src,bpf_f_ipv6,redirect_peer_scrub,preallocation");
    scene
}

/// Whether a flow table grows as flows come (`BPF_F_NO_PREALLOC`), and has its name all the same.
fn grows(scene: &Scene, table: &str) -> bool {
    let pin = scene.instance.pins().join("maps").join(table);
    let info = MapInfo::from_pin(pin).expect("the table is pinned");
    info.map_flags() & 1 != 0 && info.name_as_str() == Some(&table.to_uppercase())
}

/// How many filters stand there.
fn filters(scene: &Scene, interface: &str, side: &str) -> usize {
    let shown = scene
        .topology
        .host
        .run(&format!("tc filter show dev {interface} {side}"));
    shown.lines().filter(|line| line.contains("handle")).count()
}

fn every_way_works(scene: &Scene, log: &Log) {
    for family in Family::ALL {
        for proto in Proto::ALL {
            let to = SocketAddr::new(family.far(), OWN_SERVICE);
            let probe = Probe::new(&scene.container("app"), proto, to);
            answers(probe, log, "client", family.host());
        }
        let asked = SocketAddr::new(family.host(), 8080);
        let probe = Probe::new(scene.topology.client.path(), Proto::Tcp, asked);
        answers(probe, log, "web", family.client());
        let inside = addr(["172.28.0.10", "fd00:28::10"], family);
        let neighbour = SocketAddr::new(inside, 80);
        let probe = Probe::new(&scene.container("app"), Proto::Tcp, neighbour);
        let own = addr(["172.28.0.11", "fd00:28::11"], family);
        answers(probe, log, "web", own);
        let probe = Probe::new(scene.topology.client.path(), Proto::Udp, neighbour);
        let seen = probe.ask(SILENCE, log);
        assert!(matches!(seen, Seen::Silence | Seen::Unreachable), "{seen}");
    }
}

/// What the programs were told of the kernel is part of them: the next apply sees another one.
#[test]
fn programs_are_loaded_anew_for_another_kernel() {
    let mut scene = old_kernel();
    scene.apply(&every_uplink());
    let newer = netbpf_tests::product::Instance::new(&scene.topology.id, &scene.topology.host);
    scene.instance.keep();
    scene.instance = newer;
    scene.apply(&every_uplink());
    let log = Log::default();
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    every_way_works(&scene, &log);
    assert_eq!(scene.apply(&every_uplink())["changed"], false);
}

#[test]
fn an_older_kernel_gets_filters_and_gives_them_back() {
    let scene = old_kernel();
    let host = &scene.topology.host;
    for subnet in ["172.28.0.0/24", "fd00:28::/64"] {
        scene.topology.route_from_client(subnet);
    }
    // Somebody else has a qdisc and a filter on another interface.
    host.ip("link add up1 type veth peer name up1p");
    host.run("tc qdisc add dev up1 clsact");
    host.run("tc filter add dev up1 ingress prio 7 protocol ip u32 match u32 0 0 flowid 1:1");
    let (qdiscs, theirs) = (host.run("tc qdisc show"), filters(&scene, "up1", "ingress"));
    let config = every_uplink();
    scene.apply(&config);
    let log = Log::default();
    let client = scene.topology.client.path();
    let _client = serve(client, "client", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    every_way_works(&scene, &log);
    assert_eq!(scene.apply(&config)["changed"], false);
    let status = scene.instance.json(&["status"]);
    assert_eq!(status["state"], "active", "{status}");
    assert_eq!(status["kernel"]["features"]["tcx"], false);
    assert!(grows(&scene, "conntrack_v4") && grows(&scene, "conntrack_v6"));
    let hooks = |interface: &str| {
        let rows = status["interfaces"].as_array().cloned().unwrap_or_default();
        let row = rows.into_iter().find(|row| row["name"] == interface);
        row.and_then(|row| row["hooks"].as_array().map(Vec::len))
    };
    assert_eq!((hooks("up0"), hooks("nb-front")), (Some(2), Some(1)));
    // A filter that somebody takes away comes back, and a new object's programs take the places of
    // the old ones under a living connection.
    let published = SocketAddr::new(Family::V4.host(), 8080);
    let connection = Conversation::open(client, published).expect("a connection");
    connection.exchange().expect("a connection");
    host.run("tc filter del dev up0 ingress");
    assert_eq!(filters(&scene, "up0", "ingress"), 0);
    assert_eq!(scene.apply(&config)["changed"], true);
    connection.exchange().expect("it lives on");
    fs::remove_file(scene.instance.pins().join("object")).expect("the mark is there");
    assert_eq!(scene.apply(&config)["changed"], true);
    connection.exchange().expect("it lives on");
    assert_eq!(filters(&scene, "up0", "ingress"), 1);
    every_way_works(&scene, &log);
    scene.instance.purge();
    assert_eq!(host.run("tc qdisc show"), qdiscs);
    assert_eq!(filters(&scene, "up1", "ingress"), theirs);
    assert_eq!(filters(&scene, "up0", "ingress"), 0);
    let asked = Probe::new(client, Proto::Tcp, published);
    assert_eq!(asked.ask(PATIENCE, &log), Seen::Refused);
}

/// How many qdiscs of that kind an interface has.
fn qdiscs(scene: &Scene, interface: &str) -> usize {
    let host = &scene.topology.host;
    let shown = host.run(&format!("tc qdisc show dev {interface}"));
    shown.lines().filter(|line| line.contains("clsact")).count()
}

#[test]
fn a_qdisc_is_given_back_under_its_interface_s_new_name() {
    let scene = old_kernel();
    let host = &scene.topology.host;
    for interface in ["wan1", "wan2"] {
        host.ip(&format!(
            "link add {interface} type veth peer name {interface}p"
        ));
    }
    let config = every_uplink();
    scene.apply(&config);
    // One is renamed between an apply and a purge, the other between two of them, and gives way.
    host.ip("link set wan2 name dsl2");
    scene.apply(&config.replace("[host]", "[host]\nuplinks = [\"up0\", \"wan1\"]"));
    assert_eq!((qdiscs(&scene, "dsl2"), qdiscs(&scene, "wan1")), (0, 1));
    host.ip("link set wan1 name dsl1");
    scene.instance.purge();
    assert_eq!((qdiscs(&scene, "dsl1"), qdiscs(&scene, "up0")), (0, 0));
}

#[test]
fn a_qdisc_of_an_interface_that_has_another_s_number_is_not_ours() {
    let scene = old_kernel();
    let host = &scene.topology.host;
    let config = every_uplink();
    let remade = |old: &str, new: &str, index: u32| {
        host.ip(&format!("link del {old}"));
        host.ip(&format!(
            "link add {new} index {index} type veth peer name {new}p"
        ));
        host.run(&format!("tc qdisc add dev {new} clsact"));
    };
    for (interface, index) in [("wan1", 901), ("wan2", 902)] {
        host.ip(&format!(
            "link add {interface} index {index} type veth peer name {interface}p"
        ));
    }
    scene.apply(&config);
    assert_eq!((qdiscs(&scene, "wan1"), qdiscs(&scene, "wan2")), (1, 1));
    // One is found so by an apply, which hooks it; the other only by the purge.
    remade("wan1", "dsl1", 901);
    scene.apply(&config);
    assert_eq!(filters(&scene, "dsl1", "ingress"), 1);
    assert_eq!(scene.apply(&config)["changed"], false);
    remade("wan2", "dsl2", 902);
    scene.instance.purge();
    assert_eq!((qdiscs(&scene, "dsl1"), qdiscs(&scene, "dsl2")), (1, 1));
    assert_eq!(filters(&scene, "dsl1", "ingress"), 0);
}
