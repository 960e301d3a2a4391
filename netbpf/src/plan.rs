//! What must be on the host and in the maps for a model to be true. Pure: no I/O, and the same
//! input gives the same bytes.
//!
//! Two steps, for an ifindex is known only once its link exists: [`links`] says which links,
//! addresses, sysctls and uplinks there must be, [`contents`] what the maps must hold then.

pub mod names;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    path::PathBuf,
    time::Duration,
};

use ipnet::IpNet;
use netbpf_common::{
    config::{ABI_VERSION, GlobalConfig, config_flags},
    conntrack::{Tick, Timeouts},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network, host_address_flags, role},
    family::{Family, V4, V6},
    nat::{MappingKey, PortKey, PublishTarget, reserved_bit, target_flags},
    service::{Backend, MAX_BACKENDS, Service},
    tuple::proto,
    verdict::Hook,
    wire::{self, Be16, Ipv4, Ipv6},
};

use crate::{
    dataplane::{
        Objects,
        attach::{Place, hooks_of},
        maps::{Contents, Sizes, SubnetKey},
    },
    error::Error,
    host::{
        Mac,
        address::{Address, Preference, Scope},
        link::{Framing, Link},
        sysctl::{Knob, Sysctl},
    },
    model::{self, GatewayMode, Index, Model},
    naming,
};

mod senders;

/// What was seen on the host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Every link.
    pub links: Vec<Link>,
    /// Where they stand.
    pub link_index: Index,
    /// Every address that is not this instance's.
    pub addresses: Vec<Address>,
    /// The bridges that this instance adopted, with the MACs that they had; all zero for none.
    pub adopted: BTreeMap<String, Mac>,
    /// `net.ipv4.ip_local_reserved_ports`: first and last port of each range.
    pub reserved_ports: Vec<(u16, u16)>,
    /// The kernel's number for the host's namespace.
    pub netns_cookie: u64,
    /// The links that have an IPv6 default route from a router advertisement.
    pub advertised_routers: Vec<String>,
    /// Whether there are IPsec policies.
    pub has_ipsec: bool,
    /// Whether the kernel does not say with which address it would leave by a route.
    pub lacks_fib_source: bool,
}

impl Facts {
    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.link_index.find(&self.links, name, |link| &link.name)
    }
}

/// A bridge that must be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Bridge {
    /// The network's name.
    pub network: String,
    /// The bridge's name.
    pub name: String,
    /// The alias that marks it, unless it was adopted.
    pub alias: String,
    /// Its MAC.
    pub mac: Mac,
    /// Its MTU, in bytes.
    pub mtu: u32,
    /// The addresses that it must have beside others: gateways, then virtual IPs.
    pub addresses: Vec<(IpNet, Preference)>,
}

/// A container's namespace that must be there, with its loopback interface up.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    /// The container's name.
    pub container: String,
    /// Its path.
    pub path: PathBuf,
}

/// A container's end in a network: a veth pair that must be there.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct End {
    /// The container's name.
    pub container: String,
    /// The network's name.
    pub network: String,
    /// The container's namespace.
    pub netns: PathBuf,
    /// The endpoint id.
    pub endpoint: u32,
    /// The bridge that the host's side is a port of.
    pub bridge: String,
    /// The name of the host's side.
    pub veth: String,
    /// The alias that marks it.
    pub alias: String,
    /// The MAC of the host's side.
    pub veth_mac: Mac,
    /// The name of the container's side.
    pub interface: String,
    /// The MAC of the container's side.
    pub mac: Mac,
    /// The MTU of both sides, in bytes.
    pub mtu: u32,
    /// The addresses of the container's side.
    pub addresses: Vec<IpNet>,
    /// Where the container's default routes by this end lead: at most one a family.
    pub gateways: Vec<IpAddr>,
}

/// Everything that must be there outside of the maps.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Links {
    /// One for each network, in the order of the document.
    pub bridges: Vec<Bridge>,
    /// One for each container that has one of its own, in the order of the document.
    pub namespaces: Vec<Namespace>,
    /// One for each container and network of it, in the order of the document.
    pub ends: Vec<End>,
    /// The names of the interfaces to the outside, sorted.
    pub uplinks: Vec<String>,
    /// Those of them whose packets have no Ethernet header.
    pub bare_uplinks: BTreeSet<String>,
    /// The loopback interface; none where nothing is published.
    pub loopback: Option<String>,
    /// The hooks at sockets that must be in place; none where nothing is published.
    pub sockets: Vec<Hook>,
    /// Sysctls of interfaces and their values, in the order in which they must be written. Those
    /// of a bridge come after it is made.
    pub sysctls: Vec<(Sysctl, &'static str)>,
    /// The sections of files that name linked containers.
    pub files: Vec<names::File>,
}

