//! The address families. Everything above the wire is written once, over [`Family`].

use core::{fmt::Debug, hash::Hash};

use crate::{
    endpoint::{Interface, Network},
    wire::{Ipv4, Ipv6},
};

/// What differs between IPv4 and IPv6 above the wire.
pub trait Family: Copy + Debug + Default + Eq + Hash + 'static {
    /// An address of this family, in wire order.
    type Addr: Copy + Debug + Default + Eq + Hash + Ord + 'static;

    /// The EtherType in host order.
    const ETHER_TYPE: u16;
    /// The kernel's `AF_*` number.
    const AF: u8;
    /// The length of an address in bits.
    const ADDR_BITS: u32;
    /// The protocol number of this family's ICMP.
    const ICMP: u8;
    /// The ICMP type of an echo request.
    const ECHO_REQUEST: u8;
    /// The ICMP type of an echo reply.
    const ECHO_REPLY: u8;

    /// The address as 32-bit words in wire order, for checksum sums; unused words are zero.
    fn words(addr: &Self::Addr) -> [u32; 4];
    /// Broadcast or multicast: what a bridge floods and nobody answers from.
    fn is_multicast(addr: &Self::Addr) -> bool;
    /// `127.0.0.0/8` or `::1`.
    fn is_loopback(addr: &Self::Addr) -> bool;
    /// `169.254.0.0/16` or `fe80::/10`: valid on one link only.
    fn is_link_local(addr: &Self::Addr) -> bool;
    /// `0.0.0.0` or `::`.
    fn is_unspecified(addr: &Self::Addr) -> bool;
    /// The interface's own address; unspecified: none.
    fn interface_address(interface: &Interface) -> Self::Addr;
    /// The network's gateway address; unspecified: none.
    fn gateway(network: &Network) -> Self::Addr;
}

/// IPv4.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct V4;

/// IPv6.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct V6;

impl Family for V4 {
    type Addr = Ipv4;

    const ETHER_TYPE: u16 = 0x0800;
    const AF: u8 = 2;
    const ADDR_BITS: u32 = 32;
    const ICMP: u8 = 1;
    const ECHO_REQUEST: u8 = 8;
    const ECHO_REPLY: u8 = 0;

    #[inline(always)]
    fn words(addr: &Ipv4) -> [u32; 4] {
        [addr.0, 0, 0, 0]
    }

    #[inline(always)]
    fn is_multicast(addr: &Ipv4) -> bool {
        addr.to_wire()[0] & 0xf0 == 0xe0 || addr.0 == u32::MAX
    }

    #[inline(always)]
    fn is_loopback(addr: &Ipv4) -> bool {
        addr.to_wire()[0] == 127
    }

    #[inline(always)]
    fn is_link_local(addr: &Ipv4) -> bool {
        let [a, b, _, _] = addr.to_wire();
        a == 169 && b == 254
    }

    #[inline(always)]
    fn is_unspecified(addr: &Ipv4) -> bool {
        addr.0 == 0
    }

    #[inline(always)]
    fn interface_address(interface: &Interface) -> Ipv4 {
        interface.address_v4
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Ipv4 {
        network.gateway_v4
    }
}

impl Family for V6 {
    type Addr = Ipv6;

    const ETHER_TYPE: u16 = 0x86dd;
    const AF: u8 = 10;
    const ADDR_BITS: u32 = 128;
    const ICMP: u8 = 58;
    const ECHO_REQUEST: u8 = 128;
    const ECHO_REPLY: u8 = 129;

    #[inline(always)]
    fn words(addr: &Ipv6) -> [u32; 4] {
        addr.0
    }

    #[inline(always)]
    fn is_multicast(addr: &Ipv6) -> bool {
        addr.0[0].to_ne_bytes()[0] == 0xff
    }

    #[inline(always)]
    fn is_loopback(addr: &Ipv6) -> bool {
        *addr == Ipv6([0, 0, 0, 1_u32.to_be()])
    }

    #[inline(always)]
    fn is_link_local(addr: &Ipv6) -> bool {
        let [a, b, _, _] = addr.0[0].to_ne_bytes();
        a == 0xfe && b & 0xc0 == 0x80
    }

    #[inline(always)]
    fn is_unspecified(addr: &Ipv6) -> bool {
        *addr == Ipv6::UNSPECIFIED
    }

    #[inline(always)]
    fn interface_address(interface: &Interface) -> Ipv6 {
        interface.address_v6
    }

    #[inline(always)]
    fn gateway(network: &Network) -> Ipv6 {
        network.gateway_v6
    }
}
