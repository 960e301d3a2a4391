//! What leads to containers: published ports, services, and the ports of the host's that masquerade
//! must leave to them.

use std::net::IpAddr;

use netbpf_common::{
    family::{Family, V4, V6},
    nat::{MappingKey, PortKey, PublishTarget, reserved_bit, target_flags},
    service::{Backend, MAX_BACKENDS, Service},
    tuple::proto,
    wire::{Be16, Ipv4, Ipv6},
};

use super::{Facts, senders};
use crate::{
    dataplane::maps::Contents,
    model::{self, Model},
};

pub(super) fn port_key<F: Family>(addr: F::Addr, port: u16, protocol: model::Proto) -> PortKey<F> {
    PortKey {
        addr,
        port: Be16::new(port),
        proto: protocol.number(),
        pad: 0,
    }
}

/// Every published port of a container leads to its gateway network, each family by itself
/// (row A2).
pub(super) fn put_container(contents: &mut Contents, model: &Model, container: &model::Container) {
    let gateway_v4 = senders::natted_gateway(model, container, model::Family::V4);
    let gateway_v6 = senders::natted_gateway(model, container, model::Family::V6);
    for binding in &container.publish {
        put_published(contents, binding, gateway_v4, gateway_v6);
    }
}

fn put_published(
    contents: &mut Contents,
    binding: &model::PortBinding,
    gateway_v4: Option<&model::Attachment>,
    gateway_v6: Option<&model::Attachment>,
) {
    let (host_v4, host_v6) = match binding.host_ip {
        None => (Some(Ipv4::UNSPECIFIED), Some(Ipv6::UNSPECIFIED)),
        Some(IpAddr::V4(addr)) => (Some(addr.into()), None),
        Some(IpAddr::V6(addr)) => (None, Some(addr.into())),
    };
    let Some(port) = binding.host_port else {
        return;
    };
    if let (Some(host), Some(end)) = (host_v4, gateway_v4)
        && let Some(addr) = end.ipv4
    {
        let key = port_key::<V4>(host, port, binding.proto);
        let mut target = target(addr.into(), end.endpoint, binding);
        // Nothing translates packets between the families, but the host's own sockets can be led.
        if host_v6.is_some() && gateway_v6.and_then(|end| end.ipv6).is_none() {
            target.flags |= target_flags::ALSO_V6;
        }
        contents.published_v4.insert(key, target);
        put_mapping::<V4>(contents, binding, end.endpoint);
    }
    if let (Some(host), Some(end)) = (host_v6, gateway_v6)
        && let Some(addr) = end.ipv6
    {
        let key = port_key::<V6>(host, port, binding.proto);
        let target = target(addr.into(), end.endpoint, binding);
        contents.published_v6.insert(key, target);
        put_mapping::<V6>(contents, binding, end.endpoint);
    }
}

pub(super) fn target<F: Family>(
    addr: F::Addr,
    endpoint: u32,
    binding: &model::PortBinding,
) -> PublishTarget<F> {
    PublishTarget {
        addr,
        port: Be16::new(binding.container_port),
        flags: senders::target_flags_of(binding),
        mapping: binding.mapping,
        endpoint,
    }
}

/// A mapping to an endpoint that stands in one family, and perhaps in the other one already.
pub(super) fn put_mapping<F: Family>(
    contents: &mut Contents,
    binding: &model::PortBinding,
    endpoint: u32,
) {
    let mapping = binding.mapping;
    let key = MappingKey { mapping, endpoint };
    *contents.mappings.entry(key).or_default() |= senders::mapping_flags_of(binding) | F::STANDS;
}

/// Whether every published port of a container leads to it by ports of the host's alone: nothing of
/// one then depends on the others.
pub fn are_single(model: &Model, container: &model::Container) -> bool {
    let mut attachments = container.attachments.iter();
    attachments.all(|attachment| {
        model.network(&attachment.network).is_some_and(|network| {
            let is_routed = |family| network.gateway_mode(family) == model::GatewayMode::Routed;
            !network.trusts() && !model::Family::BOTH.into_iter().any(is_routed)
        })
    })
}

/// What the maps must hold for the published ports of a container that are single, by themselves;
/// of the reserved ports each word has their bits alone.
pub fn ports(model: &Model, container: &model::Container) -> Contents {
    let mut contents = Contents::default();
    put_container(&mut contents, model, container);
    senders::put_container(&mut contents, model, container);
    let published = container.publish.iter();
    for binding in published {
        if let Some(port) = binding.host_port {
            let (word, bit) = reserved_bit(binding.proto.number(), port);
            *contents.reserved_ports.entry(word).or_default() |= bit;
        }
    }
    contents
}

pub(super) fn put_service(contents: &mut Contents, model: &Model, service: &model::Service) {
    let attachments: Vec<&model::Attachment> = service
        .backends
        .iter()
        .filter_map(|name| model.container(name)?.attachment(&service.network))
        .collect();
    for port in &service.ports {
        for vip in &service.vips {
            match vip {
                IpAddr::V4(vip) => {
                    let ends = attachments
                        .iter()
                        .filter_map(|it| Some((it.ipv4?.into(), it.endpoint)));
                    let key = port_key::<V4>((*vip).into(), port.port, port.proto);
                    contents.services_v4.insert(key, backends(port, ends));
                }
                IpAddr::V6(vip) => {
                    let ends = attachments
                        .iter()
                        .filter_map(|it| Some((it.ipv6?.into(), it.endpoint)));
                    let key = port_key::<V6>((*vip).into(), port.port, port.proto);
                    contents.services_v6.insert(key, backends(port, ends));
                }
            }
        }
        for attachment in &attachments {
            let key = MappingKey {
                mapping: port.mapping,
                endpoint: attachment.endpoint,
            };
            let v4 = attachment.ipv4.map_or(0, |_| V4::STANDS);
            let v6 = attachment.ipv6.map_or(0, |_| V6::STANDS);
            contents.mappings.insert(key, v4 | v6);
        }
    }
}

fn backends<F: Family>(
    port: &model::ServicePort,
    ends: impl Iterator<Item = (F::Addr, u32)>,
) -> Service<F> {
    let mut service = Service {
        mapping: port.mapping,
        ..Service::default()
    };
    for (place, (addr, endpoint)) in service.backends.iter_mut().zip(ends.take(MAX_BACKENDS)) {
        *place = Backend {
            addr,
            port: Be16::new(port.target_port),
            pad: 0,
            endpoint,
        };
        service.count += 1;
    }
    service
}

/// Masquerade keeps off published ports, lest an answer be taken for a new flow, and off what the
/// host's administrator reserved.
pub(super) fn put_reserved_ports(contents: &mut Contents, model: &Model, facts: &Facts) {
    let published = model
        .containers
        .iter()
        .flat_map(|container| &container.publish)
        .filter_map(|binding| Some((binding.proto.number(), binding.host_port?)));
    let reserved = facts
        .reserved_ports
        .iter()
        .flat_map(|(first, last)| *first..=*last)
        .flat_map(|port| [(proto::TCP, port), (proto::UDP, port)]);
    for (protocol, port) in published.chain(reserved) {
        let (word, bit) = reserved_bit(protocol, port);
        *contents.reserved_ports.entry(word).or_default() |= bit;
    }
}
