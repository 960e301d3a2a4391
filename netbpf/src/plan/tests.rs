//! The plan of small and of drawn models.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::Path,
};

use netbpf_common::{
    endpoint::{host_address_flags, network_flags, role},
    family::{V4, V6},
    nat::{reserved_bit, target_flags},
    tuple::proto,
    verdict::Hook,
    wire::{Ipv4, Ipv6},
};
use proptest::prelude::*;

use super::{contents::put_end, published::port_key, *};
use crate::{
    dataplane::{Objects, attach::Place, maps::Contents},
    host::{address::Scope, link::Framing, sysctl::Sysctl},
    model::{self, Attachment, PortBinding, Proto, ServicePort},
    naming,
};

fn link(index: u32, name: &str) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: None,
        mac: Some([0x02, 0, 0, 0, 0, index as u8]),
        mtu: 1500,
        master: None,
        up: true,
        running: true,
        loopback: name == "lo",
        alias: None,
        arp_type: 1,
        peer: None,
        peer_netns: None,
    }
}

fn address(index: u32, net: &str, scope: Scope) -> Address {
    Address {
        index,
        net: net.parse().unwrap(),
        scope,
        deprecated: false,
        tentative: false,
    }
}

fn network() -> model::Network {
    model::Network {
        id: 3,
        name: "front".to_owned(),
        bridge: "nb-front".to_owned(),
        subnets: vec![
            "172.28.0.0/24".parse().unwrap(),
            "fd00:28::/64".parse().unwrap(),
        ],
        gateways: vec!["172.28.0.1".parse().unwrap(), "fd00:28::1".parse().unwrap()],
        icc: true,
        masquerade: true,
        mtu: 1450,
        ..model::Network::default()
    }
}

fn container(number: u8) -> model::Container {
    model::Container {
        name: format!("web{number}"),
        netns: Path::new("/run/netns").join(format!("web{number}")),
        mode: model::Mode::Bridge,
        source_check: true,
        attachments: vec![Attachment {
            endpoint: 100 + u32::from(number),
            network: "front".to_owned(),
            ipv4: Some(Ipv4Addr::new(172, 28, 0, number)),
            ipv6: Some(Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, number.into())),
            mac: [0x02, 0x42, 172, 28, 0, number],
            interface: "eth0".to_owned(),
            aliases: Vec::new(),
            gw_priority: 0,
        }],
        publish: Vec::new(),
        expose: Vec::new(),
        links: Vec::new(),
    }
}

