//! A network: one bridge, its subnets, its gateway addresses and who may cross it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

use super::Family;

/// One network.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Network {
    /// Its id: never 0, and never used again for another network.
    pub id: u32,
    /// Its name.
    pub name: String,
    /// The bridge's interface name; at most 15 bytes.
    pub bridge: String,
    /// Its subnets, without host bits: at least one, at most one a family.
    pub subnets: Vec<IpNet>,
    /// The gateway addresses, in the order of the subnets: one for each that is not isolated.
    pub gateways: Vec<IpAddr>,
    /// Where automatic addresses come from: at most one a family, inside its subnet; without one
    /// the whole subnet.
    pub ip_range: Vec<IpNet>,
    /// Its containers may talk to each other.
    pub icc: bool,
    /// No way in or out.
    pub internal: bool,
    /// How IPv4 crosses the host.
    pub gateway_mode_v4: GatewayMode,
    /// How IPv6 crosses the host.
    pub gateway_mode_v6: GatewayMode,
    /// What leaves the host gets the host's address.
    pub masquerade: bool,
    /// The MTU of the bridge and of the containers' interfaces.
    pub mtu: u16,
    /// The interfaces by which container addresses can be reached directly.
    pub trusted_interfaces: Vec<String>,
    /// The sources that can reach container addresses directly.
    pub trusted_sources: Vec<IpNet>,
}

/// How one family crosses the host (rows G1-G5).
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum GatewayMode {
    /// Published ports on the host's addresses; container addresses are closed.
    #[default]
    Nat,
    /// As `Nat`, and container addresses are open.
    NatUnprotected,
    /// No host ports: published ports are open on the container addresses.
    Routed,
    /// An internal network without a gateway address.
    Isolated,
}

impl GatewayMode {
    /// All of them.
    pub const ALL: [Self; 4] = [
        Self::Nat,
        Self::NatUnprotected,
        Self::Routed,
        Self::Isolated,
    ];

    /// The config's word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Nat => "nat",
            Self::NatUnprotected => "nat-unprotected",
            Self::Routed => "routed",
            Self::Isolated => "isolated",
        }
    }
}

impl Network {
    /// How a family crosses the host.
    pub const fn gateway_mode(&self, family: Family) -> GatewayMode {
        match family {
            Family::V4 => self.gateway_mode_v4,
            Family::V6 => self.gateway_mode_v6,
        }
    }

    /// Whether it has senders that reach its containers directly.
    pub const fn trusts(&self) -> bool {
        !self.trusted_interfaces.is_empty() || !self.trusted_sources.is_empty()
    }

    /// Whether default routes lead by it.
    pub const fn leads_out(&self) -> bool {
        !self.internal
    }

    /// The IPv4 subnet.
    pub fn subnet_v4(&self) -> Option<Ipv4Net> {
        self.subnets.iter().find_map(|subnet| match subnet {
            IpNet::V4(subnet) => Some(*subnet),
            IpNet::V6(_) => None,
        })
    }

    /// The IPv6 subnet.
    pub fn subnet_v6(&self) -> Option<Ipv6Net> {
        self.subnets.iter().find_map(|subnet| match subnet {
            IpNet::V6(subnet) => Some(*subnet),
            IpNet::V4(_) => None,
        })
    }

    /// The IPv4 gateway address.
    pub fn gateway_v4(&self) -> Option<Ipv4Addr> {
        self.gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V4(gateway) => Some(*gateway),
            IpAddr::V6(_) => None,
        })
    }

    /// The IPv6 gateway address.
    pub fn gateway_v6(&self) -> Option<Ipv6Addr> {
        self.gateways.iter().find_map(|gateway| match gateway {
            IpAddr::V6(gateway) => Some(*gateway),
            IpAddr::V4(_) => None,
        })
    }

    /// The gateway address of one family.
    pub fn gateway(&self, family: Family) -> Option<IpAddr> {
        let mut gateways = self.gateways.iter().copied();
        gateways.find(|gateway| Family::of(*gateway) == family)
    }
}
