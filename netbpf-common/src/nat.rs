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

/// Where a published port leads.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct PublishTarget<F: Family> {
    /// The container's address.
    pub addr: F::Addr,
    /// The container's port, wire order.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
    /// The mapping's id. Never used again for another one.
    pub mapping: u32,
    /// The container end's id.
    pub endpoint: u32,
}

const _: () = assert!(size_of::<PublishTarget<V4>>() == 16);
const _: () = assert!(size_of::<PublishTarget<V6>>() == 28);

/// A mapping (a published port or a service) that leads to an endpoint. Present in its map as
/// long as it stands; its value is 1.
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

/// How many 64-bit words the bitmap of reserved ports has, for TCP and UDP together.
pub const RESERVED_WORDS: u32 = 2 * 65536 / 64;
