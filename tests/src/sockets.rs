//! Real sockets: servers that say whom they saw, and probes that ask them.
//!
//! A server answers with its own name and the peer's address, so that the source address is part
//! of every assertion. What arrives without an answer getting back is written down too.

mod frames;
mod icmp;
mod pattern;
mod probe;
mod raw;
mod servers;
mod talk;

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::{IpAddr, SocketAddr},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};

pub use self::{
    frames::{Tap, send_frames},
    icmp::IcmpEar,
    probe::Probe,
    servers::{Servers, serve},
    talk::{Conversation, Talk},
};
use crate::topology::Family;

/// How long a path that must work may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a path that must not work is listened to.
pub const SILENCE: Duration = Duration::from_millis(600);

/// How long a question is that no frame of 1500 bytes holds.
pub const FRAGMENTED: usize = 4000;

/// What a probe is made of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Proto {
    /// A connection, and one exchange on it.
    Tcp,
    /// One datagram and its answer.
    Udp,
    /// An echo request and its reply.
    Icmp,
    /// One datagram of several fragments and its answer of as many.
    Fragments,
    /// One packet of IP protocol 47 and its answer.
    Gre,
    /// One packet of IP protocol 50 and its answer.
    Esp,
    /// One packet of IP protocol 132 and its answer.
    Sctp,
    /// A TCP segment of no connection, which arrives or does not; nobody answers.
    Ack,
}

impl Proto {
    /// What sockets are mostly used for.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];
    /// These and what has neither ports nor an echo.
    pub const EVERY: [Self; 6] = [
        Self::Tcp,
        Self::Udp,
        Self::Icmp,
        Self::Gre,
        Self::Esp,
        Self::Sctp,
    ];
    /// What has neither ports nor an echo.
    pub const PORTLESS: [Self; 3] = [Self::Gre, Self::Esp, Self::Sctp];

    /// Its name in the config's and in `docker port`'s spelling, where they have one.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
            Self::Fragments => "udp-fragments",
            Self::Gre => "gre",
            Self::Esp => "esp",
            Self::Sctp => "sctp",
            Self::Ack => "tcp-ack",
        }
    }

    /// Whether a port tells one service of an address from another. SCTP has ports that netbpf
    /// does not look at.
    pub const fn has_ports(self) -> bool {
        matches!(self, Self::Tcp | Self::Udp | Self::Fragments | Self::Ack)
    }

    /// The protocol's number in IP.
    pub const fn number(self, family: Family) -> u8 {
        match (self, family) {
            (Self::Tcp | Self::Ack, _) => 6,
            (Self::Udp | Self::Fragments, _) => 17,
            (Self::Icmp, Family::V4) => 1,
            (Self::Icmp, Family::V6) => 58,
            (Self::Gre, _) => 47,
            (Self::Esp, _) => 50,
            (Self::Sctp, _) => 132,
        }
    }
}

/// What became of a probe.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Seen {
    /// It was answered.
    Answered {
        /// By the server of this name.
        by: String,
        /// Which saw this source; the port of an echo request is 0.
        source: SocketAddr,
    },
    /// It arrived, but no answer came back.
    Arrived {
        /// At the server of this name.
        by: String,
        /// Which saw this source.
        source: SocketAddr,
    },
    /// Somebody said that nobody listens there.
    Refused,
    /// The sender's own stack, or a router, said that there is no way.
    Unreachable,
    /// Somebody said that the packet is too big for the way; the next one is cut.
    TooBig,
    /// Nothing came back.
    Silence,
}

impl Seen {
    /// The source that was seen.
    pub const fn source(&self) -> Option<SocketAddr> {
        match self {
            Self::Answered { source, .. } | Self::Arrived { source, .. } => Some(*source),
            Self::Refused | Self::Unreachable | Self::TooBig | Self::Silence => None,
        }
    }
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { by, .. } => write!(f, "answered by {by}"),
            Self::Arrived { by, .. } => write!(f, "arrived at {by}, no answer"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::TooBig => f.write_str("too big"),
            Self::Silence => f.write_str("silence"),
        }
    }
}

/// What arrived where: probe token → server and source.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<HashMap<u64, (String, SocketAddr)>>>);

impl Log {
    fn write(&self, token: u64, by: &str, source: SocketAddr) {
        let Ok(mut log) = self.0.lock() else {
            return;
        };
        // One packet at two places is nobody's expectation.
        match log.get_mut(&token) {
            Some((known, _)) if !known.split(" and ").any(|one| one == by) => {
                *known = format!("{known} and {by}");
            }
            Some(_) => {}
            None => drop(log.insert(token, (by.to_owned(), source))),
        }
    }

    /// Who heard the probe with this token.
    pub fn read(&self, token: u64) -> Option<(String, SocketAddr)> {
        self.0.lock().ok().and_then(|log| log.get(&token).cloned())
    }
}

/// A token that no other probe of this process has.
pub fn token() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(1);
    (u64::from(std::process::id()) << 32) | NEXT.fetch_add(1, Ordering::Relaxed)
}

fn socket(addr: IpAddr, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
    let domain = if addr.is_ipv4() {
        Domain::IPV4
    } else {
        Domain::IPV6
    };
    let socket = Socket::new(domain, kind, protocol)?;
    if addr.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    Ok(socket)
}

/// Reads `NAME SOURCE`.
fn answered(line: &str) -> io::Result<Seen> {
    let mut words = line.split_whitespace();
    let (Some(by), Some(source)) = (words.next(), words.next()) else {
        return Err(ErrorKind::ConnectionReset.into());
    };
    let source = source.parse().map_err(io::Error::other)?;
    Ok(Seen::Answered {
        by: by.to_owned(),
        source,
    })
}
