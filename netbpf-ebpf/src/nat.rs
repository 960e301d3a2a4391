//! Published ports, and the source port of a masqueraded flow.

use netbpf_common::{
    conntrack::NewFlow,
    endpoint::{HostAddress, host_address_flags},
    nat::{PortKey, PublishTarget, candidate_port},
    tuple::{Tuple, proto},
    verdict::DropReason,
    wire::Be16,
};

use crate::{
    conntrack,
    kernel::{self, KernelFamily},
    maps::{self, Tables},
    skb::Skb,
    subprograms::Subprograms,
};

/// How many ports a search tries. With half of the pool taken, all fail once in 2⁵¹² searches.
const MAX_TRIES: u32 = 512;

/// Where a packet to one of the host's addresses leads, if its port is published there.
/// `address` is what the host has the destination for.
#[inline(always)]
pub fn published<F: Tables>(
    tuple: &Tuple<F>,
    address: Option<&HostAddress>,
) -> Option<&'static PublishTarget<F>> {
    if tuple.proto != proto::TCP && tuple.proto != proto::UDP {
        return None;
    }
    let address = address?;
    if address.flags & host_address_flags::VIP != 0 {
        return None;
    }
    target(tuple.dst_addr, tuple.dst_port, tuple.proto)
}

/// Where a port of one of the host's addresses leads: what is published on that address comes
/// before what is published on all.
#[inline(always)]
pub fn target<F: Tables>(
    addr: F::Addr,
    port: Be16,
    proto: u8,
) -> Option<&'static PublishTarget<F>> {
    let key = PortKey {
        addr,
        port,
        proto,
        pad: 0,
    };
    F::published(&key).or_else(|| wildcard(port, proto))
}

/// Where a port leads that is published on all addresses.
#[inline(always)]
pub fn wildcard<F: Tables>(port: Be16, proto: u8) -> Option<&'static PublishTarget<F>> {
    F::published(&PortKey {
        addr: F::Addr::default(),
        port,
        proto,
        pad: 0,
    })
}

/// The published port that a packet to a container's own address asks for, where the container's
/// network is routed or trusts somebody.
#[inline(always)]
pub fn own_port<F: Tables>(tuple: &Tuple<F>) -> Option<&'static PublishTarget<F>> {
    F::published(&PortKey {
        addr: tuple.dst_addr,
        port: tuple.dst_port,
        proto: tuple.proto,
        pad: 0,
    })
}

/// How the reply key of a draft is found.
pub mod commit {
    /// Nothing is translated: the key is what it is.
    pub const AS_IS: u32 = 0;
    /// The destination was translated. The source stays as it is, unless another flow already has
    /// the same answers (one client port to two host addresses that lead to one container): then
    /// it gets another port.
    pub const MAPPED: u32 = 1;
    /// The source was translated: with its own port if that is free, else with another one.
    pub const WITH_SOURCE: u32 = 2;
}

/// Commits the draft; 0, or a drop reason's number plus 1, which [`committed`] reads.
#[inline(always)]
pub fn commit<F: Tables + KernelFamily + Subprograms>(skb: Skb, how: u32) -> u32 {
    let (Some(packet), Some(flow)) = (F::packet(), F::draft()) else {
        return DropReason::ConntrackFull as u32 + 1;
    };
    if packet.reopens && F::reopen() != 0 {
        return 0;
    }
    let slot = match conntrack::reserve(flow) {
        Ok(slot) => slot,
        Err(reason) => return reason as u32 + 1,
    };
    let result = reply_key(skb, flow, slot, how)
        .inspect_err(|_| conntrack::release(flow, slot))
        .and_then(|()| conntrack::commit_original(flow, slot));
    match result {
        Ok(()) => 0,
        Err(reason) => reason as u32 + 1,
    }
}

/// What [`commit()`] returned.
///
/// # Errors
///
/// Why the flow can't be.
#[inline(always)]
pub const fn committed(code: u32) -> Result<(), DropReason> {
    const FULL: u32 = DropReason::ConntrackFull as u32 + 1;
    const EXHAUSTED: u32 = DropReason::PortsExhausted as u32 + 1;
    match code {
        0 => Ok(()),
        FULL => Err(DropReason::ConntrackFull),
        EXHAUSTED => Err(DropReason::PortsExhausted),
        _ => Err(DropReason::TupleTaken),
    }
}

/// Puts the reply half in, with another source port where that is needed and allowed.
#[inline(always)]
fn reply_key<F: Tables + KernelFamily + Subprograms>(
    skb: Skb,
    flow: &NewFlow<F>,
    slot: u32,
    how: u32,
) -> Result<(), DropReason> {
    let is_in = match how {
        commit::WITH_SOURCE => F::try_port(skb, slot),
        _ => F::insert_reply(slot),
    };
    if is_in != 0 {
        return Ok(());
    }
    let protocol = flow.translated.proto;
    // Of ICMP only an echo has an identifier to choose.
    let is_echo = protocol == F::ICMP && flow.original.src_port.0 != 0;
    let has_ports = protocol == proto::TCP || protocol == proto::UDP || is_echo;
    if how == commit::AS_IS || !has_ports {
        return Err(DropReason::TupleTaken);
    }
    search::<F>(skb, slot)
        .then_some(())
        .ok_or(DropReason::PortsExhausted)
}

/// Whether the draft can have its reply key as it is now: no port that the host reserves, no
/// socket of the host's, no other flow's. 1 if it has it.
#[inline(always)]
pub fn try_port<F: Tables + KernelFamily + Subprograms>(skb: Skb, slot: u32) -> u32 {
    let Some(flow) = F::draft() else { return 0 };
    let tuple = &flow.translated;
    let protocol = tuple.proto;
    if protocol == proto::TCP || protocol == proto::UDP {
        if maps::is_reserved(protocol, tuple.src_port.get()) {
            return 0;
        }
        let (mut socket, len) = F::socket_tuple(&tuple.reversed());
        if kernel::has_socket(skb, &mut socket, len, protocol) {
            return 0;
        }
    }
    F::insert_reply(slot)
}

/// A search for a free port.
struct Search {
    skb: Skb,
    hash: u32,
    slot: u32,
    found: u64,
}

#[inline(always)]
fn search<F: Tables + KernelFamily + Subprograms>(skb: Skb, slot: u32) -> bool {
    let mut search = Search {
        skb,
        hash: kernel::random(),
        slot,
        found: 0,
    };
    kernel::repeat(MAX_TRIES, try_next::<F>, &mut search);
    search.found != 0
}

/// One round of a search.
extern "C" fn try_next<F: Tables + KernelFamily + Subprograms>(
    round: u64,
    search: *mut Search,
) -> i64 {
    let search = kernel::context(search);
    let Some(flow) = F::draft() else { return 1 };
    let port = Be16::new(candidate_port(search.hash, round as u32));
    flow.translated = flow.translated.with_source(flow.translated.src_addr, port);
    if F::try_port(search.skb, search.slot) == 0 {
        return 0;
    }
    search.found = 1;
    1
}
