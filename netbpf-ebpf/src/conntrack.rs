//! The flow table: find, advance, commit, end.
//!
//! Both halves are written together or not at all; a reply key that is taken by another flow is
//! never overwritten. The states themselves are `netbpf-common`'s.

use netbpf_common::{
    config::GlobalConfig,
    conntrack::{
        Entry, NewFlow, State, Tick, entry_flags, first_state, is_initial_syn, next_datagram,
        next_tcp, origin, way,
    },
    family::Family,
    packet::{Packet, tcp_flags},
    tuple::{Direction, Tuple, proto},
    verdict::DropReason,
    wire::Mac,
};

use crate::{
    kernel,
    maps::{self, Half, Place, Tables},
    policy, source,
    subprograms::Subprograms,
    way as route,
};

/// What the table says about a packet.
pub enum Known<F: Tables> {
    /// It belongs to this flow.
    Flow(Half<F>),
    /// It belongs to none.
    New,
    /// It belonged to one that must not go on.
    Ended(DropReason),
}

/// The half of a packet that came in by `in_ifindex`; from elsewhere it is no hit.
#[inline(always)]
pub fn find<F: Tables>(tuple: &Tuple<F>, in_ifindex: u32) -> Option<Half<F>> {
    F::half(tuple).filter(|half| half.in_ifindex == in_ifindex)
}

/// As [`find`], for a frame from a container, which must have the container's MAC. An answer may
/// come by another interface of the same container.
#[inline(always)]
pub fn find_from<F: Tables>(tuple: &Tuple<F>, in_ifindex: u32, mac: Mac) -> Option<Half<F>> {
    let half = F::half(tuple)?;
    if half.in_ifindex == in_ifindex && half.in_mac == mac {
        return Some(half);
    }
    source::is_same_sender(half.in_ifindex, in_ifindex, mac).then_some(half)
}

/// As [`find`], for what a container says about a flow of its own: any interface of it will do.
#[inline(always)]
pub fn find_of<F: Tables>(tuple: &Tuple<F>, in_ifindex: u32) -> Option<Half<F>> {
    let half = F::half(tuple)?;
    if half.in_ifindex == in_ifindex {
        return Some(half);
    }
    let interface = maps::interface(in_ifindex)?;
    source::is_same_container(half.in_ifindex, interface).then_some(half)
}

/// Moves a known flow on by one packet.
#[inline(always)]
pub fn advance<F: Tables + Subprograms>(half: Half<F>, packet: &Packet<F>, len: u32) -> Known<F> {
    let config = maps::config();
    let now = kernel::now();
    // Nearly every packet: the general rules would come to the same, by a longer way.
    if half.is_steady(packet.tuple.proto, packet.tcp_flags)
        && half.generation == config.generation
        && now.since(half.last_seen) <= config.timeouts.established
    {
        half.touch(len, now);
        return Known::Flow(half);
    }
    let state = State::from_u8(half.state);
    let protocol = packet.tuple.proto;
    let next = if protocol == proto::TCP {
        next_tcp(state, packet.tcp_flags, half.direction())
    } else {
        next_datagram(state, half.direction(), now.since(half.created))
    };
    let may_have_ended = half.generation != config.generation
        || half.is_idle(protocol, now, &config.timeouts)
        // The very packet that has just begun the flow is no second beginning.
        || (half.packets != 0 && protocol == proto::TCP && is_initial_syn(packet.tcp_flags));
    if may_have_ended || (next as u8 != half.state && changes_room(&half, next)) {
        match F::change(u32::from(next as u8)) {
            change::GOES_ON => {}
            change::NEW => return Known::New,
            change::FULL => return Known::Ended(DropReason::ConntrackFull),
            _ => return Known::Ended(DropReason::FlowEnded),
        }
    } else if next as u8 != half.state {
        move_on(half, next);
    }
    half.touch(len, now);
    Known::Flow(half)
}

/// Whether a flow that comes to this state leaves the half-open room.
#[inline(always)]
fn changes_room<F: Family>(half: &Entry<F>, next: State) -> bool {
    leaves_half_open(next) && !half.is_promoted()
}

