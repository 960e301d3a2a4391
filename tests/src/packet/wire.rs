//! Frames, ARP packets and fragments as bytes, checksums made from scratch.

use std::net::IpAddr;

use etherparse::{
    ArpHardwareId, ArpOperation, ArpPacket, EtherType, IpNumber, PacketBuilder, PacketBuilderStep,
};

use super::{Body, EchoKind, Flags, Frame, Mac, UdpChecksum};

impl Frame {
    /// The bytes as they stand on the wire.
    ///
    /// # Panics
    ///
    /// When the addresses are of two families.
    pub fn bytes(&self) -> Vec<u8> {
        let ethernet = PacketBuilder::ethernet2(self.src_mac, self.dst_mac);
        let step = match (self.src, self.dst) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                ethernet.ipv4(src.octets(), dst.octets(), self.ttl)
            }
            (IpAddr::V6(src), IpAddr::V6(dst)) => {
                ethernet.ipv6(src.octets(), dst.octets(), self.ttl)
            }
            _ => panic!("{} and {} are of two families", self.src, self.dst),
        };
        let mut bytes = self.transport(step);
        if let Body::Udp {
            checksum: UdpChecksum::Zero,
            ..
        } = self.body
        {
            let at = 14 + self.ip_header_len() + 6;
            bytes[at..at + 2].fill(0);
        }
        bytes
    }

    /// How long the IP header is.
    pub const fn ip_header_len(&self) -> usize {
        if self.src.is_ipv4() { 20 } else { 40 }
    }

    fn transport(&self, step: PacketBuilderStep<etherparse::IpHeaders>) -> Vec<u8> {
        let v4 = self.src.is_ipv4();
        let mut bytes = Vec::new();
        let written = match self.body {
            Body::Tcp {
                src_port,
                dst_port,
                flags,
                seq,
                ack,
            } => {
                let tcp = step.tcp(src_port, dst_port, seq, 64240);
                let tcp = match flags {
                    Flags::Syn => tcp.syn(),
                    Flags::SynAck => tcp.syn().ack(ack),
                    Flags::Ack => tcp.ack(ack),
                    Flags::PshAck => tcp.psh().ack(ack),
                    Flags::FinAck => tcp.fin().ack(ack),
                    Flags::Rst => tcp.rst(),
                };
                tcp.write(&mut bytes, &self.payload)
            }
            Body::Udp {
                src_port, dst_port, ..
            } => step
                .udp(src_port, dst_port)
                .write(&mut bytes, &self.payload),
            Body::Echo { kind, id, seq } => match (v4, kind) {
                (true, EchoKind::Request) => step
                    .icmpv4_echo_request(id, seq)
                    .write(&mut bytes, &self.payload),
                (true, EchoKind::Reply) => step
                    .icmpv4_echo_reply(id, seq)
                    .write(&mut bytes, &self.payload),
                (false, EchoKind::Request) => step
                    .icmpv6_echo_request(id, seq)
                    .write(&mut bytes, &self.payload),
                (false, EchoKind::Reply) => step
                    .icmpv6_echo_reply(id, seq)
                    .write(&mut bytes, &self.payload),
            },
            Body::Icmp { kind, code, rest } if v4 => step
                .icmpv4_raw(kind, code, rest)
                .write(&mut bytes, &self.payload),
            Body::Icmp { kind, code, rest } => step
                .icmpv6_raw(kind, code, rest)
                .write(&mut bytes, &self.payload),
            Body::Other { protocol } => step.write(&mut bytes, IpNumber(protocol), &self.payload),
        };
        written.expect("a packet is written to memory");
        bytes
    }
}

/// An ARP packet for IPv4 over Ethernet.
#[derive(Clone, Copy, Debug)]
pub struct Arp {
    /// Who sends the frame.
    pub src_mac: Mac,
    /// Who gets it.
    pub dst_mac: Mac,
    /// Request or reply.
    pub operation: ArpOperation,
    /// The sender in the packet.
    pub sender: (Mac, [u8; 4]),
    /// The target in the packet.
    pub target: (Mac, [u8; 4]),
}

impl Arp {
    /// The bytes as they stand on the wire.
    ///
    /// # Panics
    ///
    /// Never: the addresses have the lengths that they must have.
    pub fn bytes(&self) -> Vec<u8> {
        let packet = ArpPacket::new(
            ArpHardwareId::ETHERNET,
            EtherType::IPV4,
            self.operation,
            &self.sender.0,
            &self.sender.1,
            &self.target.0,
            &self.target.1,
        )
        .expect("the lengths fit");
        let mut bytes = Vec::new();
        PacketBuilder::ethernet2(self.src_mac, self.dst_mac)
            .arp(packet)
            .write(&mut bytes)
            .expect("a packet is written to memory");
        bytes
    }
}

/// One piece of a datagram.
#[derive(Clone, Copy, Debug)]
pub struct Piece {
    /// The datagram's identification.
    pub id: u16,
    /// Where the piece starts in the datagram, in bytes; a multiple of eight.
    pub offset: u16,
    /// How many bytes it has; a multiple of eight unless it is the last one.
    pub len: u16,
}

/// A piece of a frame's datagram, as a fragment of its own.
///
/// # Panics
///
/// When the piece lies outside of the datagram.
pub fn fragment(frame: &Frame, piece: Piece) -> Vec<u8> {
    let whole = frame.bytes();
    let start = 14 + frame.ip_header_len();
    let (from, to) = (
        usize::from(piece.offset),
        usize::from(piece.offset + piece.len),
    );
    let part = &whole[start + from..start + to];
    let is_last = start + to == whole.len();
    match frame.src {
        IpAddr::V4(_) => {
            let mut bytes = [&whole[..start], part].concat();
            let more = if is_last { 0 } else { 0x2000 };
            bytes[16..18].copy_from_slice(&((part.len() + 20) as u16).to_be_bytes());
            bytes[18..20].copy_from_slice(&piece.id.to_be_bytes());
            bytes[20..22].copy_from_slice(&(more | (piece.offset / 8)).to_be_bytes());
            set_ipv4_checksum(&mut bytes);
            bytes
        }
        IpAddr::V6(_) => {
            let more = u16::from(!is_last);
            let mut header = vec![whole[14 + 6], 0];
            header.extend((piece.offset | more).to_be_bytes());
            header.extend(u32::from(piece.id).to_be_bytes());
            let mut bytes = [&whole[..start], &header[..], part].concat();
            bytes[14 + 6] = 44;
            bytes[18..20].copy_from_slice(&((part.len() + 8) as u16).to_be_bytes());
            bytes
        }
    }
}

/// Makes the checksum of an IPv4 header without options right.
pub fn set_ipv4_checksum(bytes: &mut [u8]) {
    bytes[24..26].fill(0);
    let sum: u32 = bytes[14..34]
        .chunks(2)
        .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
        .sum();
    let folded = (sum & 0xffff) + (sum >> 16);
    let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
}
