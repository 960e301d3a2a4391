//! Real sockets: servers that say whom they saw, and probes that ask them.
//!
//! A server answers with its own name and the peer's address, so that the source address is part
//! of every assertion. What arrives without an answer getting back is written down too.

use std::{
    collections::HashMap,
    io::{self, BufRead as _, BufReader, ErrorKind, IoSlice, IoSliceMut, Read, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::fd::{AsFd, AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    sync::{
        Arc, LazyLock, Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use socket2::{Domain, Protocol, SockAddr, Socket, Type};

use crate::{
    netns::{Netns, join},
    topology::Family,
};

/// How long a path that must work may take.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a path that must not work is listened to.
pub const SILENCE: Duration = Duration::from_millis(600);

/// What a probe is made of.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Proto {
    /// A connection, and one exchange on it.
    Tcp,
    /// One datagram and its answer.
    Udp,
    /// An echo request and its reply.
    Icmp,
}

impl Proto {
    /// All three.
    pub const ALL: [Self; 3] = [Self::Tcp, Self::Udp, Self::Icmp];

    /// Its name in the config's and in `docker port`'s spelling.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Icmp => "icmp",
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
    /// Nothing came back.
    Silence,
}

impl std::fmt::Display for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Answered { by, .. } => write!(f, "answered by {by}"),
            Self::Arrived { by, .. } => write!(f, "arrived at {by}, no answer"),
            Self::Refused => f.write_str("refused"),
            Self::Unreachable => f.write_str("unreachable"),
            Self::Silence => f.write_str("silence"),
        }
    }
}

/// What arrived where: probe token → server and source.
#[derive(Clone, Debug, Default)]
pub struct Log(Arc<Mutex<HashMap<u64, (String, SocketAddr)>>>);

