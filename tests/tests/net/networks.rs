//! A container on two networks, and containers on none: who reaches it by which, and what moves with
//! its gateway.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use netbpf_tests::{
    netns::{Netns, wait_until},
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, serve},
    topology::Family,
};

const CONFIG: &str = r#"
[host]
uplinks = ["up0"]

[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]
mtu = 1400

[[network]]
name = "back"
subnets = ["172.29.0.0/24", "fd00:29::/64"]

[[container]]
name = "both"
networks = [
  { name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" },
  { name = "back", ipv4 = "172.29.0.10", ipv6 = "fd00:29::10", gw_priority = 0 },
]
publish = ["8080:80", "8080:80/udp"]

[[container]]
name = "a"
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]

[[container]]
name = "b"
networks = [{ name = "back", ipv4 = "172.29.0.11", ipv6 = "fd00:29::11" }]

[[container]]
name = "alone"
mode = "none"

[[container]]
name = "side"
mode = "container:both"
"#;

fn at(family: Family, v4: &str, v6: &str, port: u16) -> SocketAddr {
    let text = match family {
        Family::V4 => v4,
        Family::V6 => v6,
    };
    let address: IpAddr = text.parse().expect("an address");
    SocketAddr::new(address, port)
}

/// Where the published port leads, by `port ls`.
fn leads_to(scene: &Scene) -> Vec<String> {
    let rows = scene.instance.json(&["port", "ls"]);
    let rows = rows.as_array().cloned().unwrap_or_default();
    rows.iter()
        .filter_map(|row| Some(row["network"].as_str()?.to_owned()))
        .collect()
}

#[test]
fn a_container_on_two_networks_is_reached_by_both_and_published_by_its_gateway() {
    let scene = Scene::with(CONFIG);
    let log = Log::default();
    let both = scene.container("both");
    let _servers = [("both", 80), ("a", 80), ("b", 80)]
        .map(|(name, port)| serve(&scene.container(name), name, &[port], &log));
    for family in Family::ALL {
        for proto in Proto::ALL {
            let front = at(family, "172.28.0.10", "fd00:28::10", 80);
            let back = at(family, "172.29.0.10", "fd00:29::10", 80);
            let a = at(family, "172.28.0.11", "fd00:28::11", 80);
            let b = at(family, "172.29.0.11", "fd00:29::11", 80);
            let ask = |from: &Path, to| Probe::new(from, proto, to);
            ask(&scene.container("a"), front).is_answered(&log, "both", a.ip());
            ask(&scene.container("b"), back).is_answered(&log, "both", b.ip());
            ask(&both, a).is_answered(&log, "a", front.ip());
            ask(&both, b).is_answered(&log, "b", back.ip());
            ask(&scene.container("a"), back).is_not_answered(&log);
            ask(&scene.container("a"), b).is_not_answered(&log);
        }
    }
    assert!(leads_to(&scene).iter().all(|network| network == "front"));
    the_gateway_moves(&scene, &log);
    containers_on_two_networks_are_no_routers(&scene, &log);
    modes_without_networks(&scene);
}

fn the_gateway_moves(scene: &Scene, log: &Log) {
    let client = scene.topology.client.path();
    let published = |family: Family| SocketAddr::new(family.host(), 8080);
    let open: Vec<Conversation> = Family::ALL
        .iter()
        .map(|family| Conversation::open(client, published(*family)).expect("a connection"))
        .collect();
    let across: Vec<Conversation> = Family::ALL
        .iter()
        .map(|family| {
            let to = at(*family, "172.28.0.10", "fd00:28::10", 80);
            Conversation::open(&scene.container("a"), to).expect("a connection")
        })
        .collect();
    for conversation in open.iter().chain(&across) {
        conversation.exchange().expect("it is answered");
    }
    scene.apply(&CONFIG.replace("gw_priority = 0", "gw_priority = 1"));
    for conversation in &open {
        assert!(
            conversation.exchange_within(SILENCE).is_err(),
            "a flow of a mapping that moved lives on"
        );
    }
    for conversation in &across {
        conversation.exchange().expect("a flow of neither lives on");
    }
    for family in Family::ALL {
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = Probe::new(client, proto, published(family));
            probe.is_answered(log, "both", family.client());
        }
    }
    assert!(leads_to(scene).iter().all(|network| network == "back"));
    let routes = Netns::existing(scene.container("both"));
    assert!(
        routes
            .ip("route show default")
            .contains("via 172.29.0.1 dev eth1")
    );
    assert!(
        routes
            .ip("-6 route show default")
            .contains("via fd00:29::1 dev eth1")
    );
    scene.apply(CONFIG);
    assert!(
        routes
            .ip("route show default")
            .contains("via 172.28.0.1 dev eth0")
    );
}