impl Links {
    /// The interfaces that must be hooked, and as what.
    pub fn roles(&self) -> impl Iterator<Item = (&str, u8)> {
        let ends = self
            .ends
            .iter()
            .map(|it| (it.veth.as_str(), role::CONTAINER));
        let bridges = self
            .bridges
            .iter()
            .map(|it| (it.name.as_str(), role::BRIDGE));
        let uplinks = self
            .uplinks
            .iter()
            .map(|name| (name.as_str(), role::UPLINK));
        let loopback = self
            .loopback
            .iter()
            .map(|name| (name.as_str(), role::LOOPBACK));
        ends.chain(bridges).chain(uplinks).chain(loopback)
    }

    /// Every hook that must be in place.
    pub fn places(&self) -> Vec<Place> {
        self.roles()
            .flat_map(|(interface, role)| {
                hooks_of(role).iter().map(|hook| Place {
                    hook: *hook,
                    framing: self.framing_of(interface),
                    interface: interface.to_owned(),
                })
            })
            .collect()
    }

    fn framing_of(&self, interface: &str) -> Framing {
        if self.bare_uplinks.contains(interface) {
            Framing::Bare
        } else {
            Framing::Ethernet
        }
    }

    /// The objects with the programs of all these interfaces.
    pub fn objects(&self) -> Objects {
        if self.bare_uplinks.is_empty() {
            Objects::Ethernet
        } else {
            Objects::All
        }
    }
}

/// The beginning of every alias that marks a link of `instance`.
pub fn alias_prefix(instance: &str) -> String {
    format!("netbpf:{instance}:")
}

/// The beginning of every alias that marks a link of any instance.
const ANY_ALIAS_PREFIX: &str = "netbpf:";

/// Which links, addresses, sysctls and uplinks `model` needs.
///
/// # Errors
///
/// An uplink that the document names and that is missing or can't be one.
pub fn links(instance: &str, model: &Model, facts: &Facts) -> Result<Links, Error> {
    let bridges: Vec<Bridge> = model
        .networks
        .iter()
        .map(|network| bridge(instance, model, network, facts))
        .collect();
    let namespaces = model.containers.iter().filter_map(namespace).collect();
    let ends = model
        .ends()
        .filter_map(|(container, attachment)| end(instance, model, container, attachment))
        .collect();
    let uplinks = uplinks(model, &bridges, facts)?;
    let sysctls = sysctls(model, &bridges, facts);
    let is_bare = |name: &&String| {
        facts
            .link(name)
            .is_some_and(|link| link.framing() == Some(Framing::Bare))
    };
    let bare_uplinks = uplinks.iter().filter(is_bare).cloned().collect();
    Ok(Links {
        bridges,
        namespaces,
        ends,
        uplinks,
        bare_uplinks,
        loopback: loopback(model, facts),
        sockets: sockets(model),
        sysctls,
        files: names::files(model),
    })
}

fn bridge(instance: &str, model: &Model, network: &model::Network, facts: &Facts) -> Bridge {
    let gateways = network.subnets.iter().filter_map(|subnet| {
        let gateway = network.gateway(model::Family::of_net(*subnet))?;
        let net = IpNet::new(gateway, subnet.prefix_len()).ok()?;
        Some((net, Preference::Preferred))
    });
    let vips = model
        .services
        .iter()
        .filter(|service| service.network == network.name)
        .flat_map(|service| &service.vips)
        .map(|vip| (IpNet::from(*vip), Preference::Never));
    Bridge {
        network: network.name.clone(),
        name: network.bridge.clone(),
        alias: format!("{}network:{}", alias_prefix(instance), network.name),
        mac: match facts.adopted.get(&network.bridge) {
            // A bridge whose last port left has no MAC, and none can be set again.
            Some([0, 0, 0, 0, 0, 0]) => naming::adopted_bridge_mac(instance, &network.name),
            Some(mac) => *mac,
            None => naming::bridge_mac(instance, &network.name),
        },
        mtu: network.mtu.into(),
        addresses: gateways.chain(vips).collect(),
    }
}

fn namespace(container: &model::Container) -> Option<Namespace> {
    match container.mode {
        model::Mode::Bridge | model::Mode::None => Some(Namespace {
            container: container.name.clone(),
            path: container.netns.clone(),
        }),
        model::Mode::Host | model::Mode::Joined(_) => None,
    }
}

