//! Published ports as the host sees them: which ports are chosen, who else can have them, and who
//! is answered.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, ToSocketAddrs, UdpSocket},
    os::fd::AsRawFd as _,
    path::Path,
    time::Duration,
};

use netbpf_tests::{
    netns::wait_until,
    scene::Scene,
    sockets::{Log, PATIENCE, Probe, Proto, SILENCE, Seen, serve},
    topology::Family,
};
use nix::sys::socket::{Shutdown, shutdown};

use crate::alive::Running;

/// The example, with an address that the host gets later.
fn example() -> String {
    include_str!("../../../examples/publishing.toml")
        .replace("203.0.113.1:8090", "203.0.113.9:8090")
}

/// The ports of the containers that are asked.
const SERVED: &[u16] = &[53, 80, 81, 443, 7000, 9000, 9001];

/// Another process of the host, which listens until this is dropped.
struct Listening(TcpListener);

impl Listening {
    fn on(address: impl ToSocketAddrs) -> io::Result<Self> {
        TcpListener::bind(address).map(Self)
    }
}

impl Drop for Listening {
    /// To close the socket would not do: whatever another test of this process starts at this very
    /// moment has a copy of it until it is another program.
    fn drop(&mut self) {
        shutdown(self.0.as_raw_fd(), Shutdown::Both).expect("it listens");
    }
}

fn listen(scene: &Scene, address: &str) -> io::Result<Listening> {
    scene.topology.host.enter(|| Listening::on(address))
}

#[test]
fn nobody_listens_any_more_although_a_copy_of_the_socket_is_left() {
    let listening = Listening::on("127.0.0.1:0").expect("a free port");
    let address = listening.0.local_addr().expect("an address");
    let _copy = listening.0.try_clone().expect("a copy");
    assert!(is_taken(Listening::on(address)));
    drop(listening);
    assert!(!is_taken(Listening::on(address)));
}

/// Whether another process of the host has a port.
fn is_taken<T>(bound: io::Result<T>) -> bool {
    match bound {
        Ok(_) => false,
        Err(error) if error.kind() == io::ErrorKind::AddrInUse => true,
        Err(error) => panic!("{error}"),
    }
}

fn udp_is_taken(scene: &Scene, address: &str) -> bool {
    is_taken(scene.topology.host.enter(|| UdpSocket::bind(address)))
}

fn tcp_is_taken(scene: &Scene, address: &str) -> bool {
    is_taken(listen(scene, address))
}

/// What `port ls CONTAINER` prints.
fn ports(scene: &Scene, container: &str) -> String {
    scene
        .instance
        .run(&["port", "ls", container])
        .succeeded()
        .stdout
}

fn are_reserved(scene: &Scene) -> bool {
    scene.instance.json(&["status"])["ports_reserved"] == true
}

fn until_reserved(scene: &Scene) {
    let limit = Duration::from_secs(20);
    wait_until("the ports are reserved", limit, || are_reserved(scene));
}

#[track_caller]
fn is_answered(from: &Path, proto: Proto, to: SocketAddr, by: &str, log: &Log) {
    let seen = Probe::new(from, proto, to).ask(PATIENCE, log);
    match &seen {
        Seen::Answered { by: name, .. } if name == by => {}
        _ => panic!("{} {to}: {seen}, not by {by}", proto.name()),
    }
}

#[track_caller]
fn client_is_answered(scene: &Scene, port: u16, by: &str, log: &Log) {
    for family in Family::ALL {
        let to = SocketAddr::new(family.host(), port);
        is_answered(scene.topology.client.path(), Proto::Tcp, to, by, log);
    }
}

const WEB: &str = "80/tcp -> 0.0.0.0:8080
80/tcp -> [::]:8080
9000/tcp -> 0.0.0.0:9000
9000/tcp -> [::]:9000
9001/tcp -> 0.0.0.0:9001
9001/tcp -> [::]:9001
81/tcp -> 0.0.0.0:8001
81/tcp -> [::]:8001
443/tcp -> 0.0.0.0:49101
443/tcp -> [::]:49101
80/tcp -> 203.0.113.9:8090
";

const ALL: &str = "7000/tcp -> 0.0.0.0:49102
7000/tcp -> [::]:49102
7001/tcp -> 0.0.0.0:49103
7001/tcp -> [::]:49103
53/udp -> 0.0.0.0:49100
53/udp -> [::]:49100
";

const ADMIN: &str = "80/tcp -> 127.0.0.1:2280\n22/tcp -> 0.0.0.0:2222\n";

