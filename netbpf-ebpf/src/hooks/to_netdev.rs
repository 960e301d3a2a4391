//! What leaves by an outward interface: egress.
//!
//! What `from_container` sent has been finished there. What a container's packet became on its way
//! through the stack is translated here, or does not leave.

use netbpf_common::{
    conntrack::{origin, way},
    endpoint::{network_flags, role},
    family::{Family, V4, V6},
    packet::Packet,
    verdict::{DropReason, Hook, Verdict},
};

use crate::{
    hooks::{Stages, finish},
    maps, parse, rewrite,
    skb::Skb,
    subprograms::Subprograms,
};

/// The hook.
#[inline(always)]
pub fn to_netdev(skb: Skb) -> i32 {
    let ingress = skb.ingress_ifindex();
    if ingress == origin::HOST {
        return finish(Hook::ToNetdev, skb, Verdict::PASS);
    }
    match maps::interface(ingress) {
        Some(interface) if interface.role == role::BRIDGE => from_bridge(skb),
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

/// Forwarded by the stack from one of our bridges.
#[inline(always)]
fn from_bridge(skb: Skb) -> i32 {
    skb.pull_headers();
    match skb.ethernet() {
        Some(ethernet) if ethernet.ether_type == V4::ETHER_TYPE => V4::to_netdev(skb),
        Some(ethernet) if ethernet.ether_type == V6::ETHER_TYPE => V6::to_netdev(skb),
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

/// An IP packet that the stack forwards from one of our bridges.
#[inline(always)]
pub fn ip<F: Stages>(skb: Skb) -> i32 {
    let verdict = match parse::parsed::<F>(skb) {
        Ok(packet) => translate(skb, packet),
        Err(reason) => Verdict::drop(reason),
    };
    finish(Hook::ToNetdev, skb, verdict)
}

/// Translates as `from_container` committed it. The stack has taken its hop already.
#[inline(always)]
fn translate<F: Stages>(skb: Skb, packet: &Packet<F>) -> Verdict {
    let Some(half) = F::half(&packet.tuple) else {
        return untracked::<F>(&packet.tuple.src_addr);
    };
    if half.way != way::OUTSIDE {
        return Verdict::drop(DropReason::UntranslatedSource);
    }
    if rewrite::packet(skb, packet, &half, 0) {
        Verdict::PASS
    } else {
        Verdict::drop(DropReason::NotTranslatable)
    }
}

/// A packet of no flow may leave as it is only from a network that is not masqueraded, or if it
/// is none of a container's.
#[inline(always)]
fn untracked<F: Stages>(src: &F::Addr) -> Verdict {
    let Some(network) = F::subnet(src).and_then(maps::network) else {
        return Verdict::PASS;
    };
    if F::host_address(src).is_some() || network.flags & network_flags::MASQUERADE == 0 {
        return Verdict::PASS;
    }
    Verdict::drop(DropReason::UntranslatedSource)
}
