//! What reaches a container through the stack or the bridge: the host side of its veth, egress.
//!
//! What `from_container` and `from_netdev` redirect never comes here. The sender is known by the
//! interface by which the packet came into the host.

use netbpf_common::{
    config::MARK_FROM_LOCAL,
    conntrack::{End, State, first_state, origin, way},
    endpoint::{Interface, network_flags, role},
    family::{Family, V4, V6},
    nat::MappingKey,
    packet::{Packet, tcp_flags},
    tuple::proto,
    verdict::{DropReason, Hook, Verdict},
    wire::Mac,
};

use crate::{
    conntrack::{self, Known},
    hooks::{Stages, UNKNOWN, finish, refuse, walk},
    maps::{self, Tables},
    nat, parse, policy,
    skb::Skb,
    socket, source,
};

const ARP: u16 = 0x0806;

/// The hook.
#[inline(always)]
pub fn to_container(skb: Skb) -> i32 {
    if skb.ingress_ifindex() != origin::HOST {
        return from_elsewhere(skb);
    }
    if skb.mark() == MARK_FROM_LOCAL {
        skb.set_mark(0);
        return finish(Hook::ToContainer, skb, Verdict::PASS);
    }
    skb.pull_headers();
    match skb.ethernet() {
        Some(ethernet) if ethernet.ether_type == V4::ETHER_TYPE => stages::<V4>(skb),
        Some(ethernet) if ethernet.ether_type == V6::ETHER_TYPE => stages::<V6>(skb),
        _ => finish(Hook::ToContainer, skb, Verdict::PASS),
    }
}

/// What the host itself sends is always allowed, if it can be understood. Its flows are committed,
/// for without that the container's first answer would look like the first packet of a flow.
#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
    if let Err(reason) = parse::parsed::<F>(skb) {
        return refuse(Hook::ToContainer, skb, reason);
    }
    walk::<F>(
        Hook::ToContainer,
        skb,
        F::to_container,
        F::to_container_unknown,
        |skb| finish(Hook::ToContainer, skb, Verdict::PASS),
    )
}

/// An IP packet from the host: the action, or [`UNKNOWN`].
#[inline(always)]
pub fn from_host<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::ToContainer, skb, DropReason::Malformed);
    };
    let packet = &*packet;
    let Some(half) = conntrack::find(&packet.tuple, origin::HOST) else {
        return UNKNOWN;
    };
    match conntrack::advance(half, packet, skb.len()) {
        Known::Flow(_) => finish(Hook::ToContainer, skb, Verdict::PASS),
        Known::New => UNKNOWN,
        Known::Ended(reason) => refuse(Hook::ToContainer, skb, reason),
    }
}

/// A packet of no known flow: the action, or a commit's number above [`UNKNOWN`].
#[inline(always)]
pub fn unknown<F: Stages>(skb: Skb) -> i32 {
    let verdict = match asked_mapping::<F>(skb) {
        Ok(mapping) => match draft::<F>(skb, mapping) {
            Some(()) => Verdict::commit(nat::commit::AS_IS),
            None => Verdict::PASS,
        },
        Err(reason) => reason.into(),
    };
    finish(Hook::ToContainer, skb, verdict)
}

/// The mapping by which the packet's socket asked for the container; 0: it asked for it by name.
///
/// # Errors
///
/// The mapping is gone: what asked for it must not go on as if it had asked for the container.
#[inline(always)]
fn asked_mapping<F: Stages>(skb: Skb) -> Result<u32, DropReason> {
    let (Some(packet), Some(interface)) = (F::packet(), maps::interface(skb.ifindex())) else {
        return Ok(0);
    };
    let tuple = &packet.tuple;
    if tuple.proto != proto::TCP && tuple.proto != proto::UDP {
        return Ok(0);
    }
    let mapping = socket::mapping_of(skb, F::as_peer(tuple.dst_addr, tuple.dst_port));
    let key = MappingKey {
        mapping,
        endpoint: interface.endpoint,
    };
    if mapping == 0 || maps::mapping_stands(&key, F::STANDS) {
        return Ok(mapping);
    }
    Err(DropReason::FlowEnded)
}

/// Drafts a flow from the host; `None`: the packet needs none.
#[inline(always)]
fn draft<F: Stages>(skb: Skb, mapping: u32) -> Option<()> {
    let packet = F::packet()?;
    let tuple = &packet.tuple;
    let (src, dst) = (&tuple.src_addr, &tuple.dst_addr);
    if F::is_multicast(dst) || policy::stays_on_link::<F>(src) || policy::stays_on_link::<F>(dst) {
        return None;
    }
    let state = first(packet)?;
    let ifindex = skb.ifindex();
    let interface = maps::interface(ifindex)?;
    let network = maps::network(interface.network)?;
    if is_for_another(skb, interface) {
        return None;
    }
    let to = End {
        way: way::CONTAINER,
        ifindex,
        endpoint: interface.endpoint,
        mac: interface.mac,
        gateway_mac: network.bridge_mac,
        mtu: network.mtu as u16,
    };
    let draft = F::draft()?;
    draft.begin(tuple, state, End::HOST, to);
    draft.mapping = mapping;
    Some(())
}

