//! Corner cases of the wire: packets that are too big, and hops that run out.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    scene::Scene,
    sockets::{Conversation, IcmpEar, Log, serve},
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
        assert!(ear.hears_time_exceeded(deadline), "{family:?}");
    }
}
