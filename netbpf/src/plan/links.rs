//! Which links, namespaces, addresses, sysctls, uplinks and files there must be.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use ipnet::IpNet;
use netbpf_common::{endpoint::role, verdict::Hook};

use super::{Facts, names};
use crate::{
    dataplane::{
        Objects,
        attach::{Place, hooks_of},
    },
    error::Error,
    host::{
        Mac,
        address::Preference,
        link::{Framing, Link},
        sysctl::{Knob, Sysctl},
    },
    model::{self, GatewayMode, Model},
    naming,
};

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
