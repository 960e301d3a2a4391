//! Sockets of the host: the context of a hook at a socket, and what a packet's socket asked for.
//!
//! The only file that reads or writes a socket's fields. Nothing here decides anything.
#![expect(
    unsafe_code,
    reason = "contexts and sockets are kernel memory; each access says why it holds"
)]

use core::ptr;

use aya_ebpf::{
    bindings::{bpf_sock, bpf_sock_addr, bpf_sock_tuple},
    helpers::generated as helpers,
};
use netbpf_common::{
    family::{Family, V4, V6},
    socket::{Asked, Peer, SocketKey, mapped},
    tuple::proto,
    wire::{Be16, Ipv4, Ipv6},
};

use crate::{maps, skb::Skb};

/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

/// The context of a hook at a socket: what a process asks of it, and the socket.
#[derive(Clone, Copy)]
#[repr(transparent)]
pub struct Sock(*mut bpf_sock_addr);

impl Sock {
    /// Wraps a program's context.
    #[inline(always)]
    pub const fn new(context: *mut bpf_sock_addr) -> Self {
        Self(context)
    }

    /// The cookie of the namespace that the socket is of.
    #[inline(always)]
    pub fn netns_cookie(self) -> u64 {
        // SAFETY: the helper takes the context.
        unsafe { helpers::bpf_get_netns_cookie(self.0.cast()) }
    }

    /// TCP, UDP, or 0 for any other protocol.
    #[inline(always)]
    pub fn protocol(self) -> u8 {
        // SAFETY: the context is valid for the whole run of a program; so below. What a word of it
        // is read or written with has its size, for the verifier takes no other.
        match unsafe { (&raw const (*self.0).protocol).read_volatile() } {
            6 => proto::TCP,
            17 => proto::UDP,
            _ => 0,
        }
    }

    /// The port of the address in question, wire order.
    #[inline(always)]
    fn port(self) -> Be16 {
        // SAFETY: see `protocol`. The port is in the word's first bytes.
        Be16(unsafe { (&raw const (*self.0).user_port).read_volatile() } as u16)
    }

    #[inline(always)]
    fn set_port(self, port: Be16) {
        // SAFETY: see `protocol`.
        unsafe { (&raw mut (*self.0).user_port).write_volatile(port.0.into()) }
    }

    #[inline(always)]
    fn socket(self) -> *mut bpf_sock {
        // SAFETY: see `protocol`; a hook at a socket always has one.
        unsafe { (&raw const (*self.0).__bindgen_anon_1.sk).read_volatile() }
    }

    /// The interface that the socket is bound to; 0: none.
    #[inline(always)]
    pub fn bound_interface(self) -> u32 {
        // SAFETY: the socket lives as long as the hook runs; so below.
        unsafe { (&raw const (*self.socket()).bound_dev_if).read_volatile() }
    }

    /// The address that the socket is bound to, in the form of [`Peer`]; unspecified: none.
    #[inline(always)]
    pub fn bound_address(self) -> Ipv6 {
        let socket = self.socket();
        // SAFETY: see `bound_interface`.
        unsafe {
            if (&raw const (*socket).family).read_volatile() == u32::from(V6::AF) {
                return Ipv6([
                    (&raw const (*socket).src_ip6[0]).read_volatile(),
                    (&raw const (*socket).src_ip6[1]).read_volatile(),
                    (&raw const (*socket).src_ip6[2]).read_volatile(),
                    (&raw const (*socket).src_ip6[3]).read_volatile(),
                ]);
            }
            match (&raw const (*socket).src_ip4).read_volatile() {
                0 => Ipv6::UNSPECIFIED,
                addr => mapped(Ipv4(addr)),
            }
        }
    }

    /// Makes the system call fail with `ECONNREFUSED`; what the program then returns.
    #[inline(always)]
    pub fn refuse(self) -> i32 {
        const ECONNREFUSED: i32 = 111;
        // SAFETY: takes a number.
        unsafe { helpers::bpf_set_retval(-ECONNREFUSED) };
        0
    }

    /// What the socket asked for when it connected.
    #[inline(always)]
    pub fn remembered(self) -> Option<Asked> {
        // SAFETY: the map's values are `Asked`s, and alive with the socket.
        unsafe { storage(self.socket(), ptr::null_mut(), 0).map(|at| *at) }
    }

    /// Leaves with the socket what it asked for; whether there was room.
    #[inline(always)]
    pub fn remember(self, mut asked: Asked) -> bool {
        const CREATE: u64 = 1;
        // SAFETY: see `remembered`.
        unsafe {
            let Some(at) = storage(self.socket(), &raw mut asked, CREATE) else {
                return false;
            };
            *at = asked;
        }
        true
    }

    /// Takes away what an earlier connect left with the socket.
    #[inline(always)]
    pub fn forget(self) {
        // SAFETY: the helper takes a map and a socket; that there is nothing is no error here.
        unsafe { helpers::bpf_sk_storage_delete(maps::sockets(), self.socket().cast()) };
    }

    /// The key of what this socket asked for where it was led to `led_to`.
    #[inline(always)]
    pub fn key(self, led_to: Peer) -> SocketKey {
        SocketKey {
            // SAFETY: the helper takes the context.
            cookie: unsafe { helpers::bpf_get_socket_cookie(self.0.cast()) },
            led_to,
            pad: 0,
        }
    }
}

/// What of a socket's context differs by family.
pub trait SockFamily: Family {
    /// The address and port in question.
    fn peer(sock: Sock) -> (Self::Addr, Be16);
    /// Puts another address and port in their place.
    fn set_peer(sock: Sock, addr: Self::Addr, port: Be16);
    /// The address that a message is to be sent from; unspecified: the socket's own.
    fn message_source(sock: Sock) -> Self::Addr;
    /// An address and a port in the form of both families.
    fn as_peer(addr: Self::Addr, port: Be16) -> Peer;
}

