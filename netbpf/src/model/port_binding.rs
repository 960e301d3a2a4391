//! A published port: which packets for the host go to a container.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Family;

/// The protocol of a published port or a service port.
#[derive(
    Clone, Copy, Debug, Default, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize,
)]
#[serde(rename_all = "lowercase")]
pub enum Proto {
    /// TCP.
    #[default]
    Tcp,
    /// UDP.
    Udp,
}

impl Proto {
    /// The protocol's number in an IP header.
    pub const fn number(self) -> u8 {
        match self {
            Self::Tcp => 6,
            Self::Udp => 17,
        }
    }

    /// `tcp` or `udp`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
        }
    }
}

impl fmt::Display for Proto {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// One published port of a container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PortBinding {
    /// The mapping's id: never 0, and never used again for another mapping.
    pub mapping: u32,
    /// The host address it answers on. `None`: every one, of each family that the container has;
    /// `0.0.0.0` or `::`: every one of that family. A given one is of a family of the container.
    pub host_ip: Option<IpAddr>,
    /// The port on the host, never 0; `None` where the container is reached without one.
    pub host_port: Option<u16>,
    /// The port of the container; never 0.
    pub container_port: u16,
    /// The protocol.
    pub proto: Proto,
    /// The sources that may use it; none: all that `deny` doesn't name.
    pub allow: Vec<IpNet>,
    /// The sources that may not.
    pub deny: Vec<IpNet>,
}

impl PortBinding {
    /// The addresses of the host on which nobody else may listen on the port of such a binding of
    /// a container that has these families. Processes of the host reach one without IPv6 on the
    /// host's IPv6 addresses, too.
    pub fn reserved(host_ip: Option<IpAddr>, has_family: impl Fn(Family) -> bool) -> Vec<IpAddr> {
        let (v4, v6) = (has_family(Family::V4), has_family(Family::V6));
        match host_ip {
            Some(address) if has_family(Family::of(address)) => vec![address],
            None if v4 => vec![Ipv4Addr::UNSPECIFIED.into(), Ipv6Addr::UNSPECIFIED.into()],
            None if v6 => vec![Ipv6Addr::UNSPECIFIED.into()],
            Some(_) | None => Vec::new(),
        }
    }
}
