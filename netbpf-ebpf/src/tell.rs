//! ICMP errors of our own: a container's packet that is too big for its way, or whose hops run out,
//! is turned into the answer that a router would give, and handed back.
//!
//! The host's stack can't be left with that: it forwards IPv6 only where forwarding is on for the
//! whole host, and neither family past a forward chain that drops. The answer quotes what a sender
//! needs to find its flow: the network header and the start of the transport header (RFC 792; less
//! than RFC 4443 allows, for a program can't sum a thousand bytes cheaply).

use netbpf_common::{
    checksum,
    family::{Family, V4, V6},
    packet::{Fragment, Packet},
    tuple::proto,
    verdict::{DropReason, Hook, StackReason, Verdict, stack_counter},
};

use crate::{
    hooks::{Stages, finish, refuse},
    icmp, kernel, maps,
    skb::{L3, Skb},
};

/// How many bytes of a transport header are quoted: TCP's whole, for a partial checksum's place
/// can't be cut off.
const QUOTED: usize = 8;
const QUOTED_TCP: usize = 20;

/// What of an answer differs by family.
pub trait Answer: Family {
    /// The length of a network header without options or extension headers.
    const HEADER: usize;
    /// Turns a frame whose quote has been moved back into the answer: headers from `gateway` to the
    /// sender, and an ICMP error with `mtu`, or time exceeded where that is 0.
    fn write(skb: Skb, packet: &Packet<Self>, gateway: Self::Addr, mtu: u16, quote: Quote) -> bool;
}

/// How much is quoted.
#[derive(Clone, Copy, PartialEq)]
pub enum Quote {
    /// [`QUOTED`] bytes of the transport header.
    Short,
    /// [`QUOTED_TCP`].
    Tcp,
}

/// Answers the scratch packet: too big for `mtu`, or out of hops where that is 0; the action.
#[inline(always)]
pub fn tell<F: Stages>(skb: Skb, mtu: u32) -> i32 {
    let (dropped, counted) = if mtu == 0 {
        (DropReason::TtlExceeded, StackReason::TtlExceeded)
    } else {
        (DropReason::TooBig, StackReason::TooBig)
    };
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    let is_plain = packet.l4_offset as usize == L3 + F::HEADER
        && packet.fragment == Fragment::None
        && !icmp::is_error(packet);
    if !is_plain {
        return finish(Hook::FromContainer, skb, Verdict::stack(counted));
    }
    let len = skb.len();
    let ifindex = skb.ifindex();
    let network = maps::interface(ifindex).and_then(|interface| maps::network(interface.network));
    let Some(network) = network else {
        return refuse(Hook::FromContainer, skb, DropReason::UnknownInterface);
    };
    let Some(ethernet) = skb.ethernet() else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    let quote = if packet.tuple.proto == proto::TCP {
        Quote::Tcp
    } else {
        Quote::Short
    };
    let quoted = F::HEADER
        + if quote == Quote::Tcp {
            QUOTED_TCP
        } else {
            QUOTED
        };
    let is_written = maps::may_tell(kernel::now())
        && skb.quote(quoted as u32, (F::HEADER + icmp::HEADER) as i32)
        && F::write(skb, packet, F::gateway(network), mtu as u16, quote)
        && skb.address(F::ETHER_TYPE, ethernet.src, network.bridge_mac);
    if !is_written {
        return refuse(Hook::FromContainer, skb, dropped);
    }
    maps::count(stack_counter(Hook::FromContainer, counted), len);
    finish(Hook::FromContainer, skb, Verdict::container(ifindex))
}

impl Answer for V4 {
    const HEADER: usize = 20;

    #[inline(always)]
    fn write(skb: Skb, packet: &Packet<V4>, gateway: Self::Addr, mtu: u16, quote: Quote) -> bool {
        // Unreachable, fragmentation needed (RFC 1191, 4); time exceeded in transit.
        let (icmp_type, code) = if mtu == 0 { (11, 0) } else { (3, 4) };
        let to = packet.tuple.src_addr;
        let quoted = match quote {
            Quote::Short => skb.sum::<{ (20 + QUOTED) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
            Quote::Tcp => skb.sum::<{ (20 + QUOTED_TCP) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
        };
        let Some((sum, len)) = quoted else {
            return false;
        };
        skb.write_ipv4(gateway, to, Self::ICMP, (icmp::HEADER + len) as u16)
            && skb.write_icmp(L3 + Self::HEADER, icmp_type, code, u32::from(mtu), sum)
    }
}

impl Answer for V6 {
    const HEADER: usize = 40;

    #[inline(always)]
    fn write(skb: Skb, packet: &Packet<V6>, gateway: Self::Addr, mtu: u16, quote: Quote) -> bool {
        // Packet too big; time exceeded, hop limit (RFC 4443, 3.2 and 3.3).
        let icmp_type = if mtu == 0 { 3 } else { 2 };
        let to = packet.tuple.src_addr;
        let quoted = match quote {
            Quote::Short => skb.sum::<{ (40 + QUOTED) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
            Quote::Tcp => skb.sum::<{ (40 + QUOTED_TCP) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
        };
        let Some((sum, len)) = quoted else {
            return false;
        };
        let len = (icmp::HEADER + len) as u16;
        // The pseudo-header (RFC 8200, 8.1): addresses, length, next header.
        let ([a, b, c, d], [e, f, g, h]) = (gateway.0, to.0);
        let proto = u32::from(Self::ICMP).to_be();
        let pseudo = [a, b, c, d, e, f, g, h, u32::from(len).to_be(), proto];
        let sum = checksum::add(sum, checksum::difference(&[], &pseudo));
        skb.write_ipv6(gateway, to, Self::ICMP, len)
            && skb.write_icmp(L3 + Self::HEADER, icmp_type, 0, u32::from(mtu), sum)
    }
}
