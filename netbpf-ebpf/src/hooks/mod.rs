//! The hooks, one file each. This file alone knows the kernel's actions and counts.

pub mod from_bridge;
pub mod from_container;
pub mod from_local;
pub mod from_netdev;
pub mod socket;
pub mod to_container;
pub mod to_netdev;

use aya_ebpf::bindings::{TC_ACT_SHOT, TC_ACT_UNSPEC};
use netbpf_common::{
    config::{MARK_FROM_LOCAL, MARK_TO_HOST},
    family::{V4, V6},
    verdict::{DropReason, Hook, Outcome, Verdict, drop_counter_of, stack_counter_of},
};

use crate::{
    globals,
    icmp::Errors,
    kernel::{self, KernelFamily},
    maps::Tables,
    nat,
    neighbour::OnLink,
    parse::Wire,
    skb::Skb,
    socket::SockFamily,
    subprograms::{self, Subprograms},
    tell::Answer,
};

/// All that the hooks ask of a family.
pub trait Stages:
    Tables + Wire + Errors + Answer + KernelFamily + OnLink + SockFamily + Subprograms
{
}

impl Stages for V4 {}
impl Stages for V6 {}

/// What a hook's stage for known flows returns in place of an action when there is none. No action
/// has this number. The stage for unknown packets adds to it the number of [`nat::commit`] that is
/// to commit the flow it has drafted.
pub const UNKNOWN: i32 = 1 << 16;

/// What the stage for unknown packets returns for an ICMP error.
pub const RELATED: i32 = 1 << 17;

/// What a stage returns for a packet whose sender is to be told why it goes no further; what
/// [`crate::tell::tell`] takes is added to it.
pub const TELL: i32 = 1 << 18;

/// The life of one IP packet in a hook: a known flow, or an unknown packet that becomes one.
///
/// The stages are called one after the other and not by each other, for the stacks of a chain of
/// calls add up.
#[inline(always)]
fn walk<F: Stages>(
    hook: Hook,
    skb: Skb,
    known: fn(Skb) -> i32,
    unknown: fn(Skb) -> i32,
    related: fn(Skb) -> i32,
) -> i32 {
    let action = known(skb);
    if action != UNKNOWN {
        return told::<F>(skb, action);
    }
    let action = unknown(skb);
    if !(UNKNOWN..TELL).contains(&action) {
        return told::<F>(skb, action);
    }
    if action == RELATED {
        return related(skb);
    }
    if let Err(reason) = nat::committed(F::commit(skb, (action - UNKNOWN) as u32)) {
        return refuse(hook, skb, reason);
    }
    match known(skb) {
        UNKNOWN => refuse(hook, skb, DropReason::TupleTaken),
        action => told::<F>(skb, action),
    }
}

/// Tells the sender, where a stage wants that; else the action as it is.
#[inline(always)]
fn told<F: Stages>(skb: Skb, action: i32) -> i32 {
    if action < TELL {
        return action;
    }
    F::tell(skb, (action - TELL) as u32)
}

/// The next program, then the stack: `TCX_NEXT`, and the same number for `clsact`.
pub const NEXT: i32 = TC_ACT_UNSPEC;

/// Drops a packet; the action for the kernel.
#[inline(always)]
pub fn refuse(hook: Hook, skb: Skb, reason: DropReason) -> i32 {
    finish(hook, skb, Verdict::drop(reason))
}

/// Carries out a verdict; the action for the kernel.
#[inline(always)]
pub fn finish(hook: Hook, skb: Skb, verdict: Verdict) -> i32 {
    match verdict.outcome() {
        Outcome::Pass => {
            unmark(hook, skb);
            NEXT
        }
        Outcome::ToHost => {
            mark(hook, skb);
            NEXT
        }
        Outcome::Stack => {
            subprograms::count(stack_counter_of(hook, verdict.payload()), skb.len());
            mark(hook, skb);
            NEXT
        }
        Outcome::Container if hook as u8 == Hook::FromLocal as u8 => {
            // The short way begins at an ingress; this one leads by `to_container`.
            skb.set_mark(MARK_FROM_LOCAL);
            kernel::redirect(verdict.payload())
        }
        Outcome::Local => {
            skb.set_mark(0);
            kernel::redirect_ingress(verdict.payload())
        }
        Outcome::PastBridge => {
            mark(hook, skb);
            kernel::redirect_ingress(verdict.payload())
        }
        Outcome::Container => {
            if !globals::redirect_peer_scrubs() {
                skb.address_to_receiver();
            }
            kernel::redirect_peer(verdict.payload())
        }
        Outcome::Commit => UNKNOWN + verdict.payload() as i32,
        Outcome::Related => RELATED,
        Outcome::Drop => {
            subprograms::count(drop_counter_of(hook, verdict.payload()), skb.len());
            TC_ACT_SHOT
        }
    }
}

/// Marks a container's packet as allowed to the host's stack.
#[inline(always)]
fn mark(hook: Hook, skb: Skb) {
    if hook as u8 == Hook::FromContainer as u8 {
        skb.set_mark(MARK_TO_HOST);
    }
}

/// Takes the mark from a container's packet that only the bridge may see, and from one that has
/// arrived.
#[inline(always)]
fn unmark(hook: Hook, skb: Skb) {
    if matches!(hook, Hook::FromContainer | Hook::FromBridge) {
        skb.set_mark(0);
    }
}
