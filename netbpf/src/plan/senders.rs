//! What depends on who sends: gateway modes, ports under containers' own addresses, lists of
//! sources, trust, links.

use std::net::IpAddr;

use ipnet::IpNet;
use netbpf_common::{
    endpoint::{interface_flags, network_flags},
    family::{V4, V6},
    nat::{PortKey, PublishTarget, mapping_flags, target_flags},
    senders::{LinkKey, SCOPE_BITS, ScopedAddr, TrustedInterface, listed},
    wire::Be16,
};

use super::{
    Facts, flag,
    published::{port_key, put_mapping, target},
};
use crate::{
    dataplane::maps::{Contents, SubnetKey},
    model::{Attachment, Container, Family, GatewayMode, Model, Network, PortBinding},
};

/// Puts all of it.
pub(super) fn put(contents: &mut Contents, model: &Model, facts: &Facts) {
    for container in &model.containers {
        put_container(contents, model, container);
        put_links(contents, model, container);
    }
    for network in &model.networks {
        put_trust(contents, network, facts);
    }
}

/// The flags of a network.
pub(super) fn flags_of(network: &Network) -> u32 {
    let is = |family, mode| network.gateway_mode(family) == mode;
    let masquerades = |family| network.masquerade && !is(family, GatewayMode::Routed);
    flag(network.icc, network_flags::ICC)
        | flag(network.internal, network_flags::INTERNAL)
        | flag(network.trusts(), network_flags::TRUSTED)
        | flag(masquerades(Family::V4), network_flags::MASQUERADE_V4)
        | flag(masquerades(Family::V6), network_flags::MASQUERADE_V6)
        | flag(
            is(Family::V4, GatewayMode::NatUnprotected),
            network_flags::UNPROTECTED_V4,
        )
        | flag(
            is(Family::V6, GatewayMode::NatUnprotected),
            network_flags::UNPROTECTED_V6,
        )
        | flag(
            is(Family::V4, GatewayMode::Routed),
            network_flags::ROUTED_V4,
        )
        | flag(
            is(Family::V6, GatewayMode::Routed),
            network_flags::ROUTED_V6,
        )
}

/// The flags of a container's ends.
pub(super) fn interface_flags_of(container: &Container) -> u8 {
    if container.source_check {
        0
    } else {
        interface_flags::SOURCE_UNCHECKED
    }
}

/// What all ends of a container have in common and nobody else has: no endpoint's id is used
/// twice.
pub(super) fn container_id(container: &Container) -> u32 {
    let ids = container.attachments.iter().map(|it| it.endpoint);
    ids.min().unwrap_or_default()
}

/// The attachment that a host port leads to: none where the gateway's network is routed.
pub(super) fn natted_gateway<'a>(
    model: &Model,
    container: &'a Container,
    family: Family,
) -> Option<&'a Attachment> {
    container.gateway(model, family).filter(|attachment| {
        model
            .network(&attachment.network)
            .is_some_and(|network| network.gateway_mode(family) != GatewayMode::Routed)
    })
}

/// Whether a published port has lists of sources.
const fn is_listed(binding: &PortBinding) -> bool {
    !binding.allow.is_empty() || !binding.deny.is_empty()
}

/// The flags of a published port's target.
pub(super) const fn target_flags_of(binding: &PortBinding) -> u16 {
    if is_listed(binding) {
        target_flags::LISTED
    } else {
        0
    }
}

/// The flags of a published port's mapping, but for the families that it stands in.
pub(super) const fn mapping_flags_of(binding: &PortBinding) -> u32 {
    match (binding.allow.is_empty(), binding.deny.is_empty()) {
        (true, true) => 0,
        (true, false) => mapping_flags::LISTED,
        (false, _) => mapping_flags::LISTED | mapping_flags::HAS_ALLOW,
    }
}

/// What published ports of a container are to those who send to its own addresses, and their
/// lists.
pub(super) fn put_container(contents: &mut Contents, model: &Model, container: &Container) {
    let attachments = container.attachments.iter();
    let ends: Vec<_> = attachments
        .filter_map(|attachment| Some((attachment, model.network(&attachment.network)?)))
        .collect();
    for binding in &container.publish {
        put_own_ports(contents, &ends, binding);
        put_lists(contents, binding);
    }
}

