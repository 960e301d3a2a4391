//! One question from one namespace, and what becomes of it.

use std::{
    io::{self, ErrorKind, Read as _, Write as _},
    net::{IpAddr, Ipv4Addr, SocketAddr, TcpStream, UdpSocket},
    path::{Path, PathBuf},
    sync::atomic::{AtomicU16, Ordering},
    thread,
    time::{Duration, Instant},
};

use nix::libc;
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use super::{
    FRAGMENTED, Log, PATIENCE, Proto, SILENCE, Seen, answered, icmp::Echo, raw, socket, token,
};
use crate::{netns::join, topology::Family};

/// One question from one namespace.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The asking namespace.
    pub from: PathBuf,
    /// What the sender binds to, also when the address is not its own.
    pub bind: Option<SocketAddr>,
    /// The protocol.
    pub proto: Proto,
    /// The source port of a connection that is looked for wherever it could arrive.
    pub traced: Option<u16>,
    /// Whom it asks; the port of an echo request plays no part.
    pub to: SocketAddr,
}

impl Probe {
    /// A question from an unbound socket.
    pub fn new(from: &Path, proto: Proto, to: SocketAddr) -> Self {
        Self {
            from: from.to_owned(),
            bind: None,
            traced: None,
            proto,
            to,
        }
    }

    /// The same question from a socket bound to `bind`.
    #[must_use]
    pub fn bound(mut self, bind: SocketAddr) -> Self {
        self.bind = Some(bind);
        self
    }

    /// The same question, by TCP from a port that no other question of this process has, so that
    /// a connection that arrives unanswered is seen.
    #[must_use]
    pub fn traced(mut self) -> Self {
        /// Below those that sockets get by themselves.
        const FIRST: u16 = 12_000;
        const COUNT: u16 = 20_000;
        static NEXT: AtomicU16 = AtomicU16::new(0);
        if self.proto == Proto::Tcp && self.bind.is_none() {
            self.traced = Some(FIRST + NEXT.fetch_add(1, Ordering::Relaxed) % COUNT);
        }
        self
    }