/// A container's end in a network; `None` for a network that isn't there.
fn end(
    instance: &str,
    model: &Model,
    container: &model::Container,
    attachment: &model::Attachment,
) -> Option<End> {
    let network = model.network(&attachment.network)?;
    let in_subnet = |addr: IpAddr| {
        let mut subnets = network.subnets.iter();
        let subnet = subnets.find(|subnet| subnet.contains(&addr))?;
        IpNet::new(addr, subnet.prefix_len()).ok()
    };
    let alias = alias_prefix(instance);
    let (name, network_name) = (&container.name, &network.name);
    Some(End {
        container: name.clone(),
        network: network_name.clone(),
        netns: container.netns.clone(),
        endpoint: attachment.endpoint,
        bridge: network.bridge.clone(),
        veth: naming::veth(instance, name, network_name),
        alias: format!("{alias}container:{name}:{network_name}"),
        veth_mac: naming::veth_mac(instance, name, network_name),
        interface: attachment.interface.clone(),
        mac: attachment.mac,
        mtu: network.mtu.into(),
        addresses: attachment.addresses().filter_map(in_subnet).collect(),
        gateways: default_routes(model, container, attachment, network),
    })
}

/// Where the default routes by an attachment lead: those of the families whose gateway it is.
fn default_routes(
    model: &Model,
    container: &model::Container,
    attachment: &model::Attachment,
    network: &model::Network,
) -> Vec<IpAddr> {
    let is_gateway = |family: &model::Family| {
        container
            .gateway(model, *family)
            .is_some_and(|gateway| gateway.endpoint == attachment.endpoint)
    };
    model::Family::BOTH
        .into_iter()
        .filter(is_gateway)
        .filter_map(|family| network.gateway(family))
        .collect()
}

/// The interfaces to the outside, sorted by name.
fn uplinks(model: &Model, bridges: &[Bridge], facts: &Facts) -> Result<Vec<String>, Error> {
    let own: BTreeSet<&str> = bridges.iter().map(|bridge| bridge.name.as_str()).collect();
    let mut names: Vec<String> = match &model.host.uplinks {
        Some(named) => {
            for name in named {
                check_uplink(name, &own, facts)?;
            }
            named.clone()
        }
        None => facts
            .links
            .iter()
            .filter(|link| refusal(link, &own, facts).is_none())
            .map(|link| link.name.clone())
            .collect(),
    };
    names.sort();
    names.dedup();
    Ok(names)
}

fn check_uplink(name: &str, own: &BTreeSet<&str>, facts: &Facts) -> Result<(), Error> {
    let Some(link) = facts.link(name) else {
        return Err(Error::host(format!(
            "uplink {name:?}: there is no such interface"
        )));
    };
    match refusal(link, own, facts) {
        None => Ok(()),
        Some(why) => Err(Error::host(format!("uplink {name:?}: {why}"))),
    }
}

/// Why an interface can't be an uplink.
fn refusal(link: &Link, own: &BTreeSet<&str>, facts: &Facts) -> Option<&'static str> {
    if link.loopback {
        return Some("the loopback interface leads nowhere");
    }
    let is_marked = link
        .alias
        .as_deref()
        .is_some_and(|alias| alias.starts_with(ANY_ALIAS_PREFIX));
    if is_marked || own.contains(link.name.as_str()) || facts.adopted.contains_key(&link.name) {
        return Some("it is an interface of netbpf's own");
    }
    if link.master.is_some() {
        return Some("it is a port of another interface, which is the one to name");
    }
    if link.framing().is_none() {
        return Some("its packets begin neither with an Ethernet header nor with IP's");
    }
    None
}

/// Whether anything of the host's leads to containers.
fn has_mappings(model: &Model) -> bool {
    let mut containers = model.containers.iter();
    containers.any(|container| !container.publish.is_empty()) || !model.services.is_empty()
}

/// What the host says to itself is looked at only where some of it could lead to a container.
fn loopback(model: &Model, facts: &Facts) -> Option<String> {
    let loopback = facts.links.iter().find(|link| link.loopback)?;
    has_mappings(model).then(|| loopback.name.clone())
}

/// Sockets are looked at only where some could be led to a container.
fn sockets(model: &Model) -> Vec<Hook> {
    if has_mappings(model) {
        Hook::AT_SOCKETS.to_vec()
    } else {
        Vec::new()
    }
}

