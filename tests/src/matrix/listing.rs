//! What an instance says about itself: its networks, containers, published ports and services, as
//! the command lists them.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use serde_json::Value;

use super::OWN_SERVICE;
use crate::{product::Instance, sockets::Proto, topology::Family};

/// A network as `network ls` shows it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its bridge.
    pub bridge: String,
    /// Its subnets as text.
    pub subnets: Vec<String>,
    /// Its gateway addresses.
    pub gateways: Vec<IpAddr>,
    /// Whether its containers talk to each other.
    pub icc: bool,
    /// Whether it has no way in or out.
    pub internal: bool,
    /// Whether what leaves gets the host's address.
    pub masquerade: bool,
    /// Its gateway modes, IPv4's first.
    pub modes: [GatewayMode; 2],
    /// The sources outside that reach published ports at the containers' own addresses.
    pub trusted_sources: Vec<String>,
    /// The interfaces from which everybody does.
    pub trusted_interfaces: Vec<String>,
}

/// How containers of a network are reached at their own addresses.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum GatewayMode {
    /// Not at all from elsewhere.
    Nat,
    /// On every port.
    NatUnprotected,
    /// On published ports, and by ping; what leaves is not masqueraded.
    Routed,
    /// The host has no address there either.
    Isolated,
}

impl Network {
    pub(super) fn gateway(&self, family: Family) -> Option<IpAddr> {
        of_family(&self.gateways, family)
    }

    pub(super) fn mode(&self, family: Family) -> GatewayMode {
        self.modes[family as usize]
    }

    pub(super) fn contains(&self, addr: IpAddr) -> bool {
        self.subnets.iter().any(|subnet| contains(subnet, addr))
    }
}

/// A container as `container ls` shows it.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub netns: PathBuf,
    /// Whether it may send from its own MAC and addresses alone.
    pub source_check: bool,
    /// Its ends, one for each network.
    pub ends: Vec<End>,
    /// The ports that it exposes without publishing them.
    pub exposed: Vec<(u16, Proto)>,
    /// The names of the containers that it is linked to.
    pub links: Vec<String>,
}

/// A container's end in a network.
#[derive(Clone, Debug)]
pub struct End {
    /// The network's name.
    pub network: String,
    /// The interface inside the namespace.
    pub interface: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl End {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        of_family(&self.addresses, family)
    }
}

impl Container {
    /// Its first address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.ends.iter().find_map(|end| end.address(family))
    }

    /// Its end in a network.
    pub fn end_in(&self, network: &str) -> Option<&End> {
        self.ends.iter().find(|end| end.network == network)
    }

    pub(super) fn has(&self, addr: IpAddr) -> bool {
        self.ends.iter().any(|end| end.addresses.contains(&addr))
    }
}

fn of_family(addresses: &[IpAddr], family: Family) -> Option<IpAddr> {
    addresses
        .iter()
        .copied()
        .find(|addr| Family::of(*addr) == family)
}

/// Whether a prefix, or an address without one, contains an address.
pub(super) fn contains(prefix: &str, addr: IpAddr) -> bool {
    prefix_len(prefix, addr).is_some()
}

/// The length of a prefix that contains an address.
fn prefix_len(prefix: &str, addr: IpAddr) -> Option<u8> {
    let net: IpNet = prefix
        .parse()
        .or_else(|_| prefix.parse::<IpAddr>().map(IpNet::from))
        .unwrap_or_else(|error| panic!("{prefix}: {error}"));
    net.contains(&addr).then(|| net.prefix_len())
}

/// A published port as `port ls` shows it: one row a family.
#[derive(Clone, Debug)]
pub struct Port {
    /// The container that it leads to.
    pub container: String,
    /// TCP or UDP.
    pub proto: Proto,
    /// The host address; unspecified: every one of that family.
    pub host_ip: IpAddr,
    /// The host port; `None` on a routed network.
    pub host_port: Option<u16>,
    /// The container's port.
    pub container_port: u16,
    /// The sources that may, if not all may.
    pub allow: Vec<String>,
    /// The sources that may not.
    pub deny: Vec<String>,
}

impl Port {
    /// Whether a source from outside or of another network may ask: the longest prefix decides.
    pub(super) fn admits(&self, source: IpAddr) -> bool {
        let longest = |list: &[String]| {
            list.iter()
                .filter_map(|prefix| prefix_len(prefix, source))
                .max()
        };
        match (longest(&self.allow), longest(&self.deny)) {
            (None, None) => self.allow.is_empty(),
            (allowed, denied) => allowed > denied,
        }
    }
}

/// A service as `service ls` shows it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Its virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Service port, container port, protocol.
    pub ports: Vec<(u16, u16, Proto)>,
    /// The names of its backends.
    pub backends: Vec<String>,
}

impl Service {
    pub(super) fn vip(&self, family: Family) -> Option<IpAddr> {
        of_family(&self.vips, family)
    }
}

/// Everything that an instance says about itself.
#[derive(Clone, Debug)]
pub struct Listing {
    /// `network ls`.
    pub networks: Vec<Network>,
    /// `container ls`.
    pub containers: Vec<Container>,
    /// `port ls`.
    pub ports: Vec<Port>,
    /// `service ls`.
    pub services: Vec<Service>,
}