/// A published port under the container's own addresses, in each network that is routed or trusts
/// somebody.
fn put_own_ports(contents: &mut Contents, ends: &[(&Attachment, &Network)], binding: &PortBinding) {
    for (attachment, network) in ends {
        let of_family = |family| {
            binding
                .host_ip
                .is_none_or(|host| Family::of(host) == family)
                && is_open(network, family, binding)
        };
        if let Some(addr) = attachment.ipv4.filter(|_| of_family(Family::V4)) {
            let key = port_key::<V4>(addr.into(), binding.container_port, binding.proto);
            let target = target(addr.into(), attachment.endpoint, binding);
            if put_own(&mut contents.published_v4, key, target) {
                put_mapping::<V4>(contents, binding, attachment.endpoint);
            }
        }
        if let Some(addr) = attachment.ipv6.filter(|_| of_family(Family::V6)) {
            let key = port_key::<V6>(addr.into(), binding.container_port, binding.proto);
            let target = target(addr.into(), attachment.endpoint, binding);
            if put_own(&mut contents.published_v6, key, target) {
                put_mapping::<V6>(contents, binding, attachment.endpoint);
            }
        }
    }
}

/// Puts a port under its container's own address; whether it did. Of several that publish one
/// port of a container the first counts, unless only a later one is open to every source.
fn put_own<F: netbpf_common::family::Family + Ord>(
    published: &mut std::collections::BTreeMap<PortKey<F>, PublishTarget<F>>,
    key: PortKey<F>,
    target: PublishTarget<F>,
) -> bool {
    let is_open = |target: &PublishTarget<F>| target.flags & target_flags::LISTED == 0;
    if published
        .get(&key)
        .is_some_and(|other| is_open(other) || !is_open(&target))
    {
        return false;
    }
    published.insert(key, target);
    true
}

/// Whether a published port is open under the container's address in a network. What is published
/// for the host's own processes alone opens for nobody whom a network trusts.
fn is_open(network: &Network, family: Family, binding: &PortBinding) -> bool {
    if network.internal {
        return false;
    }
    network.gateway_mode(family) == GatewayMode::Routed
        || (network.trusts() && !binding.host_ip.is_some_and(|host| host.is_loopback()))
}

fn put_lists(contents: &mut Contents, binding: &PortBinding) {
    let allowed = binding.allow.iter().map(|net| (net, listed::ALLOW));
    let denied = binding.deny.iter().map(|net| (net, listed::DENY));
    for (net, what) in allowed.chain(denied) {
        match scoped(binding.mapping, *net) {
            Scoped::V4(key) => drop(contents.sources_v4.insert(key, what)),
            Scoped::V6(key) => drop(contents.sources_v6.insert(key, what)),
        }
    }
}

/// A prefix within a scope, of either family.
enum Scoped {
    V4(SubnetKey<ScopedAddr<V4>>),
    V6(SubnetKey<ScopedAddr<V6>>),
}

fn scoped(scope: u32, net: IpNet) -> Scoped {
    let prefix_len = SCOPE_BITS + u32::from(net.prefix_len());
    match net.network() {
        IpAddr::V4(addr) => Scoped::V4(SubnetKey {
            prefix_len,
            addr: ScopedAddr {
                scope,
                addr: addr.into(),
            },
        }),
        IpAddr::V6(addr) => Scoped::V6(SubnetKey {
            prefix_len,
            addr: ScopedAddr {
                scope,
                addr: addr.into(),
            },
        }),
    }
}

/// Interfaces that are not there are trusted once they are.
fn put_trust(contents: &mut Contents, network: &Network, facts: &Facts) {
    let known = network.trusted_interfaces.iter();
    for link in known.filter_map(|name| facts.link(name)) {
        let key = TrustedInterface {
            network: network.id,
            ifindex: link.index,
        };
        contents.trusted_interfaces.insert(key, 1);
    }
    for net in &network.trusted_sources {
        match scoped(network.id, *net) {
            Scoped::V4(key) => drop(contents.trusted_sources_v4.insert(key, 1)),
            Scoped::V6(key) => drop(contents.trusted_sources_v6.insert(key, 1)),
        }
    }
}

/// What a container reaches by its links: the ports that the other one exposes or publishes, in
/// the networks that both are in.
fn put_links(contents: &mut Contents, model: &Model, container: &Container) {
    for link in &container.links {
        let Some(child) = model.container(&link.container) else {
            continue;
        };
        let exposed = child.expose.iter().map(|it| (it.port, it.proto));
        let published = child.publish.iter().map(|it| (it.container_port, it.proto));
        for (port, proto) in exposed.chain(published) {
            for (from, to) in common_ends(container, child) {
                let key = LinkKey {
                    from_endpoint: from.endpoint,
                    to_endpoint: to.endpoint,
                    port: Be16::new(port),
                    proto: proto.number(),
                    pad: 0,
                };
                contents.links.insert(key, 1);
            }
        }
    }
}

fn common_ends<'a>(
    one: &'a Container,
    other: &'a Container,
) -> impl Iterator<Item = (&'a Attachment, &'a Attachment)> {
    one.attachments
        .iter()
        .filter_map(|from| Some((from, other.attachment(&from.network)?)))
}

#[cfg(test)]
mod tests;
