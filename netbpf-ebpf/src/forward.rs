//! Sends a packet of a known flow its way: the way first, then the rewrite, then off.

use netbpf_common::{
    conntrack::way,
    packet::Packet,
    verdict::{DropReason, Hook, Verdict},
};

use crate::{
    hooks::{Stages, finish, refuse},
    kernel,
    maps::Half,
    rewrite,
    skb::Skb,
    way as route,
};

/// Sends a packet of `half` its way; the action for the kernel.
#[inline(always)]
pub fn packet<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    match half.way {
        way::CONTAINER => to_container(hook, skb, packet, half),
        way::OUTSIDE => to_outside(hook, skb, packet, half),
        _ => to_host(hook, skb, packet, half),
    }
}

#[inline(always)]
fn to_container<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    let hops = rewrite::hops(&half);
    if packet.ttl <= hops {
        return refuse(hook, skb, DropReason::TtlExceeded);
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
        return F::tell(skb, 0);
    }
    let mut way = match route::out(skb, packet, &half) {
        Ok(way) => way,
        // What may be cut is left to the stack, which can.
        Err(failure) if failure.is_too_big() && packet.must_not_be_cut => {
            return F::tell(skb, failure.mtu);
        }
        Err(failure) => return finish(hook, skb, route::failure(failure.code)),
    };
    if way.ifindex != half.out_ifindex {
        if !route::is_hooked(way.ifindex) {
            return refuse(hook, skb, DropReason::WayOutNotHooked);
        }
        half.set_out_ifindex(way.ifindex);
    }
    if !rewrite::packet(skb, packet, &half, hops) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    kernel::redirect_neigh(way.ifindex, &mut way.next_hop)
}

#[inline(always)]
fn to_host<F: Stages>(hook: Hook, skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    if !rewrite::packet(skb, packet, &half, 0) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    finish(hook, skb, Verdict::TO_HOST)
}
