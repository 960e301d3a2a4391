//! What holds for the whole dataplane.

use bytemuck::{Pod, Zeroable};

use crate::conntrack::Timeouts;

/// What the object has for the flags of its flow tables (`linux/bpf.h`, `BPF_F_*`), for the loader
/// to replace: the word is nowhere else in it.
pub const FLAGS_OF_FLOW_TABLES: u32 = 0x6e62_706d;

/// The version of every layout in this crate and of the maps' meaning. A loader that finds pins
/// of another version refuses.
pub const ABI_VERSION: u32 = 1;

/// The mark of a packet that `from_container` lets through to the host's stack; `from_bridge`
/// demands and clears it.
pub const MARK_TO_HOST: u32 = 0x6e62_0001;

/// The mark of a packet that `from_local` has finished and sent on to a container; `to_container`
/// clears it.
pub const MARK_FROM_LOCAL: u32 = 0x6e62_0002;

/// What every program reads. One entry, key 0.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct GlobalConfig {
    /// [`ABI_VERSION`] of the loader that wrote the maps.
    pub abi_version: u32,
    /// A flow whose entry has another generation asks policy again. Never 0.
    pub generation: u32,
    /// How long idle flows live.
    pub timeouts: Timeouts,
    /// How many flows of each family the table holds beside half-open ones.
    pub max_flows: u32,
    /// How many half-open flows of each family there can be.
    pub max_half_open: u32,
    /// The cookie of the host's namespace: sockets of no other one are looked at. 0: of none.
    pub netns_cookie: u64,
    /// Of [`config_flags`].
    pub flags: u32,
    /// Always zero.
    pub pad: u32,
}

/// Flags of a [`GlobalConfig`].
pub mod config_flags {
    /// The host has IPsec policies: what leaves it has to take the stack, which knows them.
    pub const XFRM: u32 = 1;
}
