//! The calls that the verifier checks once and by themselves, one instance a family.
//!
//! A function with a symbol of its own is verified for any arguments, so that its callers cost the
//! verifier nothing more. What such a function needs beyond the packet and plain numbers lies in
//! this CPU's scratch maps: [`crate::maps::Tables::packet`] and [`crate::maps::Tables::draft`].
#![expect(
    unsafe_code,
    reason = "only a symbol of its own makes a function one of these"
)]

use aya_ebpf::bindings::__sk_buff;
use netbpf_common::family::{Family, V4, V6};

use crate::{conntrack, hooks, maps, nat, parse, skb::Skb, tell};

/// [`maps::count`], which a verdict at the end of every way needs; always 0, for the verifier wants
/// a number.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn count(index: u32, len: u32) -> u32 {
    maps::count(index, len);
    0
}

macro_rules! subprograms {
    ($(
        $(#[$doc:meta])*
        $name:ident = $v4:ident, $v6:ident
        ($($skb:ident: Skb)?; $($arg:ident: $type:ty),*) -> $result:ty = $($body:ident)::+;
    )+) => {
        /// The subprograms of a family.
        pub trait Subprograms: Family {
            $($(#[$doc])* fn $name($($skb: Skb,)? $($arg: $type),*) -> $result;)+
        }

        impl Subprograms for V4 {
            $(
                #[inline(always)]
                fn $name($($skb: Skb,)? $($arg: $type),*) -> $result {
                    $v4($($skb.as_ptr(),)? $($arg),*)
                }
            )+
        }

        impl Subprograms for V6 {
            $(
                #[inline(always)]
                fn $name($($skb: Skb,)? $($arg: $type),*) -> $result {
                    $v6($($skb.as_ptr(),)? $($arg),*)
                }
            )+
        }

        $(
            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $v4($($skb: *mut __sk_buff,)? $($arg: $type),*) -> $result {
                $($body)::+::<V4>($(Skb::new($skb),)? $($arg),*)
            }

            #[unsafe(no_mangle)]
            #[inline(never)]
            extern "C" fn $v6($($skb: *mut __sk_buff,)? $($arg: $type),*) -> $result {
                $($body)::+::<V6>($(Skb::new($skb),)? $($arg),*)
            }
        )+
    };
}

subprograms! {
    /// Parses into the scratch packet; 0, or a drop reason's number plus 1.
    parse = parse_v4, parse_v6 (skb: Skb;) -> u32 = parse::into_scratch;
    /// See [`parse::source_route`].
    source_route = source_route_v4, source_route_v6 (skb: Skb;) -> u32 = parse::source_route;
    /// See [`conntrack::change`].
    change = change_v4, change_v6 (; next: u32) -> u32 = conntrack::change;
    /// See [`nat::commit`].
    commit = commit_v4, commit_v6 (skb: Skb; how: u32) -> u32 = nat::commit;
    /// See [`conntrack::reopen`].
    reopen = reopen_v4, reopen_v6 (;) -> u32 = conntrack::reopen;
    /// See [`nat::try_port`].
    try_port = try_port_v4, try_port_v6 (skb: Skb; slot: u32) -> u32 = nat::try_port;
    /// See [`conntrack::insert_reply`].
    insert_reply = insert_reply_v4, insert_reply_v6 (; slot: u32) -> u32 = conntrack::insert_reply;
    /// See [`conntrack::insert_original`].
    insert_original = insert_original_v4, insert_original_v6 (; slot: u32) -> u32
        = conntrack::insert_original;
    /// See [`conntrack::take_over`].
    take_over = take_over_v4, take_over_v6 (;) -> u32 = conntrack::take_over;
    /// See [`tell::tell`]; the action.
    tell = tell_v4, tell_v6 (skb: Skb; what: u32) -> i32 = tell::tell;
    /// An IP packet from a container; the action, or [`hooks::UNKNOWN`].
    from_container = from_container_v4, from_container_v6 (skb: Skb;) -> i32
        = hooks::from_container::ip;
    /// One of no known flow; the action, or a commit's number above [`hooks::UNKNOWN`].
    from_container_unknown = from_container_unknown_v4, from_container_unknown_v6
        (skb: Skb;) -> i32 = hooks::from_container::unknown;
    /// An ICMP error from a container; the action.
    from_container_related = from_container_related_v4, from_container_related_v6
        (skb: Skb;) -> i32 = hooks::from_container::related;
    /// An IP packet from outside; the action, or [`hooks::UNKNOWN`].
    from_netdev = from_netdev_v4, from_netdev_v6 (skb: Skb;) -> i32 = hooks::from_netdev::ip;
    /// One of no known flow; the action, or a commit's number above [`hooks::UNKNOWN`].
    from_netdev_unknown = from_netdev_unknown_v4, from_netdev_unknown_v6 (skb: Skb;) -> i32
        = hooks::from_netdev::unknown;
    /// An ICMP error from outside; the action.
    from_netdev_related = from_netdev_related_v4, from_netdev_related_v6
        (skb: Skb;) -> i32 = hooks::from_netdev::related;
    /// An IP packet from the host to a container; the action, or [`hooks::UNKNOWN`].
    to_container = to_container_v4, to_container_v6 (skb: Skb;) -> i32
        = hooks::to_container::from_host;
    /// One of no known flow; the action, or a commit's number above [`hooks::UNKNOWN`].
    to_container_unknown = to_container_unknown_v4, to_container_unknown_v6 (skb: Skb;) -> i32
        = hooks::to_container::unknown;
    /// An IP packet that an outward interface brought to a container by the stack; the action.
    to_container_routed = to_container_routed_v4, to_container_routed_v6 (skb: Skb;) -> i32
        = hooks::to_container::routed;
    /// An IP packet of the host's to itself; the action, or [`hooks::UNKNOWN`].
    from_local = from_local_v4, from_local_v6 (skb: Skb;) -> i32 = hooks::from_local::ip;
    /// One of no known flow; the action, or a commit's number above [`hooks::UNKNOWN`].
    from_local_unknown = from_local_unknown_v4, from_local_unknown_v6 (skb: Skb;) -> i32
        = hooks::from_local::unknown;
    /// An ICMP error of the host's to itself; the action.
    from_local_related = from_local_related_v4, from_local_related_v6 (skb: Skb;) -> i32
        = hooks::from_local::related;
    /// An IP packet of the host's own to the outside; the action, or [`hooks::UNKNOWN`].
    to_netdev_host = to_netdev_host_v4, to_netdev_host_v6 (skb: Skb;) -> i32
        = hooks::to_netdev::host;
    /// One that would meet a masqueraded flow; the action, or a commit's number above
    /// [`hooks::UNKNOWN`].
    to_netdev_host_unknown = to_netdev_host_unknown_v4, to_netdev_host_unknown_v6
        (;) -> i32 = hooks::to_netdev::host_unknown;
    /// An IP packet that the stack forwards from one of our bridges; the action.
    to_netdev = to_netdev_v4, to_netdev_v6 (skb: Skb;) -> i32 = hooks::to_netdev::ip;
}
