//! What the outside asks, and what it can forge: gateway addresses, containers of the other family,
//! internal networks, loopback addresses on the wire, ICMP errors about no flow.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket},
    path::PathBuf,
};

use netbpf_tests::{
    matrix::OWN_SERVICE,
    netns::Netns,
    packet::{Flags, Frame},
    scene::Scene,
    sockets::{Log, PATIENCE, Probe, Proto, Seen, Servers, Talk, Tap, send_frames, serve, token},
    topology::{Family, UPLINK},
};

const CONFIG: &str = r#"
[host]
uplinks = ["up0"]

[[network]]
name = "front"
subnets = ["172.28.0.0/24", "fd00:28::/64"]

[[network]]
name = "legacy"
subnets = ["172.30.0.0/24"]

[[network]]
name = "vault"
subnets = ["172.31.0.0/24", "fd00:31::/64"]
internal = true

[[container]]
name = "web"
networks = [{ name = "front", ipv4 = "172.28.0.10", ipv6 = "fd00:28::10" }]
publish = [
  "8080:80", "8080:80/udp",
  "127.0.0.1:8099:80", "127.0.0.1:8099:80/udp", "[::1]:8099:80", "[::1]:8099:80/udp",
]

[[container]]
name = "app"
networks = [{ name = "front", ipv4 = "172.28.0.11", ipv6 = "fd00:28::11" }]

[[container]]
name = "old"
networks = [{ name = "legacy", ipv4 = "172.30.0.10" }]
publish = ["8090:80", "8090:80/udp"]

[[container]]
name = "gold"
networks = [{ name = "vault", ipv4 = "172.31.0.10", ipv6 = "fd00:31::10" }]
publish = ["8082:80", "8082:80/udp"]
"#;

struct Place {
    scene: Scene,
    log: Log,
    _servers: [Servers; 4],
}

impl Place {
    fn set_up() -> Self {
        let scene = Scene::with(CONFIG);
        let log = Log::default();
        let names = ["web", "app", "old", "gold"];
        let servers = names.map(|name| serve(&scene.container(name), name, &[80], &log));
        Self {
            scene,
            log,
            _servers: servers,
        }
    }

    fn client(&self) -> PathBuf {
        self.scene.topology.client.path().to_owned()
    }

    fn host(&self) -> PathBuf {
        self.scene.topology.host.path().to_owned()
    }

    /// Demands an answer of `by`, which sees the client.
    #[track_caller]
    fn answers_the_client(&self, proto: Proto, to: SocketAddr, by: &str) {
        let probe = Probe::new(&self.client(), proto, to);
        let seen = probe.ask(PATIENCE, &self.log);
        let Seen::Answered { by: name, source } = &seen else {
            panic!("{probe:?}: {seen}");
        };
        let client = Family::of(to.ip()).client();
        assert_eq!((name.as_str(), source.ip()), (by, client), "{probe:?}");
    }

    #[track_caller]
    fn refuses(&self, from: PathBuf, to: SocketAddr) {
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = Probe::new(&from, proto, to);
            assert_eq!(probe.ask(PATIENCE, &self.log), Seen::Refused, "{probe:?}");
        }
    }

    /// The frame as the client puts it on the wire.
    fn on_the_wire(&self, frame: Frame) -> Vec<u8> {
        let topology = &self.scene.topology;
        let (client, host) = (topology.client.mac("eth0"), topology.host.mac(UPLINK));
        frame.macs(client, host).bytes()
    }

    fn sends(&self, frame: Frame) {
        send_frames(&self.client(), "eth0", &[self.on_the_wire(frame)]);
    }
}

const fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

/// An address by its network's and its own last number.
fn at(family: Family, network: u8, host: u8, port: u16) -> SocketAddr {
    let text = match family {
        Family::V4 => format!("172.{network}.0.{host}"),
        Family::V6 => format!("fd00:{network}::{host}"),
    };
    SocketAddr::new(text.parse().expect("an address"), port)
}

#[test]
fn a_gateway_address_answers_the_outside_for_what_is_published() {
    let place = Place::set_up();
    for subnet in ["172.28.0.0/24", "fd00:28::/64"] {
        place.scene.topology.route_from_client(subnet);
    }
    for family in Family::ALL {
        for proto in [Proto::Tcp, Proto::Udp] {
            place.answers_the_client(proto, at(family, 28, 1, 8080), "web");
        }
    }
}

#[test]
fn a_container_with_ipv4_only_is_reached_by_the_hosts_ipv6_addresses_from_nowhere_else() {
    let place = Place::set_up();
    for proto in [Proto::Tcp, Proto::Udp] {
        let to = SocketAddr::new(Family::V4.host(), 8090);
        place.answers_the_client(proto, to, "old");
    }
    let host = SocketAddr::new(Family::V6.host(), 8090);
    for from in [place.client(), place.scene.container("app")] {
        place.refuses(from, host);
    }
    let gateway = at(Family::V6, 28, 1, 8090);
    place.refuses(place.scene.container("app"), gateway);
}

