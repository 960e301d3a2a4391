//! From a container to the host's stack, past the bridge that would only hand the packet up.
//!
//! The bridge need not see what it would learn from: it is told where the MACs of containers are,
//! and what is asked here holds for the rest of its tick.

use netbpf_common::{
    conntrack::{Entry, Tick},
    family::Family,
    wire::Mac,
};

use crate::{maps, skb::Skb};

/// The bridge of a container's end.
#[repr(C)]
pub struct KnownBridge {
    /// The host's side of the end's veth.
    veth_ifindex: u32,
    /// When that was looked up.
    asked: Tick,
    bridge_ifindex: u32,
    bridge_mac: Mac,
    /// The MAC of the end.
    mac: Mac,
}

/// How many of them a CPU remembers.
pub const KNOWN_BRIDGES: u32 = 1024;

/// The bridge by whose ingress a packet of `half`, from a container, comes to the host's stack;
/// `None`: the bridge itself has to take it there, as what comes by another end of the container,
/// from a MAC of which the bridge is not told, or to one that is not the bridge's own.
#[inline(always)]
pub fn of<F: Family>(skb: Skb, half: &Entry<F>) -> Option<u32> {
    let veth = skb.ifindex();
    if veth != half.in_ifindex {
        return None;
    }
    let known = maps::known_bridge(veth % KNOWN_BRIDGES)?;
    if known.veth_ifindex != veth || known.asked != half.last_seen {
        let interface = maps::interface(veth)?;
        let network = maps::network(interface.network)?;
        known.veth_ifindex = veth;
        known.asked = half.last_seen;
        known.bridge_ifindex = network.bridge_ifindex;
        known.bridge_mac = network.bridge_mac;
        known.mac = interface.mac;
    }
    let frame = skb.ethernet()?;
    (frame.src == known.mac && frame.dst == known.bridge_mac).then_some(known.bridge_ifindex)
}
