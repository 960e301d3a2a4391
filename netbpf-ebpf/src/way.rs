//! The way out of the host, as the kernel's routing table has it for this packet.
//!
//! An answer holds for what is left of its tick, 134 ms at most, and for the very
//! question that it answers, on the CPU that asked; nothing is rewritten here.

use aya_ebpf::bindings::{
    BPF_FIB_LKUP_RET_FRAG_NEEDED, BPF_FIB_LKUP_RET_FWD_DISABLED, BPF_FIB_LKUP_RET_NO_NEIGH,
    BPF_FIB_LKUP_RET_NO_SRC_ADDR, BPF_FIB_LKUP_RET_NOT_FWDED, BPF_FIB_LKUP_RET_SUCCESS,
    BPF_FIB_LKUP_RET_UNSUPP_LWT, BPF_FIB_LOOKUP_SRC, bpf_redir_neigh,
};
use netbpf_common::{
    conntrack::{Entry, Tick},
    endpoint::{Interface, role},
    family::Family,
    packet::Packet,
    tuple::{Direction, Tuple},
    verdict::{DropReason, StackReason, Verdict},
};

use crate::{
    globals,
    kernel::{self, FibParams, KernelFamily},
    maps::{self, Tables},
    skb::{L3, Skb},
};

/// The way of one packet to the outside.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct WayOut {
    /// The interface.
    pub ifindex: u32,
    /// The neighbour to send to.
    pub next_hop: bpf_redir_neigh,
}

/// What the kernel last answered to a question for a way out.
#[repr(C)]
pub struct KnownWay<F: Family> {
    /// Who is led where.
    tuple: Tuple<F>,
    /// Where its packets come from.
    via_ifindex: u32,
    /// When that was.
    asked: Tick,
    /// The longest packet that the way takes, in bytes.
    mtu: u32,
    way: WayOut,
}

/// How many ways a CPU remembers in a family.
pub const KNOWN_WAYS: u32 = 1024;

/// Why there is no short way.
#[derive(Clone, Copy)]
pub struct Failure {
    /// What the kernel answered: `BPF_FIB_LKUP_RET_*`.
    pub code: u32,
    /// The MTU of the way, where the packet is too big for it.
    pub mtu: u32,
}

impl Failure {
    /// Whether the packet is too big for its way.
    #[inline(always)]
    pub const fn is_too_big(self) -> bool {
        self.code == BPF_FIB_LKUP_RET_FRAG_NEEDED
    }
}

/// The way of a packet of `half` to the outside.
///
/// What a container begins is routed by the container's own address, as the stack would do before
/// it masquerades: so policy rules about the network's subnet hold. An answer is routed by the
/// address that was asked.
///
/// # Errors
///
/// What the kernel answered where the short way can't be taken, for [`failure`].
#[inline(always)]
pub fn out<F: KernelFamily + Tables>(
    skb: Skb,
    packet: &Packet<F>,
    half: &Entry<F>,
) -> Result<WayOut, Failure> {
    let (tuple, index) = match half.direction() {
        Direction::Original => (&packet.tuple, half.slot << 1),
        Direction::Reply => (&half.translated, half.slot << 1 | 1),
    };
    let (via_ifindex, now) = (half.via_ifindex, half.last_seen);
    let Some(known) = F::known_way(index % KNOWN_WAYS) else {
        return look_up(skb, &mut params(skb, packet, tuple, via_ifindex));
    };
    let is_answer = known.asked == now && known.via_ifindex == via_ifindex;
    if is_answer && u32::from(wire_len(skb, packet)) <= known.mtu && known.tuple == *tuple {
        return Ok(known.way);
    }
    let mut params = params(skb, packet, tuple, via_ifindex);
    known.way = look_up(skb, &mut params)?;
    known.tuple = *tuple;
    known.via_ifindex = via_ifindex;
    known.asked = now;
    // The kernel puts the way's MTU where the packet's length was. Before 6.3 it leaves the length
    // there while it does not know the neighbour: then a longer packet asks anew.
    known.mtu = kernel::fib_mtu(&params);
    Ok(known.way)
}

/// The way of an ICMP error between two addresses, the second one outside.
///
/// # Errors
///
/// As [`out`].
#[inline(always)]
pub fn between<F: KernelFamily>(
    skb: Skb,
    packet: &Packet<F>,
    (src, dst): (F::Addr, F::Addr),
    via_ifindex: u32,
) -> Result<WayOut, Failure> {
    let tuple = Tuple {
        src_addr: src,
        dst_addr: dst,
        proto: F::ICMP,
        ..Tuple::default()
    };
    look_up(skb, &mut params(skb, packet, &tuple, via_ifindex))
}

