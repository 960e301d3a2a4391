//! The bed itself: without netbpf, the host answers for itself and forwards nothing.

use std::net::SocketAddr;

use netbpf_tests::{
    sockets::{Log, PATIENCE, Probe, Proto, SILENCE, Seen, serve},
    topology::{Family, Topology},
};

const PORT: u16 = 7777;

#[test]
fn host_and_client_reach_each_other_and_see_the_source() {
    let topology = Topology::create();
    let log = Log::default();
    let _host = serve(topology.host.path(), "host", &[PORT], &log);
    let _client = serve(topology.client.path(), "client", &[PORT], &log);
    for family in Family::ALL {
        for proto in Proto::ALL {
            let ask = |from, to, by: &str, source| {
                let probe = Probe::new(from, proto, SocketAddr::new(to, PORT));
                match probe.ask(PATIENCE, &log) {
                    Seen::Answered {
                        by: name,
                        source: seen,
                    } => {
                        assert_eq!((name.as_str(), seen.ip()), (by, source), "{probe:?}");
                    }
                    seen => panic!("{probe:?}: {seen}"),
                }
            };
            let (host, client) = (topology.host.path(), topology.client.path());
            ask(client, family.host(), "host", family.client());
            ask(host, family.client(), "client", family.host());
            ask(host, family.far(), "client", family.host());
        }
    }
}

#[test]
fn a_closed_port_is_refused_and_a_missing_address_is_not_answered() {
    let topology = Topology::create();
    let log = Log::default();
    for family in Family::ALL {
        for proto in [Proto::Tcp, Proto::Udp] {
            let probe = Probe::new(
                topology.client.path(),
                proto,
                SocketAddr::new(family.host(), 7),
            );
            assert_eq!(probe.ask(PATIENCE, &log), Seen::Refused, "{probe:?}");
        }
    }
    topology.route_from_client("172.28.0.0/16");
    let asked = "172.28.0.10:80".parse().expect("an address");
    let probe = Probe::new(topology.client.path(), Proto::Udp, asked);
    let seen = probe.ask(SILENCE, &log);
    assert!(matches!(seen, Seen::Silence | Seen::Unreachable), "{seen}");
}

#[test]
fn a_sender_can_take_an_address_that_is_not_its_own() {
    let topology = Topology::create();
    let log = Log::default();
    let _host = serve(topology.host.path(), "host", &[PORT], &log);
    for (family, lie) in [
        (Family::V4, "198.51.100.200"),
        (Family::V6, "2001:db8:51::200"),
    ] {
        let lie = SocketAddr::new(lie.parse().expect("an address"), 0);
        let to = SocketAddr::new(family.host(), PORT);
        let probe = Probe::new(topology.client.path(), Proto::Udp, to).bound(lie);
        match probe.ask(SILENCE, &log) {
            Seen::Arrived { by, source } => {
                assert_eq!((by.as_str(), source.ip()), ("host", lie.ip()));
            }
            seen => panic!("{probe:?}: {seen}"),
        }
    }
}
