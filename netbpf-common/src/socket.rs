//! What a process of the host asked for, and where its socket was led.
//!
//! Written by the hooks at the socket, read by whoever meets the socket's packets later. Sockets of
//! IPv6 speak IPv4 as well, so that both families have one form here.

use bytemuck::{Pod, Zeroable};

use crate::wire::{Be16, Ipv4, Ipv6};

/// The words before the address of an IPv4-mapped one (RFC 4291, 2.5.5.2), wire order.
const MAPPED: [u32; 3] = [0, 0, 0xffff_u32.to_be()];

/// One side of a conversation. An IPv4 address is in its IPv4-mapped form.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct Peer {
    /// The address.
    pub addr: Ipv6,
    /// The port, wire order.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
}

impl Peer {
    /// An IPv6 address and a port.
    #[inline(always)]
    pub const fn v6(addr: Ipv6, port: Be16) -> Self {
        Self { addr, port, pad: 0 }
    }

    /// An IPv4 address and a port.
    #[inline(always)]
    pub const fn v4(addr: Ipv4, port: Be16) -> Self {
        Self::v6(mapped(addr), port)
    }

    /// Its IPv4 address, if it has one.
    #[inline(always)]
    pub const fn as_v4(&self) -> Option<Ipv4> {
        unmapped(self.addr)
    }
}

/// An IPv4 address in its IPv4-mapped form.
#[inline(always)]
pub const fn mapped(addr: Ipv4) -> Ipv6 {
    let [a, b, c] = MAPPED;
    Ipv6([a, b, c, addr.0])
}

/// The IPv4 address in an IPv4-mapped one.
#[inline(always)]
pub const fn unmapped(addr: Ipv6) -> Option<Ipv4> {
    let [a, b, c, d] = addr.0;
    if a == MAPPED[0] && b == MAPPED[1] && c == MAPPED[2] {
        Some(Ipv4(d))
    } else {
        None
    }
}

/// What a socket asked for and where that led.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Asked {
    /// What the process asked for.
    pub asked: Peer,
    /// The container's address and port.
    pub led_to: Peer,
    /// The mapping that led there. Never zero.
    pub mapping: u32,
    /// The container end's id.
    pub endpoint: u32,
}

/// Finds what a socket that talks to many asked for.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct SocketKey {
    /// The kernel's name for the socket. Never used again for another one.
    pub cookie: u64,
    /// The container's address and port.
    pub led_to: Peer,
    /// Always zero.
    pub pad: u32,
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn an_ipv4_address_comes_out_of_its_mapped_form(addr: Ipv4Addr) {
            prop_assert_eq!(Ipv6Addr::from(mapped(addr.into())), addr.to_ipv6_mapped());
            prop_assert_eq!(unmapped(mapped(addr.into())), Some(addr.into()));
            prop_assert_eq!(Peer::v4(addr.into(), Be16::new(80)).as_v4(), Some(addr.into()));
        }

        #[test]
        fn what_is_no_mapped_address_is_none_here(addr: Ipv6Addr) {
            prop_assert_eq!(unmapped(addr.into()).map(Ipv4Addr::from), addr.to_ipv4_mapped());
        }
    }

    #[test]
    fn loopback_and_compatible_addresses_are_not_mapped() {
        for addr in ["::1", "::", "::127.0.0.1", "64:ff9b::127.0.0.1"] {
            let addr: Ipv6Addr = addr.parse().expect("an address");
            assert_eq!(unmapped(addr.into()), None, "{addr}");
        }
    }
}
