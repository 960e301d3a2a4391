//! Packet words: frames as values, built and judged by etherparse and by nothing of ours.
//!
//! A frame's bytes follow from its value, checksums included, so that comparing bytes compares the
//! whole packet, and every checksum in it is made from scratch.

mod judge;
mod wire;

use std::net::{IpAddr, SocketAddr};

pub use self::{
    judge::{describe, fault},
    wire::{Arp, Piece, fragment, set_ipv4_checksum},
};

/// A MAC address.
pub type Mac = [u8; 6];

/// The TTL or hop limit that frames are born with.
pub const TTL: u8 = 64;

/// An Ethernet frame with an IP packet in it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Frame {
    /// Destination MAC.
    pub dst_mac: Mac,
    /// Source MAC.
    pub src_mac: Mac,
    /// Source address.
    pub src: IpAddr,
    /// Destination address; of the same family.
    pub dst: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// What the packet carries.
    pub body: Body,
    /// What follows the transport header.
    pub payload: Vec<u8>,
}

/// The transport header of a frame.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Body {
    /// A TCP segment.
    Tcp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Its flags.
        flags: Flags,
        /// Sequence number.
        seq: u32,
        /// Acknowledgement number.
        ack: u32,
    },
    /// A UDP datagram.
    Udp {
        /// Source port.
        src_port: u16,
        /// Destination port.
        dst_port: u16,
        /// Its checksum.
        checksum: UdpChecksum,
    },
    /// An ICMP echo of the packet's family.
    Echo {
        /// Request or reply.
        kind: EchoKind,
        /// Identifier.
        id: u16,
        /// Sequence number.
        seq: u16,
    },
    /// Another ICMP message of the packet's family.
    Icmp {
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
        /// Bytes five to eight of the header.
        rest: [u8; 4],
    },
    /// Another protocol, without a header that anybody here knows.
    Other {
        /// Its number.
        protocol: u8,
    },
}

/// Whether a UDP datagram has a checksum.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum UdpChecksum {
    /// The right one.
    Right,
    /// Zero: the sender made none.
    Zero,
}

/// Which echo message.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EchoKind {
    /// The question.
    Request,
    /// The answer.
    Reply,
}

/// The flags of a TCP segment that tell its place in a connection.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Flags {
    /// SYN.
    Syn,
    /// SYN and ACK.
    SynAck,
    /// ACK.
    Ack,
    /// PSH and ACK.
    PshAck,
    /// FIN and ACK.
    FinAck,
    /// RST.
    Rst,
}

impl Frame {
    fn new(src: IpAddr, dst: IpAddr, body: Body, payload: &[u8]) -> Self {
        Self {
            dst_mac: [0; 6],
            src_mac: [0; 6],
            src,
            dst,
            ttl: TTL,
            body,
            payload: payload.to_vec(),
        }
    }

    /// A TCP segment.
    pub fn tcp(src: SocketAddr, dst: SocketAddr, flags: Flags) -> Self {
        let (src_port, dst_port) = (src.port(), dst.port());
        let body = Body::Tcp {
            src_port,
            dst_port,
            flags,
            seq: 1000,
            ack: 2000,
        };
        Self::new(src.ip(), dst.ip(), body, &[])
    }

    /// A UDP datagram.
    pub fn udp(src: SocketAddr, dst: SocketAddr) -> Self {
        let (src_port, dst_port) = (src.port(), dst.port());
        let body = Body::Udp {
            src_port,
            dst_port,
            checksum: UdpChecksum::Right,
        };
        Self::new(src.ip(), dst.ip(), body, b"datagram")
    }

    /// An echo.
    pub fn echo(src: IpAddr, dst: IpAddr, kind: EchoKind, id: u16) -> Self {
        Self::new(src, dst, Body::Echo { kind, id, seq: 1 }, b"echo")
    }

    /// Another ICMP message.
    pub fn icmp(src: IpAddr, dst: IpAddr, kind: u8, rest: [u8; 4], payload: &[u8]) -> Self {
        Self::new(
            src,
            dst,
            Body::Icmp {
                kind,
                code: 0,
                rest,
            },
            payload,
        )
    }

    /// An ICMP error that quotes the whole of another frame's packet.
    pub fn error_about(src: IpAddr, quoted: &Self, kind: u8, code: u8) -> Self {
        let body = Body::Icmp {
            kind,
            code,
            rest: [0; 4],
        };
        Self::new(src, quoted.src, body, &quoted.bytes()[14..])
    }

    /// A packet of a protocol that has no ports.
    pub fn other(src: IpAddr, dst: IpAddr, protocol: u8) -> Self {
        Self::new(src, dst, Body::Other { protocol }, b"something else")
    }

    /// The same frame between these MACs.
    #[must_use]
    pub fn macs(mut self, src_mac: Mac, dst_mac: Mac) -> Self {
        self.src_mac = src_mac;
        self.dst_mac = dst_mac;
        self
    }

    /// The same frame with this payload.
    #[must_use]
    pub fn with_payload(mut self, payload: &[u8]) -> Self {
        self.payload = payload.to_vec();
        self
    }

