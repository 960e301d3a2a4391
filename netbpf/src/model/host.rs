//! What belongs to the host itself: its ways out, where automatic choices come from, and the flow
//! table.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};

/// The host's own settings.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Host {
    /// The interfaces to the outside, by name; `None`: every one that qualifies.
    pub uplinks: Option<Vec<String>>,
    /// The first and the last port that publishing without a host port picks from.
    pub ephemeral_ports: (u16, u16),
    /// Where automatic subnets come from.
    pub address_pools: Vec<AddressPool>,
}

impl Default for Host {
    fn default() -> Self {
        Self {
            uplinks: None,
            ephemeral_ports: (49000, 49900),
            address_pools: AddressPool::defaults(),
        }
    }
}

/// A range that automatic subnets come from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AddressPool {
    /// The range.
    pub base: IpNet,
    /// The prefix length of each subnet: at least that of the range.
    pub size: u8,
}

impl AddressPool {
    /// The pools when the document names none: 172.16.0.0/12 in blocks of 16 bits, and
    /// fd00:6e62::/48 in blocks of 64.
    pub fn defaults() -> Vec<Self> {
        let v4 = Ipv4Net::new_assert(Ipv4Addr::new(172, 16, 0, 0), 12);
        let v6 = Ipv6Net::new_assert(Ipv6Addr::new(0xfd00, 0x6e62, 0, 0, 0, 0, 0, 0), 48);
        let pool = |base, size| Self { base, size };
        vec![pool(v4.into(), 16), pool(v6.into(), 64)]
    }
}

/// The flow table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// How many flows of each family it holds.
    pub max_entries: u32,
    /// How long idle flows live.
    pub timeouts: Timeouts,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_entries: 262_144,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long idle flows live; each at least a millisecond and at most a year.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP after its handshake.
    pub established: Duration,
    /// TCP in its handshake.
    pub half_open: Duration,
    /// TCP after a FIN or RST.
    pub closing: Duration,
    /// UDP that is unanswered or was a single exchange.
    pub udp: Duration,
    /// UDP that goes on.
    pub udp_stream: Duration,
    /// ICMP echo.
    pub icmp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(24 * 60 * 60),
            half_open: Duration::from_secs(60),
            closing: Duration::from_secs(120),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(180),
            icmp: Duration::from_secs(30),
        }
    }
}
