//! What depends on who sends: gateway modes, trust, lists, links, unchecked containers, and
//! containers that answer by another of their interfaces.

use std::net::{IpAddr, SocketAddr};

use netbpf_tests::{
    netns::Netns,
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, serve},
    topology::Family,
};

const CONFIG: &str = r#"
[host]
uplinks = ["up0"]

[[network]]
name = "own"
subnets = ["172.28.0.0/24", "fd00:28::/64"]
trusted_interfaces = ["nb-bare"]
trusted_sources = ["198.51.100.66", "2001:db8:51::66"]

[[network]]
name = "bare"
subnets = ["172.29.0.0/24", "fd00:29::/64"]
gateway_mode = "nat-unprotected"

[[network]]
name = "flat"
subnets = ["172.30.0.0/24", "fd00:30::/64"]
gateway_mode = { ipv4 = "routed", ipv6 = "routed" }

[[network]]
name = "sealed"
subnets = ["172.31.0.0/24", "fd00:31::/64"]
internal = true
gateway_mode = "isolated"

[[network]]
name = "quiet"
subnets = ["172.27.0.0/24", "fd00:27::/64"]
icc = false

[[container]]
name = "lone"
networks = [{ name = "own", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }]
publish = ["8090:80"]

[[container]]
name = "shy"
networks = [{ name = "own", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]
publish = [
  { port = "8091:80", allow = ["198.51.100.0/24", "2001:db8:51::/64"], deny = ["198.51.100.66", "2001:db8:51::66"] },
  { port = "8091:80/udp", allow = ["198.51.100.0/24", "2001:db8:51::/64"], deny = ["198.51.100.66", "2001:db8:51::66"] },
  { port = "203.0.113.1:8093:80", allow = ["198.51.100.0/24"], deny = ["198.51.100.66"] },
  { port = "203.0.113.1:8093:80/udp", allow = ["198.51.100.0/24"], deny = ["198.51.100.66"] },
  { port = "[2001:db8:113::1]:8093:80", allow = ["2001:db8:51::/64"], deny = ["2001:db8:51::66"] },
  { port = "[2001:db8:113::1]:8093:80/udp", allow = ["2001:db8:51::/64"], deny = ["2001:db8:51::66"] },
]

[[container]]
name = "both"
networks = [
  { name = "own", ipv4 = "172.28.0.12", ipv6 = "fd00:28::12" },
  { name = "bare", ipv4 = "172.29.0.12", ipv6 = "fd00:29::12" },
]
publish = ["8092:80", "8092:80/udp"]

[[container]]
name = "open"
networks = [{ name = "bare", ipv4 = "172.29.0.10", ipv6 = "fd00:29::10" }]

[[container]]
name = "router"
networks = [{ name = "bare", ipv4 = "172.29.0.11", ipv6 = "fd00:29::11" }]
source_check = false

[[container]]
name = "plain"
networks = [{ name = "flat", ipv4 = "172.30.0.10", ipv6 = "fd00:30::10" }]
publish = ["8070:80"]

[[container]]
name = "s1"
networks = [{ name = "sealed", ipv4 = "172.31.0.1", ipv6 = "fd00:31::1" }]

[[container]]
name = "s2"
networks = [{ name = "sealed", ipv4 = "172.31.0.2", ipv6 = "fd00:31::2" }]

[[container]]
name = "parent"
networks = [{ name = "quiet", ipv4 = "172.27.0.10", ipv6 = "fd00:27::10" }]
links = ["child"]

[[container]]
name = "child"
networks = [{ name = "quiet", ipv4 = "172.27.0.11", ipv6 = "fd00:27::11" }]
expose = ["80"]
"#;

/// The subnets that a neighbour of the host has routes to.
const SUBNETS: [&str; 8] = [
    "172.28.0.0/24",
    "172.29.0.0/24",
    "172.30.0.0/24",
    "172.31.0.0/24",
    "fd00:28::/64",
    "fd00:29::/64",
    "fd00:30::/64",
    "fd00:31::/64",
];

/// An address by its network's and its own last number.
fn at(family: Family, network: u8, host: u8, port: u16) -> SocketAddr {
    let text = match family {
        Family::V4 => format!("172.{network}.0.{host}"),
        Family::V6 => format!("fd00:{network}::{host}"),
    };
    let address: IpAddr = text.parse().expect("an address");
    SocketAddr::new(address, port)
}

struct Place {
    scene: Scene,
    log: Log,
}

impl Place {
    fn probe(&self, from: &str, proto: Proto, to: SocketAddr) -> Probe {
        if from == "client" {
            return Probe::new(self.scene.topology.client.path(), proto, to);
        }
        Probe::new(&self.scene.container(from), proto, to)
    }

    /// Demands an answer of `by`, which sees `source`.
    #[track_caller]
    fn answered(&self, probe: &Probe, by: &str, source: IpAddr) {
        probe.is_answered(&self.log, by, source);
    }

    #[track_caller]
    fn silent(&self, probe: &Probe) {
        probe.is_not_answered(&self.log);
    }
}

#[test]
fn who_sends_decides_what_is_reached() {
    let place = Place {
        scene: Scene::with(CONFIG),
        log: Log::default(),
    };
    for subnet in SUBNETS {
        place.scene.topology.route_from_client(subnet);
    }
    let container = |name: &str| place.scene.container(name);
    let names = [
        "lone", "shy", "both", "open", "router", "plain", "s1", "s2", "child",
    ];
    let _servers = names.map(|name| serve(&container(name), name, &[80, 81], &place.log));
    let client = place.scene.topology.client.path();
    let _client = serve(client, "client", &[53], &place.log);
    for family in Family::ALL {
        gateway_modes(&place, family);
        trust_and_lists(&place, family);
        links(&place, family);
        other_addresses(&place, family);
    }
    the_sealed_bridge_has_no_address(&place);
    what_is_taken_away_ends(&place);
}

fn gateway_modes(place: &Place, family: Family) {
    let client = family.client();
    let open = at(family, 29, 10, 80);
    for port in [80, 81] {
        let unprotected = at(family, 29, 10, port);
        for proto in Proto::ALL {
            place.answered(&place.probe("client", proto, unprotected), "open", client);
        }
        let near = place.probe("lone", Proto::Tcp, unprotected);
        place.answered(&near, "open", at(family, 28, 10, 0).ip());
    }
    let plain = at(family, 30, 10, 80);
    for proto in [Proto::Tcp, Proto::Icmp] {
        place.answered(&place.probe("client", proto, plain), "plain", client);
        place.answered(&place.probe("open", proto, plain), "plain", open.ip());
    }
    place.silent(&place.probe("client", Proto::Tcp, at(family, 30, 10, 81)));
    place.silent(&place.probe("open", Proto::Udp, plain));
    // Nothing hides its address, and no port of the host leads to it.
    let out = place.probe("plain", Proto::Tcp, SocketAddr::new(family.client(), 53));
    place.answered(&out, "client", plain.ip());
    let host_port = place.probe("client", Proto::Tcp, SocketAddr::new(family.host(), 8070));
    assert_eq!(host_port.ask(PATIENCE, &place.log), Seen::Refused);
    let sealed = at(family, 31, 2, 80);
    place.answered(
        &place.probe("s1", Proto::Tcp, sealed),
        "s2",
        at(family, 31, 1, 0).ip(),
    );
    place.silent(&place.probe("client", Proto::Tcp, sealed));
}

fn trust_and_lists(place: &Place, family: Family) {
    let stranger = SocketAddr::new(family.stranger(), 0);
    let lone = at(family, 28, 10, 80);
    let direct = |to| place.probe("client", Proto::Tcp, to);
    place.silent(&direct(lone));
    place.answered(&direct(lone).bound(stranger), "lone", stranger.ip());
    place.silent(&direct(at(family, 28, 10, 81)).bound(stranger));
    let near = place.probe("open", Proto::Tcp, lone);
    place.answered(&near, "lone", at(family, 29, 10, 0).ip());
    place.silent(&place.probe("plain", Proto::Tcp, lone));
    lists(place, family);
}

/// Published on every address of the host, and on a named one.
fn lists(place: &Place, family: Family) {
    let stranger = SocketAddr::new(family.stranger(), 0);
    let far = SocketAddr::new(family.far(), 0);
    for port in [8091, 8093] {
        let listed = SocketAddr::new(family.host(), port);
        for proto in [Proto::Tcp, Proto::Udp] {
            let asks = |from| place.probe(from, proto, listed);
            place.answered(&asks("client").bound(far), "shy", far.ip());
            place.silent(&asks("client"));
            place.silent(&asks("client").bound(stranger));
            place.silent(&asks("plain"));
            place.answered(&asks("lone"), "shy", at(family, 28, 10, 0).ip());
        }
    }
}

fn links(place: &Place, family: Family) {
    let child = at(family, 27, 11, 80);
    let parent = at(family, 27, 10, 0);
    place.answered(
        &place.probe("parent", Proto::Tcp, child),
        "child",
        parent.ip(),
    );
    place.silent(&place.probe("parent", Proto::Tcp, at(family, 27, 11, 81)));
    place.silent(&place.probe("parent", Proto::Icmp, child));
    place.silent(&place.probe("child", Proto::Icmp, parent));
}

/// A router's packets, and the answers of a container on two networks.
fn other_addresses(place: &Place, family: Family) {
    let inside = Netns::existing(place.scene.container("router"));
    let carried = match family {
        Family::V4 => "10.99.0.9",
        Family::V6 => "fd00:99::9",
    };
    inside.ip(&format!("addr add {carried} dev lo"));
    let carried = SocketAddr::new(carried.parse().expect("an address"), 0);
    let out = SocketAddr::new(family.client(), 53);
    for proto in [Proto::Tcp, Proto::Udp] {
        let probe = place.probe("router", proto, out).bound(carried);
        place.answered(&probe, "client", family.host());
        let published = SocketAddr::new(family.host(), 8092);
        let probe = place.probe("open", proto, published);
        place.answered(&probe, "both", at(family, 29, 10, 0).ip());
    }
}

fn the_sealed_bridge_has_no_address(place: &Place) {
    let shown = place.scene.topology.host.ip("addr show nb-sealed");
    assert!(!shown.contains("inet"), "{shown}");
}

fn what_is_taken_away_ends(place: &Place) {
    let client = place.scene.topology.client.path();
    let open = |from: &std::path::Path, to| Conversation::open(from, to).expect("a connection");
    let of_family = |family| {
        vec![
            open(client, at(family, 29, 10, 80)),
            open(client, at(family, 30, 10, 80)),
            open(&place.scene.container("open"), at(family, 28, 10, 80)),
            open(&place.scene.container("parent"), at(family, 27, 11, 80)),
            open(
                &place.scene.container("plain"),
                SocketAddr::new(family.host(), 8092),
            ),
        ]
    };
    let closed: Vec<Conversation> = Family::ALL.into_iter().flat_map(of_family).collect();
    let kept: Vec<Conversation> = Family::ALL
        .into_iter()
        .map(|family| {
            let published = SocketAddr::new(family.host(), 8092);
            open(&place.scene.container("open"), published)
        })
        .collect();
    for conversation in closed.iter().chain(&kept) {
        conversation.exchange().expect("it is answered");
    }
    let after = CONFIG
        .replace("gateway_mode = \"nat-unprotected\"\n", "")
        .replace(
            "gateway_mode = { ipv4 = \"routed\", ipv6 = \"routed\" }\n",
            "",
        )
        .replace("trusted_interfaces = [\"nb-bare\"]\n", "")
        .replace("links = [\"child\"]\n", "")
        .replace(
            "publish = [\"8092:80\", \"8092:80/udp\"]",
            "publish = [{ port = \"8092:80\", deny = [\"172.30.0.0/24\", \"fd00:30::/64\"] }]",
        );
    place.scene.apply(&after);
    for (index, conversation) in closed.iter().enumerate() {
        assert!(
            conversation.exchange_within(SILENCE).is_err(),
            "connection {index} lives on"
        );
    }
    for conversation in &kept {
        conversation.exchange().expect("what is allowed goes on");
    }
}
