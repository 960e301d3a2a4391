//! Integers and addresses exactly as the wire has them.
//!
//! Nothing here converts by itself: [`Be16::get`] and the `From` impls are the only ways between
//! wire order and host order.

use core::net::{Ipv4Addr as StdIpv4Addr, Ipv6Addr as StdIpv6Addr};

use bytemuck::{Pod, Zeroable};

/// A 16-bit integer in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Be16(pub u16);

impl Be16 {
    /// Wraps a host-order value.
    #[inline(always)]
    pub const fn new(host: u16) -> Self {
        Self(host.to_be())
    }

    /// Wraps the two bytes as the wire has them.
    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 2]) -> Self {
        Self(u16::from_ne_bytes(bytes))
    }

    /// The value in host order.
    #[inline(always)]
    pub const fn get(self) -> u16 {
        u16::from_be(self.0)
    }

    /// The two bytes as the wire has them.
    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 2] {
        self.0.to_ne_bytes()
    }
}

/// An IPv4 address in network byte order.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Ipv4(pub u32);

/// An IPv6 address in network byte order, as four words.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialOrd, Pod, Zeroable)]
pub struct Ipv6(pub [u32; 4]);

impl Ipv4 {
    /// `0.0.0.0`.
    pub const UNSPECIFIED: Self = Self(0);

    /// Wraps the four bytes as the wire has them.
    #[inline(always)]
    pub const fn from_wire(bytes: [u8; 4]) -> Self {
        Self(u32::from_ne_bytes(bytes))
    }

    /// The four bytes as the wire has them.
    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 4] {
        self.0.to_ne_bytes()
    }
}

impl Ipv6 {
    /// `::`.
    pub const UNSPECIFIED: Self = Self([0; 4]);

    /// Wraps the sixteen bytes as the wire has them.
    #[inline(always)]
    pub const fn from_wire(b: [u8; 16]) -> Self {
        Self([
            u32::from_ne_bytes([b[0], b[1], b[2], b[3]]),
            u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
            u32::from_ne_bytes([b[8], b[9], b[10], b[11]]),
            u32::from_ne_bytes([b[12], b[13], b[14], b[15]]),
        ])
    }

    /// The sixteen bytes as the wire has them.
    #[inline(always)]
    pub fn to_wire(self) -> [u8; 16] {
        bytemuck::cast(self.0)
    }
}

impl From<StdIpv4Addr> for Ipv4 {
    fn from(addr: StdIpv4Addr) -> Self {
        Self::from_wire(addr.octets())
    }
}

impl From<Ipv4> for StdIpv4Addr {
    fn from(addr: Ipv4) -> Self {
        Self::from(addr.to_wire())
    }
}

impl From<StdIpv6Addr> for Ipv6 {
    fn from(addr: StdIpv6Addr) -> Self {
        Self::from_wire(addr.octets())
    }
}

impl From<Ipv6> for StdIpv6Addr {
    fn from(addr: Ipv6) -> Self {
        Self::from(addr.to_wire())
    }
}

/// A MAC address, as three words in wire order: frames are aligned to no more than that.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialOrd, Pod, Zeroable)]
pub struct Mac(pub [u16; 3]);

impl Mac {
    /// Wraps the six bytes as the wire has them.
    #[inline(always)]
    pub const fn from_wire(b: [u8; 6]) -> Self {
        Self([
            u16::from_ne_bytes([b[0], b[1]]),
            u16::from_ne_bytes([b[2], b[3]]),
            u16::from_ne_bytes([b[4], b[5]]),
        ])
    }

    /// The six bytes as the wire has them.
    #[inline(always)]
    pub const fn to_wire(self) -> [u8; 6] {
        let [a, b, c] = self.0;
        let ([a, b], [c, d], [e, f]) = (a.to_ne_bytes(), b.to_ne_bytes(), c.to_ne_bytes());
        [a, b, c, d, e, f]
    }

    /// Whether it is a group (multicast or broadcast) address: IEEE 802.3, the I/G bit.
    #[inline(always)]
    pub const fn is_group(self) -> bool {
        self.0[0].to_ne_bytes()[0] & 1 != 0
    }
}

// Comparisons of arrays become calls of `bcmp` on BPF, a loop over bytes; these are a few words.