impl SockFamily for V4 {
    #[inline(always)]
    fn peer(sock: Sock) -> (Ipv4, Be16) {
        // SAFETY: see `Sock::protocol`.
        let addr = unsafe { (&raw const (*sock.0).user_ip4).read_volatile() };
        (Ipv4(addr), sock.port())
    }

    #[inline(always)]
    fn set_peer(sock: Sock, addr: Ipv4, port: Be16) {
        // SAFETY: see `Sock::protocol`.
        unsafe { (&raw mut (*sock.0).user_ip4).write_volatile(addr.0) };
        sock.set_port(port);
    }

    #[inline(always)]
    fn message_source(sock: Sock) -> Ipv4 {
        // SAFETY: see `Sock::protocol`.
        Ipv4(unsafe { (&raw const (*sock.0).msg_src_ip4).read_volatile() })
    }

    #[inline(always)]
    fn as_peer(addr: Ipv4, port: Be16) -> Peer {
        Peer::v4(addr, port)
    }
}

impl SockFamily for V6 {
    #[inline(always)]
    fn peer(sock: Sock) -> (Ipv6, Be16) {
        let context = sock.0;
        // SAFETY: see `Sock::protocol`.
        let addr = unsafe {
            Ipv6([
                (&raw const (*context).user_ip6[0]).read_volatile(),
                (&raw const (*context).user_ip6[1]).read_volatile(),
                (&raw const (*context).user_ip6[2]).read_volatile(),
                (&raw const (*context).user_ip6[3]).read_volatile(),
            ])
        };
        (addr, sock.port())
    }

    #[inline(always)]
    fn set_peer(sock: Sock, addr: Ipv6, port: Be16) {
        let context = sock.0;
        let [a, b, c, d] = addr.0;
        // SAFETY: see `Sock::protocol`.
        unsafe {
            (&raw mut (*context).user_ip6[0]).write_volatile(a);
            (&raw mut (*context).user_ip6[1]).write_volatile(b);
            (&raw mut (*context).user_ip6[2]).write_volatile(c);
            (&raw mut (*context).user_ip6[3]).write_volatile(d);
        }
        sock.set_port(port);
    }

    #[inline(always)]
    fn message_source(sock: Sock) -> Ipv6 {
        let context = sock.0;
        // SAFETY: see `Sock::protocol`.
        unsafe {
            Ipv6([
                (&raw const (*context).msg_src_ip6[0]).read_volatile(),
                (&raw const (*context).msg_src_ip6[1]).read_volatile(),
                (&raw const (*context).msg_src_ip6[2]).read_volatile(),
                (&raw const (*context).msg_src_ip6[3]).read_volatile(),
            ])
        }
    }

    #[inline(always)]
    fn as_peer(addr: Ipv6, port: Be16) -> Peer {
        Peer::v6(addr, port)
    }
}

/// The mapping that led the packet's socket to `led_to`; 0: none did.
#[inline(always)]
pub fn mapping_of(skb: Skb, led_to: Peer) -> u32 {
    let socket = skb.socket();
    if socket.is_null() {
        return 0;
    }
    // SAFETY: the socket lives as long as its packet; values are `Asked`s.
    if let Some(at) = unsafe { storage(socket, ptr::null_mut(), 0) }
        // SAFETY: as above.
        && let Asked { led_to: to, mapping, .. } = unsafe { *at }
        && to == led_to
    {
        return mapping;
    }
    let key = SocketKey {
        // SAFETY: the helper takes the context.
        cookie: unsafe { helpers::bpf_get_socket_cookie(skb.as_ptr().cast()) },
        led_to,
        pad: 0,
    };
    maps::asked(&key).map_or(0, |asked| asked.mapping)
}

/// The mapping by which the host's socket that would take a packet was connected to the packet's
/// sender, `led_to`; 0: there is none. `len` is the length of the family's part of `tuple`.
#[inline(always)]
pub fn mapping_of_receiver(
    skb: Skb,
    tuple: &mut bpf_sock_tuple,
    len: usize,
    protocol: u8,
    led_to: Peer,
) -> u32 {
    let tuple: *mut bpf_sock_tuple = tuple;
    // SAFETY: `tuple` is valid for `len`; a socket that was found is released after its use.
    unsafe {
        let (context, len) = (skb.as_ptr().cast(), len as u32);
        let socket = match protocol {
            proto::TCP => helpers::bpf_skc_lookup_tcp(context, tuple, len, CURRENT_NETNS, 0),
            proto::UDP => helpers::bpf_sk_lookup_udp(context, tuple, len, CURRENT_NETNS, 0),
            _ => return 0,
        };
        if socket.is_null() {
            return 0;
        }
        let mapping = match storage(socket, ptr::null_mut(), 0) {
            Some(at) if (*at).led_to == led_to => (*at).mapping,
            _ => 0,
        };
        helpers::bpf_sk_release(socket.cast());
        mapping
    }
}

/// The value that a socket has in [`maps::SOCKETS`]; with the flag `BPF_SK_STORAGE_GET_F_CREATE`
/// it is made of `value` where it is not there.
///
/// # Safety
///
/// `socket` must be alive, and `value` null or valid.
#[inline(always)]
unsafe fn storage(socket: *mut bpf_sock, value: *mut Asked, flags: u64) -> Option<*mut Asked> {
    // SAFETY: the caller's promise.
    let at =
        unsafe { helpers::bpf_sk_storage_get(maps::sockets(), socket.cast(), value.cast(), flags) }
            .cast::<Asked>();
    (!at.is_null()).then_some(at)
}
