//! Sends a packet of a known flow its way: the way first, then the rewrite, then off.

use netbpf_common::{
    config::config_flags,
    conntrack::way,
    packet::Packet,
    verdict::{DropReason, Hook, StackReason, Verdict},
};

use crate::{
    bridge, conntrack,
    hooks::{Stages, TELL, finish, refuse},
    kernel,
    maps::{self, Half},
    rewrite,
    skb::Skb,
    tell, way as route,
};

/// Sends a packet of `half` its way; the action for the kernel, or [`TELL`] and what.
#[inline(always)]
pub fn packet<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    match half.way {
        way::CONTAINER => to_container(hook, skb, packet, half),
        way::OUTSIDE => to_outside(hook, skb, packet, half),
        way::LOCAL => to_local(hook, skb, packet, half),
        _ => to_host(hook, skb, packet, half),
    }
}

#[inline(always)]
fn to_container<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    let hops = rewrite::hops(&half);
    if packet.ttl <= hops {
        if tell::can_quote(packet) {
            return TELL + tell::OUT_OF_HOPS as i32;
        }
        return refuse(hook, skb, DropReason::TtlExceeded);
    }
    // What may be cut is handed over whole: a veth takes it, and nobody has to put it together.
    let is_too_big = half.mtu != 0 && route::wire_len(skb, packet) > half.mtu;
    if hops != 0 && is_too_big && packet.must_not_be_cut && tell::can_quote(packet) {
        return TELL + i32::from(half.mtu);
    }
    let ifindex = half.out_ifindex;
    let (dst, src) = (half.out_dst_mac, half.out_src_mac);
    if !rewrite::packet(skb, packet, &half, hops) || !skb.address(F::ETHER_TYPE, dst, src) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    finish(hook, skb, Verdict::container(ifindex))
}

#[inline(always)]
fn to_outside<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    let hops = rewrite::hops(&half);
    if packet.ttl <= hops {
        return TELL + tell::OUT_OF_HOPS as i32;
    }
    // The policies are the stack's to find, and what they demand is the stack's to do.
    let has_policies = maps::config().flags & config_flags::XFRM != 0;
    let mut way = match route::out(skb, packet, &half) {
        Ok(way) => way,
        Err(_) if has_policies => return finish(hook, skb, Verdict::stack(StackReason::Xfrm)),
        // What may be cut is left to the stack, which can.
        Err(failure) if failure.is_too_big() && packet.must_not_be_cut => {
            return TELL + (failure.mtu & 0xffff) as i32;
        }
        Err(failure) => return finish(hook, skb, route::failure(failure.code)),
    };
    if way.ifindex != half.out_ifindex {
        if !route::is_hooked(way.ifindex) {
            return refuse(hook, skb, DropReason::WayOutNotHooked);
        }
        if has_moved(skb, packet, half) {
            conntrack::end(half, &packet.tuple);
            return refuse(hook, skb, DropReason::SourceMoved);
        }
        half.set_out_ifindex(way.ifindex);
    }
    if has_policies {
        return finish(hook, skb, Verdict::stack(StackReason::Xfrm));
    }
    if !rewrite::packet(skb, packet, &half, hops) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    kernel::redirect_neigh(way.ifindex, &mut way.next_hop)
}

/// Whether the kernel would have a masqueraded flow leave by its way with another address than it
/// does (row N4). The first packet has just asked.
#[inline(always)]
fn has_moved<F: Stages>(skb: Skb, packet: &Packet<F>, half: Half<F>) -> bool {
    half.is_masqueraded()
        && half.packets > 1
        && route::source(skb, packet, half.via_ifindex) != Ok(half.translated.src_addr)
}

#[inline(always)]
fn to_host<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    if !rewrite::packet(skb, packet, &half, 0) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    if hook as u8 == Hook::FromContainer as u8
        && let Some(bridge) = bridge::of(skb, &half)
    {
        return finish(hook, skb, Verdict::past_bridge(bridge));
    }
    finish(hook, skb, Verdict::TO_HOST)
}

#[inline(always)]
fn to_local<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    let ifindex = half.out_ifindex;
    let (dst, src) = (half.out_dst_mac, half.out_src_mac);
    if !rewrite::packet(skb, packet, &half, 0) || !skb.address(F::ETHER_TYPE, dst, src) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    finish(hook, skb, Verdict::local(ifindex))
}
