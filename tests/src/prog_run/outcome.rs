//! What became of a frame, and what a test demands of it: the verdict, every byte and every counter.

use std::{
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
};

use netbpf_common::verdict::{COUNTERS_PER_HOOK, Counter, DropReason, Hook, StackReason};

use super::Action;
use crate::packet::{self, Frame};

/// A counter that moved, and by how many packets.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Moved {
    /// `from_netdev drop malformed`.
    pub counter: String,
    /// By how many packets.
    pub packets: u64,
    /// By how many bytes.
    pub bytes: u64,
}

/// What became of a frame.
#[derive(Clone, Debug)]
pub struct Outcome {
    /// The hook that ran.
    pub hook: Hook,
    /// What it returned.
    pub action: Action,
    /// The bytes that went in.
    pub sent: Vec<u8>,
    /// The bytes that came out.
    pub bytes: Vec<u8>,
    /// The mark that came out.
    pub mark: u32,
    /// Every counter that moved.
    pub counted: Vec<Moved>,
}

impl Outcome {
    /// Demands that the frame was redirected as `expected`, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects(&self, expected: &Frame) {
        self.did(Action::Redirect, &expected.bytes(), 0);
        assert_eq!(packet::fault(&self.bytes), None);
    }

    /// Demands that the frame was redirected as `expected`, with the mark of what the host says to
    /// itself, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects_from_local(&self, expected: &Frame) {
        let mark = netbpf_common::config::MARK_FROM_LOCAL;
        self.did(Action::Redirect, &expected.bytes(), mark);
        assert_eq!(packet::fault(&self.bytes), None);
    }

    /// Demands that the frame was let through as it came, without a mark, and nothing counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn passes(&self) {
        self.did(Action::Next, &self.sent.clone(), 0);
    }

    /// Demands that the frame was let through as it came, marked for the host's stack.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn goes_to_host(&self) {
        self.goes_to_host_as(&self.sent.clone());
    }

    /// Demands that the frame was redirected as it came, marked for the host's stack.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn goes_past_bridge(&self) {
        let mark = netbpf_common::config::MARK_TO_HOST;
        self.did(Action::Redirect, &self.sent.clone(), mark);
    }

    /// Demands that the frame was let through as `expected`, marked for the host's stack.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn goes_to_host_as(&self, expected: &[u8]) {
        self.did(Action::Next, expected, netbpf_common::config::MARK_TO_HOST);
    }

    #[track_caller]
    fn did(&self, action: Action, expected: &[u8], mark: u32) {
        assert_eq!(
            (self.action, &self.counted),
            (action, &Vec::new()),
            "{}",
            self.words()
        );
        assert!(
            self.bytes == expected,
            "{}\nexpected {}",
            self.words(),
            packet::describe(expected)
        );
        assert_eq!(self.mark, mark, "{}", self.words());
    }

    /// Demands that the frame was dropped for this reason, which alone was counted, and that its
    /// bytes are as they came, but for one whose translation failed in the middle.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn drops(&self, reason: DropReason) {
        let counted = vec![self.one(&drop_name(self.hook, reason))];
        assert_eq!(
            (self.action, &self.counted),
            (Action::Shot, &counted),
            "{}",
            self.words()
        );
        assert!(
            self.bytes == self.sent || reason == DropReason::NotTranslatable,
            "{}",
            self.words()
        );
    }

    /// Demands that the frame went to the stack as it came, for this reason, which alone was
    /// counted.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn takes_the_stack(&self, reason: StackReason) {
        let counted = vec![self.one(&stack_name(self.hook, reason))];
        assert_eq!(
            (self.action, &self.counted),
            (Action::Next, &counted),
            "{}",
            self.words()
        );
        assert!(self.bytes == self.sent, "{}", self.words());
    }

    /// Demands that the packet was counted for this reason alone, whatever became of it.
    ///
    /// # Panics
    ///
    /// When anything else was counted.
    #[track_caller]
    pub fn counts(&self, reason: StackReason) {
        let counted = vec![self.one(&stack_name(self.hook, reason))];
        assert_eq!(self.counted, counted, "{}", self.words());
    }

    /// As [`Self::counts`], for a drop of which the sender is told.
    ///
    /// # Panics
    ///
    /// When anything else was counted.
    #[track_caller]
    pub fn counts_drop(&self, reason: DropReason) {
        let counted = vec![self.one(&drop_name(self.hook, reason))];
        assert_eq!(self.counted, counted, "{}", self.words());
    }

    /// The bytes that came out, redirected with right checksums and nothing counted, as the value
    /// of a frame like `like` with the source that they have. For translations that pick a port.
    ///
    /// # Panics
    ///
    /// When anything else happened.
    #[track_caller]
    pub fn redirects_from(&self, like: &Frame, addr: IpAddr) -> Frame {
        let at = 14
            + like.ip_header_len()
            + usize::from(matches!(like.body, packet::Body::Echo { .. })) * 4;
        let port = self
            .bytes
            .get(at..at + 2)
            .map_or(0, |port| u16::from_be_bytes([port[0], port[1]]));
        let expected = like.clone().from(SocketAddr::new(addr, port));
        self.redirects(&expected);
        expected
    }

    fn one(&self, counter: &str) -> Moved {
        Moved {
            counter: counter.to_owned(),
            packets: 1,
            bytes: self.sent.len() as u64,
        }
    }

    fn words(&self) -> String {
        let mut words = String::new();
        let _ = write!(
            words,
            "{} returned {:?}, counted {:?}, mark {:#x}\n     got {}\n    sent {}",
            self.hook.name(),
            self.action,
            self.counted,
            self.mark,
            packet::describe(&self.bytes),
            packet::describe(&self.sent)
        );
        words
    }
}

fn drop_name(hook: Hook, reason: DropReason) -> String {
    format!("{} drop {}", hook.name(), reason.name())
}

fn stack_name(hook: Hook, reason: StackReason) -> String {
    format!("{} stack {}", hook.name(), reason.name())
}

pub(super) fn moved(before: &[Counter], after: &[Counter]) -> Vec<Moved> {
    let name = |index: usize| {
        let hook = Hook::ALL[index / COUNTERS_PER_HOOK as usize];
        let within = index % COUNTERS_PER_HOOK as usize;
        match DropReason::ALL.get(within) {
            Some(reason) => drop_name(hook, *reason),
            None => stack_name(hook, StackReason::ALL[within - DropReason::ALL.len()]),
        }
    };
    before
        .iter()
        .zip(after)
        .enumerate()
        .filter(|(_, (before, after))| before != after)
        .map(|(index, (before, after))| Moved {
            counter: name(index),
            packets: after.packets - before.packets,
            bytes: after.bytes - before.bytes,
        })
        .collect()
}
