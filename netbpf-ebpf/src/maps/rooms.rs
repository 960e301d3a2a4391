//! The rooms of the flow table: places of the half-open ring, cursors and counts.

#![expect(unsafe_code, reason = "the rings are raw kernel memory")]

use netbpf_common::{
    conntrack::{HalfOpenPlace, Rooms},
    family::Family,
    tuple::Tuple,
};

use crate::atomic;

/// A place of the half-open ring.
///
/// Who has it changes in one step; the key follows, and whoever reads both asks the table whether
/// the flow of that key has that ticket.
pub struct Place<F: Family>(pub(super) *mut HalfOpenPlace<F>);

impl<F: Family> Place<F> {
    /// The ticket of who has it; `None`: nobody.
    #[inline(always)]
    pub fn tenant(&self) -> Option<u32> {
        // SAFETY: an array's value, alive with the program, and aligned; so below.
        let tenant = unsafe { (&raw const (*self.0).tenant).read_volatile() };
        tenant.checked_sub(1).map(|ticket| ticket as u32)
    }

    /// The key of who came last.
    #[inline(always)]
    pub fn key(&self) -> Tuple<F> {
        // SAFETY: see `tenant`.
        unsafe { (*self.0).key }
    }

    /// Moves in with a ticket; the ticket of who has to give way.
    #[inline(always)]
    pub fn enter(&self, ticket: u32) -> Option<u32> {
        // SAFETY: see `tenant`.
        let before = unsafe { atomic::exchange(&raw mut (*self.0).tenant, u64::from(ticket) + 1) };
        before.checked_sub(1).map(|ticket| ticket as u32)
    }

    /// Puts in the key of who has moved in.
    #[inline(always)]
    pub fn set_key(&self, key: &Tuple<F>) {
        // SAFETY: see `tenant`.
        unsafe { (*self.0).key = *key }
    }

    /// Moves out, unless somebody else has moved in.
    #[inline(always)]
    pub fn leave(&self, ticket: u32) {
        // SAFETY: see `tenant`.
        unsafe { atomic::replace(&raw mut (*self.0).tenant, u64::from(ticket) + 1, 0) }
    }
}

/// The shared cursors and counts of one family.
#[derive(Clone, Copy)]
pub struct RoomsRef(pub(super) *mut Rooms);

impl RoomsRef {
    /// The next ticket for the half-open ring.
    #[inline(always)]
    pub fn next_half_open(self) -> u32 {
        // SAFETY: an array's value, alive with the program; so below.
        unsafe { atomic::fetch_add(&raw mut (*self.0).half_open_next, 1) as u32 }
    }

    /// How far the half-open ring was ever used, not yet wrapped.
    #[inline(always)]
    pub fn half_open_used(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).half_open_next).read_volatile() }
    }

    /// A place of the flows' ring that was never used before.
    #[inline(always)]
    pub fn next_flow_slot(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows_high_water, 1) }
    }

    /// How many places of the flows' ring were ever used.
    #[inline(always)]
    pub fn flow_slots_used(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).flows_high_water).read_volatile() }
    }

    /// How many flows there are beside half-open ones.
    #[inline(always)]
    pub fn flows(self) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { (&raw const (*self.0).flows).read_volatile() }
    }

    /// One flow more.
    #[inline(always)]
    pub fn add_flow(self) {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows, 1) };
    }

    /// One flow less.
    #[inline(always)]
    pub fn remove_flow(self) {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).flows, u64::MAX) };
    }

    /// Moves the sweep of the flows' ring on by `by`; where it stood.
    #[inline(always)]
    pub fn sweep_flows(self, by: u64) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).sweep_flows, by) }
    }

    /// Moves the sweep of the half-open ring on by `by`; where it stood.
    #[inline(always)]
    pub fn sweep_half_open(self, by: u64) -> u64 {
        // SAFETY: see `next_half_open`.
        unsafe { atomic::fetch_add(&raw mut (*self.0).sweep_half_open, by) }
    }
}
