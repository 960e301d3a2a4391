//! A half of a flow where it lies in the table: what of it changes, and how.

#![expect(unsafe_code, reason = "the table's values are raw kernel memory")]

use core::ops::Deref;

use netbpf_common::{
    conntrack::{Entry, State, Tick, promoted, way},
    family::{Family, V6},
};

use crate::atomic;

/// A half of a flow, in the table.
///
/// Other CPUs may write the same entry: what changes is written in one piece.
pub struct Half<F: Family>(pub(super) *mut Entry<F>);

impl<F: Family> Clone for Half<F> {
    #[inline(always)]
    fn clone(&self) -> Self {
        *self
    }
}

impl<F: Family> Copy for Half<F> {}

impl<F: Family> Deref for Half<F> {
    type Target = Entry<F>;

    #[inline(always)]
    fn deref(&self) -> &Entry<F> {
        // SAFETY: the pointer came from a lookup in this run.
        unsafe { &*self.0 }
    }
}

impl<F: Family> Half<F> {
    /// Counts a packet and notes the time, if it is another one.
    #[inline(always)]
    pub fn touch(self, len: u32, now: Tick) {
        // SAFETY: see `deref`; the fields are aligned.
        unsafe {
            atomic::add(&raw mut (*self.0).packets, 1);
            atomic::add(&raw mut (*self.0).bytes, u64::from(len));
            if (*self.0).last_seen != now {
                (&raw mut (*self.0).last_seen).write_volatile(now);
            }
        }
    }

    /// Sets the state of this half.
    #[inline(always)]
    pub fn set_state(self, state: State) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).state).write_volatile(state as u8) }
    }

    /// Claims the flow's way out of the half-open room, for one CPU alone; whether this one got
    /// it. To be asked of the original half.
    #[inline(always)]
    pub fn claim_promotion(self) -> bool {
        // `generation`, `state`, `flags`, `way` and `promoted` are one aligned word.
        const CLAIMED: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 0, promoted::CLAIMED]);
        const _: () = assert!(core::mem::offset_of!(Entry<V6>, generation) == 24);
        const _: () = assert!(core::mem::offset_of!(Entry<V6>, promoted) == 31);
        // SAFETY: see `deref`; only the bit of `promoted` changes.
        let before = unsafe { atomic::fetch_or((&raw mut (*self.0).generation).cast(), CLAIMED) };
        before & CLAIMED == 0
    }

    /// Sets the place of this half.
    #[inline(always)]
    pub fn set_slot(self, slot: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).slot).write_volatile(slot) }
    }

    /// Notes in this half that the flow has left the half-open room, once its place is set.
    #[inline(always)]
    pub fn set_promoted(self) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).promoted).write_volatile(promoted::DONE) }
    }

    /// Begins the flow anew in this half; which interface to the outside is hooked, it asks anew.
    #[inline(always)]
    pub fn begin_again(self, state: u8, generation: u32, now: Tick) {
        // SAFETY: see `deref`.
        unsafe {
            (&raw mut (*self.0).packets).write_volatile(0);
            (&raw mut (*self.0).bytes).write_volatile(0);
            (&raw mut (*self.0).last_seen).write_volatile(now);
            (&raw mut (*self.0).created).write_volatile(now);
            (&raw mut (*self.0).generation).write_volatile(generation);
            if (*self.0).way == way::OUTSIDE {
                (&raw mut (*self.0).out_ifindex).write_volatile(0);
            }
            (&raw mut (*self.0).state).write_volatile(state);
        }
    }

    /// Notes that policy agreed in `generation`.
    #[inline(always)]
    pub fn set_generation(self, generation: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).generation).write_volatile(generation) }
    }

    /// Sets the MTU of the network to which this half leads.
    #[inline(always)]
    pub fn set_mtu(self, mtu: u16) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).mtu).write_volatile(mtu) }
    }

    /// Notes the interface to the outside that was last found to be hooked.
    #[inline(always)]
    pub fn set_out_ifindex(self, ifindex: u32) {
        // SAFETY: see `deref`.
        unsafe { (&raw mut (*self.0).out_ifindex).write_volatile(ifindex) }
    }
}
