//! What a container sends: the host side of its veth, ingress.
//!
//! A known flow goes its way at once. Everything else is asked in order: is the sender who it says
//! it is, is the frame to be bridged or routed, where does it lead, does policy agree.

mod routed;

use netbpf_common::{
    conntrack::{End, way},
    endpoint::{Endpoint, Interface, MacKey, Network, network_flags},
    family::{Family, V4, V6},
    packet::Packet,
    policy::{Access, Party, decide},
    verdict::{DropReason, Hook, Verdict},
};

use crate::{
    conntrack::{self, Known, first_untranslated},
    forward,
    hooks::{Stages, TELL, UNKNOWN, finish, refuse, walk},
    icmp, maps,
    nat::commit,
    neighbour, parse,
    policy::{self, Asker, Receiver},
    skb::{Ethernet, Skb},
    source, tell,
};

const ARP: u16 = 0x0806;

/// The hook.
#[inline(always)]
pub fn from_container(skb: Skb) -> i32 {
    // A tag would go along with the packet, out into a VLAN of the container's choice.
    if skb.is_tagged() {
        return refuse(Hook::FromContainer, skb, DropReason::UnsupportedEtherType);
    }
    skb.pull_headers();
    let Some(ethernet) = skb.ethernet() else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    match ethernet.ether_type {
        V4::ETHER_TYPE if parse::is_source_routed(skb) => {
            refuse(Hook::FromContainer, skb, DropReason::SourceRouted)
        }
        V4::ETHER_TYPE => stages::<V4>(skb),
        V6::ETHER_TYPE => stages::<V6>(skb),
        ARP => arp(skb),
        _ => refuse(Hook::FromContainer, skb, DropReason::UnsupportedEtherType),
    }
}

#[inline(never)]
fn arp(skb: Skb) -> i32 {
    let verdict = match (skb.ethernet(), maps::interface(skb.ifindex())) {
        (Some(ethernet), Some(interface)) => neighbour::arp(skb, &ethernet, interface),
        (None, _) => Verdict::drop(DropReason::Malformed),
        (_, None) => Verdict::drop(DropReason::UnknownInterface),
    };
    finish(Hook::FromContainer, skb, verdict)
}

#[inline(always)]
fn stages<F: Stages>(skb: Skb) -> i32 {
    if let Err(reason) = parse::parsed::<F>(skb) {
        return refuse(Hook::FromContainer, skb, reason);
    }
    walk::<F>(
        Hook::FromContainer,
        skb,
        F::from_container,
        F::from_container_unknown,
        F::from_container_related,
    )
}

/// An IP packet: the action, or [`UNKNOWN`].
#[inline(always)]
pub fn ip<F: Stages>(skb: Skb) -> i32 {
    let (Some(packet), Some(ethernet)) = (F::packet(), skb.ethernet()) else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    let packet = &*packet;
    // Neither is ever a flow, and both have a tuple that an echo with the identifier 0 has.
    if F::is_on_link(packet) || icmp::is_error(packet) {
        return UNKNOWN;
    }
    let Some(half) = conntrack::find_from(&packet.tuple, skb.ifindex(), ethernet.src) else {
        return UNKNOWN;
    };
    match conntrack::advance(half, packet, skb.len()) {
        Known::Flow(half) => forward::packet(Hook::FromContainer, skb, packet, half),
        Known::New => UNKNOWN,
        Known::Ended(reason) => refuse(Hook::FromContainer, skb, reason),
    }
}

/// A packet of no known flow: the action, a commit's number above [`UNKNOWN`], or [`TELL`] and
/// what.
#[inline(always)]
pub fn unknown<F: Stages>(skb: Skb) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    let verdict = match sender(skb) {
        Ok(sender) => admitted(skb, packet, &sender),
        Err(reason) => reason.into(),
    };
    if verdict == Verdict::drop(DropReason::VipPortClosed) {
        return TELL + tell::PORT_CLOSED as i32;
    }
    finish(Hook::FromContainer, skb, verdict)
}

/// The container that sends.
struct Sender {
    ethernet: Ethernet,
    ifindex: u32,
    interface: &'static Interface,
    network: &'static Network,
}

impl Sender {
    /// The sender's end of a flow.
    #[inline(always)]
    fn end(&self) -> End {
        End {
            way: way::CONTAINER,
            ifindex: self.ifindex,
            endpoint: self.interface.endpoint,
            mac: self.ethernet.src,
            gateway_mac: self.network.bridge_mac,
            mtu: self.network.mtu as u16,
        }
    }

    #[inline(always)]
    fn party<F: Family>(&self) -> Party {
        policy::container::<F>(self.interface.network, self.network)
    }

    #[inline(always)]
    fn asker<F: Family>(&self) -> Asker {
        Asker {
            party: self.party::<F>(),
            endpoint: self.interface.endpoint,
            ifindex: self.network.bridge_ifindex,
        }
    }

    #[inline(always)]
    fn has_icc(&self) -> bool {
        self.network.flags & network_flags::ICC != 0
    }
}

#[inline(always)]
fn sender(skb: Skb) -> Result<Sender, DropReason> {
    let ethernet = skb.ethernet().ok_or(DropReason::Malformed)?;
    let ifindex = skb.ifindex();
    let interface = maps::interface(ifindex).ok_or(DropReason::UnknownInterface)?;
    let network = maps::network(interface.network).ok_or(DropReason::UnknownInterface)?;
    Ok(Sender {
        ethernet,
        ifindex,
        interface,
        network,
    })
}

