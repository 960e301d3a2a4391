//! Docker's `-p` grammar: what is right means what Docker means, what is wrong names its fault.

use std::net::IpAddr;

use proptest::prelude::*;

use super::super::publish::{HostPort, PortRange, Publish, parse_ports, parse_publish};
use crate::model::Proto;

/// Strings and their bindings, as `[host address] host port > container port/protocol`.
const RIGHT: &[(&str, &[&str])] = &[
    // One port.
    ("8080:80", &["8080 > 80/tcp"]),
    ("8080:80/tcp", &["8080 > 80/tcp"]),
    ("8080:80/UDP", &["8080 > 80/udp"]),
    ("8080:80/", &["8080 > 80/tcp"]),
    ("08080:0080", &["8080 > 80/tcp"]),
    (":8080:80", &["8080 > 80/tcp"]),
    ("1:65535", &["1 > 65535/tcp"]),
    // An ephemeral port.
    ("443", &["any > 443/tcp"]),
    ("53/udp", &["any > 53/udp"]),
    (":443", &["any > 443/tcp"]),
    ("::6000", &["any > 6000/tcp"]),
    ("0:443", &["any > 443/tcp"]),
    (
        "443-445",
        &["any > 443/tcp", "any > 444/tcp", "any > 445/tcp"],
    ),
    ("127.0.0.1::80", &["127.0.0.1 any > 80/tcp"]),
    ("192.168.1.100::6000/udp", &["192.168.1.100 any > 6000/udp"]),
    ("[2001:db8::68]::333", &["2001:db8::68 any > 333/tcp"]),
    // Addresses.
    ("0.0.0.0:8080:80", &["0.0.0.0 8080 > 80/tcp"]),
    ("[::]:8080:80", &[":: 8080 > 80/tcp"]),
    ("127.0.0.2:5353:53/udp", &["127.0.0.2 5353 > 53/udp"]),
    ("[::1]:8443:443", &["::1 8443 > 443/tcp"]),
    // Ranges.
    ("8080-8080:80", &["8080 > 80/tcp"]),
    (
        "9000-9001:9100-9101",
        &["9000 > 9100/tcp", "9001 > 9101/tcp"],
    ),
    (
        "0.0.0.0:1234-1235:3333-3334/udp",
        &["0.0.0.0 1234 > 3333/udp", "0.0.0.0 1235 > 3334/udp"],
    ),
    ("8000-8010:80", &["8000-8010 > 80/tcp"]),
    ("[::1]:8000-8010:80-80", &["::1 8000-8010 > 80/tcp"]),
    ("65535-65535:65535-65535", &["65535 > 65535/tcp"]),
];

