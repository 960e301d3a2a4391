//! What the host says to itself: the loopback interface, egress.
//!
//! Processes whose sockets could not be led to a published port or a virtual IP, because they are
//! bound to a loopback address or no hook sees them, come by here. Their packets go into the
//! container as the gateway's; the answers come back by the loopback interface, ingress. All else
//! is the host's own and passes.

use netbpf_common::{
    conntrack::{End, State, first_state, way},
    endpoint::host_address_flags,
    family::{Family, V4, V6},
    packet::Packet,
    tuple::proto,
    verdict::{DropReason, Hook, Verdict},
    wire::Be16,
};

use crate::{
    conntrack::{self, Known},
    forward,
    hooks::{Stages, TELL, UNKNOWN, finish, refuse, walk},
    icmp, kernel, maps, nat, parse, service,
    skb::Skb,
    tell,
};

/// The hook.
#[inline(always)]
pub fn from_local(skb: Skb) -> i32 {
    skb.pull_headers();
    match skb.ethernet() {
        Some(ethernet) if ethernet.ether_type == V4::ETHER_TYPE => stages::<V4>(skb),
        Some(ethernet) if ethernet.ether_type == V6::ETHER_TYPE => stages::<V6>(skb),
        _ => finish(Hook::FromLocal, skb, Verdict::PASS),
    }
}

#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
    if parse::parsed::<F>(skb).is_err() {
        return finish(Hook::FromLocal, skb, Verdict::PASS);
    }
    walk::<F>(
        Hook::FromLocal,
        skb,
        F::from_local,
        F::from_local_unknown,
        F::from_local_related,
    )
}

/// An IP packet: the action, [`UNKNOWN`], or [`TELL`] and what.
#[inline(always)]
pub fn ip<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromLocal, skb, DropReason::Malformed);
    };
    let packet = &*packet;
    // An error has the tuple of an echo with the identifier 0.
    if icmp::is_error(packet) {
        return UNKNOWN;
    }
    let Some(half) = conntrack::find(&packet.tuple, skb.ifindex()) else {
        return UNKNOWN;
    };
    let half = match conntrack::advance(half, packet, skb.len()) {
        Known::Flow(half) => half,
        Known::New => return UNKNOWN,
        Known::Ended(reason) => return refuse(Hook::FromLocal, skb, reason),
    };
    match kernel::exceeded_mtu(skb, half.out_ifindex) {
        0 => forward::packet(Hook::FromLocal, skb, packet, half),
        mtu if packet.must_not_be_cut => TELL + mtu as i32,
        _ => refuse(Hook::FromLocal, skb, DropReason::TooBig),
    }
}

/// A packet of no known flow: the action, or a commit's number above [`UNKNOWN`].
#[inline(always)]
pub fn unknown<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return finish(Hook::FromLocal, skb, Verdict::PASS);
    };
    let verdict = if icmp::is_error(packet) {
        Verdict::RELATED
    } else {
        judged(skb, packet)
    };
    // The kernel would refuse a port that nobody has; so do we.
    if verdict == VIP_PORT_CLOSED && tell::can_quote(packet) {
        return TELL + tell::PORT_CLOSED as i32;
    }
    finish(Hook::FromLocal, skb, verdict)
}

const VIP_PORT_CLOSED: Verdict = Verdict::drop(DropReason::VipPortClosed);

/// An ICMP error of the host's; the action. What is about no known flow is the host's own.
#[inline(always)]
pub fn related<F: Stages>(skb: Skb) -> i32 {
    icmp::related::<F>(Hook::FromLocal, skb, skb.ifindex(), Verdict::PASS)
}

/// Only what begins a flow can be led: all else belongs to one of the host's own.
#[inline(always)]
fn judged<F: Stages>(skb: Skb, packet: &Packet<F>) -> Verdict {
    let tuple = &packet.tuple;
    if tuple.proto != proto::TCP && tuple.proto != proto::UDP {
        return Verdict::PASS;
    }
    let Some(state) = first_state(tuple.proto, packet.tcp_flags) else {
        return Verdict::PASS;
    };
    let address = F::host_address(&tuple.dst_addr);
    if let Some(address) = address
        && address.flags & host_address_flags::VIP != 0
    {
        return match service::choose(tuple) {
            Ok(choice) => {
                let backend = &choice.backend;
                let led = Led {
                    addr: backend.addr,
                    port: backend.port,
                    mapping: choice.mapping,
                    endpoint: backend.endpoint,
                };
                begun(skb, packet, state, &led)
            }
            Err(reason) => reason.into(),
        };
    }
    if address.is_none() && !F::is_loopback(&tuple.dst_addr) {
        return Verdict::PASS;
    }
    let Some(target) = nat::target::<F>(tuple.dst_addr, tuple.dst_port, tuple.proto) else {
        return Verdict::PASS;
    };
    let led = Led {
        addr: target.addr,
        port: target.port,
        mapping: target.mapping,
        endpoint: target.endpoint,
    };
    begun(skb, packet, state, &led)
}

/// Where a packet leads.
struct Led<F: Family> {
    addr: F::Addr,
    port: Be16,
    mapping: u32,
    endpoint: u32,
}

/// Drafts the flow: the container sees its gateway, the host the address that it asked.
#[inline(always)]
fn begun<F: Stages>(skb: Skb, packet: &Packet<F>, state: State, led: &Led<F>) -> Verdict {
    let Some(endpoint) = F::endpoint(&led.addr).filter(|it| it.id == led.endpoint) else {
        return DropReason::NoEndpoint.into();
    };
    let Some(network) = maps::network(endpoint.network) else {
        return DropReason::NoEndpoint.into();
    };
    let gateway = F::gateway(network);
    if F::is_unspecified(&gateway) {
        return DropReason::NoSourceAddress.into();
    }
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    // The loopback interface has no address of its own on its frames.
    let from = End::elsewhere(way::LOCAL, skb.ifindex());
    draft.begin(
        &packet.tuple,
        state,
        from,
        End::container(endpoint, network),
    );
    draft.translated = packet
        .tuple
        .with_destination(led.addr, led.port)
        .with_source(gateway, packet.tuple.src_port);
    draft.mapping = led.mapping;
    Verdict::commit(nat::commit::WITH_SOURCE)
}
