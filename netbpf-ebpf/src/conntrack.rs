//! The flow table: find, advance, end; beside this file commit, expiry and the rooms.
//!
//! Both halves are written together or not at all; a reply key that is taken by another flow is
//! never overwritten. The states themselves are `netbpf-common`'s.

mod commit;
mod expiry;
mod rooms;

use netbpf_common::{
    config::GlobalConfig,
    conntrack::{
        Entry, State, Tick, entry_flags, first_state, is_initial_syn, next_datagram, next_tcp,
        origin, way,
    },
    family::Family,
    packet::{Packet, tcp_flags},
    tuple::{Direction, Tuple, proto},
    verdict::DropReason,
    wire::Mac,
};

use self::rooms::{give_slot, leave_half_open, take_slot};
pub use self::{
    commit::{commit_original, insert_original, insert_reply, release, reopen, reserve, take_over},
    expiry::{sweep_flow, sweep_half_open},
};
use crate::{
    kernel,
    maps::{self, Half, Tables},
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

/// Whether a connection has ended and only waits, so that its client may begin another one with the
/// same ports: [`reopen`] then takes its halves over where they lie.
#[inline(always)]
fn can_be_reopened<F: Family>(half: &Entry<F>) -> bool {
    State::from_u8(half.state).can_be_recycled()
        && half.is_promoted()
        && half.direction() == Direction::Original
}