/// Strings and what is said about them.
const WRONG: &[(&str, &str)] = &[
    // Nothing where a port must be.
    ("", "container port is missing"),
    ("/", "container port is missing"),
    ("/tcp", "container port is missing"),
    ("80:", "container port is missing"),
    ("0.0.0.0:1234-1235:", "container port is missing"),
    ("0.0.0.0:1234-1235:/tcp", "container port is missing"),
    ("[::1]:80:", "container port is missing"),
    // No numbers.
    ("asdf", "container port \"asdf\" is not a number"),
    ("1asdf", "container port \"1asdf\" is not a number"),
    ("1234abc:80", "host port \"1234abc\" is not a number"),
    ("  42  ", "container port \"  42  \" is not a number"),
    ("80: 80", "container port \" 80\" is not a number"),
    ("+80:80", "host port \"+80\" is not a number"),
    ("0x50:80", "host port \"0x50\" is not a number"),
    ("80.5:80", "host port \"80.5\" is not a number"),
    (
        "192.168.1.100",
        "container port \"192.168.1.100\" is not a number",
    ),
    // No ports.
    ("99999:80", "host port 99999 is not in 1-65535"),
    ("65536", "container port 65536 is not in 1-65535"),
    ("80:0", "container port 0 is not in 1-65535"),
    ("0", "container port 0 is not in 1-65535"),
    ("0-0", "container port 0 is not in 1-65535"),
    ("0-1:80-81", "host port 0 is not in 1-65535"),
    ("8000-70000:80", "host port 70000 is not in 1-65535"),
    (
        "99999999999999999999:80",
        "host port 99999999999999999999 is not in 1-65535",
    ),
    // Ranges.
    ("-1", "the range of container ports \"-1\" has no first one"),
    (
        "192.168.1.100:-1:-1",
        "the range of container ports \"-1\" has no first one",
    ),
    (
        "-9000:80",
        "the range of host ports \"-9000\" has no first one",
    ),
    (
        "8000-:80",
        "the range of host ports \"8000-\" has no last one",
    ),
    (
        "-8000-",
        "the range of container ports \"-8000-\" has no first one",
    ),
    ("-", "the range of container ports \"-\" has no first one"),
    ("8000-a", "container port \"a\" is not a number"),
    ("8000-9000a", "container port \"9000a\" is not a number"),
    ("a-9000", "container port \"a\" is not a number"),
    ("8000a-9000", "container port \"8000a\" is not a number"),
    (
        "8000-8010-8020:80",
        "host port \"8010-8020\" is not a number",
    ),
    (
        "9000-8000",
        "the range of container ports \"9000-8000\" is reversed",
    ),
    (
        "9000-8000:80",
        "the range of host ports \"9000-8000\" is reversed",
    ),
    (
        "8000-8010:80-81",
        "host ports 8000-8010 and container ports 80-81 differ in number",
    ),
    (
        "8000:80-81",
        "host ports 8000 and container ports 80-81 differ in number",
    ),
    ("0:80-81", "host port 0 is not in 1-65535"),
    // Protocols.
    ("5353:53/sctp", "sctp is not supported"),
    ("5353:53/SCTP", "sctp is not supported"),
    ("5353:53/icmp", "protocol \"icmp\" is not tcp or udp"),
    ("5353:53/tcp/udp", "protocol \"tcp/udp\" is not tcp or udp"),
    ("53/udp:53", "protocol \"udp:53\" is not tcp or udp"),
    // Addresses.
    (
        "localhost:1234:1234/tcp",
        "host address \"localhost\" is not an IP address",
    ),
    (
        "localhost:1234-1236:1234-1236/tcp",
        "host address \"localhost\" is not an IP address",
    ),
    (
        "10.0.0:8443:443",
        "host address \"10.0.0\" is not an IP address",
    ),
    (
        "256.0.0.1:8443:443",
        "host address \"256.0.0.1\" is not an IP address",
    ),
    (
        "010.0.0.1:8443:443",
        "host address \"010.0.0.1\" is not an IP address",
    ),
    (
        "[::g]:8443:443",
        "host address \"::g\" is not an IP address",
    ),
    (
        "[fe80::1%eth0]:8443:443",
        "host address \"fe80::1%eth0\" is not an IP address",
    ),
    (
        "255.255.255.255:81:80",
        "host address 255.255.255.255 is the broadcast address",
    ),
    (
        "224.0.0.1:8443:443",
        "host address 224.0.0.1 is a multicast address",
    ),
    (
        "[ff02::1]:8443:443",
        "host address ff02::1 is a multicast address",
    ),
    (
        "[fe80::1]:8443:443",
        "host address fe80::1 is a link-local address",
    ),
    (
        "[::ffff:10.0.0.1]:81:80",
        "host address ::ffff:10.0.0.1 is an IPv4-mapped address",
    ),
    // Brackets and colons.
    (
        "::1:8443:443",
        "an IPv6 host address must stand in brackets",
    ),
    ("::::80", "an IPv6 host address must stand in brackets"),
    (
        "2001:db8::68::333",
        "an IPv6 host address must stand in brackets",
    ),
    (
        "10.0.0.1:1:2:3",
        "an IPv6 host address must stand in brackets",
    ),
    (
        "[::1:8443:443",
        "the host address has no closing bracket before its colon",
    ),
    (
        "[::1]8443:443",
        "the host address has no closing bracket before its colon",
    ),
    (
        "[::1]",
        "the host address has no closing bracket before its colon",
    ),
    (
        "[::1]:443",
        "between the host address and the container port a colon is missing",
    ),
    (
        "[10.0.0.1]:8443:443",
        "brackets are for an IPv6 address, not for \"10.0.0.1\"",
    ),
    (
        "[]:8443:443",
        "brackets are for an IPv6 address, not for \"\"",
    ),
    ("[::1]:1:2:3", "host port \"1:2\" is not a number"),
];

