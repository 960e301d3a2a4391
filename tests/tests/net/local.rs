//! Processes of the host, at published ports and virtual IPs.

use std::{
    io::{BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
};

use netbpf_tests::{
    scene::Scene,
    sockets::{self, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers},
    topology::{Family, HOST_V4},
};
use socket2::{Domain, Socket, Type};

const CONFIG: &str = r#"
[host]
uplinks = ["up0"]

[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[network]]
name = "legacy"
subnets = ["172.30.0.0/24"]

[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }]
publish = ["8080:80", "5353:80/udp"]

[[container]]
name = "old"
networks = [{ name = "legacy", ipv4 = "172.30.0.10" }]
publish = ["8090:80", "5390:80/udp", "0.0.0.0:8091:80", "127.0.0.1:5399:80/udp", "127.0.0.1:8099:80"]

[[container]]
name = "app"
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]
publish = ["127.0.0.2:5399:80/udp", "[::1]:8099:80"]

[[service]]
name = "api"
network = "front"
vip = ["172.28.0.100", "fd00:28::100"]
ports = ["80:80", "53:80/udp"]
backends = [{ container = "web" }]
scheduler = "random"
"#;

/// Servers in the containers of a scene, and what they heard.
struct Doors {
    log: Log,
    _servers: Vec<Servers>,
}

fn open_doors(scene: &Scene) -> Doors {
    let log = Log::default();
    let open = |name: &str| sockets::serve(&scene.container(name), name, &[80], &log);
    let servers = ["web", "old", "app"].map(open).into();
    Doors {
        log,
        _servers: servers,
    }
}

fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}

fn gateway(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 28, 0, 1).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 1).into(),
    }
}

/// Every address of the host's by which `web` is published.
fn asked(family: Family) -> Vec<IpAddr> {
    let mut all = vec![localhost(family), family.host(), gateway(family)];
    if family == Family::V4 {
        all.push(Ipv4Addr::new(127, 8, 9, 10).into());
    }
    all
}

const PORTS: [(Proto, u16); 3] = [
    (Proto::Tcp, 8080),
    (Proto::Udp, 5353),
    (Proto::Fragments, 5353),
];

/// Asks from the host, and demands an answer by `by`, which saw `source`.
fn reaches(scene: &Scene, doors: &Doors, probe: Probe, by: &str, source: IpAddr) {
    let seen = match probe.ask(PATIENCE, &doors.log) {
        // The loopback interface takes a whole datagram that the container's does not, as its
        // sender learns; now it cuts.
        Seen::TooBig => probe.ask(PATIENCE, &doors.log),
        seen => seen,
    };
    match seen {
        Seen::Answered {
            by: name,
            source: seen,
        } => assert_eq!((name.as_str(), seen.ip()), (by, source), "{probe:?}"),
        seen => panic!(
            "{probe:?}: {seen}\n{}",
            scene.instance.run(&["status"]).stdout
        ),
    }
}

fn from_host(scene: &Scene, proto: Proto, addr: IpAddr, port: u16) -> Probe {
    Probe::new(
        scene.topology.host.path(),
        proto,
        SocketAddr::new(addr, port),
    )
}

fn every_address_reaches_web(scene: &Scene, doors: &Doors) {
    for family in Family::ALL {
        for addr in asked(family) {
            for (proto, port) in PORTS {
                let probe = from_host(scene, proto, addr, port);
                reaches(scene, doors, probe, "web", gateway(family));
            }
        }
        let vip = vip(family);
        for (proto, port) in [(Proto::Tcp, 80), (Proto::Udp, 53)] {
            let probe = from_host(scene, proto, vip, port);
            reaches(scene, doors, probe, "web", gateway(family));
        }
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = from_host(scene, proto, vip, 81);
            assert_eq!(probe.ask(PATIENCE, &doors.log), Seen::Refused, "{probe:?}");
        }
    }
}

fn vip(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 28, 0, 100).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 0x100).into(),
    }
}

/// What is bound to a loopback address goes by the loopback interface, whose checks of sources are
/// on as strictly as they can be.
#[test]
fn processes_of_the_host_reach_published_ports_and_virtual_ips_by_every_address() {
    let scene = Scene::with(CONFIG);
    for interface in ["all", "default", "lo"] {
        let path = format!("net/ipv4/conf/{interface}/rp_filter");
        scene.topology.host.set_sysctl(&path, "1");
    }
    let doors = open_doors(&scene);
    every_address_reaches_web(&scene, &doors);
    for family in Family::ALL {
        for addr in asked(family) {
            for (proto, port) in PORTS {
                for (bind, source) in [
                    (localhost(family), gateway(family)),
                    (family.host(), family.host()),
                ] {
                    let probe = from_host(&scene, proto, addr, port);
                    let probe = probe.bound(SocketAddr::new(bind, 0));
                    reaches(&scene, &doors, probe, "web", source);
                }
            }
        }
    }
    let status = scene.instance.json(&["status"]);
    assert_eq!(
        status["sockets"]["hooks"].as_array().map(Vec::len),
        Some(8),
        "{status}"
    );
}