impl Listing {
    /// Asks an instance.
    ///
    /// # Panics
    ///
    /// When a listing does not have the contract's shape.
    pub fn of(instance: &Instance) -> Self {
        let whole = |kind: &str| {
            let names: Vec<String> = rows(&instance.json(&[kind, "ls"]))
                .iter()
                .map(|row| text(row, "name"))
                .collect();
            let names = names.iter().map(String::as_str);
            let arguments: Vec<&str> = [kind, "inspect"].into_iter().chain(names).collect();
            // Of nothing there is nothing to show.
            if arguments.len() == 2 {
                return Vec::new();
            }
            rows(&instance.json(&arguments))
        };
        Self {
            networks: whole("network").iter().map(network).collect(),
            containers: whole("container").iter().map(container).collect(),
            ports: rows(&instance.json(&["port", "ls"]))
                .iter()
                .map(port)
                .collect(),
            services: rows(&instance.json(&["service", "ls"]))
                .iter()
                .map(service)
                .collect(),
        }
    }

    /// The container of a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn container(&self, name: &str) -> &Container {
        self.containers
            .iter()
            .find(|container| container.name == name)
            .expect(name)
    }

    /// The network of a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn network(&self, name: &str) -> &Network {
        self.networks
            .iter()
            .find(|network| network.name == name)
            .expect(name)
    }

    /// The ports on which each container needs a server for the paths of this listing.
    pub fn ports_of(&self, container: &Container) -> Vec<u16> {
        let published = self
            .ports
            .iter()
            .filter(|port| port.container == container.name)
            .map(|port| port.container_port);
        let served = self
            .services
            .iter()
            .filter(|service| service.backends.contains(&container.name))
            .flat_map(|service| service.ports.iter().map(|(_, target, _)| *target));
        let exposed = container.exposed.iter().map(|(port, _)| *port);
        let ports: BTreeSet<u16> = published
            .chain(served)
            .chain(exposed)
            .chain([OWN_SERVICE])
            .collect();
        ports.into_iter().collect()
    }
}

fn rows(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {value}"))
        .clone()
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .to_owned()
}

fn flag(value: &Value, key: &str) -> bool {
    value[key]
        .as_bool()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u16 {
    value[key]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// An address, with or without a prefix length behind it.
fn address(text: &str) -> IpAddr {
    let addr = text.split('/').next().unwrap_or_default();
    addr.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn texts(value: &Value) -> Vec<String> {
    rows(value)
        .iter()
        .map(|text| text.as_str().expect("a string").to_owned())
        .collect()
}

fn proto(text: &str) -> Proto {
    *Proto::ALL
        .iter()
        .find(|proto| proto.name() == text)
        .unwrap_or_else(|| panic!("{text}?"))
}

fn network(row: &Value) -> Network {
    Network {
        name: text(row, "name"),
        bridge: text(row, "bridge"),
        subnets: texts(&row["subnets"]),
        gateways: texts(&row["gateways"])
            .iter()
            .map(|text| address(text))
            .collect(),
        icc: flag(row, "icc"),
        internal: flag(row, "internal"),
        masquerade: flag(row, "masquerade"),
        trusted_sources: texts(&row["trusted_sources"]),
        trusted_interfaces: texts(&row["trusted_interfaces"]),
        modes: ["ipv4", "ipv6"].map(|family| {
            let mode = &row["gateway_mode"];
            gateway_mode(mode.as_str().unwrap_or_else(|| {
                mode[family]
                    .as_str()
                    .unwrap_or_else(|| panic!("no gateway_mode in {row}"))
            }))
        }),
    }
}

fn gateway_mode(name: &str) -> GatewayMode {
    match name {
        "nat" => GatewayMode::Nat,
        "nat-unprotected" => GatewayMode::NatUnprotected,
        "routed" => GatewayMode::Routed,
        "isolated" => GatewayMode::Isolated,
        _ => panic!("gateway mode {name}?"),
    }
}

fn container(row: &Value) -> Container {
    Container {
        name: text(row, "name"),
        netns: text(row, "netns").into(),
        source_check: flag(row, "source_check"),
        ends: rows(&row["networks"]).iter().map(end).collect(),
        exposed: texts(&row["expose"])
            .iter()
            .map(|text| exposed(text))
            .collect(),
        links: texts(&row["links"])
            .iter()
            .map(|link| link.split(':').next().unwrap_or_default().to_owned())
            .collect(),
    }
}

/// `5432/tcp`.
fn exposed(text: &str) -> (u16, Proto) {
    let (port, name) = text.split_once('/').expect(text);
    (port.parse().expect(text), proto(name))
}

fn end(row: &Value) -> End {
    End {
        network: text(row, "name"),
        interface: text(row, "interface"),
        addresses: ["ipv4", "ipv6"]
            .iter()
            .filter_map(|key| row[*key].as_str())
            .map(address)
            .collect(),
    }
}

fn port(row: &Value) -> Port {
    Port {
        container: text(row, "container"),
        proto: proto(&text(row, "proto")),
        host_ip: address(&text(row, "host_ip")),
        host_port: (!row["host_port"].is_null()).then(|| number(row, "host_port")),
        container_port: number(row, "container_port"),
        allow: texts(&row["allow"]),
        deny: texts(&row["deny"]),
    }
}

fn service(row: &Value) -> Service {
    Service {
        name: text(row, "name"),
        network: text(row, "network"),
        vips: texts(&row["vips"])
            .iter()
            .map(|text| address(text))
            .collect(),
        ports: rows(&row["ports"]).iter().map(service_port).collect(),
        backends: rows(&row["backends"])
            .iter()
            .map(|row| text(row, "container"))
            .collect(),
    }
}

/// `80:8080/tcp`, as in the config.
fn service_port(row: &Value) -> (u16, u16, Proto) {
    let text = row
        .as_str()
        .unwrap_or_else(|| panic!("not a service port: {row}"));
    let (ports, name) = text.split_once('/').unwrap_or((text, "tcp"));
    let (port, target) = ports.split_once(':').unwrap_or((ports, ports));
    (
        port.parse().expect(text),
        target.parse().expect(text),
        proto(name),
    )
}
