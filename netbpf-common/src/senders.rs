//! Which senders a mapping or a network treats in a way of their own: lists of sources, trust,
//! links.
//!
//! The loader writes all of these; programs only read them.

use bytemuck::{Pod, Zeroable};

use crate::{
    family::{Family, V4, V6},
    nat::mapping_flags::{HAS_ALLOW, LISTED},
    wire::Be16,
};

/// An address or a prefix within a scope: a mapping or a network. As the data of a longest-prefix
/// key its length counts the 32 bits of the scope first.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct ScopedAddr<F: Family> {
    /// The id of the mapping or the network.
    pub scope: u32,
    /// The address, wire order; of a prefix the other bits are zero.
    pub addr: F::Addr,
}

/// The bits of a scope, to be added to the length of a prefix.
pub const SCOPE_BITS: u32 = 32;

const _: () = assert!(size_of::<ScopedAddr<V4>>() == 8);
const _: () = assert!(size_of::<ScopedAddr<V6>>() == 20);

/// What a mapping's lists say about a prefix of sources.
pub mod listed {
    /// They may come.
    pub const ALLOW: u32 = 1;
    /// They may not.
    pub const DENY: u32 = 2;
}

/// Whether a mapping with these [`crate::nat::mapping_flags`] admits a source, for which the
/// longest prefix of its lists says `found`. Without a prefix that fits, whoever is not to be
/// allowed by name may come.
#[inline(always)]
pub const fn admits(flags: u32, found: Option<u32>) -> bool {
    if flags & LISTED == 0 {
        return true;
    }
    match found {
        Some(listed) => listed == listed::ALLOW,
        None => flags & HAS_ALLOW == 0,
    }
}

/// An interface by which trusted senders come to a network: one to the outside, or another bridge
/// of ours. Present in its map as long as it is trusted; its value is 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct TrustedInterface {
    /// The network that trusts.
    pub network: u32,
    /// The interface.
    pub ifindex: u32,
}

/// A port of a container that another one of its network reaches though they can't talk
/// otherwise. Present in its map as long as the link stands; its value is 1.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct LinkKey {
    /// The endpoint id of the container that may begin flows.
    pub from_endpoint: u32,
    /// The endpoint id of the container that it reaches.
    pub to_endpoint: u32,
    /// That container's port, wire order.
    pub port: Be16,
    /// TCP or UDP.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
}

#[cfg(test)]
mod tests {
    use super::{
        admits,
        listed::{ALLOW, DENY},
    };
    use crate::nat::mapping_flags::{HAS_ALLOW, LISTED, STANDS_V4, STANDS_V6};

    #[test]
    fn lists_admit_what_their_longest_prefix_says() {
        let denying = STANDS_V4 | LISTED;
        let allowing = denying | HAS_ALLOW;
        #[rustfmt::skip]
        let rows = [
            // mapping  found        admitted
            (STANDS_V6,    None,        true),
            (STANDS_V6,    Some(DENY),  true),
            (denying,   None,        true),
            (denying,   Some(DENY),  false),
            (denying,   Some(ALLOW), true),
            (allowing,  None,        false),
            (allowing,  Some(ALLOW), true),
            (allowing,  Some(DENY),  false),
            // What no loader writes opens nothing.
            (allowing,  Some(7),     false),
        ];
        for (flags, found, admitted) in rows {
            assert_eq!(admits(flags, found), admitted, "{flags:#b}, {found:?}");
        }
    }
}
