//! The tuple that names a flow in one direction.

use crate::{
    family::{Family, V4, V6},
    wire::Be16,
};

/// IP protocol numbers that netbpf knows by name (IANA, "Protocol Numbers").
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// A flow in the direction of one of its packets.
///
/// `src_port` and `dst_port` are the ports of TCP and UDP; an ICMP echo has its identifier in
/// both, so that a reply's tuple is the reversed one of its request; other protocols have zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialOrd)]
pub struct Tuple<F: Family> {
    /// Source address, wire order.
    pub src_addr: F::Addr,
    /// Destination address, wire order.
    pub dst_addr: F::Addr,
    /// Source port or ICMP identifier, wire order.
    pub src_port: Be16,
    /// Destination port or ICMP identifier, wire order.
    pub dst_port: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
    /// Always zero.
    pub pad2: u16,
}

impl<F: Family> PartialEq for Tuple<F> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.src_addr == other.src_addr
            && self.dst_addr == other.dst_addr
            && self.src_port == other.src_port
            && self.dst_port == other.dst_port
            && self.proto == other.proto
    }
}

impl<F: Family> core::hash::Hash for Tuple<F> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (
            self.src_addr,
            self.dst_addr,
            self.src_port,
            self.dst_port,
            self.proto,
        )
            .hash(state);
    }
}

impl<F: Family> Tuple<F> {
    /// The tuple of a packet that goes the other way.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            src_addr: self.dst_addr,
            dst_addr: self.src_addr,
            src_port: self.dst_port,
            dst_port: self.src_port,
            proto: self.proto,
            pad: 0,
            pad2: 0,
        }
    }

    /// Whether the protocol is this family's ICMP.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.proto == F::ICMP
    }

    /// The tuple with its source replaced. The port of an ICMP echo stands in both places.
    #[inline(always)]
    pub fn with_source(mut self, addr: F::Addr, port: Be16) -> Self {
        self.src_addr = addr;
        self.src_port = port;
        if self.is_icmp() {
            self.dst_port = port;
        }
        self
    }

    /// The tuple with its destination replaced.
    #[inline(always)]
    pub fn with_destination(mut self, addr: F::Addr, port: Be16) -> Self {
        self.dst_addr = addr;
        self.dst_port = port;
        self
    }
}

const _: () = assert!(size_of::<Tuple<V4>>() == 16);
const _: () = assert!(size_of::<Tuple<V6>>() == 40);

/// Which of a flow's two halves something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The direction of the flow's first packet.
    Original,
    /// The other one.
    Reply,
}

#[cfg(test)]
mod tests {
    use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher, Hash};

    use proptest::{prelude::*, test_runner::TestCaseError};

    use super::*;
    use crate::arbitrary::{Draw, port, tuple};

    fn hash(value: impl Hash) -> u64 {
        BuildHasherDefault::<DefaultHasher>::default().hash_one(value)
    }

    fn reverses<F: Draw>(tuple: Tuple<F>) -> Result<(), TestCaseError> {
        let reversed = tuple.reversed();
        prop_assert_eq!(reversed.reversed(), tuple);
        prop_assert_eq!(reversed.src_addr, tuple.dst_addr);
        prop_assert_eq!(reversed.dst_addr, tuple.src_addr);
        prop_assert_eq!(reversed.src_port, tuple.dst_port);
        prop_assert_eq!(reversed.dst_port, tuple.src_port);
        prop_assert_eq!(reversed.proto, tuple.proto);
        Ok(())
    }

    fn takes_a_source<F: Draw>(
        tuple: Tuple<F>,
        addr: F::Addr,
        port: Be16,
    ) -> Result<(), TestCaseError> {
        let translated = tuple.with_source(addr, port);
        let dst_port = if tuple.is_icmp() {
            port
        } else {
            tuple.dst_port
        };
        let expected = Tuple {
            src_addr: addr,
            src_port: port,
            dst_port,
            ..tuple
        };
        prop_assert_eq!(translated, expected);
        Ok(())
    }

    fn takes_a_destination<F: Draw>(
        tuple: Tuple<F>,
        addr: F::Addr,
        port: Be16,
    ) -> Result<(), TestCaseError> {
        let expected = Tuple {
            dst_addr: addr,
            dst_port: port,
            ..tuple
        };
        prop_assert_eq!(tuple.with_destination(addr, port), expected);
        Ok(())
    }

    /// A map of the kernel compares the bytes of a key: `Eq`, `Hash` and they must agree.
    fn is_named_by_its_bytes<F: Draw>(a: Tuple<F>, b: Tuple<F>) -> Result<(), TestCaseError>
    where
        Tuple<F>: bytemuck::Pod + Ord,
    {
        let same_bytes = bytemuck::bytes_of(&a) == bytemuck::bytes_of(&b);
        prop_assert_eq!(a == b, same_bytes);
        prop_assert_eq!(a.cmp(&b).is_eq(), same_bytes);
        prop_assert!(a != b || hash(a) == hash(b));
        Ok(())
    }

    /// The tuple with one bit of its meaning flipped.
    fn flipped<F: Draw>(tuple: Tuple<F>, bit: usize) -> Tuple<F>
    where
        Tuple<F>: bytemuck::Pod,
    {
        let mut other = tuple;
        let bytes = bytemuck::bytes_of_mut(&mut other);
        let meaning = (bytes.len() - 3) * 8;
        bytes[bit % meaning / 8] ^= 1 << (bit % 8);
        other
    }

    proptest! {
        #[test]
        fn reversing_twice_gives_the_tuple_itself(a in tuple::<V4>(), b in tuple::<V6>()) {
            reverses(a)?;
            reverses(b)?;
        }

        #[test]
        fn a_new_source_changes_the_identifier_of_an_echo_in_both_places(
            a in tuple::<V4>(), b in tuple::<V6>(),
            v4 in V4::addr(), v6 in V6::addr(), port in port(),
        ) {
            takes_a_source(a, v4, port)?;
            takes_a_source(b, v6, port)?;
        }

        #[test]
        fn a_new_destination_changes_nothing_else(
            a in tuple::<V4>(), b in tuple::<V6>(),
            v4 in V4::addr(), v6 in V6::addr(), port in port(),
        ) {
            takes_a_destination(a, v4, port)?;
            takes_a_destination(b, v6, port)?;
        }

        #[test]
        fn equality_order_and_hash_are_those_of_the_bytes(
            a in tuple::<V4>(), b in tuple::<V6>(), bit: usize,
        ) {
            is_named_by_its_bytes(a, a)?;
            is_named_by_its_bytes(b, b)?;
            is_named_by_its_bytes(a, flipped(a, bit))?;
            is_named_by_its_bytes(b, flipped(b, bit))?;
        }
    }

    #[test]
    fn only_the_own_familys_icmp_is_icmp() {
        let with = |proto| {
            (
                tuple_of::<V4>(proto).is_icmp(),
                tuple_of::<V6>(proto).is_icmp(),
            )
        };
        assert_eq!(with(proto::ICMP), (true, false));
        assert_eq!(with(proto::ICMPV6), (false, true));
        assert_eq!(with(proto::TCP), (false, false));
        assert_eq!(with(proto::UDP), (false, false));
    }

    fn tuple_of<F: Family>(proto: u8) -> Tuple<F> {
        Tuple {
            proto,
            ..Tuple::default()
        }
    }
}
