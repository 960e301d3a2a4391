//! From bytes to meaning: Ethernet was read by the caller, here are IP and transport headers.
//!
//! A packet is understood whole or not at all; nothing is guessed from a header that contradicts
//! its lengths.

use netbpf_common::{
    family::{Family, V4, V6},
    packet::{Fragment, MAX_L4_OFFSET, Packet},
    tuple::proto,
    verdict::DropReason,
    wire::Be16,
};

use crate::{
    fragment,
    maps::Tables,
    skb::{L3, Skb},
    subprograms::Subprograms,
};

/// How many IPv6 extension headers a packet may have.
const MAX_EXTENSIONS: u32 = 8;

/// IPv6 next-header numbers of extension headers (RFC 8200, 4).
mod extension {
    pub const HOP_BY_HOP: u8 = 0;
    pub const ROUTING: u8 = 43;
    pub const FRAGMENT: u8 = 44;
    pub const DESTINATION: u8 = 60;
    pub const NONE: u8 = 59;
}

/// What of parsing and rewriting differs by family.
pub trait Wire: Family {
    /// Reads the network header, and what lies between it and the transport header, into `packet`;
    /// how many bytes the datagram has from the transport header on.
    fn network(skb: Skb, packet: &mut Packet<Self>) -> Option<usize>;
    /// Source and destination alone, for packets that [`Wire::network`] refuses.
    fn addresses(skb: Skb) -> Option<(Self::Addr, Self::Addr)>;
    /// Puts in addresses and takes `hops` from TTL or hop limit.
    fn set_network(skb: Skb, src: Self::Addr, dst: Self::Addr, hops: u8) -> bool;
}

/// Parses the packet into this CPU's scratch and follows fragments; 0, or the number of a drop
/// reason plus 1.
#[inline(always)]
pub fn into_scratch<F: Wire + Tables>(skb: Skb) -> u32 {
    let Some(scratch) = F::packet() else {
        return code(DropReason::Malformed);
    };
    if packet(skb, scratch).is_none() {
        return code(DropReason::Malformed);
    }
    match fragment::follow(scratch, skb.ifindex()) {
        Ok(()) => 0,
        Err(reason) => code(reason),
    }
}

/// Parses into this CPU's scratch. It is for the hook itself to ask for, not for one of its stages:
/// the stacks of a chain of calls add up.
///
/// # Errors
///
/// [`DropReason::Malformed`] for whatever can't be understood,
/// [`DropReason::FragmentWithoutFirst`].
#[inline(always)]
pub fn parsed<F: Subprograms>(skb: Skb) -> Result<(), DropReason> {
    match F::parse(skb) {
        0 => Ok(()),
        code if code == self::code(DropReason::FragmentWithoutFirst) => {
            Err(DropReason::FragmentWithoutFirst)
        }
        _ => Err(DropReason::Malformed),
    }
}

const fn code(reason: DropReason) -> u32 {
    reason as u32 + 1
}

/// Parses the packet behind an Ethernet header; none if it can't be understood.
#[inline(always)]
fn packet<F: Wire>(skb: Skb, packet: &mut Packet<F>) -> Option<()> {
    let tuple = &mut packet.tuple;
    tuple.src_port = Be16(0);
    tuple.dst_port = Be16(0);
    tuple.pad = 0;
    tuple.pad2 = 0;
    packet.tcp_flags = 0;
    packet.icmp_type = 0;
    packet.reopens = false;
    let payload = F::network(skb, packet)?;
    packet.header_len = packet.l4_offset - L3 as u16;
    if packet.fragment == Fragment::Later {
        return Some(());
    }
    transport(skb, packet, payload)
}

