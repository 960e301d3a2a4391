//! The tuple that names a flow in one direction.

use crate::{
    family::{Family, V4, V6},
    wire::Be16,
};

/// IP protocol numbers that netbpf knows by name (IANA, "Protocol Numbers").
pub mod proto {
    /// ICMP.
    pub const ICMP: u8 = 1;
    /// TCP.
    pub const TCP: u8 = 6;
    /// UDP.
    pub const UDP: u8 = 17;
    /// ICMPv6.
    pub const ICMPV6: u8 = 58;
}

/// A flow in the direction of one of its packets.
///
/// `src_port` and `dst_port` are the ports of TCP and UDP; an ICMP echo has its identifier in
/// both, so that a reply's tuple is the reversed one of its request; other protocols have zero.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Ord, PartialOrd)]
pub struct Tuple<F: Family> {
    /// Source address, wire order.
    pub src_addr: F::Addr,
    /// Destination address, wire order.
    pub dst_addr: F::Addr,
    /// Source port or ICMP identifier, wire order.
    pub src_port: Be16,
    /// Destination port or ICMP identifier, wire order.
    pub dst_port: Be16,
    /// IP protocol number.
    pub proto: u8,
    /// Always zero.
    pub pad: u8,
    /// Always zero.
    pub pad2: u16,
}

impl<F: Family> PartialEq for Tuple<F> {
    #[inline(always)]
    fn eq(&self, other: &Self) -> bool {
        self.src_addr == other.src_addr
            && self.dst_addr == other.dst_addr
            && self.src_port == other.src_port
            && self.dst_port == other.dst_port
            && self.proto == other.proto
    }
}

impl<F: Family> core::hash::Hash for Tuple<F> {
    fn hash<H: core::hash::Hasher>(&self, state: &mut H) {
        (
            self.src_addr,
            self.dst_addr,
            self.src_port,
            self.dst_port,
            self.proto,
        )
            .hash(state);
    }
}

impl<F: Family> Tuple<F> {
    /// The tuple of a packet that goes the other way.
    #[inline(always)]
    pub fn reversed(&self) -> Self {
        Self {
            src_addr: self.dst_addr,
            dst_addr: self.src_addr,
            src_port: self.dst_port,
            dst_port: self.src_port,
            proto: self.proto,
            pad: 0,
            pad2: 0,
        }
    }

    /// Whether the protocol is this family's ICMP.
    #[inline(always)]
    pub fn is_icmp(&self) -> bool {
        self.proto == F::ICMP
    }

    /// The tuple with its source replaced. The port of an ICMP echo stands in both places.
    #[inline(always)]
    pub fn with_source(mut self, addr: F::Addr, port: Be16) -> Self {
        self.src_addr = addr;
        self.src_port = port;
        if self.is_icmp() {
            self.dst_port = port;
        }
        self
    }

    /// The tuple with its destination replaced.
    #[inline(always)]
    pub fn with_destination(mut self, addr: F::Addr, port: Be16) -> Self {
        self.dst_addr = addr;
        self.dst_port = port;
        self
    }
}

const _: () = assert!(size_of::<Tuple<V4>>() == 16);
const _: () = assert!(size_of::<Tuple<V6>>() == 40);

/// Which of a flow's two halves something is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Direction {
    /// The direction of the flow's first packet.
    Original,
    /// The other one.
    Reply,
}