fn binding(mapping: u32, host_ip: Option<&str>, host_port: u16) -> PortBinding {
    PortBinding {
        mapping,
        host_ip: host_ip.map(|ip| ip.parse().unwrap()),
        host_port: Some(host_port),
        container_port: 80,
        proto: Proto::Tcp,
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

fn model() -> Model {
    let mut first = container(10);
    first.publish = vec![
        binding(7, None, 8080),
        binding(8, Some("198.51.100.1"), 8081),
    ];
    Model {
        networks: vec![network()],
        containers: vec![first, container(11)],
        services: vec![model::Service {
            name: "api".to_owned(),
            network: "front".to_owned(),
            vips: vec![
                "172.28.0.100".parse().unwrap(),
                "fd00:28::100".parse().unwrap(),
            ],
            ports: vec![ServicePort {
                mapping: 9,
                port: 80,
                target_port: 8080,
                proto: Proto::Tcp,
            }],
            backends: vec!["web10".to_owned(), "web11".to_owned()],
        }],
        ..Model::default()
    }
}

/// A host with one uplink, and with every link that the model needs.
fn facts(model: &Model) -> Facts {
    let mut links = vec![link(1, "lo"), link(2, "up0"), link(3, "nb-front")];
    for (index, container) in (10..).zip(&model.containers) {
        let name = naming::veth("default", &container.name, "front");
        links.push(Link {
            alias: Some("netbpf:default:container".to_owned()),
            ..link(index, &name)
        });
    }
    Facts {
        links,
        addresses: vec![
            address(1, "127.0.0.1/8", Scope::Host),
            address(1, "::1/128", Scope::Host),
            address(2, "198.51.100.1/24", Scope::Global),
            address(2, "2001:db8::1/64", Scope::Global),
            address(2, "fe80::1/64", Scope::Link),
        ],
        ..Facts::default()
    }
}

fn planned(model: &Model) -> (Links, Contents) {
    let facts = facts(model);
    let links = links("default", model, &facts).unwrap();
    let contents = contents(model, &links, &facts).unwrap();
    (links, contents)
}

#[test]
fn every_interface_has_its_role() {
    let (links, contents) = planned(&model());
    assert_eq!(links.uplinks, ["up0"]);
    let roles: Vec<(u32, u8)> = contents
        .interfaces
        .iter()
        .map(|(index, interface)| (*index, interface.role))
        .collect();
    assert_eq!(
        roles,
        [
            (1, role::LOOPBACK),
            (2, role::UPLINK),
            (3, role::BRIDGE),
            (10, role::CONTAINER),
            (11, role::CONTAINER)
        ]
    );
    assert_eq!(contents.interfaces[&2].address_v4, Ipv4::UNSPECIFIED);
    assert_eq!(contents.interfaces[&10].endpoint, 110);
}

#[test]
fn bridge_has_gateways_and_virtual_addresses() {
    let (links, _) = planned(&model());
    let addresses: Vec<String> = links.bridges[0]
        .addresses
        .iter()
        .map(|(net, kind)| format!("{net} {kind:?}"))
        .collect();
    assert_eq!(
        addresses,
        [
            "172.28.0.1/24 Preferred",
            "fd00:28::1/64 Preferred",
            "172.28.0.100/32 Never",
            "fd00:28::100/128 Never",
        ]
    );
}

#[test]
fn loopback_and_link_local_addresses_are_not_published_on() {
    let (_, contents) = planned(&model());
    let v4: Vec<Ipv4Addr> = contents
        .host_addresses_v4
        .keys()
        .map(|addr| Ipv4Addr::from(*addr))
        .collect();
    assert_eq!(v4.len(), 3, "{v4:?}");
    let vip = contents.host_addresses_v4[&Ipv4::from_wire([172, 28, 0, 100])];
    assert_eq!((vip.flags, vip.network), (host_address_flags::VIP, 3));
    let gateway = contents.host_addresses_v4[&Ipv4::from_wire([172, 28, 0, 1])];
    assert_eq!(
        (gateway.flags, gateway.network),
        (host_address_flags::GATEWAY, 3)
    );
    assert_eq!(contents.host_addresses_v6.len(), 3);
}

#[test]
fn port_without_host_address_is_published_in_both_families() {
    let (_, contents) = planned(&model());
    let any = port_key::<V4>(Ipv4::UNSPECIFIED, 8080, Proto::Tcp);
    assert_eq!(contents.published_v4[&any].mapping, 7);
    assert!(
        contents
            .published_v6
            .contains_key(&port_key(Ipv6::UNSPECIFIED, 8080, Proto::Tcp))
    );
    let one = port_key::<V4>(Ipv4::from_wire([198, 51, 100, 1]), 8081, Proto::Tcp);
    assert_eq!(contents.published_v4[&one].endpoint, 110);
    assert_eq!(
        (contents.published_v4.len(), contents.published_v6.len()),
        (2, 1)
    );
    let (word, bit) = reserved_bit(proto::TCP, 8080);
    assert_eq!(contents.reserved_ports[&word] & bit, bit);
}

#[test]
fn every_backend_of_a_service_is_a_mapping() {
    let (_, contents) = planned(&model());
    let key = port_key::<V6>(
        "fd00:28::100".parse::<Ipv6Addr>().unwrap().into(),
        80,
        Proto::Tcp,
    );
    let service = contents.services_v6[&key];
    assert_eq!((service.mapping, service.count), (9, 2));
    assert_eq!(service.backends[1].endpoint, 111);
    let mappings: Vec<(u32, u32)> = contents
        .mappings
        .keys()
        .map(|key| (key.mapping, key.endpoint))
        .collect();
    assert_eq!(mappings, [(7, 110), (8, 110), (9, 110), (9, 111)]);
}

#[test]
fn internal_network_has_no_way_out() {
    let mut model = model();
    model.networks[0].internal = true;
    let (links, contents) = planned(&model);
    assert!(links.ends.iter().all(|end| end.gateways.is_empty()));
    assert_ne!(contents.networks[&3].flags & network_flags::INTERNAL, 0);
}

/// The model with a second network, that the first container is on too.
fn model_of_two_networks() -> Model {
    let mut model = model();
    model.networks.push(model::Network {
        id: 4,
        name: "back".to_owned(),
        bridge: "nb-back".to_owned(),
        subnets: vec!["172.29.0.0/24".parse().unwrap()],
        gateways: vec!["172.29.0.1".parse().unwrap()],
        mtu: 1500,
        ..model::Network::default()
    });
    model.containers[0].attachments.push(Attachment {
        endpoint: 200,
        network: "back".to_owned(),
        ipv4: Some(Ipv4Addr::new(172, 29, 0, 10)),
        ipv6: None,
        mac: [0x02, 0x42, 172, 29, 0, 10],
        interface: "eth1".to_owned(),
        aliases: Vec::new(),
        gw_priority: 0,
    });
    model
}

/// The plan of a model of two networks.
fn planned_on_two(model: &Model) -> (Links, Contents) {
    let mut facts = facts(model);
    facts.links.push(link(4, "nb-back"));
    facts.links.push(Link {
        alias: Some("netbpf:default:container:web10:back".to_owned()),
        ..link(50, &naming::veth("default", "web10", "back"))
    });
    let links = links("default", model, &facts).unwrap();
    let contents = contents(model, &links, &facts).unwrap();
    (links, contents)
}

#[test]
fn container_on_two_networks_has_two_ends_and_one_namespace() {
    let (links, contents) = planned_on_two(&model_of_two_networks());
    let ends: Vec<(&str, &str, usize)> = links
        .ends
        .iter()
        .map(|end| {
            (
                end.interface.as_str(),
                end.bridge.as_str(),
                end.gateways.len(),
            )
        })
        .collect();
    assert_eq!(
        ends,
        [
            ("eth0", "nb-front", 2),
            ("eth1", "nb-back", 0),
            ("eth0", "nb-front", 2)
        ]
    );
    assert_eq!(links.namespaces.len(), 2);
    assert_eq!(contents.interfaces[&50].network, 4);
    assert_eq!(contents.interfaces[&50].endpoint, 200);
    assert_eq!(
        contents.endpoints_v4[&Ipv4::from_wire([172, 29, 0, 10])].id,
        200
    );
}

#[test]
fn published_port_moves_with_the_gateway_of_its_family() {
    let mut model = model_of_two_networks();
    model.containers[0].attachments[1].gw_priority = 1;
    let (links, contents) = planned_on_two(&model);
    let routes: Vec<Vec<String>> = links.ends[..2]
        .iter()
        .map(|end| end.gateways.iter().map(IpAddr::to_string).collect())
        .collect();
    assert_eq!(routes, [vec!["fd00:28::1"], vec!["172.29.0.1"]]);
    let v4 = contents.published_v4[&port_key::<V4>(Ipv4::UNSPECIFIED, 8080, Proto::Tcp)];
    assert_eq!(
        (v4.endpoint, Ipv4Addr::from(v4.addr)),
        (200, Ipv4Addr::new(172, 29, 0, 10))
    );
    let v6 = contents.published_v6[&port_key::<V6>(Ipv6::UNSPECIFIED, 8080, Proto::Tcp)];
    assert_eq!(v6.endpoint, 110);
    let ends: Vec<u32> = contents
        .mappings
        .keys()
        .filter(|key| key.mapping == 7)
        .map(|key| key.endpoint)
        .collect();
    assert_eq!(ends, [110, 200]);
}

#[test]
fn container_without_networks_has_a_namespace_and_no_end() {
    let mut model = model();
    for (container, mode) in model
        .containers
        .iter_mut()
        .zip([model::Mode::None, model::Mode::Joined("web10".to_owned())])
    {
        container.mode = mode;
        container.attachments.clear();
        container.publish.clear();
    }
    model.services.clear();
    let (links, contents) = planned(&model);
    let names: Vec<&str> = links
        .namespaces
        .iter()
        .map(|it| it.container.as_str())
        .collect();
    assert_eq!(names, ["web10"]);
    assert!(links.ends.is_empty());
    assert!(contents.endpoints_v4.is_empty() && contents.mappings.is_empty());
}

#[test]
fn ports_of_bridges_and_links_of_any_instance_are_no_uplinks() {
    let model = model();
    let mut facts = facts(&model);
    facts.links.push(Link {
        master: Some(30),
        ..link(31, "port0")
    });
    facts.links.push(link(30, "br0"));
    facts.links.push(Link {
        alias: Some("netbpf:other:network:x".to_owned()),
        ..link(32, "nb-x")
    });
    facts.links.push(Link {
        arp_type: 65534,
        ..link(33, "wg0")
    });
    facts.links.push(Link {
        arp_type: 32,
        ..link(34, "ib0")
    });
    let links = links("default", &model, &facts).unwrap();
    assert_eq!(links.uplinks, ["br0", "up0", "wg0"]);
    let bare: Vec<Place> = links
        .places()
        .into_iter()
        .filter(|place| place.framing == Framing::Bare)
        .collect();
    let programs: Vec<&str> = bare.iter().map(Place::program).collect();
    assert_eq!(programs, ["from_netdev_l3", "to_netdev_l3"]);
    assert!(bare.iter().all(|place| place.interface == "wg0"));
    assert_eq!(links.objects(), Objects::All);
}

#[test]
fn uplink_that_can_be_none_is_named() {
    let mut model = model();
    let facts = facts(&model);
    for (name, message) in [
        ("up9", "uplink \"up9\": there is no such interface"),
        ("lo", "uplink \"lo\": the loopback interface leads nowhere"),
        (
            "nb-front",
            "uplink \"nb-front\": it is an interface of netbpf's own",
        ),
    ] {
        model.host.uplinks = Some(vec![name.to_owned()]);
        let error = links("default", &model, &facts).unwrap_err();
        assert_eq!(error.to_string(), message);
    }
}

#[test]
fn host_that_gets_its_routes_advertised_keeps_them() {
    let model = model();
    let facts = Facts {
        advertised_routers: vec!["up0".to_owned()],
        ..facts(&model)
    };
    let links = links("default", &model, &facts).unwrap();
    let (first, value) = &links.sysctls[0];
    assert_eq!(
        (first.to_string().as_str(), *value),
        ("net.ipv6.conf.up0.accept_ra", "2")
    );
    assert!(
        links
            .sysctls
            .iter()
            .all(|(sysctl, _)| sysctl.interface != "all")
    );
}

proptest! {
    #[test]
    fn same_model_gives_the_same_plan(
        numbers in prop::collection::btree_set(2_u8..250, 0..20),
        ports in prop::collection::btree_set(1_u16.., 0..20),
    ) {
        let mut model = model();
        model.containers = numbers.iter().map(|number| container(*number)).collect();
        if let Some(first) = model.containers.first_mut() {
            first.publish = (50..).zip(&ports).map(|(id, port)| binding(id, None, *port)).collect();
        }
        model.services[0].backends = model.containers.iter().map(|it| it.name.clone()).collect();
        let (links, contents) = planned(&model);
        prop_assert_eq!(&contents, &planned(&model).1);
        prop_assert_eq!(links, planned(&model).0);
        prop_assert!(contents.changes(&contents).iter().all(|(_, change)| change.is_empty()));
        prop_assert_eq!(contents.endpoints_by_mac.len(), numbers.len());
    }

    #[test]
    fn only_what_goes_or_changes_makes_flows_ask_again(
        old in prop::collection::btree_set(2_u8..40, 0..20),
        new in prop::collection::btree_set(2_u8..40, 0..20),
    ) {
        let with = |numbers: &BTreeSet<u8>| {
            let mut contents = Contents::default();
            for number in numbers {
                let container = container(*number);
                let end = &container.attachments[0];
                put_end(&mut contents, &container, end, 3, (*number).into());
            }
            contents
        };
        let asks = with(&old).policy_changes(&with(&new));
        prop_assert_eq!(asks, !old.is_subset(&new));
    }
}

#[test]
fn host_is_looked_at_only_while_something_is_published() {
    let mut model = model();
    let (all, _) = planned(&model);
    let is_of_loopback = |(sysctl, _): &&(Sysctl, &str)| sysctl.interface == "lo";
    assert_eq!(all.loopback.as_deref(), Some("lo"));
    assert_eq!(all.sockets, Hook::AT_SOCKETS);
    assert_eq!(all.sysctls.iter().filter(is_of_loopback).count(), 2);
    model.services.clear();
    model.containers[0].publish.clear();
    let (none, contents) = planned(&model);
    assert_eq!((none.loopback, none.sockets), (None, Vec::new()));
    assert_eq!(none.sysctls.iter().filter(is_of_loopback).count(), 0);
    assert!(!contents.interfaces.contains_key(&1));
}

#[test]
fn only_a_publish_for_every_address_of_an_ipv4_container_is_for_ipv6_too() {
    let mut model = model();
    let flags = |model: &Model, host| {
        let (_, contents) = planned(model);
        contents.published_v4[&port_key::<V4>(host, 8080, Proto::Tcp)].flags & target_flags::ALSO_V6
    };
    assert_eq!(flags(&model, Ipv4::UNSPECIFIED), 0);
    model.containers[0].attachments[0].ipv6 = None;
    assert_eq!(flags(&model, Ipv4::UNSPECIFIED), target_flags::ALSO_V6);
    model.containers[0].publish = vec![binding(7, Some("0.0.0.0"), 8080)];
    assert_eq!(flags(&model, Ipv4::UNSPECIFIED), 0);
}
