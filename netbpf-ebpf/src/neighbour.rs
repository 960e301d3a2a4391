//! ARP and IPv6 neighbour discovery from a container: who may say what, and who hears it.
//!
//! What is meant for a known container of the network goes straight to it; the rest is flooded by
//! the bridge, which also brings it to the host.

use netbpf_common::{
    endpoint::{Endpoint, Interface, MacKey},
    family::{Family, V4, V6},
    packet::{Fragment, Packet},
    tuple::proto,
    verdict::{DropReason, Verdict},
    wire::{Ipv6, Mac},
};

use crate::{
    maps::{self, Tables},
    skb::{Ethernet, Skb},
    source,
};

/// ICMPv6 types of neighbour discovery (RFC 4861, 4).
mod icmpv6 {
    pub const ROUTER_ADVERTISEMENT: u8 = 134;
    pub const NEIGHBOUR_SOLICITATION: u8 = 135;
    pub const NEIGHBOUR_ADVERTISEMENT: u8 = 136;
    pub const REDIRECT: u8 = 137;
}

/// ICMP's redirect (RFC 792).
const ICMP_REDIRECT: u8 = 5;

/// Ports from which only DHCP servers send (RFC 2131, RFC 8415).
const DHCP_SERVER: u16 = 67;
const DHCPV6_SERVER: u16 = 547;

/// An ARP packet from a container.
#[inline(always)]
pub fn arp(skb: Skb, ethernet: &Ethernet, interface: &Interface) -> Verdict {
    const REQUEST: u16 = 1;
    let Some(arp) = skb.arp() else {
        return Verdict::drop(DropReason::Malformed);
    };
    let may_use_macs = source::may_use_mac(interface, ethernet.src)
        && source::may_use_mac(interface, arp.sender_mac);
    // A container that answers by another of its interfaces asks with the address that it
    // answers from.
    let may_send = is_own::<V4>(&arp.sender, interface)
        || (arp.operation == REQUEST && source::is_siblings::<V4>(interface, &arp.sender));
    if !may_use_macs || !may_send {
        return Verdict::drop(DropReason::ArpSender);
    }
    let known = if arp.operation == REQUEST {
        ours(V4::endpoint(&arp.target), interface)
    } else {
        by_mac(ethernet.dst, interface)
    };
    to_known_or_bridge(known)
}

/// Whether a container may say that an address is its own.
#[inline(always)]
fn is_own<F: Tables>(addr: &F::Addr, interface: &Interface) -> bool {
    if F::is_unspecified(addr) || *addr == F::interface_address(interface) {
        return true;
    }
    source::is_unchecked(interface) && source::may_carry::<F>(interface, addr)
}

/// What is special about an IP packet from a container on its own link.
pub trait OnLink: Family {
    /// The verdict on neighbour discovery and on what only routers and DHCP servers send;
    /// `None`: an ordinary packet.
    fn on_link(
        skb: Skb,
        ethernet: &Ethernet,
        packet: &Packet<Self>,
        interface: &Interface,
    ) -> Option<Verdict>;
    /// Whether [`OnLink::on_link`] has something to say about this packet.
    fn is_on_link(packet: &Packet<Self>) -> bool;
}

impl OnLink for V4 {
    #[inline(always)]
    fn on_link(
        _skb: Skb,
        _ethernet: &Ethernet,
        packet: &Packet<Self>,
        _interface: &Interface,
    ) -> Option<Verdict> {
        Self::is_on_link(packet).then_some(Verdict::drop(DropReason::RouterImpersonation))
    }

    #[inline(always)]
    fn is_on_link(packet: &Packet<Self>) -> bool {
        let tuple = &packet.tuple;
        (tuple.proto == proto::UDP && tuple.src_port.get() == DHCP_SERVER)
            || (tuple.is_icmp()
                && packet.fragment != Fragment::Later
                && packet.icmp_type == ICMP_REDIRECT)
    }
}