    /// The same frame with this TTL or hop limit.
    #[must_use]
    pub fn with_ttl(mut self, ttl: u8) -> Self {
        self.ttl = ttl;
        self
    }

    /// The same frame after one hop.
    #[must_use]
    pub fn routed(mut self) -> Self {
        self.ttl -= 1;
        self
    }

    /// The same frame from another address and port, or with another echo identifier.
    #[must_use]
    pub fn from(mut self, src: SocketAddr) -> Self {
        self.src = src.ip();
        match &mut self.body {
            Body::Tcp { src_port, .. } | Body::Udp { src_port, .. } => *src_port = src.port(),
            Body::Echo { id, .. } => *id = src.port(),
            Body::Icmp { .. } | Body::Other { .. } => {}
        }
        self
    }

    /// The same frame to another address and port, or with another echo identifier.
    #[must_use]
    pub fn to(mut self, dst: SocketAddr) -> Self {
        self.dst = dst.ip();
        match &mut self.body {
            Body::Tcp { dst_port, .. } | Body::Udp { dst_port, .. } => *dst_port = dst.port(),
            Body::Echo { id, .. } => *id = dst.port(),
            Body::Icmp { .. } | Body::Other { .. } => {}
        }
        self
    }

    /// The same datagram without a checksum.
    ///
    /// # Panics
    ///
    /// When it is no datagram.
    #[must_use]
    pub fn without_checksum(mut self) -> Self {
        let Body::Udp { checksum, .. } = &mut self.body else {
            panic!("{self:?} is not UDP")
        };
        *checksum = UdpChecksum::Zero;
        self
    }

    /// The answer to this frame: addresses, ports and MACs change places, and a request becomes a
    /// reply. A segment that answers has these flags.
    #[must_use]
    pub fn reply(&self, flags: Flags) -> Self {
        let body = match self.body {
            Body::Tcp {
                src_port,
                dst_port,
                seq,
                ack,
                ..
            } => Body::Tcp {
                src_port: dst_port,
                dst_port: src_port,
                flags,
                seq: ack,
                ack: seq.wrapping_add(1),
            },
            Body::Udp {
                src_port,
                dst_port,
                checksum,
            } => Body::Udp {
                src_port: dst_port,
                dst_port: src_port,
                checksum,
            },
            Body::Echo { id, seq, .. } => Body::Echo {
                kind: EchoKind::Reply,
                id,
                seq,
            },
            ref other => other.clone(),
        };
        Self {
            dst_mac: self.src_mac,
            src_mac: self.dst_mac,
            src: self.dst,
            dst: self.src,
            ttl: TTL,
            body,
            payload: self.payload.clone(),
        }
    }

    /// The next segment of the same direction.
    ///
    /// # Panics
    ///
    /// When it is no segment.
    #[must_use]
    pub fn next(&self, next_flags: Flags, payload: &[u8]) -> Self {
        let mut frame = self.clone().with_payload(payload);
        let Body::Tcp { flags, seq, .. } = &mut frame.body else {
            panic!("{self:?} is not TCP")
        };
        *flags = next_flags;
        *seq = seq.wrapping_add(1);
        frame
    }

    /// The source port or echo identifier.
    pub const fn src_port(&self) -> u16 {
        match self.body {
            Body::Tcp { src_port, .. } | Body::Udp { src_port, .. } => src_port,
            Body::Echo { id, .. } => id,
            Body::Icmp { .. } | Body::Other { .. } => 0,
        }
    }

    /// The source address and port.
    pub const fn source(&self) -> SocketAddr {
        SocketAddr::new(self.src, self.src_port())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn every_kind() -> Vec<Frame> {
        let pairs = [
            ("198.51.100.1:1000", "203.0.113.1:2000"),
            ("[2001:db8::1]:1", "[2001:db8::2]:2"),
        ];
        let parse = |text: &str| text.parse::<SocketAddr>().expect("an address");
        pairs
            .iter()
            .map(|(src, dst)| (parse(src), parse(dst)))
            .flat_map(|(src, dst)| {
                [
                    Frame::tcp(src, dst, Flags::SynAck),
                    Frame::udp(src, dst),
                    Frame::echo(src.ip(), dst.ip(), EchoKind::Request, 7),
                    Frame::icmp(src.ip(), dst.ip(), 200, [1, 2, 3, 4], b"odd"),
                ]
            })
            .collect()
    }

    #[test]
    fn frames_are_built_without_a_fault() {
        for frame in every_kind() {
            assert_eq!(fault(&frame.bytes()), None, "{frame:?}");
        }
    }

    #[test]
    fn a_flipped_bit_is_found() {
        for frame in every_kind() {
            let mut bytes = frame.bytes();
            // The lowest bit of the destination address's last byte.
            let at = 14 + frame.ip_header_len() - 1;
            bytes[at] ^= 1;
            assert!(fault(&bytes).is_some(), "{frame:?}");
        }
    }

    #[test]
    fn the_reply_of_a_reply_asks_again() {
        for frame in every_kind() {
            let again = frame.reply(Flags::Ack).reply(Flags::SynAck);
            assert_eq!((again.src, again.dst), (frame.src, frame.dst));
            assert_eq!(again.src_port(), frame.src_port());
        }
    }
}
