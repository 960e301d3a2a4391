//! Ends flows that were idle for too long, by a timer in the kernel: no process is needed.
//!
//! Each round examines the next few places of both rings of both families and arms the timer
//! again. What a place says is checked against the table, so that a place that was used again or
//! never does no harm.
#![expect(unsafe_code, reason = "the timer's helpers take raw map values")]

use core::ffi::c_void;

use aya_ebpf::{
    bindings::bpf_timer,
    helpers::generated::{bpf_timer_init, bpf_timer_set_callback, bpf_timer_start},
};
use netbpf_common::family::{V4, V6};

use crate::{
    conntrack, kernel,
    maps::{self, RoomsRef, SWEEP, Tables},
};

/// How often a round runs.
const PERIOD_NS: u64 = 100_000_000;

/// How many rounds there are until every place of a ring has been examined: 13 seconds.
const ROUNDS: u64 = 128;

/// How many places of a ring a round examines at least: a short ring is through sooner.
const LEAST: u64 = 256;

/// How many it examines at most, for a CPU does nothing else meanwhile: a ring of millions takes
/// longer.
const MOST: u64 = 8192;

/// `CLOCK_MONOTONIC`.
const CLOCK: u64 = 1;

/// The map value that holds the timer.
#[repr(C)]
pub struct SweepTimer {
    timer: bpf_timer,
}

/// Arms the timer with this program's callback; also after an upgrade, for a timer keeps its old
/// program.
#[inline(always)]
pub fn start() -> i32 {
    let Some(value) = SWEEP.get_ptr_mut(0) else {
        return -1;
    };
    // SAFETY: the timer is a map value's, as the helpers want it; initialising it twice fails
    // and does nothing.
    unsafe {
        let timer = &raw mut (*value).timer;
        bpf_timer_init(timer, (&raw const SWEEP).cast_mut().cast(), CLOCK);
        if bpf_timer_set_callback(timer, round as *mut c_void) != 0 {
            return -1;
        }
        bpf_timer_start(timer, PERIOD_NS, 0) as i32
    }
}

extern "C" fn round(_map: *mut c_void, _key: *mut u32, value: *mut SweepTimer) -> i64 {
    sweep::<V4>();
    sweep::<V6>();
    // SAFETY: the kernel passes the value that holds the timer.
    unsafe {
        bpf_timer_start(&raw mut (*value).timer, PERIOD_NS, 0);
    }
    0
}

/// Where a round stands in a ring.
struct Cursor {
    next: u64,
    len: u64,
}

#[inline(always)]
fn sweep<F: Tables>() {
    let Some(rooms) = F::rooms() else { return };
    sweep_ring(
        rooms.flow_slots_used(),
        rooms,
        flow_at::<F>,
        RoomsRef::sweep_flows,
    );
    let used = rooms
        .half_open_used()
        .min(u64::from(maps::config().max_half_open));
    sweep_ring(used, rooms, half_open_at::<F>, RoomsRef::sweep_half_open);
}

#[inline(always)]
fn sweep_ring(
    len: u64,
    rooms: RoomsRef,
    place: kernel::Round<Cursor>,
    advance: fn(RoomsRef, u64) -> u64,
) {
    if len == 0 {
        return;
    }
    let places = len.min((len / ROUNDS).clamp(LEAST, MOST));
    let mut cursor = Cursor {
        next: advance(rooms, places),
        len,
    };
    kernel::repeat(places as u32, place, &mut cursor);
}

extern "C" fn flow_at<F: Tables>(round: u64, cursor: *mut Cursor) -> i64 {
    let cursor = kernel::context(cursor);
    let Some(slot) = cursor.next.wrapping_add(round).checked_rem(cursor.len) else {
        return 1;
    };
    conntrack::sweep_flow::<F>(slot as u32, kernel::now(), maps::config());
    0
}

extern "C" fn half_open_at<F: Tables>(round: u64, cursor: *mut Cursor) -> i64 {
    let cursor = kernel::context(cursor);
    let Some(slot) = cursor.next.wrapping_add(round).checked_rem(cursor.len) else {
        return 1;
    };
    conntrack::sweep_half_open::<F>(slot as u32, kernel::now(), maps::config());
    0
}
