//! Several ways out, ways that move, and links that come and go.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::{Netns, wait_until},
    packet::{Flags, Frame},
    scene::Scene,
    sockets::{
        Conversation, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers, Talk, send_frames, serve,
    },
    topology::{CLIENT_V4, CLIENT_V6, Family},
};

use crate::{
    alive::Running,
    uplinks::{addr, answers, every_uplink, set_up},
};

/// Both ends of a second link between host and client.
const SECOND: [&str; 2] = ["10.8.0.1", "2001:db8:8::1"];
const SECOND_PEER: [&str; 2] = ["10.8.0.2", "2001:db8:8::2"];

/// Two more networks: one that nothing masquerades, and one more.
const MORE: &str = r#"
[[network]]
name = "open"
subnets = ["172.30.0.0/24", "fd00:30::/64"]
masquerade = false

[[container]]
name = "plain"
networks = [{ name = "open", ipv4 = "172.30.0.10", ipv6 = "fd00:30::10" }]

[[network]]
name = "back"
subnets = ["172.29.0.0/24", "fd00:29::/64"]

[[container]]
name = "job"
networks = [{ name = "back", ipv4 = "172.29.0.10", ipv6 = "fd00:29::10" }]
"#;

fn config() -> String {
    format!("{}{MORE}", every_uplink())
}

/// Links host and client a second time: `up1` and `eth1`.
fn second_link(scene: &Scene) {
    let (host, client) = (&scene.topology.host, &scene.topology.client);
    let peer = client.name();
    host.ip(&format!(
        "link add up1 type veth peer name eth1 netns {peer}"
    ));
    set_up(host, "up1", SECOND, [24, 64]);
    set_up(client, "eth1", SECOND_PEER, [24, 64]);
}

fn default_by(scene: &Scene, next_hops: [IpAddr; 2]) {
    let [v4, v6] = next_hops;
    let host = &scene.topology.host;
    host.ip(&format!("route replace default via {v4}"));
    host.ip(&format!("-6 route replace default via {v6}"));
}

fn by_second(scene: &Scene) {
    default_by(
        scene,
        SECOND_PEER.map(|addr| addr.parse().expect("an address")),
    );
}

fn by_first(scene: &Scene) {
    default_by(scene, [CLIENT_V4.into(), CLIENT_V6.into()]);
}

/// A host with two ways out, and servers on all sides.
fn two_ways(log: &Log) -> (Scene, Vec<Servers>) {
    let scene = Scene::bare();
    second_link(&scene);
    scene.apply(&config());
    for subnet in ["172.30.0.0/24", "fd00:30::/64"] {
        scene.topology.route_from_client(subnet);
    }
    let client = scene.topology.client.path();
    let servers = vec![
        serve(client, "client", &[OWN_SERVICE], log),
        serve(&scene.container("web"), "web", &[80], log),
    ];
    (scene, servers)
}

/// Packets that a hook dropped for a reason.
fn dropped(scene: &Scene, reason: &str) -> u64 {
    let status = scene.instance.json(&["status"]);
    let drops = status["drops"].as_array().cloned().unwrap_or_default();
    let of = drops.iter().filter(|drop| drop["reason"] == reason);
    of.filter_map(|drop| drop["packets"].as_u64()).sum()
}

/// The source that the far server sees of a container's new datagram, once there is an answer.
fn source(scene: &Scene, from: &str, family: Family) -> IpAddr {
    let to = SocketAddr::new(family.far(), OWN_SERVICE);
    let mut talk = Talk::open(&scene.container(from), to);
    talk.exchange(PATIENCE).expect("an answer").ip()
}

#[test]
fn a_default_route_that_moves_ends_masqueraded_flows_and_no_others() {
    let log = Log::default();
    let (scene, _servers) = two_ways(&log);
    for family in Family::ALL {
        by_first(&scene);
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut masked = Talk::open(&scene.container("app"), far);
        let mut plain = Talk::open(&scene.container("plain"), far);
        let connection = Conversation::open(&scene.container("app"), far).expect("a connection");
        let published = SocketAddr::new(family.host(), 8080);
        let inward = Conversation::open(scene.topology.client.path(), published);
        let inward = inward.expect("a connection");
        let first = masked.exchange(PATIENCE).expect("an answer");
        assert_eq!(first.ip(), family.host());
        masked.exchange(PATIENCE).expect("an answer");
        let own = plain.exchange(PATIENCE).expect("an answer");
        let before = dropped(&scene, "source_moved");
        by_second(&scene);
        assert_eq!(masked.exchange(SILENCE), None, "it goes on from a lost way");
        let moved = masked.exchange(PATIENCE).expect("an answer by the new way");
        assert_eq!(moved.ip(), addr(SECOND, family));
        assert!(connection.exchange_within(SILENCE).is_err());
        assert!(dropped(&scene, "source_moved") >= before + 2);
        assert_eq!(plain.exchange(PATIENCE), Some(own));
        inward.exchange().expect("a published port lives on");
    }
}

