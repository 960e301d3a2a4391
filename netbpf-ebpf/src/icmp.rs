//! ICMP errors about a known flow: translated inside and out, in both directions (row N2).
//!
//! An error carries the packet that caused it as that was on the wire where the error was made.
//! The reversed tuple of that packet is the key of the half in whose direction the error travels,
//! and that half's translation, reversed, is what the packet looked like on the other side.

use netbpf_common::{
    checksum,
    config::config_flags,
    conntrack::{entry_flags, way},
    family::{Family, V4, V6},
    packet::{Fragment, Packet},
    tuple::{Direction, Tuple, proto},
    verdict::{DropReason, Hook, StackReason, Verdict},
    wire::Be16,
};

use crate::{
    conntrack,
    hooks::{Stages, finish, refuse},
    kernel,
    maps::{self, Half},
    parse::Wire,
    policy, rewrite,
    skb::Skb,
    way as route,
};

/// The length of the ICMP header before the packet that an error carries.
pub const HEADER: usize = 8;

/// The packet inside an error.
pub struct Inner<F: Family> {
    /// Its own tuple.
    pub tuple: Tuple<F>,
    /// Where its network header starts.
    pub l3: usize,
    /// Where its transport header starts.
    pub l4: usize,
}

/// What of ICMP errors differs by family.
pub trait Errors: Wire {
    /// Whether a message of this type carries a packet (RFC 792; RFC 4443, 2.1).
    fn is_error(icmp_type: u8) -> bool;
    /// Addresses, protocol and place of the transport header of the network header at `l3`.
    fn inner(skb: Skb, l3: usize) -> Option<(Tuple<Self>, usize)>;
    /// Puts addresses into the network header at `l3`; the checksum difference that its bytes
    /// now have.
    fn set_inner(skb: Skb, l3: usize, old: &Tuple<Self>, new: &Tuple<Self>) -> Option<u32>;
}

/// Whether a packet is an ICMP error.
#[inline(always)]
pub fn is_error<F: Errors>(packet: &Packet<F>) -> bool {
    packet.tuple.is_icmp() && packet.fragment != Fragment::Later && F::is_error(packet.icmp_type)
}

/// An ICMP error from where packets have `in_ifindex`; the action. What is about no known flow gets
/// the verdict of `unrelated`.
#[inline(always)]
pub fn related<F: Stages>(hook: Hook, skb: Skb, in_ifindex: u32, unrelated: Verdict) -> i32 {
    let Some(packet) = F::packet() else {
        return refuse(hook, skb, DropReason::Malformed);
    };
    let Some(inner) = inner::<F>(skb, packet.l4() + HEADER) else {
        return finish(hook, skb, unrelated);
    };
    let Some(key) = F::key() else {
        return refuse(hook, skb, DropReason::Malformed);
    };
    *key = inner.tuple.reversed();
    let Some(half) = conntrack::find_of(key, in_ifindex) else {
        return finish(hook, skb, unrelated);
    };
    if packet.tuple.dst_addr != key.dst_addr {
        return finish(hook, skb, unrelated);
    }
    if half.generation != maps::config().generation && !policy::ends_stand(half) {
        return refuse(hook, skb, DropReason::FlowEnded);
    }
    send(hook, skb, packet, &inner, half)
}

/// Sends an error the way of `half`.
#[inline(always)]
fn send<F: Stages>(
    hook: Hook,
    skb: Skb,
    packet: &mut Packet<F>,
    inner: &Inner<F>,
    half: Half<F>,
) -> i32 {
    let hops = rewrite::hops(&half);
    if packet.ttl <= hops {
        return refuse(hook, skb, DropReason::TtlExceeded);
    }
    // A router on the way has an address of its own; the flow's far end has the flow's.
    let from_end = packet.tuple.src_addr == inner.tuple.dst_addr;
    let src = if from_end {
        half.translated.src_addr
    } else {
        packet.tuple.src_addr
    };
    let dst = half.translated.dst_addr;
    if half.way != way::OUTSIDE {
        if !rewritten(skb, packet, inner, &half, (src, dst), hops) {
            return refuse(hook, skb, DropReason::NotTranslatable);
        }
        if half.way == way::HOST {
            return finish(hook, skb, Verdict::TO_HOST);
        }
        if !skb.address(F::ETHER_TYPE, half.out_dst_mac, half.out_src_mac) {
            return refuse(hook, skb, DropReason::NotTranslatable);
        }
        if half.way == way::LOCAL {
            return finish(hook, skb, Verdict::local(half.out_ifindex));
        }
        return finish(hook, skb, Verdict::container(half.out_ifindex));
    }
    if maps::config().flags & config_flags::XFRM != 0 {
        return finish(hook, skb, Verdict::stack(StackReason::Xfrm));
    }
    // Routed as the flow's own packets.
    let routed_src = match half.direction() {
        Direction::Original => packet.tuple.src_addr,
        Direction::Reply => src,
    };
    let mut way = match route::between(skb, packet, (routed_src, dst), half.via_ifindex) {
        Ok(way) => way,
        Err(failure) => return finish(hook, skb, route::failure(failure.code)),
    };
    if !route::is_hooked(way.ifindex) {
        return refuse(hook, skb, DropReason::WayOutNotHooked);
    }
    if !rewritten(skb, packet, inner, &half, (src, dst), hops) {
        return refuse(hook, skb, DropReason::NotTranslatable);
    }
    kernel::redirect_neigh(way.ifindex, &mut way.next_hop)
}

