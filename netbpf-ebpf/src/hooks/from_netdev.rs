//! What comes from outside: every outward interface, ingress.
//!
//! Known flows, published ports, and a default deny of everything that containers have; the rest
//! is the host's, and passes.

use netbpf_common::{
    conntrack::{End, NewFlow, State, first_state, origin},
    endpoint::{Endpoint, HostAddress, Network, host_address_flags},
    family::{Family, V4, V6},
    nat::PublishTarget,
    packet::Packet,
    policy::{Access, Party, decide},
    verdict::{DropReason, Hook, StackReason, Verdict},
};

use crate::{
    conntrack::{self, Known},
    forward,
    hooks::{Stages, UNKNOWN, finish, refuse, walk},
    icmp, maps, nat, parse,
    policy::{self, Asker, Receiver},
    skb::Skb,
};

/// EtherTypes of tags (IEEE 802.1Q, 9.6).
const VLAN: u16 = 0x8100;
const SERVICE_VLAN: u16 = 0x88a8;

/// The hook.
#[inline(always)]
pub fn from_netdev(skb: Skb) -> i32 {
    // A tagged frame belongs to a VLAN device, whose own hook will see it.
    if skb.has_vlan() || skb.is_for_other_host() {
        return finish(Hook::FromNetdev, skb, Verdict::PASS);
    }
    skb.pull_headers();
    match skb.ether_type() {
        Some(V4::ETHER_TYPE) if parse::is_source_routed(skb) => {
            not_understood::<V4>(skb, DropReason::SourceRouted)
        }
        Some(V4::ETHER_TYPE) => stages::<V4>(skb),
        Some(V6::ETHER_TYPE) => stages::<V6>(skb),
        // The stack would take this tag off as well, and the packet would be the device's own.
        Some(VLAN | SERVICE_VLAN) if !skb.is_second_tag_of_vlan() => {
            refuse(Hook::FromNetdev, skb, DropReason::UnsupportedEtherType)
        }
        _ => finish(Hook::FromNetdev, skb, Verdict::PASS),
    }
}

#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
    if let Err(reason) = parse::parsed::<F>(skb) {
        return not_understood::<F>(skb, reason);
    }
    walk::<F>(
        Hook::FromNetdev,
        skb,
        F::from_netdev,
        F::from_netdev_unknown,
        F::from_netdev_related,
    )
}

/// An IP packet: the action, or [`UNKNOWN`].
#[inline(always)]
pub fn ip<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromNetdev, skb, DropReason::Malformed);
    };
    let packet = &*packet;
    // Neither is ever a flow; an error has the tuple of an echo with the identifier 0.
    if icmp::is_error(packet) || skb.is_to_everybody() {
        return UNKNOWN;
    }
    let Some(half) = conntrack::find(&packet.tuple, origin::OUTSIDE) else {
        return UNKNOWN;
    };
    match conntrack::advance(half, packet, skb.len()) {
        Known::Flow(half) => forward::packet(Hook::FromNetdev, skb, packet, half),
        Known::New => UNKNOWN,
        Known::Ended(reason) => refuse(Hook::FromNetdev, skb, reason),
    }
}

/// Dropped if it is for a container, else left to the host.
#[inline(never)]
fn not_understood<F: Stages>(skb: Skb, reason: DropReason) -> i32 {
    let verdict = match F::addresses(skb) {
        Some((src, dst)) if !F::is_multicast(&dst) && is_martian::<F>(&src) => {
            Verdict::drop(DropReason::MartianSource)
        }
        Some((_, dst)) if belongs_to_containers::<F>(&dst) => Verdict::drop(reason),
        _ => Verdict::stack(StackReason::NotUnderstood),
    };
    finish(Hook::FromNetdev, skb, verdict)
}

/// Whether an address is a container's or a VIP, not one that the host answers on.
#[inline(always)]
fn belongs_to_containers<F: Stages>(addr: &F::Addr) -> bool {
    match F::host_address(addr) {
        Some(address) => address.flags & host_address_flags::VIP != 0,
        None => F::subnet(addr).is_some(),
    }
}

