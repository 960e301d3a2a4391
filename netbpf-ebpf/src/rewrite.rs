//! Writes a translation into a packet. What to write was settled before.

use netbpf_common::{
    checksum,
    conntrack::{Entry, entry_flags},
    packet::{Fragment, Packet},
    tuple::Tuple,
};

use crate::{globals, parse::Wire, skb::Skb};

/// How many hops a packet of this half takes here.
#[inline(always)]
pub fn hops<F: Wire>(half: &Entry<F>) -> u8 {
    u8::from(half.flags & entry_flags::ROUTED != 0)
}

/// Rewrites a packet of `half` and takes `hops` from its TTL; whether it could.
#[inline(always)]
pub fn packet<F: Wire>(skb: Skb, packet: &Packet<F>, half: &Entry<F>, hops: u8) -> bool {
    if half.flags & entry_flags::REWRITE == 0 && hops == 0 {
        return true;
    }
    let to = &half.translated;
    if half.flags & entry_flags::REWRITE != 0
        && packet.fragment != Fragment::Later
        && !skb.set_transport(
            packet,
            to,
            address_difference(&packet.tuple, to),
            ipv6_flag::<F>(),
        )
    {
        return false;
    }
    F::set_network(skb, to.src_addr, to.dst_addr, hops)
}

/// The checksum difference of the addresses; 0: they stay.
#[inline(always)]
pub fn address_difference<F: Wire>(old: &Tuple<F>, new: &Tuple<F>) -> u32 {
    if old.src_addr == new.src_addr && old.dst_addr == new.dst_addr {
        return 0;
    }
    let (a, b) = (F::words(&old.src_addr), F::words(&old.dst_addr));
    let (c, d) = (F::words(&new.src_addr), F::words(&new.dst_addr));
    checksum::difference(
        &[a[0], a[1], a[2], a[3], b[0], b[1], b[2], b[3]],
        &[c[0], c[1], c[2], c[3], d[0], d[1], d[2], d[3]],
    )
}

/// Whether a pseudo-header update is to say that it is IPv6.
#[inline(always)]
pub fn ipv6_flag<F: Wire>() -> bool {
    F::ADDR_BITS == 128 && globals::has_ipv6_checksum_flag()
}
