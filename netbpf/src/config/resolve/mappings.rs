//! What leads to containers: published ports and services, and the ids of their mappings.

use std::{collections::HashMap, net::IpAddr};

use super::{Addresses, Holder, Kind, Resolver, next_id};
use crate::{
    allocations::{MappingAllocation, MappingKey, Owner, Published, VipAllocation},
    config::{Surroundings, pieces::Piece, publishing, service::ServiceSpec},
    model::{Family, Model, PortBinding, Service, ServicePort},
};

impl<'d> Resolver<'d> {
    /// Gives every container its published ports.
    pub(super) fn publish(&mut self, model: &mut Model, surroundings: Surroundings<'_>) {
        let pieces = publishing::pieces(
            self.document,
            model,
            self.earlier,
            &mut self.next,
            surroundings,
            &mut self.findings,
        );
        for piece in pieces {
            if let Some(container) = model.containers.get_mut(piece.container) {
                let binding = self.binding(&container.name, &piece);
                container.publish.push(binding);
            }
        }
    }

    fn binding(&mut self, container: &str, piece: &Piece<'_>) -> PortBinding {
        let (container_port, proto) = piece.port();
        let key = MappingKey {
            owner: Owner::Container(container.to_owned()),
            proto,
            host_ip: piece.host_ip,
            host_port: piece.host_port,
            container_port,
        };
        let mapping = self.mapping(key, &[]);
        if let Some(allocation) = self.next.mappings.last_mut() {
            allocation.chosen_from = piece.chosen_from;
        }
        piece.binding(mapping)
    }

    /// The id of a mapping: the earlier one while the mapping is the same and none of its addresses
    /// went. One that answers on more addresses than before has the flows of before.
    fn mapping(&mut self, key: MappingKey, vips: &[IpAddr]) -> u32 {
        let earlier = self.mappings.get(&key).or_else(|| {
            let mut narrower = self.published.get(&key.published())?.iter();
            narrower.find(|earlier| key.covers(earlier.key.host_ip))
        });
        let id = match earlier.filter(|earlier| earlier.vips.iter().all(|vip| vips.contains(vip))) {
            Some(allocation) => allocation.id,
            None => next_id(&mut self.next.last_ids.mapping),
        };
        self.next.mappings.push(MappingAllocation {
            id,
            key,
            vips: vips.to_vec(),
            chosen_from: None,
        });
        id
    }

    pub(super) fn services(&mut self) -> Vec<Service> {
        let document = self.document;
        document
            .services
            .iter()
            .filter_map(|service| self.service(service))
            .collect()
    }

    fn service(&mut self, spec: &'d ServiceSpec) -> Option<Service> {
        let network = &spec.network.as_ref()?.value;
        let name = &spec.name.value;
        let vips: Vec<IpAddr> = if spec.vips.is_empty() {
            self.automatic_vips(spec, network)
        } else {
            spec.vips.iter().map(|vip| vip.value).collect()
        };
        let ports = spec.ports.iter().map(|ports| {
            let ports = &ports.value;
            let key = MappingKey {
                owner: Owner::Service(name.clone()),
                proto: ports.proto,
                host_ip: None,
                host_port: Some(ports.port),
                container_port: ports.target_port,
            };
            ServicePort {
                mapping: self.mapping(key, &vips),
                port: ports.port,
                target_port: ports.target_port,
                proto: ports.proto,
            }
        });
        let ports = ports.collect();
        let backends = spec
            .backends
            .iter()
            .map(|backend| backend.value.clone())
            .collect();
        Some(Service {
            name: name.clone(),
            network: network.clone(),
            vips,
            ports,
            backends,
        })
    }

    fn automatic_vips(&mut self, spec: &'d ServiceSpec, network: &'d str) -> Vec<IpAddr> {
        let name = spec.name.value.as_str();
        let holder = Holder {
            kind: Kind::Service,
            name,
            network,
        };
        let chosen: Vec<IpAddr> = Family::BOTH
            .into_iter()
            .filter_map(|family| self.choose(holder, family, spec.name.line))
            .collect();
        let addresses = Addresses::from_given(chosen.iter().copied());
        let allocation = VipAllocation {
            network: self.next.networks.get(network).copied().unwrap_or_default(),
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
        };
        self.next.vips.insert(name.to_owned(), allocation);
        chosen
    }
}

/// Two of a container's port on one address can't be, so that one that covers another is in its
/// place and never beside it.
pub(super) fn published(
    mappings: &[MappingAllocation],
) -> HashMap<Published<'_>, Vec<&MappingAllocation>> {
    let mut published: HashMap<_, Vec<_>> = HashMap::new();
    for mapping in mappings.iter().filter(|it| it.key.host_port.is_some()) {
        let same = published.entry(mapping.key.published()).or_default();
        same.push(mapping);
    }
    published
}
