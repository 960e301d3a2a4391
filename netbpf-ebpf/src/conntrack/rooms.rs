//! Places for flows: one room for those that are half open, one for all others.

use netbpf_common::tuple::Tuple;

use super::end_half_open;
use crate::maps::{self, Place, Tables};

/// A place among the flows that are not half open.
#[inline(always)]
pub(super) fn take_slot<F: Tables>(original: &Tuple<F>) -> Option<u32> {
    let rooms = F::rooms()?;
    let config = maps::config();
    if rooms.flows() >= u64::from(config.max_flows) {
        return None;
    }
    let slot = match F::take_free_slot() {
        Some(slot) => slot,
        // The cursor may run past the end when CPUs race for the last places; `flow_slots_used`
        // is never taken for a count of flows.
        None if rooms.flow_slots_used() < u64::from(config.max_flows) => {
            rooms.next_flow_slot() as u32
        }
        None => return None,
    };
    if !F::set_flow(slot, original) {
        return None;
    }
    rooms.add_flow();
    Some(slot)
}

/// The place in the half-open ring for which a ticket is.
#[inline(always)]
fn half_open_place<F: Tables>(ticket: u32) -> Option<Place<F>> {
    F::half_open_at(ticket.checked_rem(maps::config().max_half_open)?)
}

/// A place in the half-open ring, by its ticket. The flow that had it gives way, if it is still half
/// open.
#[inline(always)]
pub(super) fn take_half_open<F: Tables>(original: &Tuple<F>) -> Option<u32> {
    let ticket = F::rooms()?.next_half_open();
    let place = half_open_place::<F>(ticket)?;
    let oldest = place.enter(ticket);
    // The scratch key, for a long chain of calls begins here.
    let key = F::key()?;
    *key = place.key();
    place.set_key(original);
    if let Some(oldest) = oldest {
        end_half_open(key, oldest);
    }
    Some(ticket)
}

/// Leaves the place in the half-open ring to the next one.
#[inline(always)]
pub(super) fn leave_half_open<F: Tables>(ticket: u32) {
    if let Some(place) = half_open_place::<F>(ticket) {
        place.leave(ticket);
    }
}

/// Gives back a place that [`take_slot`] took. Its key goes first, for in the sweep a place with
/// a key is somebody's.
#[inline(always)]
pub(super) fn give_slot<F: Tables>(slot: u32) {
    F::clear_flow(slot);
    F::give_free_slot(slot);
    if let Some(rooms) = F::rooms() {
        rooms.remove_flow();
    }
}
