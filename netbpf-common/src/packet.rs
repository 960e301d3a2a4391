//! What parsing learnt about a packet.

use crate::{family::Family, tuple::Tuple};

/// TCP flags in the bits in which the header has them (RFC 9293, 3.1).
pub mod tcp_flags {
    /// No more data from the sender.
    pub const FIN: u8 = 0x01;
    /// Synchronise sequence numbers.
    pub const SYN: u8 = 0x02;
    /// Reset the connection.
    pub const RST: u8 = 0x04;
    /// The acknowledgement field is significant.
    pub const ACK: u8 = 0x10;
}

/// A fragment's place in its datagram.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Fragment {
    /// Not a fragment.
    None,
    /// The first one, which carries the ports.
    First,
    /// A later one, which has no transport header.
    Later,
}

/// The meaning of one parsed IP packet.
#[derive(Clone, Copy, Debug)]
pub struct Packet<F: Family> {
    /// The packet's own tuple; a later fragment's has no ports.
    pub tuple: Tuple<F>,
    /// Where the transport header starts, in bytes from the start of the frame.
    pub l4_offset: u16,
    /// Length of the network and transport headers together, in bytes.
    pub header_len: u16,
    /// TCP flags; zero for other protocols.
    pub tcp_flags: u8,
    /// ICMP type; zero for other protocols.
    pub icmp_type: u8,
    /// TTL or hop limit as it came.
    pub ttl: u8,
    /// Whether no router may cut it into fragments: IPv6, and IPv4 with DF.
    pub must_not_be_cut: bool,
    /// Whether it begins a connection by the same ports as one that has ended and only waits.
    pub reopens: bool,
    /// Its place among fragments.
    pub fragment: Fragment,
    /// The datagram's identification, for fragments; wire order.
    pub fragment_id: u32,
}

/// No transport header starts further from the start of its frame.
pub const MAX_L4_OFFSET: u16 = 0x7ff;

impl<F: Family> Packet<F> {
    /// Where the transport header starts, in bytes from the start of the frame, at most
    /// [`MAX_L4_OFFSET`]. The mask changes nothing, but is a bound that a verifier keeps where the
    /// value is spilled to the stack: before Linux 6.8 it forgets there what a comparison told it.
    #[inline(always)]
    pub const fn l4(&self) -> usize {
        (self.l4_offset & MAX_L4_OFFSET) as usize
    }
}
