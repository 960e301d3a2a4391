//! Processes of the host that talk to published ports and virtual IPs: translated once, at the
//! socket, so that no packet of theirs costs anything more.
//!
//! The programs hang on the root cgroup and see the sockets of every process; they act for those of
//! the host's namespace alone. What can't be led at the socket is left as it is, and `from_local`
//! meets its packets.

use netbpf_common::{
    endpoint::host_address_flags,
    family::{Family, V4, V6},
    nat::{MappingKey, target_flags},
    socket::{Asked, Peer, mapped, unmapped},
    tuple::{Tuple, proto},
    verdict::{DropReason, Hook},
    wire::{Be16, Ipv6},
};

use crate::{
    maps::{self, Tables},
    nat, service,
    socket::{Sock, SockFamily},
};

/// The system call goes on.
const GO_ON: i32 = 1;

/// A socket connects, IPv4.
#[inline(always)]
pub fn connect4(sock: Sock) -> i32 {
    connect::<V4>(Hook::Connect4, sock, V4::peer(sock), |led| {
        V4::set_peer(sock, led.addr, led.port);
    })
}

/// A socket connects, IPv6: to an address of that family, or to one of IPv4 in its mapped form.
#[inline(always)]
pub fn connect6(sock: Sock) -> i32 {
    let (addr, port) = V6::peer(sock);
    let set_v4 = |led: Led<V4>| V6::set_peer(sock, mapped(led.addr), led.port);
    if let Some(addr) = unmapped(addr) {
        return connect::<V4>(Hook::Connect6, sock, (addr, port), set_v4);
    }
    let addr = concrete::<V6>(addr);
    if is_ours(sock)
        && let Some(led) = also_v6(sock, addr, port)
        && may_be_led::<V4>(sock)
    {
        if sock.remember(led.asked_as(Peer::v6(addr, port))) {
            set_v4(led);
        }
        return GO_ON;
    }
    connect::<V6>(Hook::Connect6, sock, (addr, port), |led| {
        V6::set_peer(sock, led.addr, led.port);
    })
}

/// A socket sends a datagram to an address that it names, IPv4.
#[inline(always)]
pub fn sendmsg4(sock: Sock) -> i32 {
    send::<V4>(Hook::Sendmsg4, sock)
}

/// As [`sendmsg4`], IPv6.
#[inline(always)]
pub fn sendmsg6(sock: Sock) -> i32 {
    send::<V6>(Hook::Sendmsg6, sock)
}

/// A socket learns who sent it a datagram, IPv4.
#[inline(always)]
pub fn recvmsg4(sock: Sock) -> i32 {
    let (addr, port) = V4::peer(sock);
    if is_ours(sock)
        && let Some(asked) = sender(sock, Peer::v4(addr, port))
        && let Some(addr) = asked.as_v4()
    {
        V4::set_peer(sock, addr, asked.port);
    }
    GO_ON
}

/// As [`recvmsg4`], for sockets of IPv6.
#[inline(always)]
pub fn recvmsg6(sock: Sock) -> i32 {
    let (addr, port) = V6::peer(sock);
    if is_ours(sock)
        && let Some(asked) = sender(sock, Peer::v6(addr, port))
    {
        V6::set_peer(sock, asked.addr, asked.port);
    }
    GO_ON
}

/// A socket asks whom it is connected to, IPv4.
#[inline(always)]
pub fn getpeername4(sock: Sock) -> i32 {
    let (addr, port) = V4::peer(sock);
    if is_ours(sock)
        && let Some(asked) = connected(sock, Peer::v4(addr, port))
        && let Some(addr) = asked.as_v4()
    {
        V4::set_peer(sock, addr, asked.port);
    }
    GO_ON
}

/// As [`getpeername4`], for sockets of IPv6.
#[inline(always)]
pub fn getpeername6(sock: Sock) -> i32 {
    let (addr, port) = V6::peer(sock);
    if is_ours(sock)
        && let Some(asked) = connected(sock, Peer::v6(addr, port))
    {
        V6::set_peer(sock, asked.addr, asked.port);
    }
    GO_ON
}