#[inline(always)]
fn transport<F: Wire>(skb: Skb, packet: &mut Packet<F>, payload: usize) -> Option<()> {
    let l4 = packet.l4();
    let tuple = &mut packet.tuple;
    match tuple.proto {
        proto::TCP => {
            let header = skb.tcp(l4)?;
            let [offset, flags] = header[6].to_ne_bytes();
            let header_len = usize::from(offset >> 4) * 4;
            if header_len < 20 || header_len > payload {
                return None;
            }
            tuple.src_port = Be16(header[0]);
            tuple.dst_port = Be16(header[1]);
            packet.tcp_flags = flags;
            packet.header_len += header_len as u16;
        }
        proto::UDP => {
            let header = skb.eight_bytes(l4)?;
            let len = usize::from(u16::from_be(header[2]));
            if payload < 8 || len < 8 || (len > payload && packet.fragment == Fragment::None) {
                return None;
            }
            tuple.src_port = Be16(header[0]);
            tuple.dst_port = Be16(header[1]);
            packet.header_len += 8;
        }
        protocol if protocol == F::ICMP => {
            let header = skb.eight_bytes(l4)?;
            if payload < 8 {
                return None;
            }
            let [icmp_type, _code] = header[0].to_ne_bytes();
            packet.icmp_type = icmp_type;
            if icmp_type == F::ECHO_REQUEST || icmp_type == F::ECHO_REPLY {
                tuple.src_port = Be16(header[2]);
                tuple.dst_port = tuple.src_port;
            }
            packet.header_len += 8;
        }
        _ => {}
    }
    Some(())
}

impl Wire for V4 {
    #[inline(always)]
    fn network(skb: Skb, packet: &mut Packet<Self>) -> Option<usize> {
        const DONT_FRAGMENT: u16 = 0x4000;
        const MORE_FRAGMENTS: u16 = 0x2000;
        const OFFSET: u16 = 0x1fff;
        let header = skb.ipv4()?;
        packet.tuple.src_addr = header.src;
        packet.tuple.dst_addr = header.dst;
        let header_len = usize::from(header.header_len);
        let in_frame = skb.len() as usize - L3;
        // What will be cut into segments can be longer than the field holds (BIG TCP): then it
        // says zero.
        let total_len = match usize::from(header.total_len) {
            0 if skb.gso_size() != 0 => in_frame,
            len => len,
        };
        if header.version != 4 || header_len < 20 || total_len < header_len {
            return None;
        }
        if total_len > in_frame && skb.gso_size() == 0 {
            return None;
        }
        packet.tuple.proto = header.proto;
        packet.ttl = header.ttl;
        packet.must_not_be_cut = header.fragment & DONT_FRAGMENT != 0;
        packet.fragment = match (header.fragment & OFFSET, header.fragment & MORE_FRAGMENTS) {
            (0, 0) => Fragment::None,
            (0, _) => Fragment::First,
            _ => Fragment::Later,
        };
        packet.fragment_id = u32::from(header.id);
        packet.l4_offset = (L3 + header_len) as u16;
        Some(total_len - header_len)
    }

    #[inline(always)]
    fn addresses(skb: Skb) -> Option<(Self::Addr, Self::Addr)> {
        skb.ipv4().map(|header| (header.src, header.dst))
    }

    #[inline(always)]
    fn set_network(skb: Skb, src: Self::Addr, dst: Self::Addr, hops: u8) -> bool {
        skb.set_ipv4(src, dst, hops)
    }
}

impl Wire for V6 {
    #[inline(always)]
    fn network(skb: Skb, packet: &mut Packet<Self>) -> Option<usize> {
        const HEADER: usize = 40;
        let header = skb.ipv6()?;
        packet.tuple.src_addr = header.src;
        packet.tuple.dst_addr = header.dst;
        let in_frame = (skb.len() as usize).wrapping_sub(L3 + HEADER);
        // See IPv4: BIG TCP.
        let payload = match usize::from(header.payload_len) {
            0 if skb.gso_size() != 0 => in_frame,
            len => len,
        };
        if header.version != 6 || (payload > in_frame && skb.gso_size() == 0) {
            return None;
        }
        packet.tuple.proto = header.next_header;
        packet.ttl = header.hop_limit;
        packet.must_not_be_cut = true;
        packet.fragment = Fragment::None;
        packet.fragment_id = 0;
        packet.l4_offset = (L3 + HEADER) as u16;
        if is_extension(header.next_header) {
            return walk_extensions(skb, packet, payload);
        }
        Some(payload)
    }

