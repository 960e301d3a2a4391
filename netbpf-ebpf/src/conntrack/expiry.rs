//! The flow at one place of a ring, for the sweep: ended where both its halves were idle.

use netbpf_common::{
    config::GlobalConfig,
    conntrack::Tick,
    tuple::{Direction, Tuple},
};

use super::{end, has_expired, rooms::give_slot};
use crate::maps::Tables;

/// Ends the flow at a place of the flows' ring, if both halves have been idle for too long.
///
/// A place whose flow is none, or elsewhere, is marked, and given back when the next round finds
/// the mark: where a flow ends while it is being promoted, nobody else does.
#[inline(always)]
pub fn sweep_flow<F: Tables>(slot: u32, now: Tick, config: &GlobalConfig) {
    const LOST: u16 = 1;
    let Some(mut key) = F::flow_at(slot) else {
        return;
    };
    let mark = key.pad2;
    key.pad2 = 0;
    if key == Tuple::default() {
        return;
    }
    let is_its_flows = F::half(&key).is_some_and(|half| {
        half.slot == slot && half.is_promoted() && half.direction() == Direction::Original
    });
    match (is_its_flows, mark) {
        (true, 0) => sweep(&key, slot, now, config, Room::Flows),
        (true, _) => F::mark_flow(slot, 0),
        (false, 0) => F::mark_flow(slot, LOST),
        (false, _) => give_slot::<F>(slot),
    }
}

/// As [`sweep_flow`], for a place of the half-open ring.
#[inline(always)]
pub fn sweep_half_open<F: Tables>(place: u32, now: Tick, config: &GlobalConfig) {
    if let Some(place) = F::half_open_at(place)
        && let Some(ticket) = place.tenant()
    {
        sweep(&place.key(), ticket, now, config, Room::HalfOpen);
    }
}

/// Which ring a place is of.
#[derive(Clone, Copy, PartialEq)]
enum Room {
    Flows,
    HalfOpen,
}

#[inline(always)]
fn sweep<F: Tables>(key: &Tuple<F>, slot: u32, now: Tick, config: &GlobalConfig, room: Room) {
    if let Some(half) = F::half(key)
        && half.slot == slot
        && half.direction() == Direction::Original
        && half.is_promoted() == (room == Room::Flows)
        && has_expired(half, key, now, config)
    {
        end(half, key);
    }
}
