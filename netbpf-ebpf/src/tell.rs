//! ICMP errors of our own: a packet that is too big for its way, whose hops run out, or that asks a
//! virtual IP for a port that it has not, is turned into the answer that a router or a host would
//! give, and handed back.
//!
//! The host's stack can't be left with that: it forwards IPv6 only where forwarding is on for the
//! whole host, and neither family past a forward chain that drops. The answer quotes what a sender
//! needs to find its flow: the network header and the start of the transport header (RFC 792; less
//! than RFC 4443 allows, for a program can't sum a thousand bytes cheaply).

use netbpf_common::{
    checksum,
    endpoint::{Interface, role},
    family::{Family, V4, V6},
    packet::{Fragment, Packet},
    tuple::proto,
    verdict::{DropReason, Hook, StackReason, Verdict, drop_counter, stack_counter},
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

/// What to tell, where it is not the MTU that a packet is too big for.
pub const OUT_OF_HOPS: u32 = 0;
/// As [`OUT_OF_HOPS`]: nobody listens there.
pub const PORT_CLOSED: u32 = 1 << 16;

/// What of an answer differs by family.
pub trait Answer: Family {
    /// The length of a network header without options or extension headers.
    const HEADER: usize;
    /// The most that the host itself is told: toward an address of its own the kernel remembers an
    /// MTU only if it is below that of the interface with the address.
    const OWN_MTU: u32;
    /// Turns a frame whose quote has been moved back into the answer: headers from `from` to the
    /// sender, and the ICMP error that says `what`.
    fn write(skb: Skb, packet: &Packet<Self>, from: Self::Addr, what: u32, quote: Quote) -> bool;
}

/// How much is quoted.
#[derive(Clone, Copy, PartialEq)]
pub enum Quote {
    /// [`QUOTED`] bytes of the transport header.
    Short,
    /// [`QUOTED_TCP`].
    Tcp,
}

/// Whether an answer can quote a packet: no options, no fragment, and no error itself (RFC 1122,
/// 3.2.2; RFC 4443, 2.4).
#[inline(always)]
pub fn can_quote<F: Stages>(packet: &Packet<F>) -> bool {
    packet.l4() == L3 + F::HEADER && packet.fragment == Fragment::None && !icmp::is_error(packet)
}

/// Answers the scratch packet: it is too big for the MTU `what`, or [`OUT_OF_HOPS`], or
/// [`PORT_CLOSED`]; the action.
#[inline(always)]
pub fn tell<F: Stages>(skb: Skb, what: u32) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(Hook::FromContainer, skb, DropReason::Malformed);
    };
    let Some(interface) = maps::interface(skb.ifindex()) else {
        return refuse(Hook::FromContainer, skb, DropReason::UnknownInterface);
    };
    let hook = match interface.role {
        role::CONTAINER => Hook::FromContainer,
        role::LOOPBACK => Hook::FromLocal,
        _ => Hook::FromNetdev,
    };
    let what = match interface.role {
        role::LOOPBACK if what != PORT_CLOSED => what.min(F::OWN_MTU),
        _ => what,
    };
    let (dropped, counter) = match what {
        OUT_OF_HOPS => (
            DropReason::TtlExceeded,
            stack_counter(hook, StackReason::TtlExceeded),
        ),
        PORT_CLOSED => (
            DropReason::VipPortClosed,
            drop_counter(hook, DropReason::VipPortClosed),
        ),
        _ => (DropReason::TooBig, stack_counter(hook, StackReason::TooBig)),
    };
    if !can_quote(packet) {
        return untold(hook, skb, what);
    }
    let is_tcp = packet.tuple.proto == proto::TCP;
    if what == PORT_CLOSED && !is_tcp && packet.tuple.proto != proto::UDP {
        return refuse(hook, skb, dropped);
    }
    let quote = if is_tcp { Quote::Tcp } else { Quote::Short };
    let quoted = F::HEADER + if is_tcp { QUOTED_TCP } else { QUOTED };
    let len = skb.len();
    let from = from::<F>(packet, interface, what);
    let is_written = maps::may_tell(kernel::now())
        && skb.quote(quoted as u32, (F::HEADER + icmp::HEADER) as i32)
        && F::write(skb, packet, from, what, quote)
        && turn_round(skb, interface);
    if !is_written {
        return refuse(hook, skb, dropped);
    }
    maps::count(counter, len);
    match interface.role {
        role::CONTAINER => finish(hook, skb, Verdict::container(skb.ifindex())),
        role::LOOPBACK => finish(hook, skb, Verdict::local(skb.ifindex())),
        _ => kernel::redirect(skb.ifindex()),
    }
}

