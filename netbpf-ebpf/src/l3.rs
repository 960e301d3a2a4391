//! The programs of interfaces whose packets have no Ethernet header: tunnels, VPNs, PPP.
//!
//! The same modules as in `main.rs`, in an object of their own, so that no packet elsewhere pays
//! for a header that may be missing. The loader loads it where there is such an interface.
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
#![expect(
    dead_code,
    reason = "containers and bridges have hooks of their own, in the other object"
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

use aya_ebpf::{macros::classifier, programs::TcContext};

use crate::skb::Skb;

/// The length of a packet's link header on the interfaces that these programs hang on: none.
const LINK_HEADER: usize = 0;

#[classifier]
pub fn from_netdev_l3(ctx: TcContext) -> i32 {
    hooks::from_netdev::from_netdev(Skb::new(ctx.skb.skb))
}

#[classifier]
pub fn to_netdev_l3(ctx: TcContext) -> i32 {
    hooks::to_netdev::to_netdev(Skb::new(ctx.skb.skb))
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