#[test]
fn a_process_sees_the_address_that_it_asked() {
    let scene = Scene::with(CONFIG);
    let _doors = open_doors(&scene);
    let mapped = |addr: Ipv4Addr| IpAddr::from(addr.to_ipv6_mapped());
    let mapped = [mapped(Ipv4Addr::LOCALHOST), mapped(HOST_V4)];
    let all = Family::ALL.into_iter().flat_map(asked).chain(mapped);
    scene.topology.host.enter(|| {
        for addr in all {
            let (tcp, udp) = (SocketAddr::new(addr, 8080), SocketAddr::new(addr, 5353));
            let peer = TcpStream::connect(tcp).and_then(|it| it.peer_addr());
            assert_eq!(peer.ok(), Some(tcp));
            let connected = datagrams(addr);
            connected.connect(udp).expect("it connects");
            assert_eq!(connected.peer_addr().ok(), Some(udp));
            connected.send(b"probe 0").expect("it sends");
            assert_eq!(sender(&connected), udp, "connected");
        }
        // One socket that talks to all of them, and learns from whom each answer is.
        for family in Family::ALL {
            let socket = datagrams(localhost(family));
            for _ in 0..2 {
                for addr in asked(family) {
                    let to = SocketAddr::new(addr, 5353);
                    socket.send_to(b"probe 0", to).expect("it sends");
                    assert_eq!(sender(&socket), to, "not connected");
                }
            }
        }
    });
}

/// A socket for datagrams of the address's family, bound to nothing.
fn datagrams(of: IpAddr) -> UdpSocket {
    let socket = Socket::new(domain(of), Type::DGRAM, None).expect("a socket");
    socket.set_read_timeout(Some(PATIENCE)).expect("a time-out");
    socket.into()
}

fn domain(of: IpAddr) -> Domain {
    match Family::of(of) {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    }
}

fn sender(socket: &UdpSocket) -> SocketAddr {
    let mut buffer = [0; 256];
    match socket.recv_from(&mut buffer) {
        Ok((_, from)) => from,
        Err(error) => panic!("no answer: {error}"),
    }
}

#[test]
fn an_ipv4_container_answers_the_host_in_ipv6_where_no_address_was_named() {
    let scene = Scene::with(CONFIG);
    let _doors = open_doors(&scene);
    let gateway: IpAddr = Ipv4Addr::new(172, 30, 0, 1).into();
    scene.topology.host.enter(|| {
        for addr in [localhost(Family::V6), Family::V6.host()] {
            let tcp = SocketAddr::new(addr, 8090);
            let mut stream = TcpStream::connect(tcp).expect("it connects");
            assert_eq!(stream.peer_addr().ok(), Some(tcp));
            let mut answer = String::new();
            stream
                .write_all(b"GET / HTTP/1.0\r\n\r\n")
                .expect("it sends");
            stream.read_to_string(&mut answer).expect("an answer");
            assert_eq!(seen_source(&answer), Some(gateway), "{answer}");
            let udp = SocketAddr::new(addr, 5390);
            let socket = datagrams(addr);
            socket.connect(udp).expect("it connects");
            socket.send(b"probe 0").expect("it sends");
            let mut buffer = [0; 256];
            let (length, from) = socket.recv_from(&mut buffer).expect("an answer");
            let answer = String::from_utf8_lossy(&buffer[..length]);
            assert_eq!((from, seen_source(&answer)), (udp, Some(gateway)));
            let named = TcpStream::connect(SocketAddr::new(addr, 8091));
            let refused = named.map_err(|error| error.kind());
            assert_eq!(refused.err(), Some(ErrorKind::ConnectionRefused));
        }
    });
}

/// The source that a server saw, which stands at the end of its answer.
fn seen_source(answer: &str) -> Option<IpAddr> {
    let source: SocketAddr = answer.split_whitespace().last()?.parse().ok()?;
    Some(source.ip())
}

#[test]
fn what_is_published_on_loopback_answers_the_host_alone() {
    let scene = Scene::with(CONFIG);
    let doors = open_doors(&scene);
    let legacy: IpAddr = Ipv4Addr::new(172, 30, 0, 1).into();
    let mine = localhost(Family::V4);
    let other: IpAddr = Ipv4Addr::new(127, 0, 0, 2).into();
    let ask = |proto, addr, port| from_host(&scene, proto, addr, port);
    reaches(&scene, &doors, ask(Proto::Udp, mine, 5399), "old", legacy);
    reaches(&scene, &doors, ask(Proto::Tcp, mine, 8099), "old", legacy);
    let front = gateway(Family::V4);
    reaches(&scene, &doors, ask(Proto::Udp, other, 5399), "app", front);
    let v6 = ask(Proto::Tcp, localhost(Family::V6), 8099);
    reaches(&scene, &doors, v6, "app", gateway(Family::V6));
    let places = [
        scene.topology.host.path().to_owned(),
        scene.topology.client.path().to_owned(),
        scene.container("web"),
    ];
    for from in places {
        for family in Family::ALL {
            for (proto, port) in [(Proto::Udp, 5399), (Proto::Tcp, 8099)] {
                let to = SocketAddr::new(family.host(), port);
                let probe = Probe::new(&from, proto, to);
                assert_eq!(probe.ask(SILENCE, &doors.log), Seen::Refused, "{probe:?}");
            }
        }
    }
}