/// What becomes of a packet that no answer can quote.
#[inline(always)]
fn untold(hook: Hook, skb: Skb, what: u32) -> i32 {
    let verdict = match what {
        OUT_OF_HOPS => Verdict::stack(StackReason::TtlExceeded),
        PORT_CLOSED => Verdict::drop(DropReason::VipPortClosed),
        // The host's stack would take it for its own.
        _ if hook as u8 == Hook::FromLocal as u8 => Verdict::drop(DropReason::TooBig),
        _ => Verdict::stack(StackReason::TooBig),
    };
    finish(hook, skb, verdict)
}

/// Who answers: the address that was asked if it is the host's, else the gateway of the container's
/// network.
#[inline(always)]
fn from<F: Stages>(packet: &Packet<F>, interface: &Interface, what: u32) -> F::Addr {
    let asked = packet.tuple.dst_addr;
    let network = if interface.role == role::CONTAINER {
        interface.network
    } else {
        F::subnet(&asked).unwrap_or_default()
    };
    let is_hosts = interface.role != role::CONTAINER && F::host_address(&asked).is_some();
    match maps::network(network) {
        Some(network) if what != PORT_CLOSED && !is_hosts => F::gateway(network),
        _ => asked,
    }
}

/// Addresses the frame to whoever sent it: a container hears from its bridge.
#[inline(always)]
fn turn_round(skb: Skb, interface: &Interface) -> bool {
    if L3 == 0 {
        return true;
    }
    let Some(ethernet) = skb.ethernet() else {
        return false;
    };
    let from = if interface.role == role::CONTAINER {
        match maps::network(interface.network) {
            Some(network) => network.bridge_mac,
            None => return false,
        }
    } else {
        ethernet.dst
    };
    skb.address(ethernet.ether_type, ethernet.src, from)
}

impl Answer for V4 {
    const HEADER: usize = 20;
    const OWN_MTU: u32 = 0xffff;

    #[inline(always)]
    fn write(skb: Skb, packet: &Packet<V4>, from: Self::Addr, what: u32, quote: Quote) -> bool {
        // Time exceeded in transit; unreachable: port; fragmentation needed (RFC 1191, 4).
        let (icmp_type, code, rest) = match what {
            OUT_OF_HOPS => (11, 0, 0),
            PORT_CLOSED => (3, 3, 0),
            mtu => (3, 4, mtu & 0xffff),
        };
        let to = packet.tuple.src_addr;
        let quoted = match quote {
            Quote::Short => skb.sum::<{ (20 + QUOTED) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
            Quote::Tcp => skb.sum::<{ (20 + QUOTED_TCP) / 4 }>(L3 + Self::HEADER + icmp::HEADER),
        };
        let Some((sum, len)) = quoted else {
            return false;
        };
        skb.write_ipv4(from, to, Self::ICMP, (icmp::HEADER + len) as u16)
            && skb.write_icmp(L3 + Self::HEADER, icmp_type, code, rest, sum)
    }
}

impl Answer for V6 {
    const HEADER: usize = 40;
    /// What every link takes (RFC 8200, 5).
    const OWN_MTU: u32 = 1280;

    #[inline(always)]
    fn write(skb: Skb, packet: &Packet<V6>, from: Self::Addr, what: u32, quote: Quote) -> bool {
        // Time exceeded: hop limit; unreachable: port; packet too big (RFC 4443, 3.1 to 3.3).
        let (icmp_type, code, rest) = match what {
            OUT_OF_HOPS => (3, 0, 0),
            PORT_CLOSED => (1, 4, 0),
            mtu => (2, 0, mtu & 0xffff),
        };
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
        let ([a, b, c, d], [e, f, g, h]) = (from.0, to.0);
        let proto = u32::from(Self::ICMP).to_be();
        let pseudo = [a, b, c, d, e, f, g, h, u32::from(len).to_be(), proto];
        let sum = checksum::add(sum, checksum::difference(&[], &pseudo));
        skb.write_ipv6(from, to, Self::ICMP, len)
            && skb.write_icmp(L3 + Self::HEADER, icmp_type, code, rest, sum)
    }
}