#[test]
fn a_gateway_that_moves_in_one_family_takes_the_flows_of_that_one_alone() {
    let config = [
        ", \"fd00:29::/64\"",
        ", ipv6 = \"fd00:29::10\"",
        ", ipv6 = \"fd00:29::11\"",
    ]
    .iter()
    .fold(CONFIG.to_owned(), |text, v6| text.replace(v6, ""));
    let scene = Scene::with(&config);
    let log = Log::default();
    let _server = serve(&scene.container("both"), "both", &[80], &log);
    let (client, host) = (scene.topology.client.path(), scene.topology.host.path());
    let open = |family: Family| {
        let outer = SocketAddr::new(family.host(), 8080);
        let inner = at(family, "127.0.0.1", "::1", 8080);
        [(client, outer), (host, outer), (host, inner)].map(|(from, to)| {
            (
                from,
                to,
                Conversation::open(from, to).expect("a connection"),
            )
        })
    };
    let [v4, v6] = Family::ALL.map(open);
    scene.apply(&config.replace("gw_priority = 0", "gw_priority = 1"));
    for (from, to, flow) in &v4 {
        let is_over = flow.exchange_within(SILENCE).is_err();
        assert!(is_over, "{} to {to} lives on", from.display());
    }
    for (from, to, flow) in &v6 {
        let lives = flow.exchange();
        assert!(lives.is_ok(), "{} to {to}: {lives:?}", from.display());
    }
    let [v4, _] = Family::ALL.map(open);
    for (from, to, flow) in &v4 {
        let lives = flow.exchange();
        assert!(lives.is_ok(), "{} to {to}: {lives:?}", from.display());
    }
}

/// Also one that would like to be.
fn containers_on_two_networks_are_no_routers(scene: &Scene, log: &Log) {
    let both = Netns::existing(scene.container("both"));
    both.set_sysctl("net/ipv4/ip_forward", "1");
    both.set_sysctl("net/ipv6/conf/all/forwarding", "1");
    let a = Netns::existing(scene.container("a"));
    a.ip("route add 172.29.0.11/32 via 172.28.0.10");
    a.ip("-6 route add fd00:29::11/128 via fd00:28::10");
    for family in Family::ALL {
        for proto in Proto::ALL {
            let b = at(family, "172.29.0.11", "fd00:29::11", 80);
            Probe::new(a.path(), proto, b).is_not_answered(log);
        }
    }
}

fn modes_without_networks(scene: &Scene) {
    let alone = Netns::existing(scene.container("alone"));
    assert_eq!(alone.ip("-o link").lines().count(), 1);
    let listed = scene.instance.json(&["container", "ls"]);
    let modes: Vec<&str> = listed
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|row| row["mode"].as_str())
        .collect();
    assert_eq!(
        modes,
        ["bridge", "bridge", "bridge", "none", "container:both"]
    );
    assert_eq!(listed[4]["netns"], listed[0]["netns"]);
    let both = Netns::existing(scene.container("both"));
    assert!(both.ip("-o link show dev eth0").contains("mtu 1400"));
    assert!(both.ip("-o link show dev eth1").contains("mtu 1500"));
    scene.apply(&CONFIG.replace("mtu = 1400", "mtu = 1300"));
    assert!(both.ip("-o link show dev eth0").contains("mtu 1300"));
    let bridge = scene.topology.host.ip("-o link show dev nb-front");
    assert!(bridge.contains("mtu 1300"), "{bridge}");
}

/// The MAC that a container has for an address, as it knows it.
fn neighbour(netns: &Netns, address: IpAddr) -> String {
    let shown = netns.ip(&format!("neigh show {address}"));
    let mut words = shown
        .split_whitespace()
        .skip_while(|word| *word != "lladdr");
    words.nth(1).unwrap_or_default().to_owned()
}

#[test]
fn an_address_that_gets_another_mac_is_announced_to_those_who_knew_the_old_one() {
    let scene = Scene::bare();
    // Where netfilter drops what a bridge floods, nobody hears an advertisement.
    let _ = scene
        .topology
        .host
        .try_set_sysctl("net/bridge/bridge-nf-call-ip6tables", "0");
    scene.apply(CONFIG);
    let log = Log::default();
    let _server = serve(&scene.container("a"), "a", &[80], &log);
    let both = Netns::existing(scene.container("both"));
    let asked = Family::ALL.map(|family| at(family, "172.28.0.11", "fd00:28::11", 80));
    for to in asked {
        let probe = Probe::new(both.path(), Proto::Tcp, to);
        assert!(matches!(probe.ask(PATIENCE, &log), Seen::Answered { .. }));
        assert_eq!(neighbour(&both, to.ip()), "02:42:ac:1c:00:0b");
    }
    let moved = CONFIG.replace(
        "ipv4 = \"172.28.0.11\"",
        "mac = \"02:00:00:00:00:99\", ipv4 = \"172.28.0.11\"",
    );
    scene.apply(&moved);
    for to in asked {
        // Sooner than the kernel would ask again by itself.
        wait_until("the new MAC is known", SILENCE, || {
            neighbour(&both, to.ip()) == "02:00:00:00:00:99"
        });
    }
}