/// Whether a socket is of the host's namespace, and not of a container's or another instance's.
#[inline(always)]
fn is_ours(sock: Sock) -> bool {
    let cookie = maps::config().netns_cookie;
    cookie != 0 && sock.netns_cookie() == cookie
}

/// Where an address of the host's leads.
#[derive(Clone, Copy)]
struct Led<F: Family> {
    addr: F::Addr,
    port: Be16,
    mapping: u32,
    endpoint: u32,
}

impl<F: SockFamily> Led<F> {
    #[inline(always)]
    fn asked_as(&self, asked: Peer) -> Asked {
        Asked {
            asked,
            led_to: F::as_peer(self.addr, self.port),
            mapping: self.mapping,
            endpoint: self.endpoint,
        }
    }
}

#[inline(always)]
fn connect<F: Tables + SockFamily>(
    hook: Hook,
    sock: Sock,
    (addr, port): (F::Addr, Be16),
    set: impl Fn(Led<F>),
) -> i32 {
    let protocol = sock.protocol();
    if !is_ours(sock) || protocol == 0 {
        return GO_ON;
    }
    let addr = concrete::<F>(addr);
    let led = match led::<F>(addr, port, protocol) {
        Ok(led) => led,
        Err(reason) => return refuse(hook, sock, reason),
    };
    match led {
        Some(led) if may_be_led::<F>(sock) => {
            if sock.remember(led.asked_as(F::as_peer(addr, port))) {
                set(led);
            }
        }
        // A datagram socket may have been connected before.
        _ if protocol == proto::UDP => sock.forget(),
        _ => {}
    }
    GO_ON
}

#[inline(always)]
fn send<F: Tables + SockFamily>(hook: Hook, sock: Sock) -> i32 {
    if !is_ours(sock) || sock.protocol() != proto::UDP {
        return GO_ON;
    }
    let (addr, port) = F::peer(sock);
    let addr = concrete::<F>(addr);
    if is_vip::<F>(&addr) {
        return send_to_vip::<F>(hook, sock, addr, port);
    }
    let Ok(Some(led)) = led::<F>(addr, port, proto::UDP) else {
        // Who asks a container itself wants to hear the container.
        if F::endpoint(&addr).is_some() {
            maps::forget_asked(&sock.key(F::as_peer(addr, port)));
        }
        return GO_ON;
    };
    if F::is_loopback(&F::message_source(sock)) || !may_be_led::<F>(sock) {
        return GO_ON;
    }
    let asked = led.asked_as(F::as_peer(addr, port));
    let key = sock.key(asked.led_to);
    match maps::asked(&key) {
        Some(known) if *known == asked => F::set_peer(sock, led.addr, led.port),
        // The answers could not be told apart here; `from_local` can.
        Some(known) if known.asked != asked.asked => {}
        _ => {
            if maps::set_asked(&key, &asked) {
                F::set_peer(sock, led.addr, led.port);
            }
        }
    }
    GO_ON
}

/// Datagrams to a virtual IP all go to one backend, which is the flow's and not the socket's to
/// keep: `from_local` leads them.
#[inline(always)]
fn send_to_vip<F: Tables>(hook: Hook, sock: Sock, addr: F::Addr, port: Be16) -> i32 {
    let tuple = asked_tuple::<F>(addr, port, proto::UDP);
    match service::choose(&tuple) {
        Ok(_) => GO_ON,
        Err(reason) => refuse(hook, sock, reason),
    }
}

/// Refuses the system call as if nobody listened, and counts that.
#[inline(always)]
fn refuse(hook: Hook, sock: Sock, reason: DropReason) -> i32 {
    maps::count_call(hook, reason);
    sock.refuse()
}

/// The kernel takes no address for the loopback one.
#[inline(always)]
fn concrete<F: Family>(addr: F::Addr) -> F::Addr {
    if F::is_unspecified(&addr) {
        F::LOCALHOST
    } else {
        addr
    }
}