impl PartialEq for Mac {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c], [d, e, f]) = (self.0, other.0);
        a == d && b == e && c == f
    }
}

impl core::hash::Hash for Mac {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

impl PartialEq for Ipv6 {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        let ([a, b, c, d], [e, f, g, h]) = (self.0, other.0);
        a == e && b == f && c == g && d == h
    }
}

impl core::hash::Hash for Ipv6 {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        self.0.hash(state);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn integers_keep_their_value_and_their_bytes(host: u16) {
            let port = Be16::new(host);
            prop_assert_eq!(port.get(), host);
            prop_assert_eq!(port.to_wire(), host.to_be_bytes());
            prop_assert_eq!(Be16::from_wire(port.to_wire()), port);
        }

        #[test]
        fn ipv4_addresses_survive_the_way_to_std_and_back(bytes: [u8; 4]) {
            let addr = Ipv4::from_wire(bytes);
            prop_assert_eq!(addr.to_wire(), bytes);
            prop_assert_eq!(StdIpv4Addr::from(addr).octets(), bytes);
            prop_assert_eq!(Ipv4::from(StdIpv4Addr::from(addr)), addr);
        }

        #[test]
        fn ipv6_addresses_survive_the_way_to_std_and_back(bytes: [u8; 16]) {
            let addr = Ipv6::from_wire(bytes);
            prop_assert_eq!(addr.to_wire(), bytes);
            prop_assert_eq!(StdIpv6Addr::from(addr).octets(), bytes);
            prop_assert_eq!(Ipv6::from(StdIpv6Addr::from(addr)), addr);
        }

        #[test]
        fn ipv6_addresses_are_equal_when_their_bytes_are(a: [u8; 16], flipped in 0..128_usize) {
            let mut b = a;
            b[flipped / 8] ^= 1 << (flipped % 8);
            prop_assert_eq!(Ipv6::from_wire(a), Ipv6::from_wire(a));
            prop_assert_ne!(Ipv6::from_wire(a), Ipv6::from_wire(b));
        }

        #[test]
        fn macs_keep_their_bytes_and_differ_by_any_bit(a: [u8; 6], flipped in 0..48_usize) {
            let mut b = a;
            b[flipped / 8] ^= 1 << (flipped % 8);
            prop_assert_eq!(Mac::from_wire(a).to_wire(), a);
            prop_assert_eq!(Mac::from_wire(a), Mac::from_wire(a));
            prop_assert_ne!(Mac::from_wire(a), Mac::from_wire(b));
        }

        #[test]
        fn a_mac_is_a_groups_by_the_lowest_bit_of_its_first_byte(bytes: [u8; 6]) {
            prop_assert_eq!(Mac::from_wire(bytes).is_group(), bytes[0] % 2 == 1);
        }
    }

    #[test]
    fn wrapped_values_lie_in_memory_as_on_the_wire() {
        assert_eq!(bytemuck::bytes_of(&Be16::new(0x1234)), [0x12, 0x34]);
        let v4 = Ipv4::from(StdIpv4Addr::new(198, 51, 100, 7));
        assert_eq!(bytemuck::bytes_of(&v4), [198, 51, 100, 7]);
        let v6 = Ipv6::from(StdIpv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1));
        assert_eq!(
            bytemuck::bytes_of(&v6),
            [0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]
        );
        let mac = Mac::from_wire([2, 0x42, 0xac, 0x1c, 0, 0x0a]);
        assert_eq!(bytemuck::bytes_of(&mac), [2, 0x42, 0xac, 0x1c, 0, 0x0a]);
    }

    #[test]
    fn unspecified_addresses_are_std_s() {
        assert_eq!(
            Ipv4::UNSPECIFIED,
            Ipv4::from(core::net::Ipv4Addr::UNSPECIFIED)
        );
        assert_eq!(
            Ipv6::UNSPECIFIED,
            Ipv6::from(core::net::Ipv6Addr::UNSPECIFIED)
        );
    }

    #[test]
    fn broadcast_is_a_group_and_a_containers_mac_is_not() {
        assert!(Mac::from_wire([0xff; 6]).is_group());
        assert!(Mac::from_wire([0x33, 0x33, 0, 0, 0, 1]).is_group());
        assert!(!Mac::from_wire([2, 0x42, 0xac, 0x1c, 0, 0x0a]).is_group());
    }
}
