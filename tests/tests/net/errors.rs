//! ICMP errors through a translation, and source ports that two flows want.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::Path,
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::Netns,
    scene::Scene,
    sockets::{Log, PATIENCE, Probe, Proto, Seen, serve},
    topology::Family,
};

use crate::SMALL;

/// A port on which nobody listens anywhere.
const CLOSED: u16 = 7;

/// Asks by a connected UDP socket, which hears of a refusal only by an ICMP error that fits it.
fn is_refused(from: &Path, to: SocketAddr) {
    let probe = Probe::new(from, Proto::Udp, to);
    assert_eq!(
        probe.ask(PATIENCE, &Log::default()),
        Seen::Refused,
        "{probe:?}"
    );
}

#[test]
fn a_masqueraded_container_hears_that_a_port_outside_is_closed() {
    let scene = Scene::with(SMALL);
    for family in Family::ALL {
        is_refused(
            &scene.container("app"),
            SocketAddr::new(family.far(), CLOSED),
        );
    }
}

#[test]
fn a_client_hears_that_nobody_listens_behind_a_published_port() {
    let scene = Scene::with(SMALL);
    for family in Family::ALL {
        is_refused(
            scene.topology.client.path(),
            SocketAddr::new(family.host(), 5353),
        );
    }
}

#[test]
fn a_container_hears_that_its_neighbour_does_not_listen() {
    let scene = Scene::with(SMALL);
    for web in ["172.28.0.10", "fd00:28::10"] {
        let web = web.parse().expect("an address");
        is_refused(&scene.container("app"), SocketAddr::new(web, CLOSED));
    }
}

#[test]
fn the_host_and_a_container_hear_their_refusals() {
    let scene = Scene::with(SMALL);
    for (web, gateway) in [("172.28.0.10", "172.28.0.1"), ("fd00:28::10", "fd00:28::1")] {
        let (web, gateway) = (
            web.parse().expect("an address"),
            gateway.parse().expect("one"),
        );
        is_refused(scene.topology.host.path(), SocketAddr::new(web, CLOSED));
        is_refused(&scene.container("app"), SocketAddr::new(gateway, CLOSED));
    }
}

/// A socket of a namespace with a chosen local port.
fn socket(netns: &Path, family: Family, port: u16) -> UdpSocket {
    let any = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    };
    let socket = Netns::existing(netns)
        .enter(|| UdpSocket::bind(SocketAddr::new(any, port)))
        .expect("a socket is bound");
    socket
        .set_read_timeout(Some(PATIENCE))
        .expect("a time limit is set");
    socket
}

/// Sends a question and reads the answer; the source that the server saw.
fn ask(socket: &UdpSocket, to: SocketAddr, token: &str) -> SocketAddr {
    socket
        .send_to(format!("probe {token}").as_bytes(), to)
        .expect("a question is sent");
    let mut buffer = [0; 512];
    let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
    assert_eq!(from, to);
    let text = String::from_utf8_lossy(&buffer[..length]).into_owned();
    let source = text.split_whitespace().nth(1).expect("a source");
    source.parse().expect("an address and a port")
}

#[test]
fn containers_with_one_source_port_keep_it_or_get_another_and_hear_their_own_answers() {
    const PORT: u16 = 40_000;
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    for family in Family::ALL {
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let first = socket(&scene.container("app"), family, PORT);
        let second = socket(&scene.container("web"), family, PORT);
        let seen = ask(&first, to, "1");
        assert_eq!(
            seen,
            SocketAddr::new(family.host(), PORT),
            "the port is kept when free"
        );
        let other = ask(&second, to, "2");
        assert_eq!(other.ip(), family.host());
        assert_ne!(other.port(), PORT, "another flow has the port");
        assert_eq!(ask(&first, to, "3"), seen);
        assert_eq!(ask(&second, to, "4"), other);
    }
}

#[test]
fn masquerade_leaves_a_port_alone_on_which_the_host_listens() {
    const PORT: u16 = 40_001;
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    for family in Family::ALL {
        let _hosts = socket(scene.topology.host.path(), family, PORT);
        let containers = socket(&scene.container("app"), family, PORT);
        let seen = ask(&containers, SocketAddr::new(family.far(), OWN_SERVICE), "1");
        assert_ne!(seen.port(), PORT);
    }
}

#[test]
fn a_flow_of_the_host_gets_another_port_where_a_container_has_its_answers() {
    const PORT: u16 = 40_002;
    let scene = Scene::with(SMALL);
    let log = Log::default();
    let _client = serve(scene.topology.client.path(), "client", &[OWN_SERVICE], &log);
    for family in Family::ALL {
        let to = SocketAddr::new(family.far(), OWN_SERVICE);
        let containers = socket(&scene.container("app"), family, PORT);
        assert_eq!(ask(&containers, to, "1").port(), PORT);
        let hosts = socket(scene.topology.host.path(), family, PORT);
        let seen = ask(&hosts, to, "2");
        assert_eq!(seen.ip(), family.host());
        assert_ne!(seen.port(), PORT);
        assert_eq!(ask(&hosts, to, "3"), seen);
        assert_eq!(ask(&containers, to, "4").port(), PORT);
    }
}