#[test]
fn what_is_published_on_an_internal_network_alone_is_no_mapping_and_warned_of() {
    let place = Place::set_up();
    let applied = place.scene.try_apply(CONFIG).succeeded();
    for publish in ["8082:80", "8082:80/udp"] {
        let warned = format!("publish \"{publish}\" has no effect: network \"vault\" is internal");
        assert!(applied.stderr.contains(&warned), "{}", applied.stderr);
    }
    let ports = place.scene.instance.json(&["port", "ls"]);
    let ports = ports.as_array().cloned().unwrap_or_default();
    assert!(ports.iter().any(|port| port["container"] == "web"));
    assert!(ports.iter().all(|port| port["container"] != "gold"));
    for family in Family::ALL {
        let host = SocketAddr::new(family.host(), 8082);
        for from in [place.client(), place.host(), place.scene.container("app")] {
            place.refuses(from, host);
        }
        place.refuses(place.host(), SocketAddr::new(localhost(family), 8082));
        place.refuses(place.host(), at(family, 31, 1, 8082));
    }
    let gold = Netns::existing(place.scene.container("gold"));
    for family in ["-4", "-6"] {
        assert_eq!(gold.ip(&format!("{family} route show default")), "");
        let near = gold.ip(&format!("{family} route show"));
        assert!(near.contains("dev eth0"), "{near}");
    }
}

/// The host lets loopback addresses in by any interface, as its own socket shows in IPv4; in IPv6
/// no setting does.
#[test]
fn a_loopback_address_on_the_wire_leads_to_no_container() {
    const HOSTS: u16 = 8098;
    let place = Place::set_up();
    let host = &place.scene.topology.host;
    for interface in ["all", UPLINK] {
        host.set_sysctl(&format!("net/ipv4/conf/{interface}/route_localnet"), "1");
        host.set_sysctl(&format!("net/ipv4/conf/{interface}/rp_filter"), "0");
    }
    let own = host.enter(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, HOSTS)));
    let own = own.expect("a socket");
    own.set_read_timeout(Some(PATIENCE)).expect("a time limit");
    let mut wire = Tap::on(host.path(), UPLINK);
    let mut web = Tap::on(&place.scene.container("web"), "eth0");
    let mut marks = Vec::new();
    for family in Family::ALL {
        let from = SocketAddr::new(family.client(), 40_000);
        for port in [8099, HOSTS] {
            let to = SocketAddr::new(localhost(family), port);
            for frame in [Frame::udp(from, to), Frame::tcp(from, to, Flags::Syn)] {
                let mark = format!("probe {:024}", token()).into_bytes();
                place.sends(frame.with_payload(&mark));
                marks.push(mark);
            }
        }
    }
    let mut buffer = [0; 64];
    let heard = own
        .recv_from(&mut buffer)
        .map(|(length, from)| (buffer[..length].to_vec(), from));
    let from = SocketAddr::new(Family::V4.client(), 40_000);
    assert_eq!(heard.ok(), Some((marks[2].clone(), from)));
    // What was sent later has come: so has all that was sent before it.
    a_later_question_is_answered(&place);
    for mark in &marks {
        assert!(wire.has_heard(mark), "a frame never came");
        assert!(
            !web.has_heard(mark),
            "a container heard what was for a loopback address"
        );
    }
}

/// Asks what is published, in both families.
fn a_later_question_is_answered(place: &Place) {
    for family in Family::ALL {
        let to = SocketAddr::new(family.host(), 8080);
        place.answers_the_client(Proto::Udp, to, "web");
    }
}

/// Port unreachable (RFC 792, RFC 4443).
const fn unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

#[test]
fn an_icmp_error_of_the_outside_is_heard_by_whose_flow_it_is_about_and_nobody_else() {
    let place = Place::set_up();
    for subnet in ["172.28.0.0/24", "fd00:28::/64"] {
        place.scene.topology.route_from_client(subnet);
    }
    let client = place.client();
    let _client = serve(&client, "client", &[OWN_SERVICE], &place.log);
    let (web, app) = (place.scene.container("web"), place.scene.container("app"));
    let (mut at_web, mut at_app) = (Tap::on(&web, "eth0"), Tap::on(&app, "eth0"));
    let mut wire = Tap::on(place.scene.topology.host.path(), UPLINK);
    for family in Family::ALL {
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = Talk::open(&app, far);
        let outside = talk.exchange(PATIENCE).expect("an answer");
        let (kind, code) = unreachable(family);
        let forge = |from: SocketAddr, to: SocketAddr, addressed: Option<IpAddr>| {
            let mark = format!("probe {:024}", token()).into_bytes();
            let quoted = Frame::udp(from, to).with_payload(&mark);
            let mut error = Frame::error_about(family.far(), &quoted, kind, code);
            if let Some(addressed) = addressed {
                error.dst = addressed;
            }
            place.sends(error);
            mark
        };
        let published = SocketAddr::new(family.host(), 8080);
        let (own, others) = (at(family, 28, 10, 80), at(family, 28, 11, talk.port()));
        let stray = [
            // No such flow, as the host's, as the container's, and by a port that is published.
            forge(SocketAddr::new(family.host(), 40_001), far, None),
            forge(own, far, None),
            forge(published, SocketAddr::new(family.far(), 40_001), None),
            // The flow of `app`, to `web` and as `app` knows it.
            forge(outside, far, Some(own.ip())),
            forge(others, far, Some(own.ip())),
            forge(others, far, None),
        ];
        let right = forge(outside, far, None);
        a_later_question_is_answered(&place);
        assert!(
            at_app.has_heard(&right),
            "{family:?}: an error about its flow"
        );
        assert!(
            !at_web.has_heard(&right),
            "{family:?}: an error about another's flow"
        );
        for (index, mark) in stray.iter().enumerate() {
            assert!(wire.has_heard(mark), "{family:?}: error {index} never came");
            assert!(
                !at_web.has_heard(mark),
                "{family:?}: error {index} came to web"
            );
            assert!(
                !at_app.has_heard(mark),
                "{family:?}: error {index} came to app"
            );
        }
    }
}
