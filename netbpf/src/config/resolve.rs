//! From a valid document and earlier choices to the model: addresses, MACs and ids.
//!
//! Order matters and is fixed: what the document gives, then what was chosen earlier, then new
//! choices in the order of the document. So the same input gives the same model, and a newcomer
//! never takes what somebody keeps.

mod subnets;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::IpNet;

use super::{
    ConfigErrors, Document, Surroundings, addresses::given_addresses, attachment::AttachmentSpec,
    container::ContainerSpec, findings::Findings, mode, network::NetworkSpec, pieces::Piece,
    publishing, service::ServiceSpec,
};
use crate::{
    allocations::{
        Allocations, AutomaticChoices, EndpointAllocation, EndpointIdentity, MappingAllocation,
        MappingKey, Owner, Published, VipAllocation,
    },
    ipam::{self, Pool},
    model::{
        AddressPool, Attachment, Container, Family, Host, Mode, Model, Network, PortBinding,
        Service, ServicePort,
    },
    naming,
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
            published: published(&earlier.mappings),
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

    /// Marks an address as taken in the pools of a network.
    fn reserve(&mut self, network: &str, address: IpAddr, holder: String) {
        for pool in self.pools.get_mut(network).into_iter().flatten() {
            if pool.subnet().contains(&address) {
                pool.take(address);
            }
        }
        self.holders.insert(address, holder);
    }

    /// Marks what the document gives: addresses, virtual addresses, and the addresses that ports
    /// are published on, which must stay the host's.
    fn reserve_given(&mut self) {
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
    fn reserve_kept(&mut self) {
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
    fn choose(&mut self, holder: Holder<'d>, family: Family, line: usize) -> Option<IpAddr> {
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

    fn containers(&mut self) -> Vec<Container> {
        let document = self.document;
        document
            .containers
            .iter()
            .map(|container| self.container(container))
            .collect()
    }

    fn container(&mut self, spec: &'d ContainerSpec) -> Container {
        let interfaces = self.interfaces(spec);
        let attachments: Vec<Attachment> = spec
            .attachments
            .iter()
            .zip(interfaces)
            .map(|(attachment, interface)| self.attachment(spec, attachment, interface))
            .collect();
        Container {
            name: spec.name.value.clone(),
            netns: self.netns(spec),
            mode: spec.mode.value.clone(),
            source_check: spec.source_check,
            attachments,
            publish: Vec::new(),
            expose: spec.expose.clone(),
            links: spec.links.iter().map(|link| link.value.clone()).collect(),
        }
    }

    /// That of the container whose stack this one shares; empty for the host's.
    fn netns(&self, spec: &ContainerSpec) -> PathBuf {
        match mode::stack_of(self.document, spec) {
            Some(stack) if stack.mode.value != Mode::Host => stack.netns.value.clone(),
            _ => PathBuf::new(),
        }
    }

    /// The names of a container's interfaces: the given ones, those that were chosen earlier, then
    /// the first `eth<N>` that are free.
    fn interfaces(&self, spec: &ContainerSpec) -> Vec<String> {
        let mut names: Vec<Option<String>> = spec
            .attachments
            .iter()
            .map(|attachment| attachment.interface.as_ref().map(|it| it.value.clone()))
            .collect();
        for (place, attachment) in spec.attachments.iter().enumerate() {
            let kept = self.kept_interface(&spec.name.value, &attachment.network.value);
            if names[place].is_none() && kept.is_some() && !names.contains(&kept) {
                names[place] = kept;
            }
        }
        for place in 0..names.len() {
            if names[place].is_none() {
                let mut all = (0..).map(|number| Some(format!("eth{number}")));
                names[place] = all.find(|name| !names.contains(name)).flatten();
            }
        }
        names.into_iter().flatten().collect()
    }

    /// What was chosen earlier, while the network is the same one.
    fn kept_interface(&self, container: &str, network: &str) -> Option<String> {
        let earlier = earlier_end(self.earlier, container, network)?;
        let id = self.next.networks.get(network);
        (id == Some(&earlier.identity.network))
            .then(|| earlier.automatic.interface.clone())
            .flatten()
    }

    /// Gives every container its published ports.
    fn publish(&mut self, model: &mut Model, surroundings: Surroundings<'_>) {
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
        let spec = &piece.spec.value;
        let (container_port, proto) = (spec.publish.container_port, spec.publish.proto);
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
        PortBinding {
            mapping,
            host_ip: piece.host_ip,
            host_port: piece.host_port,
            container_port,
            proto,
            allow: spec.allow.clone(),
            deny: spec.deny.clone(),
        }
    }

    fn attachment(
        &mut self,
        spec: &'d ContainerSpec,
        attachment: &'d AttachmentSpec,
        interface: String,
    ) -> Attachment {
        let name = spec.name.value.as_str();
        let network = attachment.network.value.as_str();
        let given = Addresses::from_given(given_addresses(attachment).map(|a| a.value));
        let mut addresses = given;
        let mut automatic = AutomaticChoices {
            interface: attachment.interface.is_none().then(|| interface.clone()),
            ..AutomaticChoices::default()
        };
        let holder = Holder {
            kind: Kind::Container,
            name,
            network,
        };
        for family in Family::BOTH {
            if given.get(family).is_some() {
                continue;
            }
            let chosen = self.choose(holder, family, spec.name.line);
            if let Some(address) = chosen {
                addresses.set(address);
            }
            match chosen {
                Some(IpAddr::V4(address)) => automatic.ipv4 = Some(address),
                Some(IpAddr::V6(address)) => automatic.ipv6 = Some(address),
                None => {}
            }
        }
        let mac = match &attachment.mac {
            Some(mac) => mac.value,
            None => self.choose_mac(name, network, addresses.ipv4, &mut automatic),
        };
        let identity = EndpointIdentity {
            network: self.next.networks.get(network).copied().unwrap_or_default(),
            netns: spec.netns.value.clone(),
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            mac,
        };
        let endpoint = self.endpoint((name, network), identity, automatic);
        Attachment {
            endpoint,
            network: network.to_owned(),
            ipv4: addresses.ipv4,
            ipv6: addresses.ipv6,
            mac,
            interface,
            aliases: attachment.aliases.clone(),
            gw_priority: attachment.gw_priority,
        }
    }

    /// The MAC: the one that follows from the IPv4 address, else the one that was drawn earlier,
    /// else one that is drawn now from the names.
    fn choose_mac(
        &mut self,
        name: &'d str,
        network: &'d str,
        ipv4: Option<Ipv4Addr>,
        automatic: &mut AutomaticChoices,
    ) -> [u8; 6] {
        let taken = self.macs.entry(network).or_default();
        if let Some(ipv4) = ipv4 {
            let [a, b, c, d] = ipv4.octets();
            let mac = [0x02, 0x42, a, b, c, d];
            if taken.insert(mac) {
                return mac;
            }
        }
        let network_id = self.next.networks.get(network);
        let kept = earlier_end(self.earlier, name, network)
            .filter(|allocation| Some(&allocation.identity.network) == network_id)
            .and_then(|allocation| allocation.automatic.mac);
        let mac = kept.unwrap_or_else(|| {
            let mut attempts = (0..).map(|attempt| naming::container_mac(name, network, attempt));
            // Endless, and there are more MACs than containers.
            attempts.find(|mac| taken.insert(*mac)).unwrap_or_default()
        });
        automatic.mac = Some(mac);
        mac
    }

    fn endpoint(
        &mut self,
        (container, network): (&str, &str),
        identity: EndpointIdentity,
        automatic: AutomaticChoices,
    ) -> u32 {
        let earlier = earlier_end(self.earlier, container, network);
        let id = match earlier.filter(|allocation| allocation.identity == identity) {
            Some(allocation) => allocation.id,
            None => next_id(&mut self.next.last_ids.endpoint),
        };
        let allocation = EndpointAllocation {
            id,
            identity,
            automatic,
        };
        let ends = self.next.endpoints.entry(container.to_owned()).or_default();
        ends.insert(network.to_owned(), allocation);
        id
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

    fn services(&mut self) -> Vec<Service> {
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

/// What was chosen earlier for a container's end.
fn earlier_end<'d>(
    earlier: &'d Allocations,
    container: &str,
    network: &str,
) -> Option<&'d EndpointAllocation> {
    earlier.endpoints.get(container)?.get(network)
}

/// Two of a container's port on one address can't be, so that one that covers another is in its
/// place and never beside it.
fn published(mappings: &[MappingAllocation]) -> HashMap<Published<'_>, Vec<&MappingAllocation>> {
    let mut published: HashMap<_, Vec<_>> = HashMap::new();
    for mapping in mappings.iter().filter(|it| it.key.host_port.is_some()) {
        let same = published.entry(mapping.key.published()).or_default();
        same.push(mapping);
    }
    published
}

/// The next id of a counter that never goes back.
fn next_id(last: &mut u32) -> u32 {
    // Four thousand million changes are more than an instance lives to see.
    *last = last.saturating_add(1);
    *last
}
