//! What leaves by an outward interface: egress.
//!
//! What `from_container` sent has been finished there. What a container's packet became on its way
//! through the stack is translated here, or does not leave. A flow of the host's own that would
//! meet a masqueraded one outside gets another port.

use netbpf_common::{
    conntrack::{End, first_state, origin, way},
    endpoint::role,
    family::{Family, V4, V6},
    packet::Packet,
    policy::flags,
    tuple::proto,
    verdict::{DropReason, Hook, StackReason, Verdict},
    wire::Be16,
};

use crate::{
    conntrack::{self, Known},
    hooks::{NEXT, Stages, UNKNOWN, finish, refuse, walk},
    icmp,
    maps::{self, Half},
    nat::commit,
    parse, policy, rewrite,
    skb::Skb,
};

/// The hook.
#[inline(always)]
pub fn to_netdev(skb: Skb) -> i32 {
    let ingress = skb.ingress_ifindex();
    if ingress == origin::HOST {
        return from_host(skb);
    }
    match maps::interface(ingress) {
        Some(interface) if interface.role == role::BRIDGE => from_bridge(skb),
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

/// From the host itself.
#[inline(always)]
fn from_host(skb: Skb) -> i32 {
    skb.pull_headers();
    match skb.ether_type() {
        Some(V4::ETHER_TYPE) => stages::<V4>(skb),
        Some(V6::ETHER_TYPE) => stages::<V6>(skb),
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
    if let Err(reason) = parse::parsed::<F>(skb) {
        return not_understood::<F>(skb, reason);
    }
    walk::<F>(
        Hook::ToNetdev,
        skb,
        F::to_netdev_host,
        |_| F::to_netdev_host_unknown(),
        |skb| finish(Hook::ToNetdev, skb, Verdict::PASS),
    )
}

/// Dropped if it says that it is a container's, which nothing leaves as without a flow; else it is
/// the host's own, which is its affair. A call of its own, so that what it keeps on the stack is not
/// added to that of the other stages.
#[inline(never)]
fn not_understood<F: Stages>(skb: Skb, reason: DropReason) -> i32 {
    let verdict = match F::addresses(skb) {
        Some((src, _)) if F::host_address(&src).is_none() && F::subnet(&src).is_some() => {
            Verdict::drop(reason)
        }
        _ => Verdict::stack(StackReason::NotUnderstood),
    };
    finish(Hook::ToNetdev, skb, verdict)
}

/// An IP packet of the host's own: the action, or [`UNKNOWN`] where a masqueraded flow already has
/// its answers.
#[inline(always)]
pub fn host<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::ToNetdev, skb, DropReason::Malformed);
    };
    let packet = &*packet;
    let tuple = &packet.tuple;
    let has_ports = tuple.proto == proto::TCP || tuple.proto == proto::UDP;
    if !has_ports && !is_echo_request(packet) {
        return without_ports(skb, packet);
    }
    if has_ports && !maps::is_held(tuple.proto, tuple.src_port.get()) {
        return finish(Hook::ToNetdev, skb, Verdict::PASS);
    }
    if let Some(half) = conntrack::find(tuple, origin::HOST)
        && half.way == way::OUTSIDE
    {
        return known(skb, packet, half);
    }
    match F::half(&tuple.reversed()) {
        Some(half) if half.in_ifindex == origin::OUTSIDE && half.way == way::CONTAINER => UNKNOWN,
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

/// Whether a packet is a ping: its identifier is what a port is elsewhere.
#[inline(always)]
fn is_echo_request<F: Family>(packet: &Packet<F>) -> bool {
    packet.tuple.is_icmp() && packet.icmp_type == F::ECHO_REQUEST
}

/// A packet of the host's own of a protocol without ports, ESP or GRE say: there is nothing to
/// choose, so that the host's flow is tracked, and is the one that stays.
#[inline(always)]
fn without_ports<F: Stages>(skb: Skb, packet: &Packet<F>) -> i32 {
    let tuple = &packet.tuple;
    let dst = &tuple.dst_addr;
    if tuple.is_icmp() || F::is_multicast(dst) || policy::stays_on_link::<F>(dst) {
        return finish(Hook::ToNetdev, skb, Verdict::PASS);
    }
    if let Some(half) = conntrack::find(tuple, origin::HOST)
        && half.way == way::OUTSIDE
    {
        return known(skb, packet, half);
    }
    let reply = tuple.reversed();
    if let Some(half) = F::half(&reply)
        && half.way == way::CONTAINER
    {
        conntrack::end(half, &reply);
    }
    UNKNOWN
}

/// A packet of a flow of the host's own that has another port outside.
#[inline(always)]
fn known<F: Stages>(skb: Skb, packet: &Packet<F>, half: Half<F>) -> i32 {
    match conntrack::advance(half, packet, skb.len()) {
        Known::Flow(half) if rewrite::packet(skb, packet, &half, 0) => {
            finish(Hook::ToNetdev, skb, Verdict::PASS)
        }
        Known::Flow(_) => refuse(Hook::ToNetdev, skb, DropReason::NotTranslatable),
        Known::New => UNKNOWN,
        Known::Ended(reason) => refuse(Hook::ToNetdev, skb, reason),
    }
}

/// A packet of the host's own that would meet a masqueraded flow: the action, or a commit's number
/// above [`UNKNOWN`].
#[inline(always)]
pub fn host_unknown<F: Stages>() -> i32 {
    match draft::<F>() {
        Some(how) => UNKNOWN + how as i32,
        None => NEXT,
    }
}

/// Drafts a flow of the host's own, and says how to commit it; `None`: the packet can't begin one.
#[inline(always)]
fn draft<F: Stages>() -> Option<u32> {
    let packet = F::packet()?;
    let state = first_state(packet.tuple.proto, packet.tcp_flags)?;
    let draft = F::draft()?;
    draft.begin(&packet.tuple, state, End::HOST, End::OUTSIDE);
    let has_ports = packet.tuple.proto == proto::TCP || packet.tuple.proto == proto::UDP;
    if !has_ports && !is_echo_request(packet) {
        return Some(commit::AS_IS);
    }
    // The port that it has is taken: the search begins with any other one.
    let other = Be16(!packet.tuple.src_port.0);
    draft.translated = packet.tuple.with_source(packet.tuple.src_addr, other);
    Some(commit::WITH_SOURCE)
}

/// Forwarded by the stack from one of our bridges.
#[inline(always)]
fn from_bridge(skb: Skb) -> i32 {
    skb.pull_headers();
    match skb.ether_type() {
        Some(V4::ETHER_TYPE) => forwarded::<V4>(skb),
        Some(V6::ETHER_TYPE) => forwarded::<V6>(skb),
        _ => finish(Hook::ToNetdev, skb, Verdict::PASS),
    }
}

/// What comes by a bridge of ours is a container's, whatever its source says.
#[inline(always)]
fn forwarded<F: Stages>(skb: Skb) -> i32 {
    match parse::parsed::<F>(skb) {
        Ok(()) => F::to_netdev(skb),
        Err(reason) => refuse(Hook::ToNetdev, skb, reason),
    }
}

/// An IP packet that the stack forwards from one of our bridges.
#[inline(always)]
pub fn ip<F: Stages>(skb: Skb) -> i32 {
    let verdict = match F::packet() {
        Some(packet) => translate(skb, packet),
        None => Verdict::drop(DropReason::Malformed),
    };
    finish(Hook::ToNetdev, skb, verdict)
}

/// Translates as `from_container` committed it. The stack has taken its hop already.
#[inline(always)]
fn translate<F: Stages>(skb: Skb, packet: &Packet<F>) -> Verdict {
    // An ICMP error has the tuple of an echo that it is not.
    let half = F::half(&packet.tuple).filter(|_| !icmp::is_error(packet));
    let Some(half) = half else {
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
    if F::host_address(src).is_some() || F::flags(network) & flags::MASQUERADE == 0 {
        return Verdict::PASS;
    }
    Verdict::drop(DropReason::UntranslatedSource)
}
