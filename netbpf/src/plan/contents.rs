//! What the maps must hold: who is where here, what leads there in [`super::published`], and what
//! depends on who sends in [`super::senders`].

use std::net::IpAddr;

use ipnet::IpNet;
use netbpf_common::{
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network, host_address_flags, role},
    wire::{self, Ipv4, Ipv6},
};

use super::{Bridge, Facts, Links, published, senders};
use crate::{
    dataplane::maps::{Contents, SubnetKey},
    error::Error,
    host::{
        address::{Address, Scope},
        link::Link,
    },
    model::{self, Model},
};

/// What the maps must hold for `model`, once every link of `links` exists and stands in `facts`.
///
/// # Errors
///
/// A link that is missing.
pub fn contents(model: &Model, links: &Links, facts: &Facts) -> Result<Contents, Error> {
    let mut contents = Contents::default();
    for (bridge, network) in links.bridges.iter().zip(&model.networks) {
        put_network(
            &mut contents,
            network,
            bridge,
            existing(facts, &bridge.name)?,
        );
    }
    for (end, (container, attachment)) in links.ends.iter().zip(model.ends()) {
        let Some(network) = model.network(&attachment.network) else {
            continue;
        };
        let veth = existing(facts, &end.veth)?;
        put_end(&mut contents, container, attachment, network.id, veth.index);
    }
    for name in &links.uplinks {
        put_uplink(&mut contents, existing(facts, name)?, facts);
    }
    if let Some(name) = &links.loopback {
        let role = role::LOOPBACK;
        let index = existing(facts, name)?.index;
        contents.interfaces.insert(
            index,
            Interface {
                role,
                ..Interface::default()
            },
        );
    }
    put_host_addresses(&mut contents, model, facts);
    for container in &model.containers {
        published::put_container(&mut contents, model, container);
    }
    for service in &model.services {
        published::put_service(&mut contents, model, service);
    }
    published::put_reserved_ports(&mut contents, model, facts);
    senders::put(&mut contents, model, facts);
    Ok(contents)
}

fn existing<'a>(facts: &'a Facts, name: &str) -> Result<&'a Link, Error> {
    facts
        .link(name)
        .ok_or_else(|| Error::host(format!("interface {name} is gone")))
}

fn put_network(contents: &mut Contents, network: &model::Network, bridge: &Bridge, link: &Link) {
    let gateway_v4 = network.gateway_v4().map_or(Ipv4::UNSPECIFIED, Ipv4::from);
    let gateway_v6 = network.gateway_v6().map_or(Ipv6::UNSPECIFIED, Ipv6::from);
    contents.networks.insert(
        network.id,
        Network {
            flags: senders::flags_of(network),
            bridge_ifindex: link.index,
            bridge_mac: wire::Mac::from_wire(bridge.mac),
            pad: [0; 2],
            gateway_v4,
            gateway_v6,
            mtu: bridge.mtu,
        },
    );
    contents.interfaces.insert(
        link.index,
        Interface {
            role: role::BRIDGE,
            mac: wire::Mac::from_wire(bridge.mac),
            network: network.id,
            address_v4: gateway_v4,
            address_v6: gateway_v6,
            ..Interface::default()
        },
    );
    for subnet in &network.subnets {
        let prefix_len = subnet.prefix_len().into();
        match subnet {
            IpNet::V4(net) => {
                let key = SubnetKey {
                    prefix_len,
                    addr: net.network().into(),
                };
                contents.subnets_v4.insert(key, network.id);
            }
            IpNet::V6(net) => {
                let key = SubnetKey {
                    prefix_len,
                    addr: net.network().into(),
                };
                contents.subnets_v6.insert(key, network.id);
            }
        }
    }
}