/// The source check, and what never is a flow: neighbour discovery, multicast, link-local.
#[inline(always)]
fn admitted<F: Stages>(skb: Skb, packet: &Packet<F>, sender: &Sender) -> Verdict {
    let (src, dst) = (&packet.tuple.src_addr, &packet.tuple.dst_addr);
    if !source::may_use_mac(sender.interface, sender.ethernet.src) {
        return DropReason::SourceMac.into();
    }
    let is_error = icmp::is_error(packet);
    // What a container says about a flow of its own may come by another of its interfaces.
    let is_own = source::may_send::<F>(sender.interface, src, dst)
        || (is_error && source::is_siblings::<F>(sender.interface, src));
    if !is_own {
        return DropReason::SourceAddress.into();
    }
    if F::is_on_link(packet)
        && let Some(verdict) = F::on_link(skb, &sender.ethernet, packet, sender.interface)
    {
        return verdict;
    }
    if sender.ethernet.dst.is_group() {
        return flooded::<F>(dst, sender);
    }
    if policy::stays_on_link::<F>(src) || policy::stays_on_link::<F>(dst) {
        return link_local(sender);
    }
    let is_routed = sender.ethernet.dst == sender.network.bridge_mac;
    // What a router says to its neighbours is about packets that nobody here has tracked.
    if is_error && (is_routed || !source::is_unchecked(sender.interface)) {
        return Verdict::RELATED;
    }
    if is_routed {
        return routed::routed(skb, packet, sender);
    }
    bridged(packet, sender)
}

/// An ICMP error, whose sender has been checked; the action.
#[inline(always)]
pub fn related<F: Stages>(skb: Skb) -> i32 {
    let unrelated = Verdict::drop(DropReason::NoFlow);
    icmp::related::<F>(Hook::FromContainer, skb, skb.ifindex(), unrelated)
}

/// A frame to everybody: only with a packet to everybody, for the host would take one that is
/// addressed to itself past all that is asked of a packet to the bridge's MAC.
#[inline(always)]
fn flooded<F: Stages>(dst: &F::Addr, sender: &Sender) -> Verdict {
    let is_subnets_broadcast = || {
        F::subnet(dst) == Some(sender.interface.network)
            && F::endpoint(dst).is_none()
            && F::host_address(dst).is_none()
    };
    if F::is_multicast(dst) || is_subnets_broadcast() {
        return Verdict::TO_HOST;
    }
    DropReason::GroupFrame.into()
}

/// Unicast that is valid on this link only. It is not tracked: the same addresses can be in use on
/// every link.
#[inline(always)]
fn link_local(sender: &Sender) -> Verdict {
    if sender.ethernet.dst == sender.network.bridge_mac {
        return Verdict::TO_HOST;
    }
    if !sender.has_icc() {
        return DropReason::IccDisabled.into();
    }
    match neighbour(sender) {
        Some(peer) => Verdict::container(peer.ifindex),
        None => Verdict::PASS,
    }
}

/// The container of the sender's network that the frame is addressed to.
#[inline(always)]
fn neighbour(sender: &Sender) -> Option<&'static Endpoint> {
    maps::endpoint_by_mac(&MacKey {
        network: sender.interface.network,
        mac: sender.ethernet.dst,
        pad: [0; 2],
    })
}

/// A frame to another container's MAC: policy, no translation.
#[inline(always)]
fn bridged<F: Stages>(packet: &Packet<F>, sender: &Sender) -> Verdict {
    let Some(peer) = neighbour(sender) else {
        // A MAC that nobody here has: the bridge floods it, and the hooks of the others look at it.
        return match decide(sender.party::<F>(), sender.party::<F>(), Access::Direct) {
            Ok(()) => Verdict::PASS,
            Err(reason) => reason.into(),
        };
    };
    let asked = Receiver {
        endpoint: peer.id,
        network_id: sender.interface.network,
        network: sender.network,
    };
    if let Err(reason) = policy::own_address(packet, &sender.asker::<F>(), &asked) {
        return reason.into();
    }
    if is_passing_by(packet, sender, peer) {
        return Verdict::container(peer.ifindex);
    }
    let mut from = sender.end();
    let mut to = End::container(peer, sender.network);
    // The frame stays as it is: each side is sent to from the other's MAC.
    from.gateway_mac = peer.mac;
    to.gateway_mac = sender.ethernet.src;
    untranslated(packet, from, to)
}

/// Whether a bridged packet is one that a router among the containers carries, or what it says
/// about one. It comes by again with the same addresses on the router's other side, so that it is
/// tracked there or nowhere.
#[inline(always)]
fn is_passing_by<F: Stages>(packet: &Packet<F>, sender: &Sender, peer: &Endpoint) -> bool {
    let own = F::interface_address(sender.interface);
    if source::is_unchecked(sender.interface)
        && (packet.tuple.src_addr != own || icmp::is_error(packet))
    {
        return true;
    }
    maps::interface(peer.ifindex).is_some_and(|to| {
        source::is_unchecked(to) && packet.tuple.dst_addr != F::interface_address(to)
    })
}

#[inline(always)]
fn untranslated<F: Stages>(packet: &Packet<F>, from: End, to: End) -> Verdict {
    let Some(state) = first_untranslated(packet) else {
        return DropReason::NoFlow.into();
    };
    let Some(draft) = F::draft() else {
        return DropReason::ConntrackFull.into();
    };
    draft.begin(&packet.tuple, state, from, to);
    Verdict::commit(commit::AS_IS)
}