/// A packet of no known flow: the action, or a commit's number above [`UNKNOWN`].
#[inline(always)]
pub fn unknown<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromNetdev, skb, DropReason::Malformed);
    };
    // What is said to everybody is the host's, DHCP and neighbour discovery among it.
    if F::is_multicast(&packet.tuple.dst_addr) {
        return finish(Hook::FromNetdev, skb, Verdict::PASS);
    }
    let address = F::host_address(&packet.tuple.dst_addr);
    if is_martian::<F>(&packet.tuple.src_addr) {
        return refuse(Hook::FromNetdev, skb, DropReason::MartianSource);
    }
    if skb.is_to_everybody() {
        return finish(Hook::FromNetdev, skb, unpublished(packet, address));
    }
    if icmp::is_error(packet) {
        return finish(Hook::FromNetdev, skb, Verdict::RELATED);
    }
    let verdict = match (nat::published(&packet.tuple, address), address) {
        (Some(target), _) => published(skb, packet, target),
        (None, None) => match F::endpoint(&packet.tuple.dst_addr) {
            Some(endpoint) => to_container(skb, packet, endpoint),
            None => unpublished(packet, address),
        },
        (None, Some(_)) => unpublished(packet, address),
    };
    finish(Hook::FromNetdev, skb, verdict)
}

/// An ICMP error; the action. What is about no known flow is about the host's own.
#[inline(always)]
pub fn related<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromNetdev, skb, DropReason::Malformed);
    };
    let unrelated = unpublished(packet, F::host_address(&packet.tuple.dst_addr));
    icmp::related::<F>(Hook::FromNetdev, skb, origin::OUTSIDE, unrelated)
}

/// Whether a source address can't be outside of this host.
#[inline(always)]
fn is_martian<F: Stages>(src: &F::Addr) -> bool {
    F::is_loopback(src)
        || F::is_multicast(src)
        || F::is_unspecified(src)
        || F::subnet(src).is_some()
        || F::host_address(src).is_some()
}

/// To a published port: the container sees the client.
#[inline(always)]
fn published<F: Stages>(skb: Skb, packet: &Packet<F>, target: &PublishTarget<F>) -> Verdict {
    let Some(endpoint) =
        F::endpoint(&target.addr).filter(|endpoint| endpoint.id == target.endpoint)
    else {
        return DropReason::NoEndpoint.into();
    };
    let Some(network) = maps::network(endpoint.network) else {
        return DropReason::NoEndpoint.into();
    };
    let party = policy::container::<F>(endpoint.network, network);
    let allowed = decide(Party::OUTSIDE, party, Access::Published)
        .and_then(|()| policy::listed(target, &packet.tuple.src_addr));
    if let Err(reason) = allowed {
        return reason.into();
    }
    let Some(state) = first_state(packet.tuple.proto, packet.tcp_flags) else {
        return DropReason::NoFlow.into();
    };
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    begin(draft, skb, packet, state, (endpoint, network));
    draft.translated = packet.tuple.with_destination(target.addr, target.port);
    draft.mapping = target.mapping;
    Verdict::commit(nat::commit::MAPPED)
}

/// To a container's own address, where its network lets that in: nothing is translated.
#[inline(always)]
fn to_container<F: Stages>(skb: Skb, packet: &Packet<F>, endpoint: &Endpoint) -> Verdict {
    let Some(network) = maps::network(endpoint.network) else {
        return DropReason::DirectAccess.into();
    };
    let from = Asker {
        party: Party::OUTSIDE,
        endpoint: 0,
        ifindex: skb.ifindex(),
    };
    let to = Receiver {
        endpoint: endpoint.id,
        network_id: endpoint.network,
        network,
    };
    if let Err(reason) = policy::own_address(packet, &from, &to) {
        return reason.into();
    }
    let Some(state) = conntrack::first_untranslated(packet) else {
        return DropReason::NoFlow.into();
    };
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    begin(draft, skb, packet, state, (endpoint, network));
    Verdict::commit(nat::commit::AS_IS)
}

/// Begins a flow from outside to a container.
#[inline(always)]
fn begin<F: Stages>(
    draft: &mut NewFlow<F>,
    skb: Skb,
    packet: &Packet<F>,
    state: State,
    (endpoint, network): (&Endpoint, &Network),
) {
    let to = End::container(endpoint, network);
    draft.begin(&packet.tuple, state, End::OUTSIDE, to);
    draft.via_ifindex = network.bridge_ifindex;
    draft.ingress_ifindex = skb.ifindex();
    draft.routed = 1;
}

/// To what is not published: containers are not to be reached, the host answers for itself.
#[inline(always)]
fn unpublished<F: Stages>(packet: &Packet<F>, address: Option<&HostAddress>) -> Verdict {
    match address {
        Some(address) if address.flags & host_address_flags::VIP == 0 => Verdict::PASS,
        _ if belongs_to_containers::<F>(&packet.tuple.dst_addr) => {
            Verdict::drop(DropReason::DirectAccess)
        }
        _ => Verdict::PASS,
    }
}
