//! Who there is in the bed's world: four networks, seven containers, ports and services.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netbpf_common::endpoint::network_flags;

use crate::{
    packet::{Frame, Mac},
    topology::Family,
};

/// The networks of the bed's world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Net {
    /// An ordinary one.
    Front = 1,
    /// One with `icc = false`.
    Quiet = 2,
    /// An internal one.
    Vault = 3,
    /// One with `masquerade = false`.
    Open = 4,
}

impl Net {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Front, Self::Quiet, Self::Vault, Self::Open];

    pub(super) const fn id(self) -> u32 {
        self as u32
    }

    pub(super) const fn flags(self) -> u32 {
        const MASQUERADE: u32 = network_flags::MASQUERADE_V4 | network_flags::MASQUERADE_V6;
        match self {
            Self::Front => network_flags::ICC | MASQUERADE,
            Self::Quiet => MASQUERADE,
            Self::Vault => network_flags::ICC | network_flags::INTERNAL | MASQUERADE,
            Self::Open => network_flags::ICC,
        }
    }

    pub(super) const fn v4(self, host: u8) -> Ipv4Addr {
        Ipv4Addr::new(172, 27 + self as u8, 0, host)
    }

    pub(super) const fn v6(self, host: u8) -> Ipv6Addr {
        Ipv6Addr::new(0xfd00, 0x27 + self as u16, 0, 0, 0, 0, 0, host as u16)
    }

    /// An address of its subnet.
    pub const fn addr(self, family: Family, host: u8) -> IpAddr {
        match family {
            Family::V4 => IpAddr::V4(self.v4(host)),
            Family::V6 => IpAddr::V6(self.v6(host)),
        }
    }

    /// Its gateway address.
    pub const fn gateway(self, family: Family) -> IpAddr {
        self.addr(family, 1)
    }

    /// Its bridge's MAC.
    pub const fn bridge_mac(self) -> Mac {
        [0x02, 0xbb, 0, 0, 0, self as u8]
    }
}

/// A container of the bed's world.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Resident {
    /// Its network.
    pub net: Net,
    /// The last part of its addresses.
    pub host: u8,
}

/// Containers of the bed's world.
pub mod residents {
    use super::{Net, Resident};

    /// In the ordinary network; its ports are published.
    pub const WEB: Resident = Resident {
        net: Net::Front,
        host: 10,
    };
    /// In the ordinary network.
    pub const DB: Resident = Resident {
        net: Net::Front,
        host: 11,
    };
    /// In the network without talk; a port is published.
    pub const MONK: Resident = Resident {
        net: Net::Quiet,
        host: 10,
    };
    /// In the network without talk.
    pub const NUN: Resident = Resident {
        net: Net::Quiet,
        host: 11,
    };
    /// In the internal network.
    pub const GOLD: Resident = Resident {
        net: Net::Vault,
        host: 10,
    };
    /// In the internal network.
    pub const SILVER: Resident = Resident {
        net: Net::Vault,
        host: 11,
    };
    /// In the network that is not masqueraded.
    pub const TENT: Resident = Resident {
        net: Net::Open,
        host: 10,
    };

    /// All of them.
    pub const ALL: [Resident; 7] = [WEB, DB, MONK, NUN, GOLD, SILVER, TENT];
}

impl Resident {
    /// Its endpoint id.
    pub const fn endpoint(self) -> u32 {
        self.net as u32 * 100 + self.host as u32
    }

    /// Its address.
    pub const fn addr(self, family: Family) -> IpAddr {
        self.net.addr(family, self.host)
    }

    /// Its address and a port.
    pub const fn at(self, family: Family, port: u16) -> SocketAddr {
        SocketAddr::new(self.addr(family), port)
    }

    /// Its MAC.
    pub const fn mac(self) -> Mac {
        [0x02, 0xcc, 0, 0, self.net as u8, self.host]
    }

    pub(super) fn veth(self) -> String {
        format!("v{}", self.endpoint())
    }

    /// A frame of this container to the router that its bridge is.
    pub fn routes(self, frame: Frame) -> Frame {
        frame.macs(self.mac(), self.net.bridge_mac())
    }

    /// A frame of this container to another one on the same bridge.
    pub fn bridges(self, to: Self, frame: Frame) -> Frame {
        frame.macs(self.mac(), to.mac())
    }
}

/// The uplink's MAC.
pub const UPLINK_MAC: Mac = [0x02, 0xaa, 0, 0, 0, 1];
/// The MAC of the client behind the uplink.
pub const CLIENT_MAC: Mac = [0x02, 0xaa, 0, 0, 0, 2];

/// `8080/tcp` on every host address leads to port 80 of [`residents::WEB`].
pub const WEB_PORT: (u16, u16) = (8080, 80);
/// `5353/udp` on every host address leads to port 53 of [`residents::WEB`].
pub const DNS_PORT: (u16, u16) = (5353, 53);
/// `8081/tcp` on every host address leads to port 80 of [`residents::MONK`].
pub const MONK_PORT: (u16, u16) = (8081, 80);
/// `9090/tcp` and `/udp` of the ordinary network's VIP lead to its two containers.
pub const SERVICE_PORT: u16 = 9090;
/// The port of the backends.
pub const BACKEND_PORT: u16 = 90;
/// A service port of the ordinary network's VIP that leads to [`residents::WEB`] alone.
pub const LONELY_PORT: u16 = 9091;
/// A service port without backends.
pub const EMPTY_PORT: u16 = 9092;
/// A published port whose container is gone.
pub const GONE_PORT: u16 = 8099;

pub(super) const WEB_MAPPING: u32 = 1;
pub(super) const DNS_MAPPING: u32 = 2;
pub(super) const MONK_MAPPING: u32 = 3;
pub(super) const SERVICE_MAPPING: u32 = 4;
pub(super) const LONELY_MAPPING: u32 = 5;
pub(super) const EMPTY_MAPPING: u32 = 6;
pub(super) const GONE_MAPPING: u32 = 7;

/// The VIP of the ordinary network.
pub const fn vip(family: Family) -> IpAddr {
    Net::Front.addr(family, 100)
}
