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
    range: IpNet,
    taken: BTreeSet<IpAddr>,
    cursor: Option<IpAddr>,
}

impl Pool {
    /// A pool of which nothing is taken yet.
    pub fn new(subnet: IpNet) -> Self {
        Self::within(subnet, subnet)
    }

    /// A pool that hands out what lies in `range`, a part of the subnet.
    pub fn within(subnet: IpNet, range: IpNet) -> Self {
        Self {
            subnet,
            range,
            taken: BTreeSet::new(),
            cursor: Some(range.network()),
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

    /// Where it hands out addresses.
    pub const fn range(&self) -> IpNet {
        self.range
    }

    /// Takes the lowest address of the range that is free; `None` when there is none left.
    pub fn next_free(&mut self) -> Option<IpAddr> {
        while let Some(candidate) = self.cursor {
            self.cursor = successor(candidate).filter(|next| self.range.contains(next));
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

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn subnet() -> impl Strategy<Value = IpNet> {
        let v4 = (any::<u32>(), 8..=31_u8).prop_map(|(bits, length)| {
            IpNet::new_assert(IpAddr::V4(Ipv4Addr::from_bits(bits)), length).trunc()
        });
        let v6 = (any::<u128>(), 16..=127_u8).prop_map(|(bits, length)| {
            IpNet::new_assert(IpAddr::V6(Ipv6Addr::from_bits(bits)), length).trunc()
        });
        prop_oneof![v4, v6]
    }

    /// The address at an offset of a subnet.
    fn nth(subnet: IpNet, offset: u8) -> IpAddr {
        (0..offset).fold(subnet.network(), |address, _| {
            successor(address).unwrap_or(address)
        })
    }

    proptest! {
        #[test]
        fn next_free_is_usable_and_never_taken(
            subnet in subnet(),
            taken in prop::collection::btree_set(0..40_u8, 0..30),
        ) {
            let taken: BTreeSet<IpAddr> = taken.iter().map(|offset| nth(subnet, *offset)).collect();
            let mut pool = Pool::new(subnet);
            for address in &taken {
                prop_assert!(pool.take(*address));
            }
            let mut handed_out = BTreeSet::new();
            for _ in 0..40 {
                let Some(address) = pool.next_free() else { break };
                prop_assert!(is_usable(subnet, address), "{address} of {subnet}");
                prop_assert!(!taken.contains(&address));
                prop_assert!(handed_out.insert(address));
            }
        }

        #[test]
        fn first_address_is_usable(subnet in subnet()) {
            prop_assert!(is_usable(subnet, first_address(subnet)));
        }

        #[test]
        fn small_subnet_is_used_up_to_the_last_address(bits in any::<u32>(), length in 24..=31_u8) {
            let subnet = IpNet::new_assert(IpAddr::V4(Ipv4Addr::from_bits(bits)), length).trunc();
            let mut pool = Pool::new(subnet);
            let count = std::iter::from_fn(|| pool.next_free()).count();
            let reserved = if length == 31 { 0 } else { 2 };
            prop_assert_eq!(count, (1_usize << (32 - length)) - reserved);
        }
    }

    #[test]
    fn range_is_used_up_and_nothing_beside_it() {
        let net = |text: &str| text.parse::<IpNet>().unwrap();
        let all = |range| {
            let mut pool = Pool::within(net("10.0.0.0/24"), net(range));
            std::iter::from_fn(move || pool.next_free()).map(|address| address.to_string())
        };
        let free: Vec<String> = all("10.0.0.128/30").collect();
        assert_eq!(
            free,
            ["10.0.0.128", "10.0.0.129", "10.0.0.130", "10.0.0.131"]
        );
        let free: Vec<String> = all("10.0.0.0/30").collect();
        assert_eq!(free, ["10.0.0.1", "10.0.0.2", "10.0.0.3"]);
        let free: Vec<String> = all("10.0.0.255/32").collect();
        assert_eq!(free, [""; 0]);
    }

    #[test]
    fn last_subnet_of_the_address_space_ends() {
        let mut pool = Pool::new("255.255.255.252/30".parse().unwrap());
        assert_eq!(pool.next_free(), Some("255.255.255.253".parse().unwrap()));
        assert_eq!(pool.next_free(), Some("255.255.255.254".parse().unwrap()));
        assert_eq!(pool.next_free(), None);
        assert_eq!(pool.next_free(), None);
    }
}