#[inline(always)]
fn look_up(skb: Skb, params: &mut FibParams) -> Result<WayOut, Failure> {
    let code = kernel::fib_lookup(skb, params, globals::fib_flags()) as u32;
    // Who the neighbour is, the redirect asks for itself.
    if code != BPF_FIB_LKUP_RET_SUCCESS && code != BPF_FIB_LKUP_RET_NO_NEIGH {
        return Err(Failure {
            code,
            mtu: kernel::fib_mtu(params),
        });
    }
    Ok(WayOut {
        ifindex: params.ifindex,
        next_hop: kernel::next_hop(params),
    })
}

/// The source address that the host itself would use on the way to the packet's destination.
///
/// # Errors
///
/// The verdict where there is no such way.
#[inline(always)]
pub fn source<F: KernelFamily>(
    skb: Skb,
    packet: &Packet<F>,
    via_ifindex: u32,
) -> Result<F::Addr, Verdict> {
    let mut params = params(skb, packet, &packet.tuple, via_ifindex);
    kernel::set_fib_len(&mut params, 0);
    let mut flags = globals::fib_flags();
    if globals::has_fib_source() {
        flags |= BPF_FIB_LOOKUP_SRC;
    }
    match kernel::fib_lookup(skb, &mut params, flags) as u32 {
        // A length of zero makes the kernel compare the frame with the device's MTU; the source
        // address holds all the same.
        BPF_FIB_LKUP_RET_SUCCESS | BPF_FIB_LKUP_RET_NO_NEIGH | BPF_FIB_LKUP_RET_FRAG_NEEDED => {}
        other => return Err(failure(other)),
    }
    let Some(uplink) = uplink(params.ifindex) else {
        return Err(Verdict::drop(DropReason::WayOutNotHooked));
    };
    let source = if globals::has_fib_source() {
        F::fib_source(&params)
    } else {
        F::interface_address(uplink)
    };
    // Where no interface has an address for the way, the kernel offers a link-local one (IPv6).
    if F::is_unspecified(&source) || (F::ADDR_BITS == 128 && F::is_link_local(&source)) {
        return Err(Verdict::drop(DropReason::NoSourceAddress));
    }
    Ok(source)
}

/// Whether this instance hooks an interface to the outside.
#[inline(always)]
pub fn is_hooked(ifindex: u32) -> bool {
    uplink(ifindex).is_some()
}

/// What the loader says about an interface to the outside that this instance hooks.
#[inline(always)]
fn uplink(ifindex: u32) -> Option<&'static Interface> {
    maps::interface(ifindex).filter(|interface| interface.role == role::UPLINK)
}

#[inline(always)]
fn params<F: KernelFamily>(
    skb: Skb,
    packet: &Packet<F>,
    tuple: &Tuple<F>,
    via_ifindex: u32,
) -> FibParams {
    let mut params = F::fib_params(tuple.src_addr, tuple.dst_addr);
    params.l4_protocol = tuple.proto;
    params.sport = tuple.src_port.0;
    params.dport = tuple.dst_port.0;
    params.ifindex = via_ifindex;
    kernel::set_fib_len(&mut params, wire_len(skb, packet));
    params
}

/// The length of the network packet; of one that will be cut, that of its segments.
#[inline(always)]
pub fn wire_len<F: Family>(skb: Skb, packet: &Packet<F>) -> u16 {
    match skb.gso_size() {
        0 => (skb.len() as usize - L3) as u16,
        size => packet.header_len.wrapping_add(size as u16),
    }
}

/// The verdict on a lookup that found no short way.
#[inline(always)]
pub const fn failure(code: u32) -> Verdict {
    match code {
        BPF_FIB_LKUP_RET_FRAG_NEEDED => Verdict::stack(StackReason::TooBig),
        // Local, broadcast, or no route at all: the stack knows, and says so to the container.
        BPF_FIB_LKUP_RET_NOT_FWDED | BPF_FIB_LKUP_RET_UNSUPP_LWT => Verdict::TO_HOST,
        BPF_FIB_LKUP_RET_FWD_DISABLED => Verdict::drop(DropReason::ForwardingOff),
        BPF_FIB_LKUP_RET_NO_SRC_ADDR => Verdict::drop(DropReason::NoSourceAddress),
        _ => Verdict::drop(DropReason::NoRoute),
    }
}
