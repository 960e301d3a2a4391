//! The flow table: keys, entries, timeouts; the states of a flow stand beside this file.
//!
//! A flow has two halves, one entry each: the original half under the tuple of its first packet as
//! it came in, the reply half under the tuple of the answers as they come in. Each half says by
//! itself everything about packets of its direction, so that an established packet costs one
//! lookup. Both are made by [`NewFlow::write_half`] and by nothing else, so that they can't
//! disagree.

mod state;

use bytemuck::{Pod, Zeroable};

pub use self::state::{STREAM_AFTER, State, first_state, is_initial_syn, next_datagram, next_tcp};
use crate::{
    endpoint::{Endpoint, Network},
    family::{Family, V4, V6},
    packet::tcp_flags::{FIN, RST, SYN},
    tuple::{Direction, Tuple, proto},
    wire::Mac,
};

/// The coarse clock, in units of 2²⁷ ns (about 0.134 s), wrapping after 18 years.
#[repr(transparent)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Tick(pub u32);

impl Tick {
    /// How many bits a tick is coarser than a nanosecond.
    pub const SHIFT: u32 = 27;

    /// The tick of a monotonic time.
    #[inline(always)]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self((nanos >> Self::SHIFT) as u32)
    }

    /// How many whole ticks cover `millis`, at least one.
    pub const fn count_from_millis(millis: u64) -> u32 {
        let ticks = millis.saturating_mul(1_000_000).div_ceil(1 << Self::SHIFT);
        if ticks == 0 {
            1
        } else if ticks > u32::MAX as u64 {
            u32::MAX
        } else {
            ticks as u32
        }
    }

    /// Ticks since `earlier`; zero when that lies ahead, as another CPU's clock may.
    #[inline(always)]
    pub const fn since(self, earlier: Self) -> u32 {
        let age = self.0.wrapping_sub(earlier.0);
        if age > u32::MAX / 2 { 0 } else { age }
    }
}

/// How long an idle flow lives, in ticks.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Timeouts {
    /// TCP after its handshake.
    pub established: u32,
    /// TCP in its handshake.
    pub half_open: u32,
    /// TCP after a FIN or RST.
    pub closing: u32,
    /// UDP that is unanswered or was a single exchange; other protocols that are unanswered.
    pub udp: u32,
    /// UDP that goes on, and other protocols once answered.
    pub udp_stream: u32,
    /// ICMP echo.
    pub icmp: u32,
}

/// How a packet goes on.
pub mod way {
    /// To the host's stack, as it came.
    pub const HOST: u8 = 1;
    /// Straight into the container behind `out_ifindex`.
    pub const CONTAINER: u8 = 2;
    /// Out of the host, by the route that the kernel finds for its packets.
    pub const OUTSIDE: u8 = 3;
    /// Back to a process of the host, by the loopback interface `out_ifindex`.
    pub const LOCAL: u8 = 4;
}

/// Where a packet may come in, beside the ifindex of a container's veth.
pub mod origin {
    /// From the host's own stack.
    pub const HOST: u32 = 0;
    /// By any interface to the outside.
    pub const OUTSIDE: u32 = u32::MAX;
}

/// Flags of an [`Entry`].
pub mod entry_flags {
    /// This is the reply half.
    pub const REPLY: u8 = 1;
    /// Packets of this half are rewritten.
    pub const REWRITE: u8 = 1 << 1;
    /// The packet is routed: its TTL goes down.
    pub const ROUTED: u8 = 1 << 2;
    /// One end is a process of the host that talks by the loopback interface.
    pub const LOCAL: u8 = 1 << 3;
}

/// Whether a flow has left the half-open room.
pub mod promoted {
    /// A CPU is moving it.
    pub const CLAIMED: u8 = 1;
    /// It has, and `slot` is its place among the full flows.
    pub const DONE: u8 = 3;
}

/// One half of a flow. Key: the [`Tuple`] of its packets as they come in.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Entry<F: Family> {
    /// Packets of this direction.
    pub packets: u64,
    /// Bytes of this direction, with link-layer headers.
    pub bytes: u64,
    /// When this half last saw a packet.
    pub last_seen: Tick,
    /// When the flow began.
    pub created: Tick,
    /// The generation in which policy last agreed.
    pub generation: u32,
    /// A [`State`]; both halves have the same.
    pub state: u8,
    /// Of [`entry_flags`].
    pub flags: u8,
    /// One of [`way`].
    pub way: u8,
    /// Of [`promoted`].
    pub promoted: u8,
    /// The flow's place in its room's ring, of a half-open one the ticket with which it got it; both
    /// halves have the same.
    pub slot: u32,
    /// Where packets of this half come in: an ifindex, or one of [`origin`].
    pub in_ifindex: u32,
    /// Where they leave: the veth of a container, the loopback interface; for the outside the
    /// interface last checked.
    pub out_ifindex: u32,
    /// The sender's endpoint id; 0: not a container.
    pub in_endpoint: u32,
    /// The receiver's endpoint id; 0: not a container.
    pub out_endpoint: u32,
    /// The mapping that translated the flow; 0: none.
    pub mapping: u32,
    /// The sender's MAC; all zero where it is not a container.
    pub in_mac: Mac,
    /// The MAC to send to; all zero where it is not a container.
    pub out_dst_mac: Mac,
    /// The MAC to send from.
    pub out_src_mac: Mac,
    /// The MTU of the network of the container to which it leads; 0: any, or the other ways.
    pub mtu: u16,
    /// The packet's tuple after its translation: the reversed key of the other half.
    pub translated: Tuple<F>,
    /// The bridge from which a packet to the outside is routed; for the original half of a flow
    /// from outside the interface by which its first packet came; else 0.
    pub via_ifindex: u32,
}

