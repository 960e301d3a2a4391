//! The kernel's helpers that are not about packet bytes: time, chance, routes, sockets, redirects.
//!
//! One safe function each; nothing here decides anything.
#![expect(
    unsafe_code,
    reason = "helpers are foreign functions; each wrapper says why it holds"
)]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::{
        bpf_redir_neigh, bpf_redir_neigh__bindgen_ty_1, bpf_sock_tuple,
        bpf_sock_tuple__bindgen_ty_1, bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1,
        bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2,
    },
    helpers::generated as helpers,
};
use netbpf_common::{
    conntrack::Tick,
    family::{Family, V4, V6},
    tuple::{Tuple, proto},
    wire::{Ipv4, Ipv6},
};

use crate::skb::Skb;

pub use aya_ebpf::bindings::bpf_fib_lookup as FibParams;

/// `BPF_F_CURRENT_NETNS`.
const CURRENT_NETNS: u64 = u64::MAX;

/// The coarse clock.
#[inline(always)]
pub fn now() -> Tick {
    // SAFETY: takes nothing and can't fail.
    Tick::from_nanos(unsafe { helpers::bpf_ktime_get_coarse_ns() })
}

/// A random number.
#[inline(always)]
pub fn random() -> u32 {
    // SAFETY: takes nothing and can't fail.
    unsafe { helpers::bpf_get_prandom_u32() }
}

/// What `bpf_fib_lookup` answered (`linux/bpf.h`, `BPF_FIB_LKUP_RET_*`).
#[inline(always)]
pub fn fib_lookup(skb: Skb, params: &mut FibParams, flags: u32) -> i64 {
    let params: *mut FibParams = params;
    // SAFETY: `params` is valid for its whole length.
    unsafe {
        helpers::bpf_fib_lookup(
            skb.as_ptr().cast(),
            params,
            size_of::<FibParams>() as i32,
            flags,
        )
    }
}

/// Hands the packet to the peer of `ifindex`, in the peer's namespace. The action to return.
#[inline(always)]
pub fn redirect_peer(ifindex: u32) -> i32 {
    // SAFETY: only notes the redirect; an interface that is gone drops the packet.
    unsafe { helpers::bpf_redirect_peer(ifindex, 0) as i32 }
}

/// Sends the packet out of `ifindex` as it is. The action to return.
#[inline(always)]
pub fn redirect(ifindex: u32) -> i32 {
    // SAFETY: only notes the redirect; an interface that is gone drops the packet.
    unsafe { helpers::bpf_redirect(ifindex, 0) as i32 }
}

/// Lets the packet come in by `ifindex`. The action to return.
#[inline(always)]
pub fn redirect_ingress(ifindex: u32) -> i32 {
    const INGRESS: u64 = 1;
    // SAFETY: see `redirect`.
    unsafe { helpers::bpf_redirect(ifindex, INGRESS) as i32 }
}

/// The MTU of `ifindex` if the packet is too big for it, else 0. What will be cut into segments is
/// not.
#[inline(always)]
pub fn exceeded_mtu(skb: Skb, ifindex: u32) -> u32 {
    const FRAG_NEEDED: i64 = 1;
    let mut mtu = 0_u32;
    // SAFETY: `mtu` is valid while the helper runs.
    let result =
        unsafe { helpers::bpf_check_mtu(skb.as_ptr().cast(), ifindex, &raw mut mtu, 0, 0) };
    if result as i32 as i64 == FRAG_NEEDED {
        mtu
    } else {
        0
    }
}

/// Sends the packet out of `ifindex` to a next hop. The action to return.
#[inline(always)]
pub fn redirect_neigh(ifindex: u32, next_hop: &mut bpf_redir_neigh) -> i32 {
    let next_hop: *mut bpf_redir_neigh = next_hop;
    // SAFETY: `next_hop` is valid for its whole length.
    unsafe {
        helpers::bpf_redirect_neigh(ifindex, next_hop, size_of::<bpf_redir_neigh>() as i32, 0)
            as i32
    }
}

/// Whether a socket of the host would take a packet with this tuple. `len` is the length of the
/// family's part of `tuple`.
#[inline(always)]
pub fn has_socket(skb: Skb, tuple: &mut bpf_sock_tuple, len: usize, protocol: u8) -> bool {
    let tuple: *mut bpf_sock_tuple = tuple;
    // SAFETY: `tuple` is valid for `len`; a socket that was found is released at once.
    unsafe {
        let socket = match protocol {
            proto::TCP => helpers::bpf_skc_lookup_tcp(
                skb.as_ptr().cast(),
                tuple,
                len as u32,
                CURRENT_NETNS,
                0,
            ),
            proto::UDP => {
                helpers::bpf_sk_lookup_udp(skb.as_ptr().cast(), tuple, len as u32, CURRENT_NETNS, 0)
            }
            _ => return false,
        };
        if socket.is_null() {
            return false;
        }
        helpers::bpf_sk_release(socket.cast());
        true
    }
}