#[test]
fn a_masqueraded_flow_ends_with_its_address() {
    let log = Log::default();
    let (scene, _servers) = two_ways(&log);
    let host = &scene.topology.host;
    for (family, extra, len) in [
        (Family::V4, "203.0.113.9", "24"),
        (Family::V6, "2001:db8:113::9", "64 nodad"),
    ] {
        let via = family.client();
        host.ip(&format!("addr add dev up0 {extra}/{len}"));
        host.ip(&format!("route replace default via {via} src {extra}"));
        scene.apply(&config());
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = Talk::open(&scene.container("app"), to);
        let seen = talk.exchange(PATIENCE).expect("an answer");
        assert_eq!(seen.ip().to_string(), extra);
        host.ip(&format!("addr del dev up0 {extra}/{}", &len[..2]));
        host.ip(&format!("route replace default via {via}"));
        scene.apply(&config());
        assert_eq!(talk.exchange(SILENCE), None, "its address is gone");
        let seen = talk.exchange(PATIENCE).expect("an answer");
        assert_eq!(seen.ip(), family.host());
    }
}

#[test]
fn policy_rules_about_a_subnet_or_a_bridge_decide_way_and_source() {
    let log = Log::default();
    let (scene, _servers) = two_ways(&log);
    let host = &scene.topology.host;
    for (option, subnet, family) in [
        ("-4", "172.28.0.0/24", Family::V4),
        ("-6", "fd00:28::/64", Family::V6),
    ] {
        let via = addr(SECOND_PEER, family);
        host.ip(&format!("{option} route add default via {via} table 77"));
        host.ip(&format!("{option} rule add from {subnet} lookup 77"));
        assert_eq!(source(&scene, "app", family), addr(SECOND, family));
        assert_eq!(source(&scene, "job", family), family.host());
        host.ip(&format!("{option} rule add iif nb-back lookup 77"));
        assert_eq!(source(&scene, "job", family), addr(SECOND, family));
        // Who asks a published port gets the answer from the address that was asked.
        for asked in [family.host(), addr(SECOND, family)] {
            let probe = Probe::new(
                scene.topology.client.path(),
                Proto::Tcp,
                SocketAddr::new(asked, 8080),
            );
            let far = SocketAddr::new(family.far(), 0);
            answers(probe.bound(far), &log, "web", family.far());
        }
    }
}

