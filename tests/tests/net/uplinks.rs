//! Outward interfaces of every kind.

use std::net::{IpAddr, SocketAddr};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::Netns,
    scene::Scene,
    sockets::{Conversation, Log, PATIENCE, Probe, Proto, Seen, serve},
    topology::Family,
    tun::Cable,
};

use crate::SMALL;

/// A port on which nobody listens anywhere.
const CLOSED: u16 = 7;

/// Both ends of a VPN-like link, and an address beyond it.
const NEAR: [&str; 2] = ["10.9.0.1", "2001:db8:9::1"];
const PEER: [&str; 2] = ["10.9.0.2", "2001:db8:9::2"];
const BEYOND: [&str; 2] = ["198.51.100.9", "2001:db8:99::9"];

pub(crate) fn addr(of: [&str; 2], family: Family) -> IpAddr {
    let text = match family {
        Family::V4 => of[0],
        Family::V6 => of[1],
    };
    text.parse().expect("an address")
}

/// [`SMALL`] with every interface of the host as an uplink.
pub(crate) fn every_uplink() -> String {
    SMALL.replace("uplinks = [\"up0\"]", "")
}

/// Gives an end of a link its addresses, and brings it up.
pub(crate) fn set_up(netns: &Netns, interface: &str, addresses: [&str; 2], lens: [u8; 2]) {
    let [v4, v6] = addresses;
    netns.set_sysctl(&format!("net/ipv6/conf/{interface}/accept_dad"), "0");
    netns.ip(&format!("addr add {v4}/{} dev {interface}", lens[0]));
    netns.ip(&format!("addr add {v6}/{} dev {interface} nodad", lens[1]));
    netns.ip(&format!("link set {interface} up"));
}

/// The answer of `by`, who must have seen `source`.
pub(crate) fn answers(probe: Probe, log: &Log, by: &str, source: IpAddr) {
    match probe.ask(PATIENCE, log) {
        Seen::Answered {
            by: name,
            source: seen,
        } => assert_eq!((name.as_str(), seen.ip()), (by, source), "{probe:?}"),
        seen => panic!("{probe:?}: {seen}"),
    }
}

#[test]
fn a_vpn_without_ethernet_header_is_an_uplink_like_any_other() {
    let scene = Scene::bare();
    let (host, id) = (&scene.topology.host, &scene.topology.id);
    let far = Netns::create(&format!("{id}-far"));
    let _cable = Cable::between((host, "vpn0"), (&far, "vpn0"));
    set_up(host, "vpn0", NEAR, [24, 64]);
    set_up(&far, "vpn0", PEER, [24, 64]);
    for (beyond, len) in BEYOND.into_iter().zip([32, 128]) {
        far.ip(&format!("addr add {beyond}/{len} dev lo"));
        host.ip(&format!("route add {beyond}/{len} dev vpn0"));
    }
    let applied = scene.apply(&every_uplink());
    assert!(applied.to_string().contains("vpn0"), "{applied}");
    let log = Log::default();
    let _far = serve(far.path(), "far", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    for family in Family::ALL {
        let beyond = addr(BEYOND, family);
        for proto in Proto::ALL {
            let out = SocketAddr::new(beyond, OWN_SERVICE);
            let probe = Probe::new(&scene.container("app"), proto, out);
            answers(probe, &log, "far", addr(NEAR, family));
        }
        let published = SocketAddr::new(addr(NEAR, family), 8080);
        let probe = Probe::new(far.path(), Proto::Tcp, published).bound(SocketAddr::new(beyond, 0));
        answers(probe, &log, "web", beyond);
        // Errors come back through the translation, by a connected socket.
        for (from, to) in [
            (scene.container("app"), SocketAddr::new(beyond, CLOSED)),
            (
                far.path().to_owned(),
                SocketAddr::new(addr(NEAR, family), 5353),
            ),
        ] {
            let probe = Probe::new(&from, Proto::Udp, to);
            assert_eq!(probe.ask(PATIENCE, &log), Seen::Refused, "{probe:?}");
        }
        // Both families' containers stay closed to whoever sends to them directly.
        let inside = addr(["172.28.0.10", "fd00:28::10"], family);
        far.ip(&format!("route add {inside} dev vpn0"));
        let probe = Probe::new(far.path(), Proto::Udp, SocketAddr::new(inside, 80));
        assert_eq!(
            probe.ask(netbpf_tests::sockets::SILENCE, &log),
            Seen::Silence
        );
    }
    // A narrow way is learnt of.
    host.ip("link set vpn0 mtu 1300");
    for family in Family::ALL {
        let to = SocketAddr::new(addr(BEYOND, family), OWN_SERVICE);
        let out = Conversation::open(&scene.container("app"), to).expect("a connection");
        out.upload(1 << 20, || {}).expect("a whole upload");
        let to = SocketAddr::new(addr(NEAR, family), 8080);
        let back = Conversation::open(far.path(), to).expect("a connection");
        back.download(1 << 20, || {}).expect("a whole download");
    }
    let status = scene.instance.json(&["status"]);
    let rows = status["interfaces"].as_array().expect("interfaces");
    let vpn = rows.iter().find(|row| row["name"] == "vpn0").expect("vpn0");
    assert_eq!(vpn["role"], "uplink");
    assert_eq!(vpn["hooks"].as_array().map(Vec::len), Some(2), "{vpn}");
    let dropped: Vec<&str> = status["drops"]
        .as_array()
        .into_iter()
        .flatten()
        .filter_map(|drop| drop["reason"].as_str())
        .collect();
    assert_eq!(dropped, ["direct_access"], "{status}");
    assert_eq!(scene.apply(&every_uplink())["changed"], false);
}
