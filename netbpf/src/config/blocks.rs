//! Which subnet an automatic network gets: the first block of the pools that nobody has. Pure: it
//! knows what is taken because it was told.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;

use super::values;
use crate::model::{AddressPool, Family};

/// The blocks of the pools.
#[derive(Debug)]
pub(super) struct Blocks<'p> {
    pools: &'p [AddressPool],
    taken: Vec<IpNet>,
}

impl<'p> Blocks<'p> {
    /// The blocks of `pools` that overlap none of `taken`.
    pub fn new(pools: &'p [AddressPool], taken: &[IpNet]) -> Self {
        Self {
            pools,
            taken: taken.to_vec(),
        }
    }

    /// Whether any pool has that family.
    pub fn has(&self, family: Family) -> bool {
        self.of(family).next().is_some()
    }

    /// Marks a subnet as taken.
    pub fn take(&mut self, subnet: IpNet) {
        self.taken.push(subnet);
    }

    /// Takes the first block of a family that is free; `None` when there is none left.
    pub fn next_free(&mut self, family: Family) -> Option<IpNet> {
        let block = self.of(family).find_map(|pool| self.first_of(*pool))?;
        self.take(block);
        Some(block)
    }

    fn of(&self, family: Family) -> impl Iterator<Item = &'p AddressPool> {
        let pools = self.pools.iter();
        pools.filter(move |pool| Family::of_net(pool.base) == family)
    }

    /// The first free block of a pool. What is in the way is passed in one stride, so that it costs
    /// as many strides as there are subnets in the way, however many blocks the pool has.
    fn first_of(&self, pool: AddressPool) -> Option<IpNet> {
        let mut candidate = IpNet::new(pool.base.network(), pool.size).ok()?;
        loop {
            let mut taken = self.taken.iter();
            let Some(other) = taken.find(|other| values::overlap(**other, candidate)) else {
                return Some(candidate);
            };
            let passed = if other.prefix_len() < candidate.prefix_len() {
                *other
            } else {
                candidate
            };
            let next = after(passed).filter(|next| pool.base.contains(next))?;
            candidate = IpNet::new(next, pool.size).ok()?;
        }
    }
}

/// The address after the last one of a subnet.
fn after(subnet: IpNet) -> Option<IpAddr> {
    match subnet.broadcast() {
        IpAddr::V4(last) => last
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv4Addr::from_bits(bits).into()),
        IpAddr::V6(last) => last
            .to_bits()
            .checked_add(1)
            .map(|bits| Ipv6Addr::from_bits(bits).into()),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn net(text: &str) -> IpNet {
        text.parse().unwrap()
    }

    fn all_of(base: &str, size: u8, taken: &[IpNet]) -> Vec<IpNet> {
        let base = net(base);
        let pools = [AddressPool { base, size }];
        let mut blocks = Blocks::new(&pools, taken);
        std::iter::from_fn(|| blocks.next_free(Family::of_net(base))).collect()
    }

    #[test]
    fn pool_is_used_up_block_by_block_around_what_is_taken() {
        let taken = [net("10.0.1.5/32"), net("10.0.4.0/23"), net("fd00::/64")];
        let free = all_of("10.0.0.0/21", 24, &taken);
        let expected = [
            "10.0.0.0/24",
            "10.0.2.0/24",
            "10.0.3.0/24",
            "10.0.6.0/24",
            "10.0.7.0/24",
        ];
        assert_eq!(free, expected.map(net));
        assert_eq!(all_of("10.0.0.0/21", 24, &[net("10.0.0.0/8")]), []);
        assert_eq!(all_of("255.255.255.0/24", 25, &[]).len(), 2);
    }

    #[test]
    fn large_pool_with_much_taken_is_quick() {
        let taken: Vec<IpNet> = (0..200)
            .map(|number| {
                IpNet::new(
                    Ipv6Addr::from_bits((0xfd00_u128 << 112) | number << 64).into(),
                    64,
                )
            })
            .collect::<Result<_, _>>()
            .unwrap();
        let pools = [AddressPool {
            base: net("fd00::/8"),
            size: 64,
        }];
        let free = Blocks::new(&pools, &taken).next_free(Family::V6);
        assert_eq!(free, Some(net("fd00:0:0:c8::/64")));
    }

    proptest! {
        #[test]
        fn free_block_overlaps_nothing_and_no_earlier_one_is_free(
            taken in prop::collection::vec((any::<u16>(), 17..=32_u8), 0..12),
        ) {
            let taken: Vec<IpNet> = taken
                .into_iter()
                .map(|(bits, length)| {
                    let addr = Ipv4Addr::from_bits(0x0a00_0000 | u32::from(bits));
                    IpNet::new_assert(addr.into(), length).trunc()
                })
                .collect();
            let free = all_of("10.0.0.0/16", 20, &taken);
            let expected: Vec<IpNet> = net("10.0.0.0/16")
                .subnets(20)
                .unwrap()
                .filter(|block| !taken.iter().any(|it| values::overlap(*it, *block)))
                .collect();
            prop_assert_eq!(free, expected);
        }
    }
}
