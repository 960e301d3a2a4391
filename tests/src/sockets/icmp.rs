//! ICMP by raw sockets: echoes that carry a token, and what routers say.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    path::{Path, PathBuf},
    time::Instant,
};

use socket2::{Domain, Protocol, Socket, Type};

use super::socket;
use crate::{netns::Netns, topology::Family};

pub(super) fn raw_icmp(addr: IpAddr) -> io::Result<Socket> {
    let protocol = if addr.is_ipv4() {
        Protocol::ICMPV4
    } else {
        Protocol::ICMPV6
    };
    let domain = if addr.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, Type::RAW, Some(protocol))?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// An ICMP echo whose payload is a token.
pub(super) struct Echo {
    pub is_request: bool,
    pub token: u64,
}

impl Echo {
    /// Reads what a raw socket gives: with the IP header in IPv4, without it in IPv6.
    pub fn parse(bytes: &[u8], source: IpAddr) -> Option<Self> {
        let (message, request, reply) = match source {
            IpAddr::V4(_) => (bytes.get(usize::from(bytes.first()? & 0x0f) * 4..)?, 8, 0),
            IpAddr::V6(_) => (bytes, 128, 129),
        };
        let kind = *message.first()?;
        if kind != request && kind != reply {
            return None;
        }
        let token = u64::from_be_bytes(message.get(8..16)?.try_into().ok()?);
        Some(Self {
            is_request: kind == request,
            token,
        })
    }

    /// A request; the kernel fills in the checksum of an ICMPv6 message.
    pub fn request(to: IpAddr, token: u64) -> Vec<u8> {
        let kind = if to.is_ipv4() { 8 } else { 128 };
        let mut message = vec![kind, 0, 0, 0];
        message.extend((token as u16).to_be_bytes());
        message.extend(1_u16.to_be_bytes());
        message.extend(token.to_be_bytes());
        if to.is_ipv4() {
            let sum: u32 = message
                .chunks(2)
                .map(|pair| u32::from(u16::from_be_bytes([pair[0], pair[1]])))
                .sum();
            let folded = (sum & 0xffff) + (sum >> 16);
            let checksum = !((folded & 0xffff) + (folded >> 16)) as u16;
            message[2..4].copy_from_slice(&checksum.to_be_bytes());
        }
        message
    }
}

/// Hears what routers say to a namespace.
#[derive(Debug)]
pub struct IcmpEar {
    netns: PathBuf,
    family: Family,
    socket: UdpSocket,
}

impl IcmpEar {
    /// Opens an ear.
    ///
    /// # Panics
    ///
    /// When the socket can't be opened.
    pub fn open(netns: &Path, family: Family) -> Self {
        let socket = Netns::existing(netns)
            .enter(|| raw_icmp(family.host()))
            .expect("a raw socket");
        socket.set_nonblocking(false).expect("a blocking socket");
        Self {
            netns: netns.to_owned(),
            family,
            socket: socket.into(),
        }
    }

    /// Sends a datagram that the first router must not pass on.
    ///
    /// # Panics
    ///
    /// When it can't be sent.
    pub fn send_with_one_hop(&self, to: SocketAddr) {
        Netns::existing(&self.netns).enter(|| {
            let socket = socket(to.ip(), Type::DGRAM, None).expect("a socket");
            match self.family {
                Family::V4 => socket.set_ttl_v4(1),
                Family::V6 => socket.set_unicast_hops_v6(1),
            }
            .expect("a hop limit is set");
            socket
                .send_to(b"probe", &to.into())
                .expect("a datagram is sent");
        });
    }

    /// The router that says that time was exceeded (RFC 792, RFC 4443) before `deadline`.
    ///
    /// # Panics
    ///
    /// When the socket refuses the time limit, which can't be.
    pub fn hears_time_exceeded(&self, deadline: Instant) -> Option<IpAddr> {
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            self.socket
                .set_read_timeout(Some(left))
                .expect("a time limit is set");
            let Ok((length, source)) = self.socket.recv_from(&mut buffer) else {
                return None;
            };
            let kind = match self.family {
                Family::V4 => buffer[..length].get(20).map(|kind| *kind == 11),
                Family::V6 => buffer[..length].first().map(|kind| *kind == 3),
            };
            if kind == Some(true) {
                return Some(source.ip());
            }
        }
    }
}