/// Moves both halves of a flow to a state for which it stays in its room.
#[inline(always)]
fn move_on<F: Tables>(half: Half<F>, next: State) {
    // The scratch key: not every caller has room for one on its stack.
    let Some(key) = F::key() else { return };
    *key = half.partner();
    // Where the other half went between two lookups, the flow is ending.
    if let Some(partner) = F::half(key) {
        half.set_state(next);
        partner.set_state(next);
    }
}

/// The first state of a flow that nothing translates: TCP may be adopted in mid-stream. Nobody has
/// answered yet, so that it begins half open: else one sender could fill the table.
#[inline(always)]
pub fn first_untranslated<F: Family>(packet: &Packet<F>) -> Option<State> {
    let state = first_state(packet.tuple.proto, packet.tcp_flags);
    if state.is_some() || packet.tuple.proto != proto::TCP {
        return state;
    }
    (packet.tcp_flags & (tcp_flags::RST | tcp_flags::SYN) == 0).then_some(State::SynSent)
}

/// What comes of [`change()`].
pub mod change {
    /// The flow goes on.
    pub const GOES_ON: u32 = 0;
    /// The flow is gone, and the packet may begin a new one.
    pub const NEW: u32 = 1;
    /// No room for a flow that is no longer half open.
    pub const FULL: u32 = 2;
    /// The flow is gone, and the packet with it.
    pub const ENDED: u32 = 3;
}

/// The rare part of [`advance`], for the scratch packet: another state, another generation, a flow
/// that was idle for too long, or a SYN on a closing one.
#[inline(always)]
pub fn change<F: Tables>(next: u32) -> u32 {
    let Some(packet) = F::packet() else {
        return change::ENDED;
    };
    let Some(half) = F::half(&packet.tuple) else {
        return change::NEW;
    };
    let config = maps::config();
    let state = State::from_u8(half.state);
    let is_syn = packet.tuple.proto == proto::TCP && is_initial_syn(packet.tcp_flags);
    // In another generation it may be nobody's who commits: then the flow ends here.
    if is_syn && half.generation == config.generation && can_be_reopened(&half) {
        packet.reopens = true;
        return change::NEW;
    }
    let key = &packet.tuple;
    let is_over = has_expired(half, key, kernel::now(), config)
        || (is_syn && (state.can_be_recycled() || F::half(&half.partner()).is_none()));
    if is_over {
        end(half, key);
        return change::NEW;
    }
    if half.generation != config.generation {
        if !policy::still_allows(half, key) {
            end(half, key);
            return change::ENDED;
        }
        half.set_generation(config.generation);
        half.set_mtu(policy::mtu_to(&half));
        // Which interfaces are hooked may have changed as well.
        if half.way == way::OUTSIDE && !route::is_hooked(half.out_ifindex) {
            half.set_out_ifindex(0);
        }
    }
    set_state(half, key, State::from_u8(next as u8))
}

/// Moves both halves to a state, and the flow to the room where that belongs.
#[inline(always)]
fn set_state<F: Tables>(half: Half<F>, key: &Tuple<F>, next: State) -> u32 {
    let state = State::from_u8(half.state);
    if next == state {
        return change::GOES_ON;
    }
    let partner_key = half.partner();
    let Some(partner) = F::half(&partner_key) else {
        // The other half went between two lookups: the flow is ending.
        return change::GOES_ON;
    };
    let (original, original_key) = match half.direction() {
        Direction::Original => (half, key),
        Direction::Reply => (partner, &partner_key),
    };
    if changes_room(&half, next) {
        // Where two CPUs committed one flow, the original half has the place that counts.
        let ticket = original.slot;
        let Some(slot) = take_slot::<F>(original_key) else {
            end(half, key);
            return change::FULL;
        };
        if original.claim_promotion() {
            leave_half_open::<F>(ticket);
            half.set_slot(slot);
            partner.set_slot(slot);
            half.set_promoted();
            partner.set_promoted();
        } else {
            // Another CPU has moved it, by a packet of the other direction.
            give_slot::<F>(slot);
        }
    }
    half.set_state(next);
    partner.set_state(next);
    change::GOES_ON
}

