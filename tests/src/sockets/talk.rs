//! Conversations that are kept open, over datagrams and over connections.

use std::{
    io::{self, BufRead as _, BufReader, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpStream, UdpSocket},
    path::Path,
    time::Duration,
};

use super::{
    PATIENCE, Seen, answered,
    pattern::{Offset, send_pattern, take_pattern},
    token,
};
use crate::netns::Netns;

/// A datagram conversation that is kept open.
#[derive(Debug)]
pub struct Talk {
    socket: UdpSocket,
    to: SocketAddr,
}

impl Talk {
    /// Opens a socket in a namespace; nothing is sent yet. The socket is not connected: whatever
    /// arrives at its port can be read.
    ///
    /// # Panics
    ///
    /// When the socket can't be opened.
    pub fn open(netns: &Path, to: SocketAddr) -> Self {
        let any = match to {
            SocketAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            SocketAddr::V6(_) => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        };
        let socket = Netns::existing(netns)
            .enter(|| UdpSocket::bind(SocketAddr::new(any, 0)))
            .expect("a socket is bound");
        Self { socket, to }
    }

    /// The local port.
    ///
    /// # Panics
    ///
    /// When the socket has none, which can't be.
    pub fn port(&self) -> u16 {
        self.socket
            .local_addr()
            .expect("a bound socket has an address")
            .port()
    }

    /// Sends one question and returns the source that the server saw; `None` when no answer came.
    ///
    /// # Panics
    ///
    /// When the socket refuses the time limit, which can't be.
    pub fn exchange(&mut self, patience: Duration) -> Option<SocketAddr> {
        self.socket
            .set_read_timeout(Some(patience))
            .expect("a time limit is set");
        self.socket
            .send_to(format!("probe {}", token()).as_bytes(), self.to)
            .ok()?;
        let mut buffer = [0; 2048];
        let (length, _) = self.socket.recv_from(&mut buffer).ok()?;
        match answered(&String::from_utf8_lossy(&buffer[..length])) {
            Ok(Seen::Answered { source, .. }) => Some(source),
            _ => None,
        }
    }

    /// Whether anything lies in the socket that no question asked for.
    pub fn got_more(&self) -> bool {
        let mut buffer = [0; 2048];
        self.socket.set_nonblocking(true).is_ok() && self.socket.recv_from(&mut buffer).is_ok()
    }
}

/// A connection that is kept open.
#[derive(Debug)]
pub struct Conversation {
    stream: TcpStream,
}

impl Conversation {
    /// Connects from a namespace.
    ///
    /// # Errors
    ///
    /// What the socket says.
    pub fn open(netns: &Path, to: SocketAddr) -> io::Result<Self> {
        let stream = Netns::existing(netns).enter(|| TcpStream::connect_timeout(&to, PATIENCE))?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        Ok(Self { stream })
    }

    /// Sends a line and waits for it to come back.
    ///
    /// # Errors
    ///
    /// What the socket says, or that another line came.
    pub fn exchange(&self) -> io::Result<()> {
        self.exchange_within(PATIENCE)
    }

    /// As [`Self::exchange`], with less patience.
    ///
    /// # Errors
    ///
    /// As [`Self::exchange`].
    pub fn exchange_within(&self, patience: Duration) -> io::Result<()> {
        self.stream.set_read_timeout(Some(patience))?;
        let line = format!("echo {}\n", token());
        (&self.stream).write_all(line.as_bytes())?;
        let mut back = vec![0; line.len()];
        (&self.stream).read_exact(&mut back)?;
        if back == line.as_bytes() {
            Ok(())
        } else {
            Err(ErrorKind::InvalidData.into())
        }
    }

    /// Lets the server send `count` bytes and reads them; `at_half` is called in the middle.
    ///
    /// # Errors
    ///
    /// What the socket says, or that bytes were not what they should be.
    pub fn download(&self, count: usize, at_half: impl FnOnce()) -> io::Result<()> {
        writeln!(&self.stream, "SEND {count}")?;
        let mut reader = Offset {
            stream: &self.stream,
            left: count / 2,
            at_half: Some(at_half),
        };
        match take_pattern(&mut reader, count)? {
            0 => Ok(()),
            _ => Err(ErrorKind::InvalidData.into()),
        }
    }

    /// Sends `count` bytes to the server, which counts the broken ones; `at_half` is called in the
    /// middle.
    ///
    /// # Errors
    ///
    /// What the socket says, or that bytes were not what they should be.
    pub fn upload(&self, count: usize, at_half: impl FnOnce()) -> io::Result<()> {
        writeln!(&self.stream, "TAKE {count}")?;
        send_pattern(&self.stream, 0, count / 2)?;
        at_half();
        send_pattern(&self.stream, count / 2, count)?;
        let mut answer = String::new();
        BufReader::new(&self.stream).read_line(&mut answer)?;
        if answer == "TOOK 0\n" {
            Ok(())
        } else {
            Err(io::Error::other(answer))
        }
    }

    /// The local address.
    ///
    /// # Panics
    ///
    /// When the socket has none, which can't be.
    pub fn local(&self) -> SocketAddr {
        self.stream
            .local_addr()
            .expect("a connected socket has an address")
    }
}