#[test]
fn a_bridge_of_somebody_else_is_an_uplink_like_any_other() {
    const OWN: [&str; 2] = ["10.7.0.1", "2001:db8:7::1"];
    const GUEST: [&str; 2] = ["10.7.0.2", "2001:db8:7::2"];
    let scene = Scene::bare();
    let host = &scene.topology.host;
    let guest = Netns::create(&format!("{}-guest", scene.topology.id));
    host.ip("link add virbr9 type bridge");
    host.ip(&format!(
        "link add vnet9 master virbr9 type veth peer name eth0 netns {}",
        guest.name()
    ));
    host.ip("link set vnet9 up");
    set_up(host, "virbr9", OWN, [24, 64]);
    set_up(&guest, "eth0", GUEST, [24, 64]);
    guest.ip(&format!("route add default via {}", OWN[0]));
    guest.ip(&format!("-6 route add default via {}", OWN[1]));
    scene.apply(&every_uplink());
    let log = Log::default();
    let _guest = serve(guest.path(), "guest", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    for family in Family::ALL {
        let (own, guests) = (addr(OWN, family), addr(GUEST, family));
        for proto in Proto::ALL {
            let to = SocketAddr::new(guests, OWN_SERVICE);
            let probe = Probe::new(&scene.container("app"), proto, to);
            answers(probe, &log, "guest", own);
        }
        for asked in [own, family.host()] {
            let to = SocketAddr::new(asked, 8080);
            let probe = Probe::new(guest.path(), Proto::Tcp, to);
            answers(probe, &log, "web", guests);
        }
        let inside = addr(["172.28.0.10", "fd00:28::10"], family);
        let probe = Probe::new(guest.path(), Proto::Udp, SocketAddr::new(inside, 80));
        assert_eq!(probe.ask(SILENCE, &log), Seen::Silence);
    }
    assert!(dropped(&scene, "direct_access") > 0);
}

#[test]
fn an_uplink_that_vanishes_and_returns_is_hooked_again() {
    let log = Log::default();
    let (scene, _servers) = two_ways(&log);
    let host = &scene.topology.host;
    by_second(&scene);
    for family in Family::ALL {
        assert_eq!(source(&scene, "app", family), addr(SECOND, family));
    }
    host.ip("link del up1");
    second_link(&scene);
    by_second(&scene);
    for family in Family::ALL {
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = Talk::open(&scene.container("app"), to);
        assert_eq!(talk.exchange(SILENCE), None, "nobody looks at what leaves");
    }
    assert!(dropped(&scene, "way_out_not_hooked") >= 2);
    let applied = scene.apply(&config());
    assert!(applied.to_string().contains("up1"), "{applied}");
    for family in Family::ALL {
        assert_eq!(source(&scene, "app", family), addr(SECOND, family));
    }
    // The same interface under another name keeps its hooks.
    host.ip("link set up1 down");
    host.ip("link set up1 name up7");
    set_up_again(host, "up7");
    by_second(&scene);
    for family in Family::ALL {
        assert_eq!(source(&scene, "app", family), addr(SECOND, family));
    }
    assert_eq!(scene.apply(&config())["changed"], false);
}

/// Gives an interface the IPv6 address that it lost when it went down, and brings it up.
fn set_up_again(host: &Netns, interface: &str) {
    let _ = host.try_set_sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
    host.ip(&format!(
        "-6 addr replace {}/64 dev {interface} nodad",
        SECOND[1]
    ));
    host.ip(&format!("link set {interface} up"));
}

#[test]
fn run_follows_links_forwarding_and_ipsec_policies() {
    let scene = Scene::bare();
    let _running = Running::start(&scene, &config());
    let (host, log) = (&scene.topology.host, Log::default());
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    let reaches = |from: IpAddr, family: Family| {
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = Talk::open(&scene.container("app"), to);
        wait_until("a container is answered", Duration::from_secs(20), || {
            talk.exchange(SILENCE).is_some_and(|seen| seen.ip() == from)
        });
    };
    for round in 0..2 {
        second_link(&scene);
        by_second(&scene);
        for family in Family::ALL {
            reaches(addr(SECOND, family), family);
        }
        if round == 0 {
            host.ip("link del up1");
        }
    }
    by_first(&scene);
    for (path, family) in [
        ("net/ipv4/conf/all/forwarding", Family::V4),
        ("net/ipv6/conf/all/forwarding", Family::V6),
    ] {
        host.set_sysctl(path, "1");
        host.set_sysctl(path, "0");
        reaches(family.host(), family);
    }
    let steered = || {
        let status = scene.instance.json(&["status"]);
        status["kernel"]["features"]["xfrm"] == true
            && status["slow_path"].to_string().contains("xfrm")
    };
    host.ip("xfrm policy add dst 203.0.113.200/32 dir out action block");
    let far = SocketAddr::new(Family::V4.far(), OWN_SERVICE);
    let mut talk = Talk::open(&scene.container("app"), far);
    wait_until("egress takes the stack", Duration::from_secs(20), || {
        talk.exchange(SILENCE).is_none() && steered()
    });
    // A host that forwards lets through what no policy is about.
    host.nft("flush ruleset");
    for path in ["net/ipv4/ip_forward", "net/ipv6/conf/all/forwarding"] {
        host.set_sysctl(path, "1");
    }
    for family in Family::ALL {
        reaches(family.host(), family);
    }
    host.ip(&format!(
        "xfrm policy add dst {} dir out action block",
        Family::V4.far()
    ));
    let mut talk = Talk::open(&scene.container("app"), far);
    assert_eq!(talk.exchange(SILENCE), None, "the policy says no");
    host.ip("xfrm policy flush");
    scene.topology.close_netfilter();
    reaches(Family::V4.host(), Family::V4);
}

/// A frame with an 802.1Q tag.
fn tagged(frame: &[u8], id: u16) -> Vec<u8> {
    let tag = [0x81, 0x00, (id >> 8) as u8, id as u8];
    [&frame[..12], &tag, &frame[12..]].concat()
}

#[test]
fn a_tagged_frame_is_not_ours() {
    let scene = Scene::bare();
    scene.apply(&every_uplink());
    let (host, client) = (&scene.topology.host, &scene.topology.client);
    let flows = || {
        let listed = scene.instance.json(&["conntrack", "ls"]);
        listed.as_array().map_or(0, Vec::len)
    };
    let outside = (client.mac("eth0"), host.mac("up0"));
    let app = Netns::existing(scene.container("app"));
    let inside = (app.mac("eth0"), host.mac("nb-front"));
    for (count, family) in (1..).zip(Family::ALL) {
        let to = SocketAddr::new(family.host(), 8080);
        let syn = Frame::tcp(SocketAddr::new(family.client(), 4000), to, Flags::Syn);
        let syn = syn.macs(outside.0, outside.1).bytes();
        send_frames(client.path(), "eth0", &[tagged(&syn, 42)]);
        // A tag without a VLAN has a priority alone, and the frame is the device's own.
        send_frames(client.path(), "eth0", &[tagged(&syn, 0)]);
        wait_until("one flow is known", PATIENCE, || flows() >= count);
        assert_eq!(flows(), count);
        // Behind a second one the stack would find the packet, and no hook would have seen it.
        let before = dropped(&scene, "unsupported_ether_type");
        let twice = tagged(&tagged(&syn, 0), 0);
        send_frames(
            client.path(),
            "eth0",
            &[twice, tagged(&tagged(&syn, 42), 0)],
        );
        wait_until("the one without a VLAN is dropped", PATIENCE, || {
            dropped(&scene, "unsupported_ether_type") > before
        });
        assert_eq!(dropped(&scene, "unsupported_ether_type"), before + 1);
        let from = addr(["172.28.0.11", "fd00:28::11"], family);
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let ask = Frame::udp(SocketAddr::new(from, 4000), far);
        let ask = ask.macs(inside.0, inside.1).bytes();
        let before = dropped(&scene, "unsupported_ether_type");
        send_frames(app.path(), "eth0", &[tagged(&ask, 42), tagged(&ask, 0)]);
        wait_until("both are dropped", PATIENCE, || {
            dropped(&scene, "unsupported_ether_type") >= before + 2
        });
        assert_eq!(
            flows(),
            count,
            "a tagged frame of a container's began a flow"
        );
    }
}

#[test]
fn a_vlan_device_is_an_uplink_of_its_own() {
    const OWN: [&str; 2] = ["10.6.0.1", "2001:db8:6::1"];
    const PEER: [&str; 2] = ["10.6.0.2", "2001:db8:6::2"];
    let scene = Scene::bare();
    let (host, client) = (&scene.topology.host, &scene.topology.client);
    let make = |netns: &Netns, lower: &str| {
        let arguments = [
            "link", "add", "link", lower, "name", "vlan5", "type", "vlan", "id", "5",
        ];
        let made = netns.command("ip").args(arguments).output();
        made.is_ok_and(|output| output.status.success())
    };
    if !make(host, "up0") || !make(client, "eth0") {
        eprintln!("skipped: this kernel has no VLAN devices (8021q)");
        return;
    }
    set_up(host, "vlan5", OWN, [24, 64]);
    set_up(client, "vlan5", PEER, [24, 64]);
    scene.apply(&every_uplink());
    let log = Log::default();
    let _client = serve(client.path(), "client", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    for family in Family::ALL {
        let to = SocketAddr::new(addr(PEER, family), OWN_SERVICE);
        let probe = Probe::new(&scene.container("app"), Proto::Udp, to);
        answers(probe, &log, "client", addr(OWN, family));
        let to = SocketAddr::new(addr(OWN, family), 8080);
        let probe = Probe::new(client.path(), Proto::Tcp, to);
        answers(probe, &log, "web", addr(PEER, family));
    }
}

#[test]
fn a_port_that_a_vip_has_not_is_refused() {
    let scene = Scene::with(&format!(
        "{}\n[[service]]\nname = \"api\"\nnetwork = \"front\"\n\
         vip = [\"172.28.0.100\", \"fd00:28::100\"]\nports = [\"80:80\"]\nscheduler = \"random\"\n\
         backends = [{{ container = \"web\" }}]\n",
        every_uplink()
    ));
    for family in Family::ALL {
        let closed = SocketAddr::new(addr(["172.28.0.100", "fd00:28::100"], family), 22);
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = Probe::new(&scene.container("app"), proto, closed);
            assert_eq!(
                probe.ask(PATIENCE, &Log::default()),
                Seen::Refused,
                "{probe:?}"
            );
        }
    }
    assert!(dropped(&scene, "vip_port_closed") >= 4);
}
