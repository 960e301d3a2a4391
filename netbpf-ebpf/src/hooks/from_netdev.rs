//! What comes from outside: every outward interface, ingress.
//!
//! Known flows, published ports, and a default deny of everything that containers have; the rest
//! is the host's, and passes.

use netbpf_common::{
    conntrack::{End, first_state, origin, way},
    endpoint::{HostAddress, host_address_flags},
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
    icmp, maps, nat, parse, policy,
    skb::Skb,
};

/// The hook.
#[inline(always)]
pub fn from_netdev(skb: Skb) -> i32 {
    // A tagged frame belongs to a VLAN device, whose own hook will see it.
    if skb.has_vlan() || skb.is_for_other_host() {
        return finish(Hook::FromNetdev, skb, Verdict::PASS);
    }
    skb.pull_headers();
    match skb.ether_type() {
        Some(V4::ETHER_TYPE) => stages::<V4>(skb),
        Some(V6::ETHER_TYPE) => stages::<V6>(skb),
        _ => finish(Hook::FromNetdev, skb, Verdict::PASS),
    }
}

#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
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
    let packet = match parse::parsed::<F>(skb) {
        Ok(packet) => packet,
        Err(reason) => return not_understood::<F>(skb, reason),
    };
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
#[inline(always)]
fn not_understood<F: Stages>(skb: Skb, reason: DropReason) -> i32 {
    let is_for_container =
        F::addresses(skb).is_some_and(|(_, dst)| belongs_to_containers::<F>(&dst));
    let verdict = if is_for_container {
        Verdict::drop(reason)
    } else {
        Verdict::stack(StackReason::NotUnderstood)
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
    let Some(target) = nat::published(&packet.tuple, address) else {
        return finish(Hook::FromNetdev, skb, unpublished(packet, address));
    };
    match published(packet, target) {
        Ok(()) => finish(Hook::FromNetdev, skb, Verdict::commit(nat::commit::MAPPED)),
        Err(reason) => refuse(Hook::FromNetdev, skb, reason),
    }
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
fn published<F: Stages>(packet: &Packet<F>, target: &PublishTarget<F>) -> Result<(), DropReason> {
    let endpoint = F::endpoint(&target.addr)
        .filter(|endpoint| endpoint.id == target.endpoint)
        .ok_or(DropReason::NoEndpoint)?;
    let network = maps::network(endpoint.network).ok_or(DropReason::NoEndpoint)?;
    let party = policy::container::<F>(endpoint.network, network);
    decide(Party::Outside, party, Access::Published)?;
    let state = first_state(packet.tuple.proto, packet.tcp_flags).ok_or(DropReason::NoFlow)?;
    let to = End {
        way: way::CONTAINER,
        ifindex: endpoint.ifindex,
        endpoint: endpoint.id,
        mac: endpoint.mac,
        gateway_mac: network.bridge_mac,
    };
    let draft = F::draft().ok_or(DropReason::ConntrackFull)?;
    draft.begin(&packet.tuple, state, End::OUTSIDE, to);
    draft.translated = packet.tuple.with_destination(target.addr, target.port);
    draft.mapping = target.mapping;
    draft.via_ifindex = network.bridge_ifindex;
    draft.routed = 1;
    Ok(())
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
