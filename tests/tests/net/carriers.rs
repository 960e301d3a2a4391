//! Containers that carry what others send, and interfaces whose senders are trusted.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::{Netns, wait_until},
    scene::Scene,
    sockets::{Conversation, Log, Probe, Proto, SILENCE, serve},
    topology::Family,
};

use crate::alive::Running;

const CONFIG: &str = r#"
[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[network]]
name = "plant"
subnets = ["172.29.0.0/24", "fd00:29::/64"]
trusted_interfaces = ["vpn0"]

[[container]]
name = "router"
networks = [{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }]
source_check = false

[[container]]
name = "app"
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]

[[container]]
name = "press"
networks = [{ name = "plant", ipv4 = "172.29.0.10", ipv6 = "fd00:29::10" }]
publish = ["8082:80"]
"#;

/// An address by its third and last number.
fn at(net: &str, family: Family, host: u8) -> IpAddr {
    let text = match family {
        Family::V4 => format!("172.{net}.0.{host}"),
        Family::V6 => format!("fd00:{net}::{host}"),
    };
    text.parse().expect("an address")
}

/// A machine behind the container `router`, as a VPN's client is: `.99` on a link of their own.
fn machine_behind(scene: &Scene) -> Netns {
    let router = Netns::existing(scene.container("router"));
    let behind = Netns::create(&format!("{}-behind", scene.topology.id));
    router.ip(&format!(
        "link add in0 type veth peer name eth0 netns {}",
        behind.name()
    ));
    for (netns, interface, last) in [(&router, "in0", 1), (&behind, "eth0", 9)] {
        netns.ip(&format!("addr add 172.99.0.{last}/24 dev {interface}"));
        netns.ip(&format!(
            "addr add fd00:99::{last}/64 dev {interface} nodad"
        ));
        netns.ip(&format!("link set {interface} up"));
    }
    for route in ["default via 172.99.0.1", "default via fd00:99::1"] {
        behind.ip(&format!("route add {route}"));
    }
    for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        router.set_sysctl(path, "1");
    }
    behind
}

#[test]
fn a_container_that_routes_carries_what_is_behind_it() {
    let scene = Scene::with(CONFIG);
    let log = Log::default();
    let behind = machine_behind(&scene);
    let app = Netns::existing(scene.container("app"));
    app.ip("route add 172.99.0.0/24 via 172.28.0.10");
    app.ip("route add fd00:99::/64 via fd00:28::10");
    let press = scene.container("press");
    let _servers = [
        (scene.topology.client.path(), "client"),
        (press.as_path(), "press"),
        (app.path(), "app"),
        (behind.path(), "behind"),
    ]
    .map(|(netns, name)| serve(netns, name, &[OWN_SERVICE], &log));
    for family in Family::ALL {
        for proto in Proto::ALL.into_iter().chain([Proto::Fragments]) {
            let ask =
                |from: &Netns, to| Probe::new(from.path(), proto, SocketAddr::new(to, OWN_SERVICE));
            let own = at("99", family, 9);
            // To a neighbour and back, with the address of who sends.
            ask(&behind, at("28", family, 11)).is_answered(&log, "app", own);
            let neighbour = at("28", family, 11);
            ask(&app, own).is_answered(&log, "behind", neighbour);
            // Out of the host like a container's own.
            ask(&behind, family.far()).is_answered(&log, "client", family.host());
            // Another network stays closed.
            ask(&behind, at("29", family, 10)).is_not_answered(&log);
        }
    }
}

/// A link between host and client that a network trusts: `vpn0`, `.1` and `.2`.
fn vpn(scene: &Scene) {
    let (host, client) = (&scene.topology.host, &scene.topology.client);
    host.ip(&format!(
        "link add vpn0 type veth peer name vpn1 netns {}",
        client.name()
    ));
    for (netns, interface, last) in [(host, "vpn0", 1), (client, "vpn1", 2)] {
        netns.ip(&format!("addr add 172.66.0.{last}/24 dev {interface}"));
        netns.ip(&format!(
            "addr add fd00:66::{last}/64 dev {interface} nodad"
        ));
        netns.ip(&format!("link set {interface} up"));
    }
    client.ip("route replace 172.29.0.0/24 via 172.66.0.1");
    client.ip("route replace fd00:29::/64 via fd00:66::1");
}

#[test]
fn an_interface_is_trusted_from_when_it_appears_and_nobody_else_in_its_place() {
    let scene = Scene::bare();
    let running = Running::start(&scene, CONFIG);
    let log = Log::default();
    let client = scene.topology.client.path().to_owned();
    let _press = serve(&scene.container("press"), "press", &[80, 81], &log);
    let ask = |family, port| {
        let press = SocketAddr::new(at("29", family, 10), port);
        Probe::new(&client, Proto::Tcp, press)
    };
    for subnet in ["172.29.0.0/24", "fd00:29::/64"] {
        scene.topology.route_from_client(subnet);
    }
    for family in Family::ALL {
        ask(family, 80).is_not_answered(&log);
    }
    for _ in 0..2 {
        vpn(&scene);
        wait_until(
            "who comes by vpn0 is let in",
            Duration::from_secs(20),
            || ask(Family::V6, 80).ask(SILENCE, &log).source().is_some(),
        );
        for family in Family::ALL {
            ask(family, 80).is_answered(&log, "press", at("66", family, 2));
            ask(family, 81).is_not_answered(&log);
        }
        scene.topology.host.ip("link del vpn0");
        for subnet in ["172.29.0.0/24", "fd00:29::/64"] {
            scene.topology.route_from_client(subnet);
        }
        for family in Family::ALL {
            ask(family, 80).is_not_answered(&log);
        }
    }
    drop(running);
    // The trust is the name's: it goes with it, and ends what was let in by it.
    vpn(&scene);
    scene.apply(CONFIG);
    let conversations = Family::ALL.map(|family| {
        let press = SocketAddr::new(at("29", family, 10), 80);
        Conversation::open(&client, press).expect("a connection")
    });
    scene.apply(&CONFIG.replace("\"vpn0\"", ""));
    for (family, conversation) in Family::ALL.into_iter().zip(conversations) {
        conversation
            .exchange_within(SILENCE)
            .expect_err("the connection lives on");
        ask(family, 80).is_not_answered(&log);
    }
}