/// Rows P1-P8 and P23: choices keep off what listens, answer from outside, stay; `run` keeps other
/// processes off, and its death takes nothing from anybody.
#[test]
fn published_ports_are_chosen_kept_reserved_and_answered() {
    let scene = Scene::bare();
    let log = Log::default();
    // The first port of a range in one address, the first ephemeral one in both families.
    let range = listen(&scene, "127.0.0.1:8000").expect("a free port");
    let ephemeral = listen(&scene, "[::]:49100").expect("a free port");
    let running = Running::start(&scene, &example());
    until_reserved(&scene);
    drop((range, ephemeral));
    let _web = serve(&scene.container("web"), "web", SERVED, &log);
    let _dns = serve(&scene.container("dns"), "dns", SERVED, &log);
    let _all = serve(&scene.container("all"), "all", SERVED, &log);
    assert_eq!(ports(&scene, "web"), WEB);
    assert_eq!(ports(&scene, "all"), ALL);
    assert_eq!(ports(&scene, "admin"), ADMIN);

    for (port, by) in [
        (8080, "web"),
        (9000, "web"),
        (9001, "web"),
        (8001, "web"),
        (49101, "web"),
        (49102, "all"),
    ] {
        client_is_answered(&scene, port, by, &log);
    }
    loopback_answers_the_host_only(&scene, &log);
    address_that_comes_answers(&scene, &log);

    for address in [
        "0.0.0.0:8080",
        "127.0.0.1:8080",
        "[::]:8080",
        "[::1]:9001",
        "0.0.0.0:49101",
        "203.0.113.9:8090",
        "127.0.0.1:2280",
    ] {
        assert!(tcp_is_taken(&scene, address), "{address}");
    }
    for address in [
        "127.0.0.1:5353",
        "127.0.0.2:5354",
        "[::1]:5353",
        "0.0.0.0:49100",
    ] {
        assert!(udp_is_taken(&scene, address), "{address}");
    }
    assert!(
        !udp_is_taken(&scene, "127.0.0.2:5353"),
        "another address is free"
    );
    assert!(
        !tcp_is_taken(&scene, "127.0.0.1:8000"),
        "nobody publishes it"
    );

    refused_port_changes_nothing(&scene);
    unpublished_port_is_free(&scene);

    // A kill.
    drop(running);
    assert!(!are_reserved(&scene));
    assert_eq!(ports(&scene, "all"), ALL);
    let late = listen(&scene, "0.0.0.0:8080").expect("nobody keeps it");
    client_is_answered(&scene, 8080, "web", &log);
    client_is_answered(&scene, 49101, "web", &log);

    // A new `run` serves on, and says that it lacks a port.
    let _again = Running::start(&scene, &without_9001());
    assert_eq!(ports(&scene, "all"), ALL);
    assert!(!are_reserved(&scene));
    client_is_answered(&scene, 8080, "web", &log);
    drop(late);
    let _ = scene.instance.run(&["apply"]).succeeded();
    assert!(are_reserved(&scene));
    assert!(tcp_is_taken(&scene, "0.0.0.0:8080"));
}

fn loopback_answers_the_host_only(scene: &Scene, log: &Log) {
    let (host, client) = (scene.topology.host.path(), scene.topology.client.path());
    for address in ["127.0.0.1:5353", "127.0.0.2:5354", "[::1]:5353"] {
        let address = address.parse().expect("an address");
        is_answered(host, Proto::Udp, address, "dns", log);
    }
    for family in Family::ALL {
        let to = SocketAddr::new(family.host(), 5353);
        assert_eq!(
            Probe::new(client, Proto::Udp, to).ask(PATIENCE, log),
            Seen::Refused
        );
    }
}

fn address_that_comes_answers(scene: &Scene, log: &Log) {
    let address: IpAddr = Ipv4Addr::new(203, 0, 113, 9).into();
    let to = SocketAddr::new(address, 8090);
    let client = scene.topology.client.path();
    let asked = || Probe::new(client, Proto::Tcp, to).ask(SILENCE, log);
    assert!(!matches!(asked(), Seen::Answered { .. }));
    scene.topology.host.ip("address add 203.0.113.9/24 dev up0");
    wait_until("the address answers", Duration::from_secs(20), || {
        matches!(asked(), Seen::Answered { .. })
    });
}

/// Row P5, through the living `run`: a port of a container, and one of another process.
fn refused_port_changes_nothing(scene: &Scene) {
    let foreign = listen(scene, "127.0.0.1:7777").expect("a free port");
    let before = ports(scene, "web");
    for (port, code, why) in [
        (
            "9001",
            2,
            "Bind for 0.0.0.0:9001 failed: port is already allocated (by container \"web\")",
        ),
        (
            "7777",
            1,
            "failed to bind host port 0.0.0.0:7777/tcp: address already in use",
        ),
        (
            "49102",
            1,
            "Bind for 0.0.0.0:49102 failed: port is already allocated (by container \"all\")",
        ),
    ] {
        let config = example().replace(
            "\"9000-9001:9000-9001\"",
            &format!("\"9000-9001:9000-9001\", \"{port}:82\""),
        );
        let ended = scene.try_apply(&config).failed_with(code);
        assert!(ended.stderr.contains(why), "{}", ended.stderr);
        assert_eq!(ports(scene, "web"), before);
    }
    assert!(are_reserved(scene));
    drop(foreign);
    assert!(
        !tcp_is_taken(scene, "127.0.0.1:7777"),
        "what failed keeps nothing"
    );
}

fn without_9001() -> String {
    example().replace("9000-9001:9000-9001", "9000:9000")
}

fn unpublished_port_is_free(scene: &Scene) {
    scene.apply(&without_9001());
    assert!(!tcp_is_taken(scene, "0.0.0.0:9001"));
    assert!(!tcp_is_taken(scene, "[::]:9001"));
    assert!(tcp_is_taken(scene, "0.0.0.0:9000"));
    assert_eq!(
        ports(scene, "web"),
        WEB.replace("9001/tcp -> 0.0.0.0:9001\n9001/tcp -> [::]:9001\n", "")
    );
}
