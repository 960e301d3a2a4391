//! netbpf's programs. The doors only: each hook has its file under `hooks`.
#![no_std]
#![no_main]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]
#![expect(
    unsafe_code,
    reason = "the licence has to stand in a section of its own"
)]
#![expect(
    missing_docs,
    reason = "the macros of aya-ebpf make undocumented items"
)]

mod atomic;
mod bridge;
mod conntrack;
mod forward;
mod fragment;
mod globals;
mod hooks;
mod icmp;
mod kernel;
mod maps;
mod nat;
mod neighbour;
mod parse;
mod policy;
mod rewrite;
mod service;
mod skb;
mod socket;
mod source;
mod subprograms;
mod sweep;
mod tell;
mod way;

use aya_ebpf::{
    macros::{cgroup_sock_addr, classifier},
    programs::{SockAddrContext, TcContext},
};

use crate::{skb::Skb, socket::Sock};

/// The length of a packet's link header on the interfaces that these programs hang on: Ethernet.
const LINK_HEADER: usize = network_types::eth::EthHdr::LEN;

#[classifier]
pub fn from_container(ctx: TcContext) -> i32 {
    hooks::from_container::from_container(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn to_container(ctx: TcContext) -> i32 {
    hooks::to_container::to_container(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn from_netdev(ctx: TcContext) -> i32 {
    hooks::from_netdev::from_netdev(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn to_netdev(ctx: TcContext) -> i32 {
    hooks::to_netdev::to_netdev(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn from_bridge(ctx: TcContext) -> i32 {
    hooks::from_bridge::from_bridge(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn from_local(ctx: TcContext) -> i32 {
    hooks::from_local::from_local(Skb::new(ctx.skb.skb))
}

macro_rules! at_sockets {
    ($($name:ident)+) => {$(
        #[cgroup_sock_addr($name)]
        pub fn $name(ctx: SockAddrContext) -> i32 {
            hooks::socket::$name(Sock::new(ctx.sock_addr))
        }
    )+};
}

at_sockets! { connect4 connect6 sendmsg4 sendmsg6 recvmsg4 recvmsg6 getpeername4 getpeername6 }

/// Never attached: the loader runs it once, and the sweep goes on by itself.
#[classifier]
pub fn start_sweep(_ctx: TcContext) -> i32 {
    sweep::start()
}

/// The licence of this object alone: some of the helpers ask for one that is GPL-compatible.
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
#[used]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(test))]
#[panic_handler]
fn panic(_info: &core::panic::PanicInfo) -> ! {
    loop {}
}