impl OnLink for V6 {
    #[inline(always)]
    fn on_link(
        skb: Skb,
        ethernet: &Ethernet,
        packet: &Packet<Self>,
        interface: &Interface,
    ) -> Option<Verdict> {
        if packet.tuple.proto == proto::UDP {
            let is_server = packet.tuple.src_port.get() == DHCPV6_SERVER;
            return is_server.then_some(Verdict::drop(DropReason::RouterImpersonation));
        }
        match packet.icmp_type {
            icmpv6::ROUTER_ADVERTISEMENT | icmpv6::REDIRECT => {
                Some(Verdict::drop(DropReason::RouterImpersonation))
            }
            icmpv6::NEIGHBOUR_SOLICITATION => {
                let Some(target) = skb.neighbour_target(packet.l4()) else {
                    return Some(Verdict::drop(DropReason::Malformed));
                };
                Some(to_known_or_bridge(by_address(&target, interface)))
            }
            icmpv6::NEIGHBOUR_ADVERTISEMENT => {
                let Some(target) = skb.neighbour_target(packet.l4()) else {
                    return Some(Verdict::drop(DropReason::Malformed));
                };
                if !may_advertise(&target, interface) {
                    return Some(Verdict::drop(DropReason::NeighbourTarget));
                }
                Some(to_known_or_bridge(by_mac(ethernet.dst, interface)))
            }
            _ => None,
        }
    }

    #[inline(always)]
    fn is_on_link(packet: &Packet<Self>) -> bool {
        match packet.tuple.proto {
            proto::ICMPV6 => matches!(
                packet.icmp_type,
                icmpv6::ROUTER_ADVERTISEMENT
                    | icmpv6::NEIGHBOUR_SOLICITATION
                    | icmpv6::NEIGHBOUR_ADVERTISEMENT
                    | icmpv6::REDIRECT
            ),
            proto::UDP => packet.tuple.src_port.get() == DHCPV6_SERVER,
            _ => false,
        }
    }
}

/// Whether a container may say that an address is its own. A link-local one may be made from
/// anything, but not from the MAC of another container or of the bridge.
#[inline(always)]
fn may_advertise(target: &Ipv6, interface: &Interface) -> bool {
    if !V6::is_link_local(target) {
        return is_own::<V6>(target, interface) && *target != Ipv6::UNSPECIFIED;
    }
    let Some(mac) = mac_of(target) else {
        return true;
    };
    let is_bridge = maps::network(interface.network).is_some_and(|net| net.bridge_mac == mac);
    mac == interface.mac || (!is_bridge && by_mac(mac, interface).is_none())
}

/// The container of the network that has an IPv6 address. A link-local one made from a MAC leads
/// to the container with that MAC.
#[inline(always)]
fn by_address(target: &Ipv6, interface: &Interface) -> Option<&'static Endpoint> {
    if !V6::is_link_local(target) {
        return ours(V6::endpoint(target), interface);
    }
    by_mac(mac_of(target)?, interface)
}

/// The MAC from which a link-local address was made (RFC 4291, appendix A), if it was.
#[inline(always)]
fn mac_of(target: &Ipv6) -> Option<Mac> {
    let [a, b, c, d] = target.0[2].to_ne_bytes();
    let [e, f, g, h] = target.0[3].to_ne_bytes();
    if d != 0xff || e != 0xfe {
        return None;
    }
    Some(Mac::from_wire([a ^ 2, b, c, f, g, h]))
}

#[inline(always)]
fn by_mac(mac: Mac, interface: &Interface) -> Option<&'static Endpoint> {
    if mac.is_group() {
        return None;
    }
    maps::endpoint_by_mac(&MacKey {
        network: interface.network,
        mac,
        pad: [0; 2],
    })
}

#[inline(always)]
fn ours(endpoint: Option<&'static Endpoint>, interface: &Interface) -> Option<&'static Endpoint> {
    endpoint.filter(|endpoint| {
        endpoint.network == interface.network && endpoint.id != interface.endpoint
    })
}

#[inline(always)]
fn to_known_or_bridge(known: Option<&Endpoint>) -> Verdict {
    match known {
        Some(endpoint) => Verdict::container(endpoint.ifindex),
        None => Verdict::TO_HOST,
    }
}