const _: () = assert!(size_of::<Entry<V4>>() == 96);
const _: () = assert!(size_of::<Entry<V6>>() == 120);

impl<F: Family> Entry<F> {
    /// The half's direction.
    #[inline(always)]
    pub const fn direction(&self) -> Direction {
        if self.flags & entry_flags::REPLY == 0 {
            Direction::Original
        } else {
            Direction::Reply
        }
    }

    /// Whether the flow has left the half-open room.
    #[inline(always)]
    pub const fn is_promoted(&self) -> bool {
        self.promoted == promoted::DONE
    }

    /// Whether packets of this half leave the host with an address of the host's in place of their
    /// container's.
    #[inline(always)]
    pub const fn is_masqueraded(&self) -> bool {
        self.flags & (entry_flags::REWRITE | entry_flags::REPLY) == entry_flags::REWRITE
            && self.way == way::OUTSIDE
            && self.in_ifindex != origin::HOST
    }

    /// Whether packets of this half come in, are translated and go on as those of another one.
    #[inline(always)]
    pub fn is_led_as(&self, other: &Self) -> bool {
        self.translated == other.translated
            && self.flags == other.flags
            && self.way == other.way
            && self.in_ifindex == other.in_ifindex
            && (self.way == way::OUTSIDE || self.out_ifindex == other.out_ifindex)
            && self.in_endpoint == other.in_endpoint
            && self.out_endpoint == other.out_endpoint
            && self.mapping == other.mapping
            && self.in_mac == other.in_mac
            && self.out_dst_mac == other.out_dst_mac
            && self.out_src_mac == other.out_src_mac
            && self.mtu == other.mtu
            && self.via_ifindex == other.via_ifindex
    }

    /// The key of the other half.
    #[inline(always)]
    pub fn partner(&self) -> Tuple<F> {
        self.translated.reversed()
    }

    /// Whether a packet belongs to an established connection and leaves it as it is.
    #[inline(always)]
    pub const fn is_steady(&self, protocol: u8, flags: u8) -> bool {
        protocol == proto::TCP
            && self.state == State::Established as u8
            && flags & (SYN | FIN | RST) == 0
    }

    /// Whether this half has been idle for too long; the flow ends when both have.
    #[inline(always)]
    pub const fn is_idle(&self, protocol: u8, now: Tick, timeouts: &Timeouts) -> bool {
        now.since(self.last_seen) > State::from_u8(self.state).timeout(protocol, timeouts)
    }
}

/// One end of a flow, as its packets come in and go out there.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct End {
    /// How packets reach it: one of [`way`].
    pub way: u8,
    /// Where its packets come in: the ifindex of its veth, or one of [`origin`].
    pub ifindex: u32,
    /// Its endpoint id; 0: not a container.
    pub endpoint: u32,
    /// Its MAC; all zero where it is not a container.
    pub mac: Mac,
    /// The MAC from which it is sent to.
    pub gateway_mac: Mac,
    /// The MTU of its network, in bytes; 0: any, or not a container.
    pub mtu: u16,
}

/// A flow that policy agreed to and that is not yet in the table.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub struct NewFlow<F: Family> {
    /// The first packet's tuple as it came in.
    pub original: Tuple<F>,
    /// The same after translation.
    pub translated: Tuple<F>,
    /// The sender.
    pub from: End,
    /// The receiver.
    pub to: End,
    /// The mapping that translated it; 0: none.
    pub mapping: u32,
    /// The bridge from which the flow is routed to the outside; 0: it is not.
    pub via_ifindex: u32,
    /// The interface by which a flow from outside came; 0: it did not.
    pub ingress_ifindex: u32,
    /// 1 if its packets are routed, not bridged.
    pub routed: u8,
    /// Its first [`State`].
    pub state: u8,
}