/// Forwarding on our bridges, and before it what keeps the host's own IPv6 default routes.
fn sysctls(model: &Model, bridges: &[Bridge], facts: &Facts) -> Vec<(Sysctl, &'static str)> {
    let mut wanted = Vec::new();
    let has_v6 = model
        .networks
        .iter()
        .any(|network| network.subnet_v6().is_some());
    if has_v6 {
        for name in &facts.advertised_routers {
            wanted.push((Sysctl::new(Knob::Ipv6AcceptRa, name), "2"));
        }
    }
    let has_v4 = model.networks.iter().any(|it| it.subnet_v4().is_some());
    if has_v4 && let Some(loopback) = loopback(model, facts) {
        // Answers come back with loopback addresses, and by an interface that is not theirs.
        for knob in [Knob::Ipv4RouteLocalnet, Knob::Ipv4AcceptLocal] {
            wanted.push((Sysctl::new(knob, &loopback), "1"));
        }
    }
    for (bridge, network) in bridges.iter().zip(&model.networks) {
        let has_gateway = |family| network.gateway(family).is_some();
        if has_gateway(model::Family::V4) {
            wanted.push((Sysctl::new(Knob::Ipv4Forwarding, &bridge.name), "1"));
        }
        if network.gateway_mode_v6 == GatewayMode::Isolated {
            // Not even a link-local address.
            wanted.push((Sysctl::new(Knob::Ipv6Disable, &bridge.name), "1"));
        } else if has_gateway(model::Family::V6) {
            wanted.push((Sysctl::new(Knob::Ipv6Disable, &bridge.name), "0"));
            wanted.push((Sysctl::new(Knob::Ipv6Forwarding, &bridge.name), "1"));
        }
    }
    wanted
}

/// What the programs read as their config, but for the generation, which is the loader's to count.
pub fn config(model: &Model, facts: &Facts, generation: u32) -> GlobalConfig {
    let ticks = |time: Duration| {
        Tick::count_from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let timeouts = &model.conntrack.timeouts;
    let sizes = Sizes::of(model.conntrack.max_entries);
    GlobalConfig {
        abi_version: ABI_VERSION,
        generation,
        timeouts: Timeouts {
            established: ticks(timeouts.established),
            half_open: ticks(timeouts.half_open),
            closing: ticks(timeouts.closing),
            udp: ticks(timeouts.udp),
            udp_stream: ticks(timeouts.udp_stream),
            icmp: ticks(timeouts.icmp),
        },
        max_flows: sizes.max_flows,
        max_half_open: sizes.max_half_open,
        netns_cookie: facts.netns_cookie,
        flags: flag(facts.has_ipsec, config_flags::XFRM),
        pad: 0,
    }
}

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
        for binding in &container.publish {
            put_published(&mut contents, model, container, binding);
        }
    }
    for service in &model.services {
        put_service(&mut contents, model, service);
    }
    put_reserved_ports(&mut contents, model, facts);
    senders::put(&mut contents, model, facts);
    Ok(contents)
}

const fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
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

fn put_end(
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

fn port_key<F: Family>(addr: F::Addr, port: u16, protocol: model::Proto) -> PortKey<F> {
    PortKey {
        addr,
        port: Be16::new(port),
        proto: protocol.number(),
        pad: 0,
    }
}

/// A published port leads to the container's gateway network, each family by itself (row A2).
fn put_published(
    contents: &mut Contents,
    model: &Model,
    container: &model::Container,
    binding: &model::PortBinding,
) {
    let (host_v4, host_v6) = match binding.host_ip {
        None => (Some(Ipv4::UNSPECIFIED), Some(Ipv6::UNSPECIFIED)),
        Some(IpAddr::V4(addr)) => (Some(addr.into()), None),
        Some(IpAddr::V6(addr)) => (None, Some(addr.into())),
    };
    let Some(port) = binding.host_port else {
        return;
    };
    let gateway_v4 = senders::natted_gateway(model, container, model::Family::V4);
    let gateway_v6 = senders::natted_gateway(model, container, model::Family::V6);
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

fn target<F: Family>(
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
fn put_mapping<F: Family>(contents: &mut Contents, binding: &model::PortBinding, endpoint: u32) {
    let mapping = binding.mapping;
    let key = MappingKey { mapping, endpoint };
    *contents.mappings.entry(key).or_default() |= senders::mapping_flags_of(binding) | F::STANDS;
}

fn put_service(contents: &mut Contents, model: &Model, service: &model::Service) {
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
fn put_reserved_ports(contents: &mut Contents, model: &Model, facts: &Facts) {
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

#[cfg(test)]
mod tests;
