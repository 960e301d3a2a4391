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