    #[inline(always)]
    fn addresses(skb: Skb) -> Option<(Self::Addr, Self::Addr)> {
        skb.ipv6().map(|header| (header.src, header.dst))
    }

    #[inline(always)]
    fn set_network(skb: Skb, src: Self::Addr, dst: Self::Addr, hops: u8) -> bool {
        skb.set_ipv6(src, dst, hops)
    }
}

/// Whether an IPv4 packet chooses its way by an option: then the destination says where it goes
/// next and not where it goes (RFC 791, 3.1). IPv6's is not understood, see `walk_extensions`.
#[inline(always)]
pub fn is_source_routed(skb: Skb) -> bool {
    const WITHOUT_OPTIONS: u8 = 20;
    skb.ipv4()
        .is_some_and(|header| header.header_len > WITHOUT_OPTIONS)
        && V4::source_route(skb) != 0
}

/// Walks the options of an IPv4 header; 1 if one of them is a source route.
#[inline(always)]
pub fn source_route<F: Family>(skb: Skb) -> u32 {
    const END: u8 = 0;
    const NO_OPERATION: u8 = 1;
    const LOOSE: u8 = 131;
    const STRICT: u8 = 137;
    const FIRST: usize = L3 + 20;
    const MOST: usize = 40;
    if F::ETHER_TYPE != V4::ETHER_TYPE {
        return 0;
    }
    let Some(header) = skb.ipv4() else { return 0 };
    let len = usize::from(header.header_len).wrapping_sub(20);
    let mut at = 0;
    for _ in 0..MOST {
        if at >= len || at >= MOST {
            return 0;
        }
        let Some([kind, option_len]) = skb.two_bytes(FIRST + at) else {
            return 0;
        };
        at += match kind {
            END => return 0,
            LOOSE | STRICT => return 1,
            NO_OPERATION => 1,
            _ => usize::from(option_len.max(1)),
        };
    }
    0
}

const fn is_extension(next_header: u8) -> bool {
    matches!(
        next_header,
        extension::HOP_BY_HOP
            | extension::ROUTING
            | extension::FRAGMENT
            | extension::DESTINATION
            | extension::NONE
    )
}

/// Walks to the transport header (RFC 8200, 4.1), `payload` bytes from the first extension header
/// on; how many there are from the transport header on.
#[inline(never)]
fn walk_extensions(skb: Skb, packet: &mut Packet<V6>, payload: usize) -> Option<usize> {
    let mut payload = payload;
    for _ in 0..MAX_EXTENSIONS {
        if !is_extension(packet.tuple.proto) {
            return Some(payload);
        }
        if packet.tuple.proto == extension::NONE || packet.fragment == Fragment::Later {
            return None;
        }
        let header = skb.eight_bytes(packet.l4())?;
        let [next, units] = header[0].to_ne_bytes();
        // Deprecated, for it lets a sender choose the way (RFC 5095).
        let [routing_type, segments_left] = header[1].to_ne_bytes();
        if packet.tuple.proto == extension::ROUTING && routing_type == 0 && segments_left != 0 {
            return None;
        }
        let len = if packet.tuple.proto == extension::FRAGMENT {
            let place = u16::from_be(header[1]);
            packet.fragment = match (place & 0xfff8, place & 1) {
                // RFC 6946: an atomic fragment is a whole datagram.
                (0, 0) => Fragment::None,
                (0, _) => Fragment::First,
                _ => Fragment::Later,
            };
            packet.fragment_id = u32::from(header[2]) << 16 | u32::from(header[3]);
            8
        } else {
            (usize::from(units) + 1) * 8
        };
        packet.tuple.proto = next;
        packet.l4_offset += len as u16;
        payload = payload.checked_sub(len)?;
        if packet.l4_offset > MAX_L4_OFFSET {
            return None;
        }
        if packet.fragment == Fragment::Later {
            return Some(payload);
        }
    }
    (!is_extension(packet.tuple.proto)).then_some(payload)
}
