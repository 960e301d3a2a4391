//! The addresses of containers and services: what the document gives, what was chosen earlier, then
//! the first free ones.

use std::net::IpAddr;

use super::{Addresses, Holder, Kind, Resolver, earlier_end};
use crate::{
    allocations::AutomaticChoices,
    config::addresses::given_addresses,
    ipam::{self, Pool},
    model::Family,
};

impl<'d> Resolver<'d> {
    /// Marks an address as taken in the pools of a network.
    pub(super) fn reserve(&mut self, network: &str, address: IpAddr, holder: String) {
        for pool in self.pools.get_mut(network).into_iter().flatten() {
            if pool.subnet().contains(&address) {
                pool.take(address);
            }
        }
        self.holders.insert(address, holder);
    }

    /// Marks what the document gives: addresses, virtual addresses, and the addresses that ports
    /// are published on, which must stay the host's.
    pub(super) fn reserve_given(&mut self) {
        let document = self.document;
        for (container, attachment) in document.attachments() {
            let holder = Kind::Container.label(&container.name.value);
            let network = &attachment.network.value;
            for address in given_addresses(attachment) {
                self.reserve(network, address.value, holder.clone());
            }
            if let Some(mac) = &attachment.mac {
                self.macs.entry(network).or_default().insert(mac.value);
            }
        }
        for service in &document.services {
            let Some(network) = &service.network else {
                continue;
            };
            let holder = Kind::Service.label(&service.name.value);
            for vip in &service.vips {
                self.reserve(&network.value, vip.value, holder.clone());
            }
        }
        let publishes = document
            .containers
            .iter()
            .flat_map(|container| &container.publish);
        let given = publishes.filter_map(|spec| spec.value.publish.host_ip);
        let defaults = document.networks.iter().filter_map(|it| it.host_binding);
        for host_ip in given.chain(defaults) {
            for pool in self.pools.values_mut().flatten() {
                if pool.subnet().contains(&host_ip) {
                    pool.take(host_ip);
                }
            }
        }
    }

    /// Marks what was chosen earlier and still has its owner and its subnet.
    pub(super) fn reserve_kept(&mut self) {
        let (document, earlier) = (self.document, self.earlier);
        for (container, attachment) in document.attachments() {
            let name = &container.name.value;
            let network = &attachment.network.value;
            let Some(allocation) = earlier_end(earlier, name, network) else {
                continue;
            };
            if self.next.networks.get(network) != Some(&allocation.identity.network) {
                continue;
            }
            let given = Addresses::from_given(given_addresses(attachment).map(|a| a.value));
            let AutomaticChoices {
                ipv4, ipv6, mac, ..
            } = allocation.automatic;
            let line = container.name.line;
            let holder = Holder {
                kind: Kind::Container,
                name,
                network,
            };
            self.keep(holder, line, given, Addresses { ipv4, ipv6 });
            if let Some(mac) = mac.filter(|_| attachment.mac.is_none()) {
                self.macs.entry(network).or_default().insert(mac);
            }
        }
        for service in &document.services {
            let name = &service.name.value;
            let (Some(network), Some(allocation)) = (&service.network, earlier.vips.get(name))
            else {
                continue;
            };
            if self.next.networks.get(&network.value) != Some(&allocation.network)
                || !service.vips.is_empty()
            {
                continue;
            }
            let chosen = Addresses {
                ipv4: allocation.ipv4,
                ipv6: allocation.ipv6,
            };
            let line = service.name.line;
            let holder = Holder {
                kind: Kind::Service,
                name,
                network: &network.value,
            };
            self.keep(holder, line, Addresses::default(), chosen);
        }
    }

    fn keep(&mut self, holder: Holder<'d>, line: usize, given: Addresses, chosen: Addresses) {
        for family in Family::BOTH {
            let (None, Some(address)) = (given.get(family), chosen.get(family)) else {
                continue;
            };
            let pools = self.pools.get(holder.network).into_iter().flatten();
            let is_usable = pools
                .map(Pool::subnet)
                .any(|subnet| ipam::is_usable(subnet, address));
            if !is_usable {
                continue;
            }
            let owner = holder.kind.label(holder.name);
            if let Some(other) = self.holders.get(&address) {
                let what = format!(
                    "{owner}: address {address}, which it was given automatically and keeps, \
                     is wanted by {other}"
                );
                self.findings.error(line, what);
                continue;
            }
            self.kept.entry(holder).or_default().set(address);
            self.reserve(holder.network, address, owner);
        }
    }

    /// The address of one family: the kept one, or the next free one. `None` when the network
    /// doesn't have the family.
    pub(super) fn choose(
        &mut self,
        holder: Holder<'d>,
        family: Family,
        line: usize,
    ) -> Option<IpAddr> {
        let kept = self.kept.get(&holder).and_then(|kept| kept.get(family));
        if kept.is_some() {
            return kept;
        }
        let mut pools = self.pools.get_mut(holder.network)?.iter_mut();
        let pool = pools.find(|pool| Family::of_net(pool.subnet()) == family)?;
        let address = pool.next_free();
        if address.is_none() {
            let owner = holder.kind.label(holder.name);
            let what = format!("{owner}: no address of {} is free", pool.range());
            self.findings.error(line, what);
        }
        address
    }
}
