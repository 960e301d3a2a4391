//! The address families. Everything above the wire is written once, over [`Family`].

use core::{fmt::Debug, hash::Hash};

use crate::{
    endpoint::{Interface, Network, network_flags},
    nat::mapping_flags,
    policy,
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
    /// The flag of a mapping that stands in this family, of [`mapping_flags`].
    const STANDS: u32;
    /// `127.0.0.1` or `::1`.
    const LOCALHOST: Self::Addr;

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
    /// This family's share of a network's flags, of [`crate::policy::flags`].
    fn flags(network: &Network) -> u32;
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
    const STANDS: u32 = mapping_flags::STANDS_V4;
    const LOCALHOST: Ipv4 = Ipv4::from_wire([127, 0, 0, 1]);

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

    #[inline(always)]
    fn flags(network: &Network) -> u32 {
        network.flags & policy::flags::ALL
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
    const STANDS: u32 = mapping_flags::STANDS_V6;
    const LOCALHOST: Ipv6 = Ipv6([0, 0, 0, 1_u32.to_be()]);

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

    #[inline(always)]
    fn flags(network: &Network) -> u32 {
        // Each flag of one family stands beside the other's.
        const BOTH: u32 = network_flags::ICC | network_flags::INTERNAL | network_flags::TRUSTED;
        (network.flags & BOTH) | ((network.flags >> 1) & policy::flags::ALL & !BOTH)
    }
}

#[cfg(test)]
mod tests {
    use core::net::{Ipv4Addr, Ipv6Addr};

    use proptest::prelude::*;

    use super::*;

    /// Addresses at the edges of the ranges that are asked about, and any other.
    fn v4() -> impl Strategy<Value = Ipv4Addr> {
        let first = prop_oneof![
            prop::sample::select(
                [0, 126, 127, 128, 168, 169, 170, 223, 224, 239, 240, 255].as_slice()
            ),
            any::<u8>(),
        ];
        let rest = prop_oneof![
            prop::sample::select(
                [
                    [0, 0, 0],
                    [253, 255, 255],
                    [254, 0, 0],
                    [255, 0, 0],
                    [255; 3]
                ]
                .as_slice()
            ),
            any::<[u8; 3]>(),
        ];
        (first, rest).prop_map(|(a, [b, c, d])| Ipv4Addr::new(a, b, c, d))
    }

    fn v6() -> impl Strategy<Value = Ipv6Addr> {
        let first = prop_oneof![
            prop::sample::select(
                [
                    0, 0xfe7f, 0xfe80, 0xfebf, 0xfec0, 0xfeff, 0xff00, 0xff02, 0xffff
                ]
                .as_slice()
            ),
            any::<u16>(),
        ];
        let rest = prop_oneof![
            prop::sample::select([0, 1, 1 << 32, (1 << 112) - 1].as_slice()),
            any::<u128>().prop_map(|bits| bits >> 16),
        ];
        (first, rest).prop_map(|(first, rest)| Ipv6Addr::from(u128::from(first) << 112 | rest))
    }

    proptest! {
        #[test]
        fn ipv4_ranges_are_std_s(std in v4()) {
            let addr = Ipv4::from(std);
            prop_assert_eq!(V4::is_multicast(&addr), std.is_multicast() || std.is_broadcast());
            prop_assert_eq!(V4::is_loopback(&addr), std.is_loopback());
            prop_assert_eq!(V4::is_link_local(&addr), std.is_link_local());
            prop_assert_eq!(V4::is_unspecified(&addr), std.is_unspecified());
        }

        #[test]
        fn ipv6_ranges_are_std_s(std in v6()) {
            let addr = Ipv6::from(std);
            prop_assert_eq!(V6::is_multicast(&addr), std.is_multicast());
            prop_assert_eq!(V6::is_loopback(&addr), std.is_loopback());
            prop_assert_eq!(V6::is_link_local(&addr), std.is_unicast_link_local());
            prop_assert_eq!(V6::is_unspecified(&addr), std.is_unspecified());
        }

        #[test]
        fn words_are_the_bytes_in_their_order(v4: [u8; 4], v6: [u8; 16]) {
            let mut padded = [0; 16];
            padded[..4].copy_from_slice(&v4);
            prop_assert_eq!(bytemuck::cast::<_, [u8; 16]>(V4::words(&Ipv4::from_wire(v4))), padded);
            prop_assert_eq!(bytemuck::cast::<_, [u8; 16]>(V6::words(&Ipv6::from_wire(v6))), v6);
        }
    }

    #[test]
    fn each_family_takes_its_own_flags_of_a_network_and_both_what_is_common() {
        use crate::policy::flags;
        let of = |bits| Network {
            flags: bits,
            ..Network::default()
        };
        #[rustfmt::skip]
        let rows = [
            (network_flags::ICC,            flags::ICC,         flags::ICC),
            (network_flags::INTERNAL,       flags::INTERNAL,    flags::INTERNAL),
            (network_flags::TRUSTED,        flags::TRUSTED,     flags::TRUSTED),
            (network_flags::MASQUERADE_V4,  flags::MASQUERADE,  0),
            (network_flags::MASQUERADE_V6,  0,                  flags::MASQUERADE),
            (network_flags::UNPROTECTED_V4, flags::UNPROTECTED, 0),
            (network_flags::UNPROTECTED_V6, 0,                  flags::UNPROTECTED),
            (network_flags::ROUTED_V4,      flags::ROUTED,      0),
            (network_flags::ROUTED_V6,      0,                  flags::ROUTED),
            (u32::MAX,                      flags::ALL,         flags::ALL),
        ];
        for (bits, v4, v6) in rows {
            assert_eq!(V4::flags(&of(bits)), v4, "{bits:#b}");
            assert_eq!(V6::flags(&of(bits)), v6, "{bits:#b}");
        }
    }

    #[test]
    fn each_family_takes_its_own_address_of_an_interface_and_a_network() {
        let (v4, v6) = (Ipv4::from_wire([10, 0, 0, 1]), Ipv6::from_wire([0xfd; 16]));
        let interface = Interface {
            address_v4: v4,
            address_v6: v6,
            ..Interface::default()
        };
        let network = Network {
            gateway_v4: v4,
            gateway_v6: v6,
            ..Network::default()
        };
        assert_eq!(V4::interface_address(&interface), v4);
        assert_eq!(V6::interface_address(&interface), v6);
        assert_eq!(V4::gateway(&network), v4);
        assert_eq!(V6::gateway(&network), v6);
    }

    #[test]
    fn broadcast_is_flooded_as_multicast_is() {
        assert!(V4::is_multicast(&Ipv4::from(Ipv4Addr::BROADCAST)));
        assert!(!V4::is_multicast(&Ipv4::from(Ipv4Addr::new(
            255, 255, 255, 254
        ))));
    }

    #[test]
    fn an_address_is_as_long_as_its_family_says() {
        assert_eq!(size_of::<Ipv4>() as u32 * 8, V4::ADDR_BITS);
        assert_eq!(size_of::<Ipv6>() as u32 * 8, V6::ADDR_BITS);
    }
}
