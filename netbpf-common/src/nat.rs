//! Published ports, and which source port masquerade tries next.

use crate::{
    family::{Family, V4, V6},
    wire::Be16,
};

/// Finds a published port or a service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct PortKey<F: Family> {
    /// The host address or VIP; unspecified: every address of the host that is no VIP.
    pub addr: F::Addr,
    /// The port, wire order.
    pub port: Be16,
    /// TCP or UDP.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
}

/// Flags of a [`PublishTarget`].
pub mod target_flags {
    /// Who may use the mapping is listed.
    pub const LISTED: u16 = 1;
    /// An IPv4 target that the host's own processes also reach through its IPv6 addresses.
    pub const ALSO_V6: u16 = 1 << 1;
}

/// Where a published port leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PublishTarget<F: Family> {
    /// The container's address.
    pub addr: F::Addr,
    /// The container's port, wire order.
    pub port: Be16,
    /// Of [`target_flags`].
    pub flags: u16,
    /// The mapping's id. Never used again for another one.
    pub mapping: u32,
    /// The container end's id.
    pub endpoint: u32,
}

const _: () = assert!(size_of::<PublishTarget<V4>>() == 16);
const _: () = assert!(size_of::<PublishTarget<V6>>() == 28);

/// What a mapping's value in its map says.
pub mod mapping_flags {
    /// It leads to the endpoint in IPv4.
    pub const STANDS_V4: u32 = 1;
    /// It has lists of sources that may or may not come.
    pub const LISTED: u32 = 1 << 1;
    /// One of them says who may come, so that nobody else may.
    pub const HAS_ALLOW: u32 = 1 << 2;
    /// It leads to the endpoint in IPv6.
    pub const STANDS_V6: u32 = 1 << 3;
}

/// A mapping (a published port or a service) that leads to an endpoint. Present in its map as
/// long as it stands in either family; its value is of [`mapping_flags`].
#[repr(C)]
#[derive(
    Clone,
    Copy,
    Debug,
    Default,
    Eq,
    Hash,
    Ord,
    PartialEq,
    PartialOrd,
    bytemuck::Pod,
    bytemuck::Zeroable,
)]
pub struct MappingKey {
    /// The mapping's id.
    pub mapping: u32,
    /// The endpoint's id.
    pub endpoint: u32,
}

/// The ports that masquerade searches, first and last, host order.
///
/// As netfilter's for a flow from an unprivileged port: never below 1024 (row N3).
pub const MASQUERADE_PORTS: (u16, u16) = (1024, 65535);

/// The `attempt`-th port that masquerade tries for a flow whose `hash` is given.
///
/// A stride coprime to the pool's size visits every port once before any comes again: the pool
/// holds 64512 = 2¹⁰ · 3² · 7 ports, so that any odd stride that 3 and 7 don't divide will do.
#[inline(always)]
pub const fn candidate_port(hash: u32, attempt: u32) -> u16 {
    const STRIDE: u32 = 12_289;
    let (first, last) = MASQUERADE_PORTS;
    let size = last as u32 - first as u32 + 1;
    let offset = (hash % size).wrapping_add((attempt % size).wrapping_mul(STRIDE)) % size;
    first + offset as u16
}

/// The word and the bit of a port in the bitmap of reserved ports: one word holds 64 ports, TCP's
/// words stand before UDP's.
#[inline(always)]
pub const fn reserved_bit(proto: u8, port: u16) -> (u32, u64) {
    let base = if proto == crate::tuple::proto::UDP {
        RESERVED_WORDS / 2
    } else {
        0
    };
    (base + (port as u32 >> 6), 1 << (port & 63))
}

/// The index of a port among the ports of TCP and, behind them, UDP.
#[inline(always)]
pub const fn port_index(proto: u8, port: u16) -> u32 {
    let base = if proto == crate::tuple::proto::UDP {
        HELD_PORTS_LEN / 2
    } else {
        0
    };
    base + port as u32
}

/// How many ports TCP and UDP have together.
pub const HELD_PORTS_LEN: u32 = 2 * 65536;

/// How many 64-bit words the bitmap of reserved ports has, for TCP and UDP together.
pub const RESERVED_WORDS: u32 = 2 * 65536 / 64;

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, vec};

    use proptest::prelude::*;

    use super::*;
    use crate::tuple::proto;

    const POOL: u32 = MASQUERADE_PORTS.1 as u32 - MASQUERADE_PORTS.0 as u32 + 1;

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        #[test]
        fn a_search_visits_every_port_of_the_pool_once(hash: u32, first_attempt: u32) {
            // Up to the last attempt that a `u32` can count.
            let start = first_attempt.min(u32::MAX - POOL);
            let mut seen = vec![false; 65536];
            for attempt in start..start + POOL {
                let port = candidate_port(hash, attempt);
                prop_assert!(port >= MASQUERADE_PORTS.0);
                prop_assert!(!seen[usize::from(port)], "port {} comes twice", port);
                seen[usize::from(port)] = true;
            }
            prop_assert_eq!(seen.iter().filter(|seen| **seen).count(), POOL as usize);
        }
    }

    #[test]
    fn the_pool_is_what_netfilter_takes_for_unprivileged_ports() {
        assert_eq!(POOL, 64512);
        assert_eq!(MASQUERADE_PORTS, (1024, 65535));
    }

    #[test]
    fn the_first_attempt_follows_the_hash_and_the_edges_hold() {
        assert_eq!(candidate_port(0, 0), 1024);
        assert_eq!(candidate_port(POOL - 1, 0), 65535);
        assert_eq!(candidate_port(POOL, 0), 1024);
        assert_eq!(candidate_port(7, 3), candidate_port(7, 3 + POOL));
    }

    #[test]
    fn each_port_of_each_protocol_has_a_bit_of_its_own() {
        let mut seen = HashSet::new();
        for protocol in [proto::TCP, proto::UDP] {
            for port in 0..=u16::MAX {
                let (word, bit) = reserved_bit(protocol, port);
                assert!(word < RESERVED_WORDS, "{protocol}/{port}: word {word}");
                assert_eq!(bit.count_ones(), 1, "{protocol}/{port}: bit {bit:#x}");
                assert!(
                    seen.insert((word, bit)),
                    "{protocol}/{port} has another's bit"
                );
            }
        }
        assert_eq!(seen.len() as u32, RESERVED_WORDS * 64);
    }

    #[test]
    fn tcp_stands_before_udp_in_the_bitmap() {
        assert_eq!(reserved_bit(proto::TCP, 0), (0, 1));
        assert_eq!(reserved_bit(proto::TCP, 65535), (1023, 1 << 63));
        assert_eq!(reserved_bit(proto::UDP, 0), (1024, 1));
        assert_eq!(reserved_bit(proto::UDP, 8080), (1024 + 126, 1 << 16));
    }
}