impl Log {
    fn write(&self, token: u64, by: &str, source: SocketAddr) {
        if let Ok(mut log) = self.0.lock() {
            log.insert(token, (by.to_owned(), source));
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

/// The servers of one namespace. Dropping it ends them.
#[derive(Debug)]
pub struct Servers {
    stop: Option<std::os::unix::net::UnixStream>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Drop for Servers {
    fn drop(&mut self) {
        // The accept loop sees the other end of the pair hang up.
        self.stop.take();
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

impl Servers {
    /// Waits until the servers end, which they do not by themselves.
    pub fn wait(mut self) {
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Serves `ports` in TCP and UDP, in both families, and notes echo requests.
///
/// # Panics
///
/// When a port is taken.
pub fn serve(netns: &Path, name: &str, ports: &[u16], log: &Log) -> Servers {
    let (stop, stopped) = std::os::unix::net::UnixStream::pair().expect("a socket pair");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (path, name, ports, log) = (
        netns.to_owned(),
        name.to_owned(),
        ports.to_owned(),
        log.clone(),
    );
    let thread = thread::spawn(move || {
        join(&path);
        let doors = Doors::open(&name, &ports);
        let _ = ready.send(());
        doors.run(&name, &log, &stopped);
    });
    is_ready.recv().expect("the servers open their doors");
    Servers {
        stop: Some(stop),
        thread: Some(thread),
    }
}

struct Doors {
    tcp: Vec<TcpListener>,
    udp: Vec<OwnedFd>,
    icmp: Vec<UdpSocket>,
}

impl Doors {
    fn open(name: &str, ports: &[u16]) -> Self {
        let any = [
            IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        ];
        let addresses: Vec<SocketAddr> = any
            .iter()
            .flat_map(|addr| ports.iter().map(|port| SocketAddr::new(*addr, *port)))
            .collect();
        let open = |result: io::Result<Socket>, what: &str| match result {
            Ok(socket) => socket,
            Err(error) => panic!("{name} can't open {what}: {error}"),
        };
        Self {
            tcp: addresses
                .iter()
                .map(|addr| open(listen(*addr), &format!("tcp {addr}")).into())
                .collect(),
            udp: addresses
                .iter()
                .map(|addr| open(receive(*addr), &format!("udp {addr}")).into())
                .collect(),
            icmp: any
                .iter()
                .map(|addr| open(raw_icmp(*addr), "a raw socket").into())
                .collect(),
        }
    }

    fn run(self, name: &str, log: &Log, stopped: &std::os::unix::net::UnixStream) {
        let fds: Vec<_> = [stopped.as_fd()]
            .into_iter()
            .chain(self.tcp.iter().map(AsFd::as_fd))
            .chain(self.udp.iter().map(AsFd::as_fd))
            .chain(self.icmp.iter().map(AsFd::as_fd))
            .collect();
        loop {
            let mut polled: Vec<_> = fds
                .iter()
                .map(|fd| PollFd::new(*fd, PollFlags::POLLIN))
                .collect();
            if poll(&mut polled, PollTimeout::NONE).is_err() {
                continue;
            }
            let is_ready = |at: usize| polled[at].any().unwrap_or(false);
            if is_ready(0) {
                return;
            }
            let mut at = 1;
            for listener in &self.tcp {
                if is_ready(at) {
                    answer_tcp(listener, name);
                }
                at += 1;
            }
            for socket in &self.udp {
                if is_ready(at) {
                    answer_udp(socket, name, log);
                }
                at += 1;
            }
            for socket in &self.icmp {
                if is_ready(at) {
                    note_icmp(socket, name, log);
                }
                at += 1;
            }
        }
    }
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

fn listen(addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket(addr.ip(), Type::STREAM, None)?;
    socket.set_reuse_address(true)?;
    socket.bind(&addr.into())?;
    socket.listen(1024)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn receive(addr: SocketAddr) -> io::Result<Socket> {
    let socket = socket(addr.ip(), Type::DGRAM, None)?;
    if addr.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
    }
    socket.bind(&addr.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

fn raw_icmp(addr: IpAddr) -> io::Result<Socket> {
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

fn answer_tcp(listener: &TcpListener, name: &str) {
    while let Ok((stream, peer)) = listener.accept() {
        let name = name.to_owned();
        thread::spawn(move || {
            // A peer that goes away in the middle is its own affair.
            let _ = converse(&stream, peer, &name);
        });
    }
}

/// One connection: `GET` gets a small HTTP answer, `SEND n` gets n bytes, `TAKE n` swallows n
/// bytes and says so, anything else is echoed line by line.
fn converse(stream: &TcpStream, peer: SocketAddr, name: &str) -> io::Result<()> {
    stream.set_nonblocking(false)?;
    stream.set_nodelay(true)?;
    let mut lines = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if lines.read_line(&mut line)? == 0 {
            return Ok(());
        }
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["GET", ..] => return answer_http(&mut lines, writer, peer, name),
            ["SEND", count] => send_pattern(writer, 0, number(count)?)?,
            ["TAKE", count] => {
                let broken = take_pattern(&mut lines, number(count)?)?;
                writeln!(writer, "TOOK {broken}")?;
            }
            _ => writer.write_all(line.as_bytes())?,
        }
    }
}

fn number(word: &str) -> io::Result<usize> {
    word.parse().map_err(io::Error::other)
}

fn answer_http(
    lines: &mut impl io::BufRead,
    mut writer: &TcpStream,
    peer: SocketAddr,
    name: &str,
) -> io::Result<()> {
    let mut header = String::new();
    while lines.read_line(&mut header)? > 2 {
        header.clear();
    }
    let body = format!("{name} {peer}\n");
    write!(
        writer,
        "HTTP/1.0 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// A block of bytes, over and over again, is what transfers are made of. Its length is a prime, so
/// that nothing that is lost, doubled or out of place goes unseen.
fn block() -> &'static [u8] {
    const LEN: usize = 65_521;
    static BLOCK: LazyLock<Vec<u8>> =
        LazyLock::new(|| (0..LEN).map(|at| (at ^ (at >> 8)) as u8).collect());
    &BLOCK
}

/// What of the pattern stands between two offsets, up to the end of its block.
fn pattern(from: usize, to: usize) -> &'static [u8] {
    let start = from % block().len();
    &block()[start..block().len().min(start + (to - from))]
}

/// Writes the bytes of the pattern from one offset to another.
fn send_pattern(mut stream: &TcpStream, from: usize, to: usize) -> io::Result<()> {
    let mut sent = from;
    while sent < to {
        let chunk = pattern(sent, to);
        stream.write_all(chunk)?;
        sent += chunk.len();
    }
    Ok(())
}

/// Reads `count` bytes of the pattern and returns how many blocks were not what they should be.
fn take_pattern(reader: &mut impl Read, count: usize) -> io::Result<usize> {
    let (mut taken, mut broken) = (0, 0);
    let mut buffer = vec![0; block().len()];
    while taken < count {
        let expected = pattern(taken, count);
        let got = &mut buffer[..expected.len()];
        reader.read_exact(got)?;
        broken += usize::from(got != expected);
        taken += expected.len();
    }
    Ok(broken)
}

/// Answers from the address that was asked, which on a host with many addresses is not the one
/// that the route would choose.
fn answer_udp(socket: &OwnedFd, name: &str, log: &Log) {
    let mut buffer = [0; 2048];
    while let Some((length, source, local)) = receive_from(socket, &mut buffer) {
        let text = String::from_utf8_lossy(&buffer[..length]);
        if let Some(token) = text
            .split_whitespace()
            .nth(1)
            .and_then(|word| word.parse().ok())
        {
            log.write(token, name, source);
        }
        send_from(
            socket,
            format!("{name} {source}\n").as_bytes(),
            source,
            local,
        );
    }
}

fn receive_from(fd: &OwnedFd, buffer: &mut [u8]) -> Option<(usize, SocketAddr, IpAddr)> {
    let mut control = nix::cmsg_space!(libc::in_pktinfo, libc::in6_pktinfo);
    let mut parts = [IoSliceMut::new(buffer)];
    let message = recvmsg::<SockaddrStorage>(
        fd.as_raw_fd(),
        &mut parts,
        Some(&mut control),
        MsgFlags::empty(),
    )
    .ok()?;
    let source = std_addr(message.address.as_ref()?)?;
    let local = message.cmsgs().ok()?.find_map(|control| match control {
        ControlMessageOwned::Ipv4PacketInfo(info) => {
            Some(IpAddr::from(info.ipi_addr.s_addr.to_ne_bytes()))
        }
        ControlMessageOwned::Ipv6PacketInfo(info) => Some(IpAddr::from(info.ipi6_addr.s6_addr)),
        _ => None,
    })?;
    Some((message.bytes, source, local))
}

fn send_from(fd: &OwnedFd, bytes: &[u8], to: SocketAddr, from: IpAddr) {
    let parts = [IoSlice::new(bytes)];
    let to = SockaddrStorage::from(to);
    // A lost answer shows in the probe that waits for it.
    let _ = match from {
        IpAddr::V4(addr) => {
            let info = libc::in_pktinfo {
                ipi_ifindex: 0,
                ipi_spec_dst: libc::in_addr {
                    s_addr: u32::from_ne_bytes(addr.octets()),
                },
                ipi_addr: libc::in_addr { s_addr: 0 },
            };
            let control = [ControlMessage::Ipv4PacketInfo(&info)];
            sendmsg(
                fd.as_raw_fd(),
                &parts,
                &control,
                MsgFlags::empty(),
                Some(&to),
            )
        }
        IpAddr::V6(addr) => {
            let info = libc::in6_pktinfo {
                ipi6_addr: libc::in6_addr {
                    s6_addr: addr.octets(),
                },
                ipi6_ifindex: 0,
            };
            let control = [ControlMessage::Ipv6PacketInfo(&info)];
            sendmsg(
                fd.as_raw_fd(),
                &parts,
                &control,
                MsgFlags::empty(),
                Some(&to),
            )
        }
    };
}

fn std_addr(addr: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = addr.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = addr.as_sockaddr_in6()?;
    Some(SocketAddr::new(v6.ip().into(), v6.port()))
}

/// The kernel itself answers; only the source is written down.
fn note_icmp(socket: &UdpSocket, name: &str, log: &Log) {
    let mut buffer = [0; 2048];
    while let Ok((length, source)) = socket.recv_from(&mut buffer) {
        let Some(echo) = Echo::parse(&buffer[..length], source.ip()) else {
            continue;
        };
        if echo.is_request {
            log.write(echo.token, name, SocketAddr::new(source.ip(), 0));
        }
    }
}

/// An ICMP echo whose payload is a token.
struct Echo {
    is_request: bool,
    token: u64,
}

impl Echo {
    /// Reads what a raw socket gives: with the IP header in IPv4, without it in IPv6.
    fn parse(bytes: &[u8], source: IpAddr) -> Option<Self> {
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
    fn request(to: IpAddr, token: u64) -> Vec<u8> {
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

/// One question from one namespace.
#[derive(Clone, Debug)]
pub struct Probe {
    /// The asking namespace.
    pub from: PathBuf,
    /// What the sender binds to, also when the address is not its own.
    pub bind: Option<SocketAddr>,
    /// The protocol.
    pub proto: Proto,
    /// Whom it asks; the port of an echo request plays no part.
    pub to: SocketAddr,
}

impl Probe {
    /// A question from an unbound socket.
    pub fn new(from: &Path, proto: Proto, to: SocketAddr) -> Self {
        Self {
            from: from.to_owned(),
            bind: None,
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

    fn ask_here(&self, patience: Duration, log: &Log) -> Seen {
        let token = token();
        let answer = match self.proto {
            Proto::Tcp => self.ask_tcp(patience),
            Proto::Udp => self.ask_udp(token, patience),
            Proto::Icmp => self.ask_icmp(token, patience, log),
        };
        let error = match answer {
            Ok(seen) => return seen,
            Err(error) => error,
        };
        if let Some((by, source)) = log.read(token) {
            return Seen::Arrived { by, source };
        }
        match error.raw_os_error() {
            Some(libc::ECONNREFUSED) => Seen::Refused,
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

    fn ask_udp(&self, token: u64, patience: Duration) -> io::Result<Seen> {
        let socket: UdpSocket = self.open(Type::DGRAM, Some(Protocol::UDP))?.into();
        socket.connect(self.to)?;
        socket.set_read_timeout(Some(patience))?;
        socket.send(format!("probe {token}").as_bytes())?;
        let mut buffer = [0; 2048];
        let length = socket.recv(&mut buffer)?;
        answered(&String::from_utf8_lossy(&buffer[..length]))
    }

    fn ask_icmp(&self, token: u64, patience: Duration, log: &Log) -> io::Result<Seen> {
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
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            socket.set_read_timeout(Some(left))?;
            let length = socket.recv(&mut buffer)?;
            let is_reply = Echo::parse(&buffer[..length], self.to.ip())
                .is_some_and(|echo| !echo.is_request && echo.token == token);
            if is_reply {
                return Ok(icmp_answered(token, deadline, log));
            }
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

/// A reader that calls back once, when so many bytes were read.
struct Offset<'a, F: FnOnce()> {
    stream: &'a TcpStream,
    left: usize,
    at_half: Option<F>,
}

impl<F: FnOnce()> Read for Offset<'_, F> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let got = self.stream.read(buffer)?;
        self.left = self.left.saturating_sub(got);
        if self.left == 0
            && let Some(at_half) = self.at_half.take()
        {
            at_half();
        }
        Ok(got)
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

    /// Whether a router says that time was exceeded (RFC 792, RFC 4443) before `deadline`.
    ///
    /// # Panics
    ///
    /// When the socket refuses the time limit, which can't be.
    pub fn hears_time_exceeded(&self, deadline: Instant) -> bool {
        let mut buffer = [0; 2048];
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return false;
            }
            self.socket
                .set_read_timeout(Some(left))
                .expect("a time limit is set");
            let Ok(length) = self.socket.recv(&mut buffer) else {
                return false;
            };
            let kind = match self.family {
                Family::V4 => buffer[..length].get(20).map(|kind| *kind == 11),
                Family::V6 => buffer[..length].first().map(|kind| *kind == 3),
            };
            if kind == Some(true) {
                return true;
            }
        }
    }
}

/// Sends frames as they are from an interface of a namespace.
///
/// # Panics
///
/// When there is no such interface, or a frame can't be sent.
pub fn send_frames(netns: &Path, interface: &str, frames: &[Vec<u8>]) {
    use nix::sys::socket::{AddressFamily, SockFlag, SockType, bind, send, socket};
    Netns::existing(netns).enter(|| {
        let addresses = nix::ifaddrs::getifaddrs().expect("the interfaces are listed");
        let link = addresses
            .filter(|address| address.interface_name == interface)
            .find_map(|address| address.address?.as_link_addr().copied())
            .expect("the interface has a link address");
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::empty(),
            None,
        )
        .expect("a packet socket");
        bind(fd.as_raw_fd(), &link).expect("a packet socket is bound");
        for frame in frames {
            send(fd.as_raw_fd(), frame, MsgFlags::empty()).expect("a frame is sent");
        }
    });
}