/// Whether a flow that comes to this state belongs among the full ones. One that was reset before
/// anybody agreed to it does not: else resets would fill the table as SYNs can't.
#[inline(always)]
fn leaves_half_open(state: State) -> bool {
    !state.is_half_open() && state != State::Close
}

/// Whether both halves have been idle for too long.
#[inline(always)]
fn has_expired<F: Tables>(half: Half<F>, key: &Tuple<F>, now: Tick, config: &GlobalConfig) -> bool {
    half.is_idle(key.proto, now, &config.timeouts)
        && F::half(&half.partner())
            .is_none_or(|partner| partner.is_idle(key.proto, now, &config.timeouts))
}

/// A place among the flows that are not half open.
#[inline(always)]
fn take_slot<F: Tables>(original: &Tuple<F>) -> Option<u32> {
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
fn take_half_open<F: Tables>(original: &Tuple<F>) -> Option<u32> {
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
fn leave_half_open<F: Tables>(ticket: u32) {
    if let Some(place) = half_open_place::<F>(ticket) {
        place.leave(ticket);
    }
}

/// Ends the flow with this original key if it still is half open and has this ticket.
#[inline(always)]
fn end_half_open<F: Tables>(key: &Tuple<F>, ticket: u32) {
    if let Some(half) = F::half(key)
        && half.slot == ticket
        && !half.is_promoted()
        && half.direction() == Direction::Original
    {
        end(half, key);
    }
}

/// Takes both halves of a flow away and gives its place back. `key` is `half`'s.
#[inline(always)]
pub fn end<F: Tables>(half: Half<F>, key: &Tuple<F>) {
    let slot = half.slot;
    let is_promoted = half.is_promoted();
    let direction = half.direction();
    let held = held_port(&half, key);
    let partner = half.partner();
    // The reply half goes first: as long as the original half is there, nobody commits this flow
    // anew and shares a half that is about to go. Whoever takes the original half away gives the
    // place back, and nobody else.
    let had_original = match direction {
        Direction::Original => {
            F::remove_half(&partner);
            F::remove_half(key)
        }
        Direction::Reply => {
            F::remove_half(key);
            F::remove_half(&partner)
        }
    };
    if !had_original {
        return;
    }
    if let Some(port) = held {
        maps::hold(key.proto, port, -1);
    }
    if is_promoted {
        give_slot::<F>(slot);
    } else {
        leave_half_open::<F>(slot);
    }
}

/// Gives back a place that [`take_slot`] took. Its key goes first, for in the sweep a place with
/// a key is somebody's.
#[inline(always)]
fn give_slot<F: Tables>(slot: u32) {
    F::clear_flow(slot);
    F::give_free_slot(slot);
    if let Some(rooms) = F::rooms() {
        rooms.remove_flow();
    }
}

/// The port of the host's that a flow to the outside has for its own: the one that masquerade gave
/// a container, or the one that a socket of the host has and must not show outside. `key` is the
/// half's.
#[inline(always)]
fn held_port<F: Tables>(half: &Entry<F>, key: &Tuple<F>) -> Option<u16> {
    let has_ports = key.proto == proto::TCP || key.proto == proto::UDP;
    if !has_ports || half.flags & entry_flags::REWRITE == 0 {
        return None;
    }
    let (to_outside, from_host, own, shown) = match half.direction() {
        Direction::Original => (
            half.way == way::OUTSIDE,
            half.in_ifindex == origin::HOST,
            key.src_port,
            half.translated.src_port,
        ),
        Direction::Reply => (
            half.in_ifindex == origin::OUTSIDE,
            half.way == way::HOST,
            half.translated.dst_port,
            key.dst_port,
        ),
    };
    to_outside.then(|| if from_host { own.get() } else { shown.get() })
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

/// Whether a connection has ended and only waits, so that its client may begin another one with the
/// same ports: [`reopen`] then takes its halves over where they lie.
#[inline(always)]
fn can_be_reopened<F: Family>(half: &Entry<F>) -> bool {
    State::from_u8(half.state).can_be_recycled()
        && half.is_promoted()
        && half.direction() == Direction::Original
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
