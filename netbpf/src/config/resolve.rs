//! From a valid document and earlier choices to the model: addresses, MACs and ids.
//!
//! Order matters and is fixed: what the document gives, then what was chosen earlier, then new
//! choices in the order of the document. So the same input gives the same model, and a newcomer
//! never takes what somebody keeps.

mod addresses;
mod containers;
mod mappings;
mod subnets;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

use super::{ConfigErrors, Document, Surroundings, findings::Findings, network::NetworkSpec};
use crate::{
    allocations::{Allocations, EndpointAllocation, MappingAllocation, MappingKey, Published},
    ipam::Pool,
    model::{AddressPool, Family, Host, Model, Network},
};

/// Makes every choice that is still open.
pub(super) fn resolve(
    document: &Document,
    earlier: &Allocations,
    surroundings: Surroundings<'_>,
) -> Result<(Model, Allocations), ConfigErrors> {
    let mut resolver = Resolver::new(document, earlier);
    let networks = resolver.networks(surroundings);
    resolver.reserve_given();
    resolver.reserve_kept();
    let containers = resolver.containers();
    let mut model = Model {
        host: host(document),
        conntrack: document.conntrack.clone(),
        networks,
        containers,
        services: Vec::new(),
        ..Model::default()
    };
    resolver.publish(&mut model, surroundings);
    model.services = resolver.services();
    resolver.findings.finish()?;
    Ok((model, resolver.next))
}

fn host(document: &Document) -> Host {
    let spec = &document.host;
    let default = Host::default();
    Host {
        uplinks: spec
            .uplinks
            .as_ref()
            .map(|uplinks| uplinks.iter().map(|uplink| uplink.value.clone()).collect()),
        address_pools: pools(document),
        ephemeral_ports: spec.ephemeral_ports.unwrap_or(default.ephemeral_ports),
    }
}

fn pools(document: &Document) -> Vec<AddressPool> {
    let pools = document.host.address_pools.clone();
    pools.unwrap_or_else(AddressPool::defaults)
}

/// At most one address of each family.
#[derive(Clone, Copy, Debug, Default)]
struct Addresses {
    ipv4: Option<Ipv4Addr>,
    ipv6: Option<Ipv6Addr>,
}

impl Addresses {
    fn get(self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4.map(IpAddr::V4),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        }
    }

    fn set(&mut self, address: IpAddr) {
        match address {
            IpAddr::V4(address) => self.ipv4 = Some(address),
            IpAddr::V6(address) => self.ipv6 = Some(address),
        }
    }

    fn from_given(addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut given = Self::default();
        for address in addresses {
            given.set(address);
        }
        given
    }
}

struct Resolver<'d> {
    document: &'d Document,
    earlier: &'d Allocations,
    next: Allocations,
    findings: Findings,
    /// The pools of each network, by its name.
    pools: HashMap<&'d str, Vec<Pool>>,
    /// Who has an address, for errors.
    holders: BTreeMap<IpAddr, String>,
    /// The automatic addresses that containers and services keep, by their holder's name.
    kept: BTreeMap<Holder<'d>, Addresses>,
    /// The earlier mappings.
    mappings: HashMap<&'d MappingKey, &'d MappingAllocation>,
    /// The same, by what those share that differ in the host's address alone.
    published: HashMap<Published<'d>, Vec<&'d MappingAllocation>>,
    /// The MACs that are taken in each network.
    macs: HashMap<&'d str, BTreeSet<[u8; 6]>>,
}

/// Who has an automatic address, and in which network.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
struct Holder<'d> {
    kind: Kind,
    name: &'d str,
    network: &'d str,
}

/// What can have an automatic address.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
enum Kind {
    Container,
    Service,
}

impl Kind {
    fn label(self, name: &str) -> String {
        match self {
            Self::Container => format!("container {name:?}"),
            Self::Service => format!("service {name:?}"),
        }
    }
}

impl<'d> Resolver<'d> {
    fn new(document: &'d Document, earlier: &'d Allocations) -> Self {
        Self {
            document,
            earlier,
            next: Allocations {
                last_ids: earlier.last_ids,
                ..Allocations::default()
            },
            findings: Findings::new(&document.path, ""),
            pools: HashMap::new(),
            holders: BTreeMap::new(),
            kept: BTreeMap::new(),
            mappings: earlier
                .mappings
                .iter()
                .map(|mapping| (&mapping.key, mapping))
                .collect(),
            published: mappings::published(&earlier.mappings),
            macs: HashMap::new(),
        }
    }

    fn networks(&mut self, surroundings: Surroundings<'_>) -> Vec<Network> {
        let document = self.document;
        let subnets = self.subnets(surroundings);
        document
            .networks
            .iter()
            .zip(subnets)
            .map(|(network, subnets)| self.network(network, subnets))
            .collect()
    }

    fn network(&mut self, spec: &'d NetworkSpec, subnets: Vec<IpNet>) -> Network {
        let name = &spec.name.value;
        let id = match self.earlier.networks.get(name) {
            Some(id) => *id,
            None => next_id(&mut self.next.last_ids.network),
        };
        self.next.networks.insert(name.clone(), id);
        let gateways: Vec<_> = subnets
            .iter()
            .filter_map(|subnet| spec.gateway(*subnet))
            .collect();
        let ranges: Vec<IpNet> = spec.ip_range.iter().map(|range| range.value).collect();
        let pool = |subnet: &IpNet| {
            let range = ranges.iter().find(|range| subnet.contains(*range));
            Pool::within(*subnet, *range.unwrap_or(subnet))
        };
        self.pools.insert(name, subnets.iter().map(pool).collect());
        for gateway in &gateways {
            self.reserve(name, *gateway, format!("the gateway of network {name:?}"));
        }
        Network {
            id,
            name: name.clone(),
            bridge: spec.bridge.value.clone(),
            subnets,
            gateways,
            ip_range: ranges,
            icc: spec.icc,
            internal: spec.internal,
            gateway_mode_v4: spec.gateway_modes.v4,
            gateway_mode_v6: spec.gateway_modes.v6,
            masquerade: spec.masquerade,
            mtu: spec.mtu,
            trusted_interfaces: spec.trusted_interfaces.clone(),
            trusted_sources: spec.trusted_sources.clone(),
        }
    }
}

/// What was chosen earlier for a container's end.
fn earlier_end<'d>(
    earlier: &'d Allocations,
    container: &str,
    network: &str,
) -> Option<&'d EndpointAllocation> {
    earlier.endpoints.get(container)?.get(network)
}

/// The next id of a counter that never goes back.
fn next_id(last: &mut u32) -> u32 {
    // Four thousand million changes are more than an instance lives to see.
    *last = last.saturating_add(1);
    *last
}
