//! The plan of what depends on who sends.

use std::{net::Ipv4Addr, path::PathBuf};

use netbpf_common::wire::Ipv4;

use super::*;
use crate::{
    host::link::Link,
    model::{ContainerLink, ExposedPort, Mode, Proto},
};

fn net(text: &str) -> IpNet {
    text.parse().expect("a prefix")
}

fn network(id: u32, name: &str, mode_v4: GatewayMode) -> Network {
    Network {
        id,
        name: name.to_owned(),
        subnets: vec![net(&format!("172.{id}.0.0/16"))],
        icc: true,
        masquerade: true,
        gateway_mode_v4: mode_v4,
        ..Network::default()
    }
}

fn binding(mapping: u32, host_ip: Option<&str>) -> PortBinding {
    PortBinding {
        mapping,
        host_ip: host_ip.map(|ip| ip.parse().expect("an address")),
        host_port: Some(8080),
        container_port: 80,
        proto: Proto::Tcp,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

/// A container in networks, by their ids; its ends are numbered by ten times the network.
fn container(name: &str, networks: &[(u32, &str)], publish: Vec<PortBinding>) -> Container {
    let attachments = networks.iter().map(|(id, network)| Attachment {
        endpoint: id * 10,
        network: (*network).to_owned(),
        ipv4: Some(Ipv4Addr::new(172, *id as u8, 0, 9)),
        ipv6: None,
        mac: [2, 0, 0, 0, 0, 1],
        interface: "eth0".to_owned(),
        aliases: Vec::new(),
        gw_priority: 0,
    });
    Container {
        name: name.to_owned(),
        netns: PathBuf::new(),
        mode: Mode::Bridge,
        source_check: true,
        attachments: attachments.collect(),
        publish,
        expose: Vec::new(),
        links: Vec::new(),
    }
}

fn planned(networks: Vec<Network>, containers: Vec<Container>) -> Contents {
    let model = Model {
        networks,
        containers,
        ..Model::default()
    };
    let facts = Facts {
        links: vec![Link {
            index: 7,
            name: "vpn0".to_owned(),
            kind: None,
            mac: None,
            mtu: 1500,
            master: None,
            up: true,
            running: true,
            loopback: false,
            alias: None,
            arp_type: 1,
            peer: None,
            peer_netns: None,
        }],
        ..Facts::default()
    };
    let mut contents = Contents::default();
    put(&mut contents, &model, &facts);
    contents
}

/// The own ports of a plan: address and mapping.
fn own_ports(contents: &Contents) -> Vec<(Ipv4, u32)> {
    let ports = contents.published_v4.iter();
    ports.map(|(key, to)| (key.addr, to.mapping)).collect()
}

#[test]
fn flags_follow_the_mode_of_each_family() {
    let of = |v4, v6| {
        flags_of(&Network {
            gateway_mode_v6: v6,
            ..network(1, "front", v4)
        })
    };
    let icc = network_flags::ICC;
    assert_eq!(
        of(GatewayMode::Nat, GatewayMode::Routed),
        icc | network_flags::MASQUERADE_V4 | network_flags::ROUTED_V6
    );
    assert_eq!(
        of(GatewayMode::Routed, GatewayMode::NatUnprotected),
        icc | network_flags::ROUTED_V4
            | network_flags::MASQUERADE_V6
            | network_flags::UNPROTECTED_V6
    );
}

#[test]
fn a_port_stands_under_the_address_of_each_network_that_is_routed_or_trusts() {
    let mut trusting = network(3, "trusting", GatewayMode::Nat);
    trusting.trusted_interfaces = vec!["vpn0".to_owned(), "absent".to_owned()];
    let mut inner = network(4, "inner", GatewayMode::Routed);
    inner.internal = true;
    let networks = vec![
        network(1, "front", GatewayMode::Nat),
        network(2, "back", GatewayMode::Routed),
        trusting,
        inner,
    ];
    let ends = [(1, "front"), (2, "back"), (3, "trusting"), (4, "inner")];
    let at = |id| Ipv4::from(Ipv4Addr::new(172, id, 0, 9));
    let of = |host_ip| {
        let web = container("web", &ends, vec![binding(5, host_ip)]);
        planned(networks.clone(), vec![web])
    };
    let contents = of(None);
    assert_eq!(own_ports(&contents), [(at(2), 5), (at(3), 5)]);
    let trusted: Vec<_> = contents.trusted_interfaces.keys().collect();
    let key = TrustedInterface {
        network: 3,
        ifindex: 7,
    };
    assert_eq!(trusted, [&key]);
    // What is published for the host alone is opened by no trust; a routed network asks for no
    // host address.
    assert_eq!(own_ports(&of(Some("127.0.0.1"))), [(at(2), 5)]);
    assert_eq!(own_ports(&of(Some("::"))), []);
}

#[test]
fn lists_stand_under_their_mapping_with_its_length_before_theirs() {
    let mut listed_binding = binding(5, None);
    listed_binding.allow = vec![net("10.0.0.0/8")];
    listed_binding.deny = vec![net("10.1.0.0/16"), net("fd00::/8")];
    let web = container("web", &[(2, "back")], vec![listed_binding.clone()]);
    let contents = planned(vec![network(2, "back", GatewayMode::Routed)], vec![web]);
    let v4: Vec<_> = contents
        .sources_v4
        .iter()
        .map(|(key, what)| (key.prefix_len, key.addr.scope, *what))
        .collect();
    assert_eq!(v4, [(40, 5, listed::ALLOW), (48, 5, listed::DENY)]);
    assert_eq!(contents.sources_v6.len(), 1);
    assert_eq!(
        mapping_flags_of(&listed_binding),
        mapping_flags::LISTED | mapping_flags::HAS_ALLOW
    );
    let flags: Vec<u16> = contents.published_v4.values().map(|to| to.flags).collect();
    assert_eq!(flags, [target_flags::LISTED]);
}

#[test]
fn of_two_bindings_of_one_port_the_open_one_stands_under_the_own_address() {
    let mut closed = binding(5, None);
    closed.allow = vec![net("10.0.0.0/8")];
    let open = binding(6, None);
    for publish in [vec![closed.clone(), open.clone()], vec![open, closed]] {
        let web = container("web", &[(2, "back")], publish);
        let contents = planned(vec![network(2, "back", GatewayMode::Routed)], vec![web]);
        let mappings: Vec<u32> = own_ports(&contents).into_iter().map(|(_, it)| it).collect();
        assert_eq!(mappings, [6]);
    }
}

#[test]
fn a_link_leads_to_what_the_child_exposes_or_publishes_in_common_networks() {
    let mut child = container("db", &[(1, "front"), (2, "back")], vec![binding(5, None)]);
    child.expose = vec![ExposedPort {
        port: 53,
        proto: Proto::Udp,
    }];
    let mut parent = container("web", &[(1, "front")], Vec::new());
    parent.attachments[0].endpoint = 11;
    parent.links = vec![ContainerLink {
        container: "db".to_owned(),
        alias: "database".to_owned(),
    }];
    let networks = vec![
        network(1, "front", GatewayMode::Nat),
        network(2, "back", GatewayMode::Nat),
    ];
    let contents = planned(networks, vec![parent, child]);
    let links: Vec<_> = contents
        .links
        .keys()
        .map(|key| {
            (
                key.from_endpoint,
                key.to_endpoint,
                key.port.get(),
                key.proto,
            )
        })
        .collect();
    assert_eq!(links.len(), 2);
    assert!(links.contains(&(11, 10, 80, Proto::Tcp.number())));
    assert!(links.contains(&(11, 10, 53, Proto::Udp.number())));
}

#[test]
fn ends_of_one_container_have_one_id_and_its_source_check() {
    let mut web = container("web", &[(2, "back"), (1, "front")], Vec::new());
    assert_eq!(container_id(&web), 10);
    assert_eq!(interface_flags_of(&web), 0);
    web.source_check = false;
    assert_eq!(interface_flags_of(&web), interface_flags::SOURCE_UNCHECKED);
}
