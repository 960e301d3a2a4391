//! What the host's stack gets from one of our bridges: the bridge, ingress.

use netbpf_common::{
    config::MARK_TO_HOST,
    verdict::{DropReason, Hook, Verdict},
};

use crate::{hooks::finish, skb::Skb};

/// The hook: only what `from_container` marked comes through, and without the mark.
#[inline(always)]
pub fn from_bridge(skb: Skb) -> i32 {
    let verdict = if skb.mark() == MARK_TO_HOST {
        Verdict::PASS
    } else {
        Verdict::drop(DropReason::UnannouncedPort)
    };
    finish(Hook::FromBridge, skb, verdict)
}