#[inline(always)]
fn is_vip<F: Tables>(addr: &F::Addr) -> bool {
    F::host_address(addr).is_some_and(|address| address.flags & host_address_flags::VIP != 0)
}

#[inline(always)]
fn asked_tuple<F: Family>(addr: F::Addr, port: Be16, protocol: u8) -> Tuple<F> {
    Tuple {
        dst_addr: addr,
        dst_port: port,
        proto: protocol,
        ..Tuple::default()
    }
}

/// Where an address and port lead; `None`: they are not ours.
///
/// # Errors
///
/// A virtual IP's port that leads nowhere.
#[inline(always)]
fn led<F: Tables>(addr: F::Addr, port: Be16, protocol: u8) -> Result<Option<Led<F>>, DropReason> {
    if is_vip::<F>(&addr) {
        let choice = service::choose(&asked_tuple::<F>(addr, port, protocol))?;
        return Ok(Some(Led {
            addr: choice.backend.addr,
            port: choice.backend.port,
            mapping: choice.mapping,
            endpoint: choice.backend.endpoint,
        }));
    }
    if !is_own::<F>(&addr) {
        return Ok(None);
    }
    Ok(nat::target::<F>(addr, port, protocol).map(|target| Led {
        addr: target.addr,
        port: target.port,
        mapping: target.mapping,
        endpoint: target.endpoint,
    }))
}

/// Whether the host answers on an address.
#[inline(always)]
fn is_own<F: Tables>(addr: &F::Addr) -> bool {
    F::is_loopback(addr) || F::host_address(addr).is_some()
}

/// Where an IPv6 address of the host's leads if the container behind the port has IPv4 only.
#[inline(always)]
fn also_v6(sock: Sock, addr: Ipv6, port: Be16) -> Option<Led<V4>> {
    let protocol = sock.protocol();
    if protocol == 0 || !is_own::<V6>(&addr) || is_vip::<V6>(&addr) {
        return None;
    }
    if nat::target::<V6>(addr, port, protocol).is_some() {
        return None;
    }
    let target = nat::wildcard::<V4>(port, protocol)
        .filter(|target| target.flags & target_flags::ALSO_V6 != 0)?;
    Some(Led {
        addr: target.addr,
        port: target.port,
        mapping: target.mapping,
        endpoint: target.endpoint,
    })
}

/// Whether a socket can be led to a container's address of this family: from a loopback address no
/// route leads there, nor from an interface that the socket is bound to, nor from an address of the
/// other family.
#[inline(always)]
fn may_be_led<F: Family>(sock: Sock) -> bool {
    if sock.bound_interface() != 0 {
        return false;
    }
    let bound = sock.bound_address();
    if bound == Ipv6::UNSPECIFIED {
        return true;
    }
    match unmapped(bound) {
        Some(addr) => F::AF == V4::AF && !V4::is_loopback(&addr),
        None => F::AF == V6::AF && !V6::is_loopback(&bound),
    }
}

/// What a connected socket asked for, where its peer is `from`.
#[inline(always)]
fn connected(sock: Sock, from: Peer) -> Option<Peer> {
    let remembered = sock.remembered()?;
    (remembered.led_to == from).then_some(remembered.asked)
}

/// What a socket asked for when it was led to `from`. Where the mapping is gone, or leads to
/// another container, nobody speaks for it.
#[inline(always)]
fn sender(sock: Sock, from: Peer) -> Option<Peer> {
    if let Some(asked) = connected(sock, from) {
        return Some(asked);
    }
    let asked = maps::asked(&sock.key(from))?;
    let key = MappingKey {
        mapping: asked.mapping,
        endpoint: asked.endpoint,
    };
    let flag = match from.as_v4() {
        Some(_) => V4::STANDS,
        None => V6::STANDS,
    };
    maps::mapping_stands(&key, flag).then_some(asked.asked)
}
