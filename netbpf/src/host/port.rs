//! Sockets that keep a port of the host from other processes. Nobody ever reads from one: its
//! filter drops whatever comes.

use std::{fmt, io, net::SocketAddr, sync::Arc};

use nix::errno::Errno;
use socket2::{Domain, Protocol, SockFilter, Socket, Type};

use crate::model::Proto;

/// `BPF_RET | BPF_K` (`linux/bpf_common.h`) with a length of 0: none of the packet.
const DROP: SockFilter = SockFilter::new(0x06, 0, 0, 0);

/// What a process of the host can listen on.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub struct HostPort {
    /// The address, the unspecified one for all of its family, and the port.
    pub address: SocketAddr,
    /// The protocol.
    pub proto: Proto,
}

impl fmt::Display for HostPort {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.proto)
    }
}

/// A port that no other process can listen on as long as this value lives.
#[derive(Debug)]
pub struct Reservation {
    /// `None` where the host has no such family, and so nobody can listen.
    socket: Option<Arc<Socket>>,
    families: Families,
}

/// What a reservation's socket keeps others from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Families {
    /// The address that it is bound to.
    Own,
    /// Every address of both families: another reservation has the same socket.
    Both,
}

impl Reservation {
    /// Takes a port in the calling thread's namespace. The address need not be there yet.
    ///
    /// # Errors
    ///
    /// `EADDRINUSE` when a process has the port; what else keeps it from being taken.
    pub fn take(port: HostPort) -> io::Result<Self> {
        let families = Families::Own;
        match socket(port, families) {
            Ok(socket) => Ok(Self {
                socket: Some(Arc::new(socket)),
                families,
            }),
            Err(error) if error.raw_os_error() == Some(Errno::EAFNOSUPPORT as i32) => Ok(Self {
                socket: None,
                families,
            }),
            Err(error) => Err(error),
        }
    }

    /// Takes the port of `any_v6`, which has the unspecified address, in both families by one
    /// socket: half as many files as by two.
    ///
    /// # Errors
    ///
    /// When either family can't be had; [`Self::take`] says which.
    pub fn take_both(any_v6: HostPort) -> io::Result<[Self; 2]> {
        let families = Families::Both;
        let socket = Arc::new(socket(any_v6, families)?);
        Ok([Arc::clone(&socket), socket].map(|socket| Self {
            socket: Some(socket),
            families,
        }))
    }

    /// Whether it still keeps a family from others that it was taken with and whose reservation is
    /// gone.
    pub fn keeps_too_much(&self) -> bool {
        let is_alone = |socket: &Arc<Socket>| Arc::strong_count(socket) == 1;
        self.families == Families::Both && self.socket.as_ref().is_some_and(is_alone)
    }
}

/// Whether a process of the host has the port. One that can't be asked about counts as free.
pub fn is_taken(port: HostPort) -> bool {
    Reservation::take(port).is_err_and(|error| is_in_use(&error))
}

/// Whether [`Reservation::take`] failed because a process has the port.
pub fn is_in_use(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrInUse
}

fn socket(port: HostPort, families: Families) -> io::Result<Socket> {
    let (kind, protocol) = match port.proto {
        Proto::Tcp => (Type::STREAM, Protocol::TCP),
        Proto::Udp => (Type::DGRAM, Protocol::UDP),
    };
    let socket = Socket::new(Domain::for_address(port.address), kind, Some(protocol))?;
    // Before the port is bound, so that nobody ever gets an answer from here.
    socket.attach_filter(&[DROP])?;
    if port.address.is_ipv4() {
        socket.set_freebind_v4(true)?;
    } else {
        socket.set_freebind_v6(true)?;
        socket.set_only_v6(families == Families::Own)?;
    }
    if port.proto == Proto::Tcp {
        // Connections that are still closing on the port are no listeners. Among datagram sockets
        // the option would let two share the port.
        socket.set_reuse_address(true)?;
    }
    socket.bind(&port.address.into())?;
    if port.proto == Proto::Tcp {
        // Only one that listens keeps others from binding with the same option.
        socket.listen(1)?;
    }
    Ok(socket)
}
