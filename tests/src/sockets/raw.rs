//! Raw sockets: IP protocols without ports, and TCP segments that belong to no connection.

use std::{
    io,
    net::{IpAddr, SocketAddr},
};

use nix::sys::socket::{setsockopt, sockopt};
use socket2::{Domain, SockFilter, Socket, Type};

use super::Proto;
use crate::{
    packet::{Body, Flags, Frame},
    topology::Family,
};

/// Where a TCP header has its flags, and two of them.
const FLAGS_OFFSET: usize = 13;
const SYN: u8 = 0x02;
const ACK: u8 = 0x10;

/// How long an Ethernet header is.
const ETHERNET: usize = 14;

/// Opens a socket that hears all packets of a protocol and the address that each one asked.
pub(super) fn listen(addr: IpAddr, proto: Proto) -> io::Result<Socket> {
    let socket = open(addr, proto)?;
    socket.set_nonblocking(true)?;
    if addr.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    Ok(socket)
}

/// Opens a socket that hears what [`segment`] makes and what begins a connection and, so that it
/// costs nothing, hardly anything else.
pub(super) fn segments(addr: IpAddr) -> io::Result<Socket> {
    let socket = open(addr, Proto::Ack)?;
    socket.set_nonblocking(true)?;
    socket.attach_filter(&bare_segments(Family::of(addr)))?;
    Ok(socket)
}

/// Opens a raw socket of a protocol and of an address's family.
pub(super) fn open(addr: IpAddr, proto: Proto) -> io::Result<Socket> {
    let family = Family::of(addr);
    let domain = match family {
        Family::V4 => Domain::IPV4,
        Family::V6 => Domain::IPV6,
    };
    let protocol = i32::from(proto.number(family));
    Socket::new(domain, Type::RAW, Some(protocol.into()))
}

/// Accepts a segment whose only flag is ACK or SYN, ECN aside. In IPv4 the socket sees the IP header, in IPv6 not.
fn bare_segments(family: Family) -> [SockFilter; 7] {
    /// `ldx 4*([k]&0xf)`.
    const LOAD_HEADER_LENGTH: u16 = 0xb1;
    /// `ldx #k`.
    const LOAD_INDEX: u16 = 0x01;
    /// `ldb [x+k]`.
    const LOAD_BYTE: u16 = 0x50;
    /// `and #k`.
    const AND: u16 = 0x54;
    /// `jeq #k, jt, jf`.
    const JUMP_IF_EQUAL: u16 = 0x15;
    /// `ret #k`.
    const RETURN: u16 = 0x06;
    const ALL_BUT_ECN: u32 = 0x3f;
    let header = match family {
        Family::V4 => LOAD_HEADER_LENGTH,
        Family::V6 => LOAD_INDEX,
    };
    [
        SockFilter::new(header, 0, 0, 0),
        SockFilter::new(LOAD_BYTE, 0, 0, FLAGS_OFFSET as u32),
        SockFilter::new(AND, 0, 0, ALL_BUT_ECN),
        SockFilter::new(JUMP_IF_EQUAL, 1, 0, u32::from(ACK)),
        SockFilter::new(JUMP_IF_EQUAL, 0, 1, u32::from(SYN)),
        SockFilter::new(RETURN, 0, 0, u32::MAX),
        SockFilter::new(RETURN, 0, 0, 0),
    ]
}

/// What follows the IP header in what a raw socket gives: only in IPv4 there is one.
pub(super) fn payload(bytes: &[u8], source: IpAddr) -> &[u8] {
    let header = match (source, bytes.first()) {
        (IpAddr::V4(_), Some(first)) => usize::from(first & 0x0f) * 4,
        _ => 0,
    };
    bytes.get(header..).unwrap_or_default()
}

/// A segment with ACK alone, whose numbers are a token.
pub(super) fn segment(source: IpAddr, to: SocketAddr, token: u64) -> Vec<u8> {
    /// Ports that no socket gets by itself.
    const FIRST_PORT: u64 = 20_000;
    let port = (FIRST_PORT + token % 10_000) as u16;
    let mut frame = Frame::tcp(SocketAddr::new(source, port), to, Flags::Ack);
    if let Body::Tcp { seq, ack, .. } = &mut frame.body {
        *seq = (token >> 32) as u32;
        *ack = token as u32;
    }
    frame.bytes()[ETHERNET + frame.ip_header_len()..].to_vec()
}

/// The token of a segment that [`segment`] made, or that begins a connection. Others give a number
/// that is nobody's token.
pub(super) fn token_of(bytes: &[u8], source: IpAddr) -> Option<u64> {
    let segment = payload(bytes, source);
    if segment.get(FLAGS_OFFSET)? & SYN != 0 {
        let port = |at| {
            Some(u16::from_be_bytes([
                *segment.get(at)?,
                *segment.get(at + 1)?,
            ]))
        };
        return Some(token_of_connection(port(0)?, port(2)?));
    }
    Some(u64::from_be_bytes(segment.get(4..12)?.try_into().ok()?))
}

/// What stands for a connection between two ports; no other token is as large.
pub(super) const fn token_of_connection(from: u16, to: u16) -> u64 {
    1 << 63 | (from as u64) << 16 | to as u64
}