fn shown(publish: &Publish) -> String {
    let host_port = match publish.host_port {
        HostPort::Ephemeral => "any".to_owned(),
        HostPort::Exact(port) => port.to_string(),
        HostPort::FirstFreeOf(PortRange { first, last }) => format!("{first}-{last}"),
    };
    let host_ip = publish
        .host_ip
        .map_or_else(String::new, |address| format!("{address} "));
    format!(
        "{host_ip}{host_port} > {}/{}",
        publish.container_port, publish.proto
    )
}

#[test]
fn what_is_right_means_what_docker_means() {
    for (text, expected) in RIGHT {
        let found: Vec<String> = parse_publish(text)
            .unwrap_or_else(|why| panic!("{text:?}: {why}"))
            .iter()
            .map(shown)
            .collect();
        assert_eq!(found, *expected, "{text:?}");
    }
}

#[test]
fn what_is_wrong_names_its_fault() {
    for (text, expected) in WRONG {
        assert_eq!(parse_publish(text), Err((*expected).to_owned()), "{text:?}");
    }
}

/// A host address as it is written before a colon.
fn written(host_ip: Option<IpAddr>) -> String {
    match host_ip {
        None => String::new(),
        Some(IpAddr::V4(address)) => format!("{address}:"),
        Some(IpAddr::V6(address)) => format!("[{address}]:"),
    }
}

fn host_ip() -> impl Strategy<Value = Option<IpAddr>> {
    prop::option::of(any::<IpAddr>().prop_filter("a host address", |address| {
        parse_publish(&format!("{}1:1", written(Some(*address)))).is_ok()
    }))
}

proptest! {
    #[test]
    fn ranges_of_one_length_go_together(
        host_ip in host_ip(),
        (first, host_first) in (1..=65000u16, 1..=65000u16),
        more in 0..=500u16,
        proto in prop_oneof![Just(Proto::Tcp), Just(Proto::Udp)],
    ) {
        let (last, host_last) = (first + more, host_first + more);
        let host = written(host_ip);
        let text = format!("{host}{host_first}-{host_last}:{first}-{last}/{proto}");
        let expected: Vec<Publish> = (0..=more)
            .map(|offset| Publish {
                host_ip,
                host_port: HostPort::Exact(host_first + offset),
                container_port: first + offset,
                proto,
            })
            .collect();
        prop_assert_eq!(parse_publish(&text), Ok(expected));
    }

    #[test]
    fn anything_else_is_an_error_or_means_the_same(text in "[0-9a-z:/.\\[\\]-]{0,24}") {
        let Ok(all) = parse_publish(&text) else { return Ok(()) };
        for publish in all {
            let host_port = match publish.host_port {
                HostPort::Ephemeral => String::new(),
                HostPort::Exact(port) => port.to_string(),
                HostPort::FirstFreeOf(PortRange { first, last }) => format!("{first}-{last}"),
            };
            let host = written(publish.host_ip);
            let again = format!("{host}{host_port}:{}/{}", publish.container_port, publish.proto);
            prop_assert_eq!(parse_publish(&again), Ok(vec![publish]));
        }
    }

    #[test]
    fn no_text_makes_the_parsers_panic(text in any::<String>()) {
        let _ = parse_publish(&text);
        let _ = parse_ports(&text);
    }
}

#[test]
fn a_services_protocol_is_tcp_unless_it_says_otherwise() {
    assert_eq!(
        parse_ports("53:53/udp").map(|ports| ports.proto),
        Ok(Proto::Udp)
    );
    assert_eq!(
        parse_ports("53:53").map(|ports| ports.proto),
        Ok(Proto::Tcp)
    );
}