/// Whether the bridge has flooded a frame, for it does not know where its receiver is: the flow
/// belongs to whoever that is.
#[inline(always)]
fn is_for_another(skb: Skb, interface: &Interface) -> bool {
    let is_elsewhere = |dst: Mac| dst != interface.mac && !dst.is_group();
    !source::is_unchecked(interface)
        && skb
            .ethernet()
            .is_some_and(|ethernet| is_elsewhere(ethernet.dst))
}

/// The first state of a flow from the host. What can't begin one (a reset, an ICMP error) needs
/// no entry: nobody answers it.
#[inline(always)]
fn first<F: Family>(packet: &Packet<F>) -> Option<State> {
    let tuple = &packet.tuple;
    if tuple.is_icmp() && packet.icmp_type != F::ECHO_REQUEST {
        return None;
    }
    if tuple.proto == proto::TCP && packet.tcp_flags & (tcp_flags::SYN | tcp_flags::RST) == 0 {
        return Some(State::SynSent);
    }
    first_state(tuple.proto, packet.tcp_flags)
}

/// What did not come from the host itself.
#[inline(always)]
fn from_elsewhere(skb: Skb) -> i32 {
    let (Some(sender), Some(receiver)) = (
        maps::interface(skb.ingress_ifindex()),
        maps::interface(skb.ifindex()),
    ) else {
        return refuse(Hook::ToContainer, skb, DropReason::UnannouncedPort);
    };
    match sender.role {
        role::CONTAINER if sender.network == receiver.network => {
            finish(Hook::ToContainer, skb, bridged(skb, receiver))
        }
        role::CONTAINER | role::BRIDGE => {
            refuse(Hook::ToContainer, skb, DropReason::IsolatedNetwork)
        }
        role::LOOPBACK => refuse(Hook::ToContainer, skb, DropReason::UnannouncedPort),
        _ => from_outside(skb),
    }
}

#[inline(always)]
fn from_outside(skb: Skb) -> i32 {
    match skb.ethernet() {
        Some(ethernet) if ethernet.ether_type == V4::ETHER_TYPE => outsiders::<V4>(skb),
        Some(ethernet) if ethernet.ether_type == V6::ETHER_TYPE => outsiders::<V6>(skb),
        _ => refuse(Hook::ToContainer, skb, DropReason::DirectAccess),
    }
}

/// Flooded by the bridge: what `from_container` could not hand over itself.
#[inline(always)]
fn bridged(skb: Skb, receiver: &Interface) -> Verdict {
    let Some(network) = maps::network(receiver.network) else {
        return Verdict::drop(DropReason::UnknownInterface);
    };
    if network.flags & network_flags::ICC != 0 || is_neighbour_discovery(skb) {
        return Verdict::PASS;
    }
    Verdict::drop(DropReason::IccDisabled)
}

#[inline(always)]
fn is_neighbour_discovery(skb: Skb) -> bool {
    let Some(ethernet) = skb.ethernet() else {
        return false;
    };
    match ethernet.ether_type {
        ARP => true,
        V6::ETHER_TYPE => parse::parsed::<V6>(skb)
            .ok()
            .and_then(|()| V6::packet())
            .is_some_and(|packet| {
                packet.tuple.is_icmp() && (133..=137).contains(&packet.icmp_type)
            }),
        _ => false,
    }
}

#[inline(always)]
fn outsiders<F: Stages>(skb: Skb) -> i32 {
    match parse::parsed::<F>(skb) {
        Ok(()) => F::to_container_routed(skb),
        Err(_) => refuse(Hook::ToContainer, skb, DropReason::Malformed),
    }
}

/// Routed by the stack from an outward interface: only what belongs to a known flow that needs no
/// translation.
#[inline(always)]
pub fn routed<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::ToContainer, skb, DropReason::Malformed);
    };
    let is_known = conntrack::find(&packet.tuple, origin::OUTSIDE)
        .is_some_and(|half| half.translated == packet.tuple && policy::ends_stand(half));
    let verdict = if is_known {
        Verdict::PASS
    } else {
        Verdict::drop(DropReason::DirectAccess)
    };
    finish(Hook::ToContainer, skb, verdict)
}