/// A body of [`repeat`]: gets the round's number; other than 0 ends the loop.
pub type Round<T> = extern "C" fn(round: u64, context: *mut T) -> i64;

/// Calls `round` up to `times` times (`bpf_loop`), which the verifier walks only once.
#[inline(always)]
pub fn repeat<T>(times: u32, round: Round<T>, context: &mut T) {
    let context: *mut T = context;
    // SAFETY: the callback has the signature that the helper wants, and `context` outlives it.
    unsafe {
        helpers::bpf_loop(times, round as *mut c_void, context.cast(), 0);
    }
}

/// What of the kernel's structs differs by family.
pub trait KernelFamily: Family {
    /// The parameters of a route lookup.
    fn fib_params(src: Self::Addr, dst: Self::Addr) -> FibParams;
    /// The source address that a route lookup chose.
    fn fib_source(params: &FibParams) -> Self::Addr;
    /// The tuple of a socket lookup and its length.
    fn socket_tuple(tuple: &Tuple<Self>) -> (bpf_sock_tuple, usize);
}

impl KernelFamily for V4 {
    #[inline(always)]
    fn fib_params(src: Ipv4, dst: Ipv4) -> FibParams {
        let mut params = empty_fib_params(Self::AF);
        params.__bindgen_anon_3.ipv4_src = src.0;
        params.__bindgen_anon_4.ipv4_dst = dst.0;
        params
    }

    #[inline(always)]
    fn fib_source(params: &FibParams) -> Ipv4 {
        // SAFETY: both members of the union are plain words.
        Ipv4(unsafe { params.__bindgen_anon_3.ipv4_src })
    }

    #[inline(always)]
    fn socket_tuple(tuple: &Tuple<V4>) -> (bpf_sock_tuple, usize) {
        let ipv4 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_1 {
            saddr: tuple.src_addr.0,
            daddr: tuple.dst_addr.0,
            sport: tuple.src_port.0,
            dport: tuple.dst_port.0,
        };
        let len = size_of_val(&ipv4);
        (
            bpf_sock_tuple {
                __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv4 },
            },
            len,
        )
    }
}

impl KernelFamily for V6 {
    #[inline(always)]
    fn fib_params(src: Ipv6, dst: Ipv6) -> FibParams {
        let mut params = empty_fib_params(Self::AF);
        params.__bindgen_anon_3.ipv6_src = src.0;
        params.__bindgen_anon_4.ipv6_dst = dst.0;
        params
    }

    #[inline(always)]
    fn fib_source(params: &FibParams) -> Ipv6 {
        // SAFETY: both members of the union are plain words.
        Ipv6(unsafe { params.__bindgen_anon_3.ipv6_src })
    }

    #[inline(always)]
    fn socket_tuple(tuple: &Tuple<V6>) -> (bpf_sock_tuple, usize) {
        let ipv6 = bpf_sock_tuple__bindgen_ty_1__bindgen_ty_2 {
            saddr: tuple.src_addr.0,
            daddr: tuple.dst_addr.0,
            sport: tuple.src_port.0,
            dport: tuple.dst_port.0,
        };
        let len = size_of_val(&ipv6);
        (
            bpf_sock_tuple {
                __bindgen_anon_1: bpf_sock_tuple__bindgen_ty_1 { ipv6 },
            },
            len,
        )
    }
}

#[inline(always)]
fn empty_fib_params(family: u8) -> FibParams {
    // SAFETY: all members are integers or arrays of them; zero is a valid value of each.
    let mut params: FibParams = unsafe { core::mem::zeroed() };
    params.family = family;
    params
}

/// The length that the lookup compares with the MTU of the way.
#[inline(always)]
pub fn set_fib_len(params: &mut FibParams, len: u16) {
    params.__bindgen_anon_1.tot_len = len;
}

/// The MTU of the way that a lookup found, also where the packet is too big for it.
#[inline(always)]
pub fn fib_mtu(params: &FibParams) -> u32 {
    // SAFETY: both members of the union are the same integer.
    u32::from(unsafe { params.__bindgen_anon_1.mtu_result })
}

/// The next hop that a lookup found, which can be of the other family (RFC 9229).
#[inline(always)]
pub fn next_hop(params: &FibParams) -> bpf_redir_neigh {
    // SAFETY: both members of the union are plain words; the IPv4 address is the first of them.
    let ipv6_nh = unsafe { params.__bindgen_anon_4.ipv6_dst };
    bpf_redir_neigh {
        nh_family: u32::from(params.family),
        __bindgen_anon_1: bpf_redir_neigh__bindgen_ty_1 { ipv6_nh },
    }
}

/// The context of a [`repeat`]'s round.
#[inline(always)]
pub fn context<'a, T>(context: *mut T) -> &'a mut T {
    // SAFETY: `repeat` passes the reference that it got, and rounds run one after the other.
    unsafe { &mut *context }
}
