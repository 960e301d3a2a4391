//! The maps, and the few ways to use them: no file but these declares a map or holds a pointer into
//! one by itself. Here are the ways to what both families share.

#![expect(
    unsafe_code,
    reason = "map values are raw kernel memory; the ways to them stand here"
)]

mod declared;
mod half;
mod rooms;
mod tables;

use core::ffi::c_void;

use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Tick, Timeouts},
    endpoint::{Endpoint, Interface, MacKey, Network},
    nat::{MappingKey, port_index},
    senders::{LinkKey, TrustedInterface},
    socket::{Asked, SocketKey},
    verdict::{self, DropReason, Hook},
};

pub use self::declared::SWEEP;
use self::declared::*;
pub use self::{
    half::Half,
    rooms::{Place, RoomsRef},
    tables::Tables,
};
use crate::{atomic, bridge::KnownBridge};

/// A CPU's budget of ICMP errors.
#[repr(C)]
pub struct Answers {
    /// The tick for which it holds.
    tick: Tick,
    /// How many were sent in it.
    sent: u32,
}

/// How many ICMP errors a CPU may send in a tick: about a thousand a second, as the kernel's
/// `icmp_msgs_per_sec`.
const ANSWERS_PER_TICK: u32 = 134;

/// Whether this CPU may send one more ICMP error.
#[inline(always)]
pub fn may_tell(now: Tick) -> bool {
    let Some(answers) = ANSWERS.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: this CPU's own, see `count`.
    let answers = unsafe { &mut *answers };
    if answers.tick != now {
        answers.tick = now;
        answers.sent = 0;
    }
    answers.sent += 1;
    answers.sent <= ANSWERS_PER_TICK
}

/// The config, as the loader last wrote it.
#[inline(always)]
pub fn config() -> &'static GlobalConfig {
    CONFIG.get(0).unwrap_or(&NO_CONFIG)
}

/// For the verifier, to which the config might be missing.
static NO_CONFIG: GlobalConfig = GlobalConfig {
    abi_version: 0,
    generation: 0,
    timeouts: Timeouts {
        established: 0,
        half_open: 0,
        closing: 0,
        udp: 0,
        udp_stream: 0,
        icmp: 0,
    },
    max_flows: 0,
    max_half_open: 0,
    netns_cookie: 0,
    flags: 0,
    pad: 0,
};

/// The interface with this index.
#[inline(always)]
pub fn interface(ifindex: u32) -> Option<&'static Interface> {
    // SAFETY: the loader alone writes, and replaces whole values; the memory of an old one stays
    // readable until the end of this run (RCU), though another key's value may be in it by then:
    // one packet that races with a change can be judged by either. So in the getters below.
    unsafe { INTERFACES.get(ifindex) }
}

/// The network with this id.
#[inline(always)]
pub fn network(id: u32) -> Option<&'static Network> {
    // SAFETY: see `interface`.
    unsafe { NETWORKS.get(id) }
}

/// The container end with this MAC on a network.
#[inline(always)]
pub fn endpoint_by_mac(key: &MacKey) -> Option<&'static Endpoint> {
    // SAFETY: see `interface`.
    unsafe { ENDPOINTS_BY_MAC.get(key) }
}

/// Whether a mapping still leads to an endpoint in a family, whose flag this is:
/// [`Family::STANDS`].
#[inline(always)]
pub fn mapping_stands(key: &MappingKey, flag: u32) -> bool {
    mapping_flags(key).is_some_and(|flags| flags & flag != 0)
}

/// The flags of a mapping that still leads to an endpoint.
#[inline(always)]
pub fn mapping_flags(key: &MappingKey) -> Option<u32> {
    // SAFETY: see `interface`.
    unsafe { MAPPINGS.get(key) }.copied()
}

/// Whether a network trusts whoever comes by an interface.
#[inline(always)]
pub fn is_trusted_interface(key: &TrustedInterface) -> bool {
    // SAFETY: see `interface`.
    unsafe { TRUSTED_INTERFACES.get(key) }.is_some()
}

/// Whether a link opens a port.
#[inline(always)]
pub fn is_linked(key: &LinkKey) -> bool {
    // SAFETY: see `interface`.
    unsafe { LINKS.get(key) }.is_some()
}

/// Whether masquerade must leave a port alone.
#[inline(always)]
pub fn is_reserved(protocol: u8, port: u16) -> bool {
    let (word, bit) = netbpf_common::nat::reserved_bit(protocol, port);
    RESERVED_PORTS.get(word).is_some_and(|bits| bits & bit != 0)
}

/// Whether a flow may have this port of the host's for its own.
#[inline(always)]
pub fn is_held(protocol: u8, port: u16) -> bool {
    HELD_PORTS
        .get(port_index(protocol, port))
        .is_some_and(|count| *count != 0)
}

/// Counts a flow more, or less, that has a port of the host's for its own.
#[inline(always)]
pub fn hold(protocol: u8, port: u16, by: i64) {
    if let Some(count) = HELD_PORTS.get_ptr_mut(port_index(protocol, port)) {
        // SAFETY: an array's value, alive with the program.
        unsafe { atomic::add(count, by as u64) }
    }
}

/// What this CPU remembers of the bridge of a container's end.
#[inline(always)]
pub fn known_bridge(index: u32) -> Option<&'static mut KnownBridge> {
    // SAFETY: this CPU's own, see `count`, and nobody asks for it twice in a run.
    BRIDGES
        .get_ptr_mut(index)
        .map(|known| unsafe { &mut *known })
}

/// Counts a packet on this CPU.
#[inline(always)]
pub fn count(index: u32, len: u32) {
    if let Some(counter) = COUNTERS.get_ptr_mut(index) {
        // SAFETY: this CPU's own slot, and TC programs of one CPU run one after the other.
        unsafe {
            (*counter).packets += 1;
            (*counter).bytes += u64::from(len);
        }
    }
}

/// Counts a system call that a hook at a socket refused. Other than the hooks of packets, such a
/// program can lose its CPU to another one.
#[inline(always)]
pub fn count_call(hook: Hook, reason: DropReason) {
    if let Some(counter) = COUNTERS.get_ptr_mut(verdict::drop_counter(hook, reason)) {
        // SAFETY: an array's value, alive with the program.
        unsafe { atomic::add(&raw mut (*counter).packets, 1) }
    }
}

/// [`SOCKETS`], for the helpers.
#[inline(always)]
pub fn sockets() -> *mut c_void {
    (&raw const SOCKETS).cast_mut().cast()
}

/// What a socket asked for that names an address with each datagram.
#[inline(always)]
pub fn asked(key: &SocketKey) -> Option<&'static Asked> {
    // SAFETY: see `interface`: an entry that was recycled is another socket's for the moment, and
    // what is read of it is compared with what is known of this one.
    unsafe { ASKED.get(key) }
}

/// Forgets what a socket asked for.
#[inline(always)]
pub fn forget_asked(key: &SocketKey) {
    // That there was nothing is as good.
    let _ = ASKED.remove(key);
}

/// Notes what a socket that talks to many asked for; whether there was room.
#[inline(always)]
pub fn set_asked(key: &SocketKey, asked: &Asked) -> bool {
    ASKED.insert(key, asked, 0).is_ok()
}
