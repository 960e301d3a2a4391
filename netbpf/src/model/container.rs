//! A container: a network namespace and how it hangs on its networks.

use std::{
    cmp::Reverse,
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use super::{Family, Model, Network, PortBinding, Proto};

/// One container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The path of its network namespace, absolute: that of the joined container where it shares
    /// one, and empty where it is the host's own.
    pub netns: PathBuf,
    /// Where its network stack comes from.
    pub mode: Mode,
    /// What it sends must come from its own addresses.
    pub source_check: bool,
    /// How it hangs on its networks, in the order of the document: none unless the mode is
    /// [`Mode::Bridge`].
    pub attachments: Vec<Attachment>,
    /// Its published ports; none where every network is internal.
    pub publish: Vec<PortBinding>,
    /// The ports that it offers to containers that are linked to it.
    pub expose: Vec<ExposedPort>,
    /// The containers that it is linked to.
    pub links: Vec<ContainerLink>,
}

/// Where a container's network stack comes from.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Mode {
    /// A namespace of its own that hangs on networks.
    #[default]
    Bridge,
    /// A namespace of its own with nothing but its loopback interface.
    None,
    /// The host's.
    Host,
    /// That of the container of this name.
    Joined(String),
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bridge => f.write_str("bridge"),
            Self::None => f.write_str("none"),
            Self::Host => f.write_str("host"),
            Self::Joined(name) => write!(f, "container:{name}"),
        }
    }
}

/// A port that a container offers.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct ExposedPort {
    /// The port; never 0.
    pub port: u16,
    /// Its protocol.
    pub proto: Proto,
}

/// A link to another container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ContainerLink {
    /// The other container's name.
    pub container: String,
    /// How this container calls it.
    pub alias: String,
}

/// A container's end in a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Its id: never 0, and another one as soon as the network, the namespace, an address or the
    /// MAC is another one.
    pub endpoint: u32,
    /// The network's name.
    pub network: String,
    /// Its IPv4 address, when the network has that family.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, when the network has that family.
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC: unicast, and no other's in this network.
    pub mac: [u8; 6],
    /// The interface's name inside the namespace; at most 15 bytes.
    pub interface: String,
    /// Other names that the container has in this network.
    pub aliases: Vec<String>,
    /// The highest one is the default gateway.
    pub gw_priority: i32,
}

impl Container {
    /// The attachment to that network.
    pub fn attachment(&self, network: &str) -> Option<&Attachment> {
        self.attachments.iter().find(|it| it.network == network)
    }

    /// The attachment that the default route of a family leads by and that published ports of the
    /// family lead to (row A2): the highest priority, then the order of the document, among the
    /// networks that have the family and are not internal.
    pub fn gateway(&self, model: &Model, family: Family) -> Option<&Attachment> {
        let leads_out = |it: &&Attachment| {
            it.address(family).is_some()
                && model.network(&it.network).is_some_and(Network::leads_out)
        };
        // Of several that are equal the first is the least.
        self.attachments
            .iter()
            .filter(leads_out)
            .min_by_key(|it| Reverse(it.gw_priority))
    }
}

impl Attachment {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        Family::BOTH
            .into_iter()
            .filter_map(|family| self.address(family))
    }

    /// Its address of one family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.ipv4.map(IpAddr::V4),
            Family::V6 => self.ipv6.map(IpAddr::V6),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn network(name: &str, id: u32) -> Network {
        Network {
            id,
            name: name.to_owned(),
            ..Network::default()
        }
    }

    fn attachment(network: &str, endpoint: u32, families: &[Family]) -> Attachment {
        let has = |family| families.contains(&family);
        Attachment {
            endpoint,
            network: network.to_owned(),
            ipv4: has(Family::V4).then_some(Ipv4Addr::new(10, 0, 0, 2)),
            ipv6: has(Family::V6).then_some(Ipv6Addr::LOCALHOST),
            mac: [2, 0, 0, 0, 0, 1],
            interface: "eth0".to_owned(),
            aliases: Vec::new(),
            gw_priority: 0,
        }
    }

    fn gateways(model: &Model, container: &Container) -> [Option<u32>; 2] {
        Family::BOTH.map(|family| container.gateway(model, family).map(|it| it.endpoint))
    }

    #[test]
    fn gateway_is_the_first_network_with_the_family_that_leads_out() {
        let mut inner = network("inner", 1);
        inner.internal = true;
        let model = Model {
            networks: vec![
                inner,
                network("old", 2),
                network("new", 3),
                network("last", 4),
            ],
            ..Model::default()
        };
        let mut container = Container {
            name: "c".to_owned(),
            netns: PathBuf::new(),
            mode: Mode::Bridge,
            source_check: true,
            attachments: vec![
                attachment("inner", 1, &Family::BOTH),
                attachment("old", 2, &[Family::V4]),
                attachment("new", 3, &Family::BOTH),
                attachment("last", 4, &Family::BOTH),
            ],
            publish: Vec::new(),
            expose: Vec::new(),
            links: Vec::new(),
        };
        assert_eq!(gateways(&model, &container), [Some(2), Some(3)]);
        container.attachments[3].gw_priority = 1;
        assert_eq!(gateways(&model, &container), [Some(4), Some(4)]);
        container.attachments[2].gw_priority = 1;
        assert_eq!(gateways(&model, &container), [Some(3), Some(3)]);
        container.attachments[1].gw_priority = -1;
        container.attachments[2].gw_priority = -2;
        container.attachments[3].gw_priority = -2;
        assert_eq!(gateways(&model, &container), [Some(2), Some(3)]);
        container.attachments[0].gw_priority = 9;
        assert_eq!(gateways(&model, &container), [Some(2), Some(3)]);
        container.attachments.truncate(1);
        assert_eq!(gateways(&model, &container), [None, None]);
    }
}