/// Rewrites an error inside and out; whether it could.
#[inline(always)]
fn rewritten<F: Stages>(
    skb: Skb,
    packet: &Packet<F>,
    inner: &Inner<F>,
    half: &Half<F>,
    (src, dst): (F::Addr, F::Addr),
    hops: u8,
) -> bool {
    if half.flags & entry_flags::REWRITE == 0 {
        return hops == 0 || F::set_network(skb, src, dst, hops);
    }
    let new = half.translated.reversed();
    let Some(mut diff) = F::set_inner(skb, inner.l3, &inner.tuple, &new) else {
        return false;
    };
    let pseudo_header = rewrite::address_difference(&inner.tuple, &new);
    let Some(transport) = skb.set_inner_transport(inner.l4, &inner.tuple, &new, pseudo_header)
    else {
        return false;
    };
    diff = checksum::add(diff, transport);
    let mut outer = packet.tuple;
    outer.src_addr = src;
    outer.dst_addr = dst;
    let addresses = rewrite::address_difference(&packet.tuple, &outer);
    let l4 = packet.l4();
    skb.set_icmp_sum::<F>(l4, diff, addresses, rewrite::ipv6_flag::<F>())
        && F::set_network(skb, src, dst, hops)
}

/// Parses the packet inside an error, which may be cut short after eight bytes of its transport
/// header (RFC 792).
#[inline(always)]
fn inner<F: Stages>(skb: Skb, l3: usize) -> Option<Inner<F>> {
    let (mut tuple, l4) = F::inner(skb, l3)?;
    let header = skb.eight_bytes(l4)?;
    match tuple.proto {
        proto::TCP | proto::UDP => {
            tuple.src_port = Be16(header[0]);
            tuple.dst_port = Be16(header[1]);
        }
        protocol if protocol == F::ICMP => {
            let [icmp_type, _code] = header[0].to_ne_bytes();
            if icmp_type != F::ECHO_REQUEST && icmp_type != F::ECHO_REPLY {
                return None;
            }
            tuple.src_port = Be16(header[2]);
            tuple.dst_port = tuple.src_port;
        }
        _ => {}
    }
    Some(Inner { tuple, l3, l4 })
}

impl Errors for V4 {
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        // Unreachable, source quench, time exceeded, parameter problem.
        matches!(icmp_type, 3 | 4 | 11 | 12)
    }

    #[inline(always)]
    fn inner(skb: Skb, l3: usize) -> Option<(Tuple<Self>, usize)> {
        const OFFSET: u16 = 0x1fff;
        let header = skb.ipv4_at(l3)?;
        let is_whole = header.version == 4 && header.header_len >= 20;
        let tuple = Tuple {
            src_addr: header.src,
            dst_addr: header.dst,
            proto: header.proto,
            ..Tuple::default()
        };
        (is_whole && header.fragment & OFFSET == 0)
            .then_some((tuple, l3 + usize::from(header.header_len)))
    }

    #[inline(always)]
    fn set_inner(skb: Skb, l3: usize, _old: &Tuple<Self>, new: &Tuple<Self>) -> Option<u32> {
        // The header's own checksum makes up for the addresses.
        skb.set_ipv4_at(l3, new.src_addr, new.dst_addr, 0)
            .then_some(0)
    }
}

impl Errors for V6 {
    #[inline(always)]
    fn is_error(icmp_type: u8) -> bool {
        icmp_type < 128
    }

    #[inline(always)]
    fn inner(skb: Skb, l3: usize) -> Option<(Tuple<Self>, usize)> {
        const HEADER: usize = 40;
        let header = skb.ipv6_at(l3)?;
        let tuple = Tuple {
            src_addr: header.src,
            dst_addr: header.dst,
            proto: header.next_header,
            ..Tuple::default()
        };
        (header.version == 6).then_some((tuple, l3 + HEADER))
    }

    #[inline(always)]
    fn set_inner(skb: Skb, l3: usize, old: &Tuple<Self>, new: &Tuple<Self>) -> Option<u32> {
        skb.set_ipv6_at(l3, new.src_addr, new.dst_addr, 0)
            .then(|| rewrite::address_difference(old, new))
    }
}