    /// Asks once, and says what became of it.
    ///
    /// # Panics
    ///
    /// When the sender can't even open its socket.
    pub fn ask(&self, patience: Duration, log: &Log) -> Seen {
        thread::scope(|scope| {
            let asking = scope.spawn(|| {
                join(&self.from);
                self.ask_here(patience, log)
            });
            asking
                .join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Demands an answer of `by`, which sees `source`.
    ///
    /// # Panics
    ///
    /// When something else comes of it.
    #[track_caller]
    pub fn is_answered(&self, log: &Log, by: &str, source: IpAddr) {
        match self.ask(PATIENCE, log) {
            Seen::Answered {
                by: name,
                source: seen,
            } => assert_eq!((name.as_str(), seen.ip()), (by, source), "{self:?}"),
            seen => panic!("{self:?}: {seen}"),
        }
    }

    /// Demands that nobody answers, and that it arrives nowhere.
    ///
    /// # Panics
    ///
    /// When it does.
    #[track_caller]
    pub fn is_not_answered(&self, log: &Log) {
        let seen = self.ask(SILENCE, log);
        assert!(
            matches!(seen, Seen::Silence | Seen::Unreachable),
            "{self:?}: {seen}"
        );
    }

    fn ask_here(&self, patience: Duration, log: &Log) -> Seen {
        let token = token();
        let answer = match self.proto {
            Proto::Tcp => self.ask_tcp(patience),
            Proto::Udp => self.ask_udp(&format!("probe {token}"), patience),
            Proto::Fragments => self.ask_udp(
                &format!("{:FRAGMENTED$}", format!("probe {token} ")),
                patience,
            ),
            Proto::Icmp => self.ask_icmp(token, patience, log),
            Proto::Gre | Proto::Esp | Proto::Sctp => self.ask_raw(token, patience),
            Proto::Ack => self.send_segment(token, patience, log),
        };
        let error = match answer {
            Ok(seen) => return seen,
            Err(error) => error,
        };
        let connection = self
            .traced
            .map(|port| raw::token_of_connection(port, self.to.port()));
        let arrived = log.read(token).or_else(|| log.read(connection?));
        if let Some((by, source)) = arrived {
            return Seen::Arrived { by, source };
        }
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Seen::Refused,
            Some(libc::EMSGSIZE) => Seen::TooBig,
            Some(libc::EHOSTUNREACH | libc::ENETUNREACH | libc::EACCES | libc::ENETDOWN) => {
                Seen::Unreachable
            }
            _ => match error.kind() {
                ErrorKind::WouldBlock | ErrorKind::TimedOut => Seen::Silence,
                // A connection that is reset after it was made.
                ErrorKind::ConnectionReset => Seen::Refused,
                _ => panic!("{self:?} failed: {error}"),
            },
        }
    }

    fn open(&self, kind: Type, protocol: Option<Protocol>) -> io::Result<Socket> {
        let socket = socket(self.to.ip(), kind, protocol)?;
        let Some(bind) = self.bind else {
            if let Some(port) = self.traced {
                let any = Family::of(self.to.ip()).unspecified();
                socket.bind(&SocketAddr::new(any, port).into())?;
            }
            return Ok(socket);
        };
        // Lets a sender take an address that is not its own.
        match bind {
            SocketAddr::V4(_) => socket.set_ip_transparent_v4(true)?,
            SocketAddr::V6(_) => socket.set_freebind_v6(true)?,
        }
        socket.bind(&SockAddr::from(bind))?;
        Ok(socket)
    }

    fn ask_tcp(&self, patience: Duration) -> io::Result<Seen> {
        let socket = self.open(Type::STREAM, Some(Protocol::TCP))?;
        socket.connect_timeout(&self.to.into(), patience)?;
        let mut stream: TcpStream = socket.into();
        stream.set_read_timeout(Some(patience))?;
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer)?;
        answered(answer.lines().last().unwrap_or_default())
    }

    fn ask_udp(&self, question: &str, patience: Duration) -> io::Result<Seen> {
        let socket: UdpSocket = self.open(Type::DGRAM, Some(Protocol::UDP))?.into();
        socket.connect(self.to)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(question.as_bytes())?;
        let mut buffer = [0; 2 * FRAGMENTED];
        let length = socket.recv(&mut buffer)?;
        if length < FRAGMENTED && question.len() >= FRAGMENTED {
            let by = format!("somebody with {length} bytes");
            let source = self.to;
            return Ok(Seen::Arrived { by, source });
        }
        answered(&String::from_utf8_lossy(&buffer[..length]))
    }

    fn ask_raw(&self, token: u64, patience: Duration) -> io::Result<Seen> {
        assert_eq!(self.bind, None, "a raw socket is not bound");
        let socket = raw::open(self.to.ip(), self.proto)?;
        socket.connect(&SocketAddr::new(self.to.ip(), 0).into())?;
        let socket: UdpSocket = socket.into();
        socket.send(format!("probe {token}").as_bytes())?;
        let mut buffer = [0; FRAGMENTED];
        receive_until(&socket, &mut buffer, patience, |bytes| {
            let text = String::from_utf8_lossy(raw::payload(bytes, self.to.ip()));
            let is_ours = text.split_whitespace().nth(2) == Some(&token.to_string());
            is_ours.then(|| answered(&text))
        })?
    }

    /// Sends one segment that acknowledges what nobody sent.
    fn send_segment(&self, token: u64, patience: Duration, log: &Log) -> io::Result<Seen> {
        assert_eq!(self.bind, None, "a raw socket is not bound");
        let socket = raw::open(self.to.ip(), self.proto)?;
        socket.connect(&SocketAddr::new(self.to.ip(), 0).into())?;
        let source = socket.local_addr()?.as_socket();
        let source = source.ok_or(ErrorKind::AddrNotAvailable)?;
        socket.send(&raw::segment(source.ip(), self.to, token))?;
        let deadline = Instant::now() + patience;
        loop {
            if let Some((by, source)) = log.read(token) {
                return Ok(Seen::Arrived { by, source });
            }
            if Instant::now() > deadline {
                return Err(ErrorKind::TimedOut.into());
            }
            // A pause between two looks; it ends nothing by itself.
            thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn ask_icmp(&self, token: u64, patience: Duration, log: &Log) -> io::Result<Seen> {
        assert_eq!(self.bind, None, "a raw socket is not bound");
        let protocol = if self.to.is_ipv4() {
            Protocol::ICMPV4
        } else {
            Protocol::ICMPV6
        };
        let kind = Type::RAW;
        let domain = if self.to.is_ipv4() {
            Domain::IPV4
        } else {
            Domain::IPV6
        };
        let socket = Socket::new(domain, kind, Some(protocol))?;
        socket.connect(&SocketAddr::new(self.to.ip(), 0).into())?;
        let socket: UdpSocket = socket.into();
        socket.send(&Echo::request(self.to.ip(), token))?;
        let deadline = Instant::now() + patience;
        let mut buffer = [0; 2048];
        receive_until(&socket, &mut buffer, patience, |bytes| {
            let echo = Echo::parse(bytes, self.to.ip())?;
            (!echo.is_request && echo.token == token).then_some(())
        })?;
        Ok(icmp_answered(token, deadline, log))
    }
}

/// Reads packets until one says something.
fn receive_until<T>(
    socket: &UdpSocket,
    buffer: &mut [u8],
    patience: Duration,
    read: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<T> {
    let deadline = Instant::now() + patience;
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(ErrorKind::TimedOut.into());
        }
        socket.set_read_timeout(Some(left))?;
        let length = socket.recv(buffer)?;
        if let Some(found) = read(&buffer[..length]) {
            return Ok(found);
        }
    }
}

/// The kernel's reply may overtake the note that the server's thread makes of the request.
fn icmp_answered(token: u64, deadline: Instant, log: &Log) -> Seen {
    loop {
        if let Some((by, source)) = log.read(token) {
            return Seen::Answered { by, source };
        }
        if Instant::now() > deadline {
            let nowhere = SocketAddr::new(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);
            return Seen::Answered {
                by: "nobody we know".to_owned(),
                source: nowhere,
            };
        }
        // A pause between two looks; it ends nothing by itself.
        thread::park_timeout(Duration::from_millis(2));
    }
}
