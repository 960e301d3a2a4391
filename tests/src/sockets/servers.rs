//! Servers: TCP and UDP on given ports, protocols without ports, and notes of what the kernel
//! answers.

use std::{
    io::{self, BufRead as _, BufReader, IoSlice, IoSliceMut, Write as _},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, UdpSocket},
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
        unix::net::UnixStream,
    },
    path::Path,
    thread,
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        ControlMessage, ControlMessageOwned, MsgFlags, SockaddrStorage, recvfrom, recvmsg, sendmsg,
        setsockopt, sockopt,
    },
};
use socket2::{Socket, Type};

use super::{
    FRAGMENTED, Log, Proto,
    icmp::{Echo, raw_icmp},
    pattern::{send_pattern, take_pattern},
    raw, socket,
};
use crate::netns::join;

/// The servers of one namespace. Dropping it ends them.
#[derive(Debug)]
pub struct Servers {
    stop: Option<UnixStream>,
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

/// Serves `ports` in TCP and UDP and the portless protocols, in both families, and notes echo
/// requests and segments of no connection.
///
/// # Panics
///
/// When a port is taken.
pub fn serve(netns: &Path, name: &str, ports: &[u16], log: &Log) -> Servers {
    let (stop, stopped) = UnixStream::pair().expect("a socket pair");
    let (ready, is_ready) = std::sync::mpsc::channel();
    let (path, name, ports, log) = (
        netns.to_owned(),
        name.to_owned(),
        ports.to_owned(),
        log.clone(),
    );
    let thread = thread::spawn(move || {
        join(&path);
        let doors = open_doors(&name, &ports);
        let _ = ready.send(());
        attend(&doors, &name, &log, &stopped);
    });
    is_ready.recv().expect("the servers open their doors");
    Servers {
        stop: Some(stop),
        thread: Some(thread),
    }
}

/// What something can come in by.
enum Door {
    Tcp(TcpListener),
    Udp(OwnedFd),
    /// Another IP protocol.
    Raw(OwnedFd),
    /// Echo requests, which the kernel answers.
    Icmp(UdpSocket),
    /// Segments of no connection, which the kernel resets.
    Segments(OwnedFd),
}

impl AsFd for Door {
    fn as_fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Tcp(listener) => listener.as_fd(),
            Self::Udp(fd) | Self::Raw(fd) | Self::Segments(fd) => fd.as_fd(),
            Self::Icmp(socket) => socket.as_fd(),
        }
    }
}

impl Door {
    /// Takes in all that waits.
    fn attend(&self, name: &str, log: &Log) {
        match self {
            Self::Tcp(listener) => answer_tcp(listener, name),
            Self::Udp(fd) => answer_udp(fd, name, log),
            Self::Raw(fd) => answer_raw(fd, name, log),
            Self::Icmp(socket) => note_icmp(socket, name, log),
            Self::Segments(fd) => note_segments(fd, name, log),
        }
    }
}

fn open_doors(name: &str, ports: &[u16]) -> Vec<Door> {
    let any = [
        IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    ];
    let open = |result: io::Result<Socket>, what: &str| match result {
        Ok(socket) => socket,
        Err(error) => panic!("{name} can't open {what}: {error}"),
    };
    let mut doors = Vec::new();
    for addr in any {
        for port in ports {
            let addr = SocketAddr::new(addr, *port);
            doors.push(Door::Tcp(open(listen(addr), &format!("tcp {addr}")).into()));
            doors.push(Door::Udp(
                open(receive(addr), &format!("udp {addr}")).into(),
            ));
        }
        doors.push(Door::Icmp(open(raw_icmp(addr), "ICMP").into()));
        doors.push(Door::Segments(open(raw::segments(addr), "raw TCP").into()));
        for proto in Proto::PORTLESS {
            let raw = raw::listen(addr, proto);
            doors.push(Door::Raw(open(raw, proto.name()).into()));
        }
    }
    doors
}

/// Attends to the doors until the other end of `stopped` hangs up.
fn attend(doors: &[Door], name: &str, log: &Log, stopped: &UnixStream) {
    loop {
        let mut polled: Vec<_> = [stopped.as_fd()]
            .into_iter()
            .chain(doors.iter().map(AsFd::as_fd))
            .map(|fd| PollFd::new(fd, PollFlags::POLLIN))
            .collect();
        if poll(&mut polled, PollTimeout::NONE).is_err() {
            continue;
        }
        let is_ready = |at: usize| polled[at].any().unwrap_or(false);
        if is_ready(0) {
            return;
        }
        for (at, door) in doors.iter().enumerate() {
            if is_ready(at + 1) {
                door.attend(name, log);
            }
        }
    }
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

/// Answers from the address that was asked, which on a host with many addresses is not the one
/// that the route would choose. A question in fragments gets an answer in fragments.
fn answer_udp(socket: &OwnedFd, name: &str, log: &Log) {
    let mut buffer = [0; 2 * FRAGMENTED];
    while let Some((length, source, local)) = receive_from(socket, &mut buffer) {
        if let Some(token) = asked(&buffer[..length]) {
            log.write(token, name, source);
        }
        let mut answer = format!("{name} {source}\n");
        if length >= FRAGMENTED {
            answer = format!("{answer:FRAGMENTED$}");
        }
        send_from(socket, answer.as_bytes(), source, local);
    }
}

/// The token of `probe TOKEN`.
fn asked(question: &[u8]) -> Option<u64> {
    let text = String::from_utf8_lossy(question);
    let mut words = text.split_whitespace();
    (words.next() == Some("probe")).then_some(())?;
    words.next()?.parse().ok()
}

/// Answers a question of a protocol without ports from the address that was asked. All questions
/// of two places share one flow, so that the answer names the question.
fn answer_raw(socket: &OwnedFd, name: &str, log: &Log) {
    let mut buffer = [0; FRAGMENTED];
    while let Some((length, source, local)) = receive_from(socket, &mut buffer) {
        let Some(token) = asked(raw::payload(&buffer[..length], source.ip())) else {
            continue;
        };
        let source = SocketAddr::new(source.ip(), 0);
        log.write(token, name, source);
        let answer = format!("{name} {source} {token}\n");
        send_from(socket, answer.as_bytes(), source, local);
    }
}

/// The kernel itself answers, by a reset; only the source is written down.
fn note_segments(socket: &OwnedFd, name: &str, log: &Log) {
    let mut buffer = [0; FRAGMENTED];
    while let Ok((length, source)) = recvfrom::<SockaddrStorage>(socket.as_raw_fd(), &mut buffer) {
        let source = source.and_then(|source| std_addr(&source));
        if let Some(source) = source
            && let Some(token) = raw::token_of(&buffer[..length], source.ip())
        {
            log.write(token, name, SocketAddr::new(source.ip(), 0));
        }
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
