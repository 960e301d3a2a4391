//! Corner cases of the wire: packets that are too big, and hops that run out.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::{Netns, wait_until},
    packet::Frame,
    scene::Scene,
    sockets::{Conversation, IcmpEar, Log, send_frames, serve},
    topology::{Family, UPLINK},
};

use crate::SMALL;

#[test]
fn a_narrow_uplink_is_learnt_of_and_the_connection_goes_on() {
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    let _web = serve(&scene.container("web"), "web", &[80], &log);
    scene
        .topology
        .host
        .ip(&format!("link set {UPLINK} mtu 1400"));
    for family in Family::ALL {
        let out = Conversation::open(
            &scene.container("app"),
            SocketAddr::new(family.far(), OWN_SERVICE),
        );
        out.expect("a connection")
            .upload(4 << 20, || {})
            .expect("a whole upload");
        let back = Conversation::open(
            scene.topology.client.path(),
            SocketAddr::new(family.host(), 8080),
        );
        back.expect("a connection")
            .download(4 << 20, || {})
            .expect("a whole download");
    }
    let status = scene.instance.run(&["status", "--json"]).stdout;
    assert!(status.contains("too_big"), "{status}");
}

#[test]
fn a_hop_that_runs_out_is_told_to_the_container() {
    let scene = Scene::with(SMALL);
    for family in Family::ALL {
        let ear = IcmpEar::open(&scene.container("app"), family);
        ear.send_with_one_hop(SocketAddr::new(family.far(), OWN_SERVICE));
        let deadline = Instant::now() + Duration::from_secs(5);
        let gateway = if family == Family::V4 {
            "172.28.0.1"
        } else {
            "fd00:28::1"
        };
        let told_by = ear.hears_time_exceeded(deadline);
        assert_eq!(told_by, gateway.parse().ok(), "{family:?}");
    }
}

fn malformed(scene: &Scene) -> u64 {
    let status = scene.instance.json(&["status"]);
    let drops = status["drops"].as_array().cloned().unwrap_or_default();
    let found = drops
        .iter()
        .find(|drop| drop["hook"] == "from_container" && drop["reason"] == "malformed");
    found
        .and_then(|drop| drop["packets"].as_u64())
        .unwrap_or_default()
}

#[test]
fn frames_that_end_inside_the_ip_header_are_dropped_and_counted() {
    let scene = Scene::with(SMALL);
    let app = Netns::existing(scene.container("app"));
    let (own, bridge) = (app.mac("eth0"), scene.topology.host.mac("nb-front"));
    let mut sent = 0;
    for (family, src) in [
        (Family::V4, "172.28.0.11:9"),
        (Family::V6, "[fd00:28::11]:9"),
    ] {
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let frame = Frame::udp(src.parse().expect("an address"), to).macs(own, bridge);
        let whole = frame.bytes();
        let cut: Vec<_> = (15..14 + frame.ip_header_len())
            .map(|len| whole[..len].to_vec())
            .collect();
        send_frames(app.path(), "eth0", &cut);
        sent += cut.len() as u64;
    }
    wait_until("all of them are counted", Duration::from_secs(10), || {
        malformed(&scene) >= sent
    });
    assert_eq!(malformed(&scene), sent);
    assert_eq!(
        scene
            .instance
            .json(&["conntrack", "ls"])
            .as_array()
            .map(Vec::len),
        Some(0)
    );
}