#[test]
fn without_cgroup2_all_of_it_goes_by_the_loopback_interface() {
    let scene = Scene::bare();
    let config = scene.instance.write_config(&scene.private(CONFIG));
    let run = |arguments: &[&str]| {
        let mut command = scene.instance.command(arguments);
        let output = command.env("NETBPF_WITHOUT", "cgroup2").output();
        let output = output.expect("netbpf runs");
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        text
    };
    run(&["apply", &config.to_string_lossy()]);
    let doors = open_doors(&scene);
    every_address_reaches_web(&scene, &doors);
    let status: serde_json::Value =
        serde_json::from_str(&run(&["status", "--json"])).expect("JSON");
    assert_eq!(status["state"], "active");
    assert_eq!(
        status["sockets"],
        serde_json::json!({ "cgroup": null, "hooks": [] })
    );
    assert!(run(&["status"]).contains("no cgroup2"));
}

/// A connection that is kept open, line by line.
struct Line(BufReader<TcpStream>);

impl Line {
    fn open(bind: Option<IpAddr>, to: SocketAddr) -> Self {
        let socket = Socket::new(domain(to.ip()), Type::STREAM, None).expect("a socket");
        if let Some(addr) = bind {
            let bound = socket.bind(&SocketAddr::new(addr, 0).into());
            bound.expect("it is bound");
        }
        socket.connect(&to.into()).expect("it connects");
        Self(BufReader::new(socket.into()))
    }

    fn echoes(&mut self, patience: std::time::Duration) -> bool {
        let stream = self.0.get_ref();
        let mut line = String::new();
        stream.set_read_timeout(Some(patience)).is_ok()
            && self.0.get_mut().write_all(b"hello\n").is_ok()
            && self.0.read_line(&mut line).is_ok()
            && line == "hello\n"
    }
}

#[test]
fn what_is_unpublished_ends_for_processes_of_the_host_as_well() {
    let scene = Scene::with(CONFIG);
    let _doors = open_doors(&scene);
    let host = &scene.topology.host;
    let mut lines = host.enter(|| {
        let mut lines = Vec::new();
        for family in Family::ALL {
            for bind in [None, Some(localhost(family))] {
                for (addr, port) in [(localhost(family), 8080), (vip(family), 80)] {
                    lines.push(Line::open(bind, SocketAddr::new(addr, port)));
                }
            }
        }
        lines
    });
    let socket = host.enter(|| {
        let socket = datagrams(localhost(Family::V4));
        socket
            .connect((Ipv4Addr::LOCALHOST, 5353))
            .expect("it connects");
        socket
    });
    assert!(lines.iter_mut().all(|line| line.echoes(PATIENCE)));
    socket.send(b"probe 0").expect("it sends");
    sender(&socket);
    let without = CONFIG
        .replace("publish = [\"8080:80\", \"5353:80/udp\"]\n", "")
        .split("[[service]]")
        .next()
        .unwrap_or_default()
        .to_owned();
    scene.apply(&without);
    for line in &mut lines {
        assert!(!line.echoes(SILENCE));
    }
    socket.set_read_timeout(Some(SILENCE)).expect("a time-out");
    let _ = socket.send(b"probe 0");
    assert!(socket.recv(&mut [0; 64]).is_err());
}

#[test]
fn two_hosts_on_one_machine_lead_their_own_processes_alone() {
    let (one, two) = (Scene::with(CONFIG), Scene::with(CONFIG));
    let log = Log::default();
    let _one = sockets::serve(&one.container("web"), "one", &[80], &log);
    let _two = sockets::serve(&two.container("web"), "two", &[80], &log);
    for (scene, name) in [(&one, "one"), (&two, "two")] {
        for (proto, port) in PORTS {
            let probe = from_host(scene, proto, localhost(Family::V4), port);
            let seen = probe.ask(PATIENCE, &log);
            assert!(
                matches!(&seen, Seen::Answered { by, .. } if by == name),
                "{probe:?}: {seen}"
            );
            // A container's own loopback addresses are its own, and so are everybody else's.
            for netns in [scene.container("web"), scene.topology.client.path().into()] {
                let to = SocketAddr::new(localhost(Family::V4), port);
                let probe = Probe::new(&netns, proto, to);
                assert_eq!(probe.ask(PATIENCE, &log), Seen::Refused, "{probe:?}");
            }
        }
    }
    one.instance.purge();
    let links = one.instance.pins().join("links");
    assert!(!links.exists(), "{}", links.display());
    let probe = from_host(&two, Proto::Tcp, localhost(Family::V4), 8080);
    let seen = probe.ask(PATIENCE, &log);
    assert!(
        matches!(&seen, Seen::Answered { by, .. } if by == "two"),
        "{seen}"
    );
}
