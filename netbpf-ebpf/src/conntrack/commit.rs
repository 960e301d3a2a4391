//! New flows: a place, both halves together or none, and the halves of who was there before.

use netbpf_common::{
    conntrack::{Entry, NewFlow, State, Tick, entry_flags, is_initial_syn},
    tuple::{Direction, Tuple, proto},
    verdict::DropReason,
};

use super::{
    can_be_reopened, end, find, has_expired, held_port,
    rooms::{give_slot, leave_half_open, take_half_open, take_slot},
};
use crate::{
    kernel,
    maps::{self, Half, Tables},
    policy,
    subprograms::Subprograms,
};

/// A place for a new flow in the room of its state.
///
/// # Errors
///
/// [`DropReason::ConntrackFull`].
#[inline(always)]
pub fn reserve<F: Tables>(flow: &NewFlow<F>) -> Result<u32, DropReason> {
    let slot = if State::from_u8(flow.state).is_half_open() {
        // A flow that could not be promoted later is refused now, before anybody waits for it.
        match F::rooms() {
            Some(rooms) if rooms.flows() < u64::from(maps::config().max_flows) => {
                take_half_open::<F>(&flow.original)
            }
            _ => None,
        }
    } else {
        take_slot::<F>(&flow.original)
    };
    slot.ok_or(DropReason::ConntrackFull)
}

/// Gives back the place of a flow that was not committed.
#[inline(always)]
pub fn release<F: Tables>(flow: &NewFlow<F>, slot: u32) {
    if State::from_u8(flow.state).is_half_open() {
        leave_half_open::<F>(slot);
    } else {
        give_slot::<F>(slot);
    }
}

/// Begins the drafted connection in the halves of the one that the same client had by the same
/// ports, if it is led as that one was; else that one ends. 1 if it did.
///
/// Its place among the full flows stays the flow's.
#[inline(always)]
pub fn reopen<F: Tables + Subprograms>() -> u32 {
    let (Some(packet), Some(flow)) = (F::packet(), F::draft()) else {
        return 0;
    };
    let Some(half) = F::half(&flow.original).filter(|half| can_be_reopened(half)) else {
        return 0;
    };
    packet.reopens = false;
    let (generation, now) = (maps::config().generation, kernel::now());
    let partner = F::half(&half.partner());
    if let Some(partner) = partner
        && is_led_as_drafted(flow, half)
        && is_led_as_drafted(flow, partner)
    {
        half.begin_again(flow.state, generation, now);
        partner.begin_again(flow.state, generation, now);
        return 1;
    }
    end(half, &flow.original);
    0
}

/// Whether the draft would put this very half into the table.
#[inline(always)]
fn is_led_as_drafted<F: Tables>(flow: &NewFlow<F>, half: Half<F>) -> bool {
    let Some(entry) = F::entry() else {
        return false;
    };
    flow.write_half(half.direction(), 0, 0, Tick::default(), entry);
    entry.is_led_as(&half)
}

/// Puts the draft's reply half into the table; 1 if its key now is this flow's.
///
/// An occupied key is this flow's if its original tuple is the same: then another CPU is
/// committing the same first packet.
#[inline(always)]
pub fn insert_reply<F: Tables + Subprograms>(slot: u32) -> u32 {
    let (Some(flow), Some(entry), Some(key)) = (F::draft(), F::entry(), F::key()) else {
        return 0;
    };
    *key = flow.reply_key();
    flow.write_half(
        Direction::Reply,
        slot,
        maps::config().generation,
        kernel::now(),
        entry,
    );
    if insert(key, entry) {
        return 1;
    }
    let Some(occupant) = F::half(key) else {
        return 0;
    };
    if occupant.flags & entry_flags::REPLY != 0
        && occupant.translated == entry.translated
        && occupant.in_endpoint == entry.in_endpoint
        && occupant.in_ifindex == entry.in_ifindex
    {
        return 1;
    }
    F::take_over()
}

/// Puts the draft's original half into the table; 1 if this call did.
#[inline(always)]
pub fn insert_original<F: Tables + Subprograms>(slot: u32) -> u32 {
    let (Some(flow), Some(entry), Some(key)) = (F::draft(), F::entry(), F::key()) else {
        return 0;
    };
    *key = flow.original;
    flow.write_half(
        Direction::Original,
        slot,
        maps::config().generation,
        kernel::now(),
        entry,
    );
    if insert(key, entry) {
        return 1;
    }
    let Some(occupant) = F::half(key) else {
        return 0;
    };
    if occupant.in_ifindex == entry.in_ifindex
        && occupant.in_endpoint == entry.in_endpoint
        && occupant.direction() == Direction::Original
    {
        return 0;
    }
    F::take_over()
}

/// Takes the scratch key over for the scratch entry, if the flow that has it has expired, or is
/// one that policy would end at its next packet: another endpoint has the address now, or the
/// mapping is gone. 1 if it did.
///
/// A SYN also takes the place of a connection that has ended and only waits, if nothing translates
/// the new one: its client has the right to this port, and no other can be chosen.
#[inline(always)]
pub fn take_over<F: Tables>() -> u32 {
    let (Some(entry), Some(key)) = (F::entry(), F::key()) else {
        return 0;
    };
    let Some(occupant) = F::half(key) else {
        return 0;
    };
    let config = maps::config();
    let is_orphaned = occupant.generation != config.generation && !policy::ends_stand(occupant);
    let is_over = key.proto == proto::TCP
        && State::from_u8(occupant.state).can_be_recycled()
        && entry.flags & entry_flags::REWRITE == 0
        && F::packet().is_some_and(|packet| is_initial_syn(packet.tcp_flags));
    if !is_orphaned && !is_over && !has_expired(occupant, key, kernel::now(), config) {
        return 0;
    }
    end(occupant, key);
    u32::from(insert(key, entry))
}

/// Commits the draft's original half, once the reply half is in.
///
/// # Errors
///
/// [`DropReason::TupleTaken`], where the key is another flow's. That another CPU committed this
/// same flow first is no error.
#[inline(always)]
pub fn commit_original<F: Tables + Subprograms>(
    flow: &NewFlow<F>,
    slot: u32,
) -> Result<(), DropReason> {
    if F::insert_original(slot) != 0 {
        return Ok(());
    }
    release(flow, slot);
    // The reply half stays only if it is the winner's as well.
    let winner = find(&flow.original, flow.from.ifindex);
    if winner.is_none_or(|half| half.translated != flow.translated) {
        F::remove_half(&flow.reply_key());
    }
    winner.map(|_| ()).ok_or(DropReason::TupleTaken)
}

/// Puts the scratch entry under the scratch key unless there is one; whether it did. With the
/// original half a flow begins to hold its port.
#[inline(always)]
fn insert<F: Tables>(key: &Tuple<F>, entry: &Entry<F>) -> bool {
    if !F::insert_half(key, entry) {
        return false;
    }
    if entry.direction() == Direction::Original
        && let Some(port) = held_port(entry, key)
    {
        maps::hold(key.proto, port, 1);
    }
    true
}