pub(super) fn put_end(
    contents: &mut Contents,
    container: &model::Container,
    attachment: &model::Attachment,
    network: u32,
    ifindex: u32,
) {
    let endpoint = Endpoint {
        id: attachment.endpoint,
        network,
        ifindex,
        mac: wire::Mac::from_wire(attachment.mac),
        pad: [0; 2],
    };
    contents.interfaces.insert(
        ifindex,
        Interface {
            role: role::CONTAINER,
            flags: senders::interface_flags_of(container),
            mac: wire::Mac::from_wire(attachment.mac),
            network,
            endpoint: attachment.endpoint,
            container: senders::container_id(container),
            address_v4: attachment.ipv4.map_or(Ipv4::UNSPECIFIED, Ipv4::from),
            address_v6: attachment.ipv6.map_or(Ipv6::UNSPECIFIED, Ipv6::from),
        },
    );
    if let Some(addr) = attachment.ipv4 {
        contents.endpoints_v4.insert(addr.into(), endpoint);
    }
    if let Some(addr) = attachment.ipv6 {
        contents.endpoints_v6.insert(addr.into(), endpoint);
    }
    let key = MacKey {
        network,
        mac: wire::Mac::from_wire(attachment.mac),
        pad: [0; 2],
    };
    contents.endpoints_by_mac.insert(key, endpoint);
}

/// The addresses of an uplink are the kernel's to choose from, for each packet, and one that comes
/// or goes is no change. Where the kernel does not say which it would choose, masquerade takes the
/// first global one.
fn put_uplink(contents: &mut Contents, link: &Link, facts: &Facts) {
    let mut own = Vec::new();
    if facts.lacks_fib_source {
        let global = facts.addresses.iter().filter(|address| {
            address.index == link.index && address.scope == Scope::Global && !address.deprecated
        });
        own.extend(global.map(Address::addr));
    }
    let address_v4 = own.iter().find_map(|addr| match addr {
        IpAddr::V4(addr) => Some(Ipv4::from(*addr)),
        IpAddr::V6(_) => None,
    });
    let address_v6 = own.iter().find_map(|addr| match addr {
        IpAddr::V4(_) => None,
        IpAddr::V6(addr) => Some(Ipv6::from(*addr)),
    });
    contents.interfaces.insert(
        link.index,
        Interface {
            role: role::UPLINK,
            mac: wire::Mac::from_wire(link.mac.unwrap_or_default()),
            address_v4: address_v4.unwrap_or(Ipv4::UNSPECIFIED),
            address_v6: address_v6.unwrap_or(Ipv6::UNSPECIFIED),
            ..Interface::default()
        },
    );
}

/// Every address that the host answers to. What is valid on one link only comes again on others
/// and names nobody.
fn put_host_addresses(contents: &mut Contents, model: &Model, facts: &Facts) {
    for address in &facts.addresses {
        let addr = address.addr();
        if address.is_loopback() || is_link_local_v6(addr) {
            continue;
        }
        put_host_address(contents, addr, HostAddress::default());
    }
    for network in &model.networks {
        let gateway = HostAddress {
            flags: host_address_flags::GATEWAY,
            network: network.id,
        };
        for addr in &network.gateways {
            put_host_address(contents, *addr, gateway);
        }
    }
    for service in &model.services {
        let Some(network) = model.network(&service.network) else {
            continue;
        };
        let vip = HostAddress {
            flags: host_address_flags::VIP,
            network: network.id,
        };
        for addr in &service.vips {
            put_host_address(contents, *addr, vip);
        }
    }
}

fn is_link_local_v6(addr: IpAddr) -> bool {
    matches!(addr, IpAddr::V6(addr) if addr.is_unicast_link_local())
}

fn put_host_address(contents: &mut Contents, addr: IpAddr, value: HostAddress) {
    match addr {
        IpAddr::V4(addr) => drop(contents.host_addresses_v4.insert(addr.into(), value)),
        IpAddr::V6(addr) => drop(contents.host_addresses_v6.insert(addr.into(), value)),
    }
}