impl End {
    /// The host's own stack.
    pub const HOST: Self = Self::elsewhere(way::HOST, origin::HOST);
    /// Anything beyond the host.
    pub const OUTSIDE: Self = Self::elsewhere(way::OUTSIDE, origin::OUTSIDE);

    /// An end that is no container.
    #[inline(always)]
    pub const fn elsewhere(way: u8, ifindex: u32) -> Self {
        Self {
            way,
            ifindex,
            endpoint: 0,
            mac: Mac([0; 3]),
            gateway_mac: Mac([0; 3]),
            mtu: 0,
        }
    }

    /// A container of a network, sent to from the bridge.
    #[inline(always)]
    pub const fn container(endpoint: &Endpoint, network: &Network) -> Self {
        Self {
            way: way::CONTAINER,
            ifindex: endpoint.ifindex,
            endpoint: endpoint.id,
            mac: endpoint.mac,
            gateway_mac: network.bridge_mac,
            mtu: network.mtu as u16,
        }
    }
}

impl<F: Family> NewFlow<F> {
    /// Begins with a flow that nothing translates and nobody routes.
    #[inline(always)]
    pub fn begin(&mut self, tuple: &Tuple<F>, state: State, from: End, to: End) {
        self.original = *tuple;
        self.translated = *tuple;
        self.from = from;
        self.to = to;
        self.mapping = 0;
        self.via_ifindex = 0;
        self.ingress_ifindex = 0;
        self.routed = 0;
        self.state = state as u8;
    }

    /// The key of the reply half.
    #[inline(always)]
    pub fn reply_key(&self) -> Tuple<F> {
        self.translated.reversed()
    }

    /// Writes one of the flow's two entries; the keys are `original` and [`Self::reply_key`].
    ///
    /// Field by field, for a whole entry made first would take a quarter of an eBPF stack.
    #[inline(always)]
    pub fn write_half(
        &self,
        direction: Direction,
        slot: u32,
        generation: u32,
        now: Tick,
        entry: &mut Entry<F>,
    ) {
        let (from, to) = match direction {
            Direction::Original => (&self.from, &self.to),
            Direction::Reply => (&self.to, &self.from),
        };
        let rewrite = if self.original == self.translated {
            0
        } else {
            entry_flags::REWRITE
        };
        let routed = if self.routed == 0 {
            0
        } else {
            entry_flags::ROUTED
        };
        let reply = match direction {
            Direction::Original => 0,
            Direction::Reply => entry_flags::REPLY,
        };
        entry.packets = 0;
        entry.bytes = 0;
        entry.last_seen = now;
        entry.created = now;
        entry.generation = generation;
        entry.state = self.state;
        let local = if self.from.way == way::LOCAL {
            entry_flags::LOCAL
        } else {
            0
        };
        entry.flags = reply | rewrite | routed | local;
        entry.way = to.way;
        entry.promoted = if State::from_u8(self.state).is_half_open() {
            0
        } else {
            promoted::DONE
        };
        entry.slot = slot;
        entry.in_ifindex = from.ifindex;
        entry.out_ifindex = if matches!(to.way, way::CONTAINER | way::LOCAL) {
            to.ifindex
        } else {
            0
        };
        entry.in_endpoint = from.endpoint;
        entry.out_endpoint = to.endpoint;
        entry.mapping = self.mapping;
        entry.in_mac = from.mac;
        entry.out_dst_mac = to.mac;
        entry.out_src_mac = to.gateway_mac;
        entry.mtu = to.mtu;
        entry.translated = match direction {
            Direction::Original => self.translated,
            Direction::Reply => self.original.reversed(),
        };
        entry.via_ifindex = match direction {
            _ if to.way == way::OUTSIDE => self.via_ifindex,
            Direction::Original => self.ingress_ifindex,
            Direction::Reply => 0,
        };
    }
}

/// A place of the ring of half-open flows.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct HalfOpenPlace<F: Family> {
    /// Who has it: a ticket plus 1; 0: nobody. A flow that leaves takes itself out, so that who
    /// comes next need not look for it.
    pub tenant: u64,
    /// The original key of the flow that came last.
    pub key: Tuple<F>,
}

const _: () = assert!(size_of::<HalfOpenPlace<V4>>() == 24);
const _: () = assert!(size_of::<HalfOpenPlace<V6>>() == 48);

/// The bookkeeping of one family's rooms. One entry, key 0; programs change it atomically.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Rooms {
    /// The next ticket for the ring of half-open flows: its place is the rest by the ring's length.
    pub half_open_next: u64,
    /// Places of the other flows' ring that were ever used; freed ones lie in a queue.
    pub flows_high_water: u64,
    /// How many flows are in the table beside half-open ones.
    pub flows: u64,
    /// Where the sweep of the flows' ring goes on.
    pub sweep_flows: u64,
    /// Where the sweep of the half-open ring goes on.
    pub sweep_half_open: u64,
}

#[cfg(test)]
mod tests;
