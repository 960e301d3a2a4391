//! Which address of a subnet comes next. Pure: it knows what is taken because it was told.

use std::{
    collections::BTreeSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
};

use ipnet::IpNet;

/// The addresses of one subnet that containers, gateways and virtual IPs can have.
#[derive(Clone, Debug)]
pub struct Pool {
    subnet: IpNet,
    taken: BTreeSet<IpAddr>,
    cursor: Option<IpAddr>,
}

impl Pool {
    /// A pool of which nothing is taken yet.
    pub fn new(subnet: IpNet) -> Self {
        Self {
            subnet,
            taken: BTreeSet::new(),
            cursor: Some(first_address(subnet)),
        }
    }

    /// The subnet.
    pub const fn subnet(&self) -> IpNet {
        self.subnet
    }

    /// Marks an address as taken; `false` when it was already.
    pub fn take(&mut self, address: IpAddr) -> bool {
        self.taken.insert(address)
    }

    /// Takes the lowest address that is free; `None` when there is none left.
    pub fn next_free(&mut self) -> Option<IpAddr> {
        while let Some(candidate) = self.cursor {
            self.cursor = successor(candidate).filter(|next| is_usable(self.subnet, *next));
            if is_usable(self.subnet, candidate) && self.taken.insert(candidate) {
                return Some(candidate);
            }
        }
        None
    }
}

/// The first address that an interface can have: the default gateway.
pub fn first_address(subnet: IpNet) -> IpAddr {
    let network = subnet.network();
    if has_reserved_ends(subnet) {
        successor(network).unwrap_or(network)
    } else {
        network
    }
}

/// Whether an interface can have this address in this subnet: it lies inside and is neither the
/// network's own nor the broadcast address.
pub fn is_usable(subnet: IpNet, address: IpAddr) -> bool {
    subnet.contains(&address) && !is_network(subnet, address) && !is_broadcast(subnet, address)
}

/// Whether this is the network's own address; in IPv6 the subnet-router anycast address
/// (RFC 4291, 2.6.1).
pub fn is_network(subnet: IpNet, address: IpAddr) -> bool {
    has_reserved_ends(subnet) && address == subnet.network()
}

/// Whether this is the subnet's broadcast address. IPv6 has none.
pub fn is_broadcast(subnet: IpNet, address: IpAddr) -> bool {
    address.is_ipv4() && has_reserved_ends(subnet) && address == subnet.broadcast()
}

/// A point-to-point subnet, /31 or /127, has neither network nor broadcast address (RFC 3021,
/// RFC 6164).
fn has_reserved_ends(subnet: IpNet) -> bool {
    subnet.max_prefix_len() - subnet.prefix_len() > 1
}

/// The address after this one.
fn successor(address: IpAddr) -> Option<IpAddr> {
    match address {
        IpAddr::V4(v4) => v4
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V4(Ipv4Addr::from_bits(bits))),
        IpAddr::V6(v6) => v6
            .to_bits()
            .checked_add(1)
            .map(|bits| IpAddr::V6(Ipv6Addr::from_bits(bits))),
    }
}
