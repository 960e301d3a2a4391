//! The states of a flow as tables, and what must hold for its two halves whatever the flow is.

use bytemuck::Pod;
use proptest::{prelude::*, test_runner::TestCaseError};

use super::{State::*, *};
use crate::{
    arbitrary::{Draw, direction, flow, protocol, state},
    packet::tcp_flags::ACK,
    tuple::Direction::{Original, Reply},
};

const TCP_STATES: [State; 8] = [
    SynSent,
    SynRecv,
    Established,
    FinWait,
    CloseWait,
    LastAck,
    TimeWait,
    Close,
];

/// The flags of the columns of [`FROM_ORIGINATOR`] and [`FROM_RESPONDER`].
const SEGMENTS: [u8; 5] = [SYN, SYN | ACK, ACK, FIN | ACK, RST];

/// The state after a segment from the side that sent the first SYN.
#[rustfmt::skip]
const FROM_ORIGINATOR: [(State, [State; 5]); 8] = [
    // before        SYN          SYN|ACK      ACK          FIN|ACK      RST
    (SynSent,      [ SynSent,     SynSent,     SynSent,     SynSent,     Close ]),
    (SynRecv,      [ SynRecv,     SynRecv,     Established, FinWait,     Close ]),
    (Established,  [ Established, Established, Established, FinWait,     Close ]),
    (FinWait,      [ FinWait,     FinWait,     FinWait,     FinWait,     Close ]),
    (CloseWait,    [ CloseWait,   CloseWait,   CloseWait,   LastAck,     Close ]),
    (LastAck,      [ LastAck,     LastAck,     TimeWait,    LastAck,     Close ]),
    (TimeWait,     [ TimeWait,    TimeWait,    TimeWait,    TimeWait,    Close ]),
    (Close,        [ Close,       Close,       Close,       Close,       Close ]),
];

/// The state after a segment from the other side.
#[rustfmt::skip]
const FROM_RESPONDER: [(State, [State; 5]); 8] = [
    // before        SYN          SYN|ACK      ACK          FIN|ACK      RST
    // An answer that is no SYN-ACK: the flow was adopted in mid-stream.
    (SynSent,      [ SynSent,     SynRecv,     Established, Established, Close ]),
    (SynRecv,      [ SynRecv,     SynRecv,     SynRecv,     SynRecv,     Close ]),
    (Established,  [ Established, Established, Established, CloseWait,   Close ]),
    (FinWait,      [ FinWait,     FinWait,     FinWait,     LastAck,     Close ]),
    (CloseWait,    [ CloseWait,   CloseWait,   CloseWait,   CloseWait,   Close ]),
    (LastAck,      [ LastAck,     LastAck,     TimeWait,    LastAck,     Close ]),
    (TimeWait,     [ TimeWait,    TimeWait,    TimeWait,    TimeWait,    Close ]),
    (Close,        [ Close,       Close,       Close,       Close,       Close ]),
];

#[test]
fn tcp_moves_as_the_tables_say() {
    for (table, direction) in [(FROM_ORIGINATOR, Original), (FROM_RESPONDER, Reply)] {
        for ((before, row), state) in table.into_iter().zip(TCP_STATES) {
            assert_eq!(
                before, state,
                "the table has a row for each state, in their order"
            );
            for (flags, after) in SEGMENTS.into_iter().zip(row) {
                assert_eq!(
                    next_tcp(before, flags, direction),
                    after,
                    "{before:?} and flags {flags:#04x} in direction {direction:?}"
                );
            }
        }
    }
}

/// Follows a connection from its first SYN; each step is a segment and the state after it.
fn walk(steps: &[(Direction, u8, State)]) {
    let mut state = first_state(proto::TCP, SYN).expect("a SYN begins a flow");
    assert_eq!(state, SynSent);
    for (step, &(direction, flags, expected)) in steps.iter().enumerate() {
        state = next_tcp(state, flags, direction);
        assert_eq!(
            state, expected,
            "step {step}: flags {flags:#04x} in direction {direction:?}"
        );
    }
}

#[test]
fn a_connection_that_the_originator_closes_first_ends_in_time_wait() {
    walk(&[
        (Original, SYN, SynSent),
        (Reply, SYN | ACK, SynRecv),
        (Reply, SYN | ACK, SynRecv),
        (Original, ACK, Established),
        (Original, ACK, Established),
        (Reply, ACK, Established),
        (Original, FIN | ACK, FinWait),
        (Reply, ACK, FinWait),
        (Reply, ACK, FinWait),
        (Reply, FIN | ACK, LastAck),
        (Original, ACK, TimeWait),
        (Reply, FIN | ACK, TimeWait),
        (Original, ACK, TimeWait),
    ]);
}

#[test]
fn a_connection_that_the_responder_closes_first_ends_in_time_wait() {
    walk(&[
        (Reply, SYN | ACK, SynRecv),
        (Original, ACK, Established),
        (Reply, FIN | ACK, CloseWait),
        (Original, ACK, CloseWait),
        (Reply, FIN | ACK, CloseWait),
        (Original, FIN | ACK, LastAck),
        (Reply, ACK, TimeWait),
    ]);
}

#[test]
fn a_connection_that_both_close_at_once_ends_in_time_wait() {
    walk(&[
        (Reply, SYN | ACK, SynRecv),
        (Original, ACK, Established),
        (Original, FIN | ACK, FinWait),
        (Reply, FIN | ACK, LastAck),
        (Original, FIN | ACK, LastAck),
        (Original, ACK, TimeWait),
        (Reply, ACK, TimeWait),
    ]);
}

#[test]
fn a_refused_connection_is_closed() {
    walk(&[(Reply, RST | ACK, Close), (Original, ACK, Close)]);
}

/// RFC 9293, 3.5, figure 7.
#[test]
fn two_that_open_at_once_are_connected() {
    walk(&[
        (Reply, SYN, SynSent),
        (Original, SYN | ACK, SynSent),
        (Reply, SYN | ACK, SynRecv),
        (Original, ACK, Established),
    ]);
}

/// Every state, TCP's flags in all combinations with the bits that mean nothing here, and both
/// directions.
fn every_tcp_step() -> impl Iterator<Item = (State, u8, Direction)> {
    State::ALL.into_iter().flat_map(|state| {
        (0..=u8::MAX)
            .flat_map(move |flags| [Original, Reply].map(|direction| (state, flags, direction)))
    })
}

#[test]
fn a_reset_always_closes_and_nothing_else_does() {
    for (state, flags, direction) in every_tcp_step() {
        let next = next_tcp(state, flags, direction);
        assert!(State::ALL.contains(&next));
        let is_closed = flags & RST != 0 || state == Close;
        assert_eq!(
            next == Close,
            is_closed,
            "{state:?}, {flags:#04x}, {direction:?}"
        );
    }
}

#[test]
fn only_syn_ack_fin_and_rst_move_a_connection() {
    for (state, flags, direction) in every_tcp_step() {
        let known = flags & (SYN | ACK | FIN | RST);
        assert_eq!(
            next_tcp(state, flags, direction),
            next_tcp(state, known, direction)
        );
    }
}

/// The short way of the table relies on it.
#[test]
fn a_steady_segment_leaves_its_connection_as_it_is() {
    let mut steady = 0;
    for (state, flags, direction) in every_tcp_step() {
        let half = Entry::<V4> {
            state: state as u8,
            ..Entry::default()
        };
        if half.is_steady(proto::TCP, flags) {
            steady += 1;
            assert_eq!(next_tcp(state, flags, direction), state, "{flags:#04x}");
            assert!(!is_initial_syn(flags), "{flags:#04x}");
        }
        assert!(!half.is_steady(proto::UDP, flags), "{state:?}");
    }
    // An established connection in both directions, with any of the five bits that mean nothing.
    assert_eq!(steady, 2 * 32);
}

/// The rooms of the table rely on it: a flow leaves the half-open room once.
#[test]
fn no_flow_becomes_half_open_again() {
    for (state, flags, direction) in every_tcp_step() {
        let next = next_tcp(state, flags, direction);
        assert!(
            state.is_half_open() || !next.is_half_open(),
            "{state:?} became {next:?}"
        );
    }
    for state in State::ALL {
        for direction in [Original, Reply] {
            for age in [0, STREAM_AFTER, STREAM_AFTER + 1, u32::MAX] {
                let next = next_datagram(state, direction, age);
                assert!(
                    state.is_half_open() || !next.is_half_open(),
                    "{state:?} became {next:?}"
                );
            }
        }
    }
}

/// A segment by direction and flags, as a random sender would make it.
fn segment() -> impl Strategy<Value = (Direction, u8)> {
    let flags = prop_oneof![prop::sample::select(SEGMENTS.as_slice()), any::<u8>()];
    (direction(), flags)
}

proptest! {
    #[test]
    fn established_needs_an_answer_and_its_acknowledgement_or_both_in_one(
        segments in prop::collection::vec(segment(), 0..20),
    ) {
        let mut state = SynSent;
        let (mut is_answered, mut is_acknowledged) = (false, false);
        for (direction, flags) in segments {
            state = next_tcp(state, flags, direction);
            is_answered |= direction == Reply && flags & (SYN | ACK) == SYN | ACK;
            is_acknowledged |= is_answered && direction == Original && flags & (SYN | ACK) == ACK;
            is_acknowledged |= direction == Reply && flags & (SYN | ACK) == ACK;
            let is_connected = !state.is_half_open() && state != Close;
            prop_assert!(is_acknowledged || !is_connected, "{:?} without a handshake", state);
        }
    }

    #[test]
    fn the_originator_alone_never_gets_beyond_the_handshake(
        flags in prop::collection::vec(any::<u8>(), 0..20),
    ) {
        let state = flags.iter().fold(SynSent, |state, flags| next_tcp(state, *flags, Original));
        prop_assert!(matches!(state, SynSent | SynRecv | Close), "{:?}", state);
    }
}

#[test]
fn only_a_syn_alone_begins_a_connection() {
    const OTHERS: u8 = !(SYN | ACK | FIN | RST);
    for flags in 0..=u8::MAX {
        let is_syn = flags & !OTHERS == SYN;
        assert_eq!(is_initial_syn(flags), is_syn, "{flags:#04x}");
        assert_eq!(
            first_state(proto::TCP, flags),
            is_syn.then_some(SynSent),
            "{flags:#04x}"
        );
    }
}

#[test]
fn what_is_not_tcp_begins_unreplied() {
    for protocol in (0..=u8::MAX).filter(|protocol| *protocol != proto::TCP) {
        assert_eq!(
            first_state(protocol, 0),
            Some(Unreplied),
            "protocol {protocol}"
        );
    }
}

#[test]
fn a_new_flow_is_half_open() {
    assert!(SynSent.is_half_open() && SynRecv.is_half_open() && Unreplied.is_half_open());
    assert_eq!(
        State::ALL
            .iter()
            .filter(|state| state.is_half_open())
            .count(),
        3
    );
}

/// A retransmitted SYN must not make an attempt or a connection new.
#[test]
fn a_syn_begins_anew_only_over_a_connection_that_is_over() {
    for state in State::ALL {
        let is_over = matches!(state, LastAck | TimeWait | Close);
        assert_eq!(state.can_be_recycled(), is_over, "{state:?}");
    }
}

#[test]
fn datagrams_move_as_the_table_says() {
    #[rustfmt::skip]
    let rows = [
        // before    direction  age of the flow   after
        (Unreplied, Original,  0,                Unreplied),
        (Unreplied, Original,  u32::MAX,         Unreplied),
        (Unreplied, Reply,     0,                Replied),
        (Unreplied, Reply,     STREAM_AFTER + 1, Replied),
        (Replied,   Original,  0,                Replied),
        (Replied,   Reply,     STREAM_AFTER,     Replied),
        (Replied,   Original,  STREAM_AFTER + 1, Assured),
        (Replied,   Reply,     STREAM_AFTER + 1, Assured),
        (Assured,   Original,  0,                Assured),
        (Assured,   Reply,     u32::MAX,         Assured),
    ];
    for (before, direction, age, after) in rows {
        assert_eq!(
            next_datagram(before, direction, age),
            after,
            "{before:?}, {direction:?}, {age} ticks old"
        );
    }
}

#[test]
fn a_stream_has_talked_for_two_seconds() {
    let two_seconds = Tick::from_nanos(2_000_000_000).0;
    assert!(STREAM_AFTER >= two_seconds);
    assert!(STREAM_AFTER <= two_seconds + 1);
}

const TIMEOUTS: Timeouts = Timeouts {
    established: 1000,
    half_open: 60,
    closing: 120,
    udp: 30,
    udp_stream: 180,
    icmp: 10,
};

#[test]
fn each_state_of_each_protocol_has_its_timeout() {
    const SCTP: u8 = 132;
    #[rustfmt::skip]
    let rows = [
        (proto::TCP,    SynSent,     TIMEOUTS.half_open),
        (proto::TCP,    SynRecv,     TIMEOUTS.half_open),
        (proto::TCP,    Established, TIMEOUTS.established),
        (proto::TCP,    FinWait,     TIMEOUTS.closing),
        (proto::TCP,    CloseWait,   TIMEOUTS.closing),
        (proto::TCP,    LastAck,     TIMEOUTS.closing),
        (proto::TCP,    TimeWait,    TIMEOUTS.closing),
        (proto::TCP,    Close,       TIMEOUTS.closing),
        (proto::UDP,    Unreplied,   TIMEOUTS.udp),
        (proto::UDP,    Replied,     TIMEOUTS.udp),
        (proto::UDP,    Assured,     TIMEOUTS.udp_stream),
        (proto::ICMP,   Unreplied,   TIMEOUTS.icmp),
        (proto::ICMP,   Replied,     TIMEOUTS.icmp),
        (proto::ICMP,   Assured,     TIMEOUTS.icmp),
        (proto::ICMPV6, Unreplied,   TIMEOUTS.icmp),
        (proto::ICMPV6, Replied,     TIMEOUTS.icmp),
        (proto::ICMPV6, Assured,     TIMEOUTS.icmp),
        (SCTP,          Unreplied,   TIMEOUTS.udp),
        (SCTP,          Replied,     TIMEOUTS.udp_stream),
        (SCTP,          Assured,     TIMEOUTS.udp_stream),
    ];
    for (protocol, state, timeout) in rows {
        assert_eq!(
            state.timeout(protocol, &TIMEOUTS),
            timeout,
            "protocol {protocol}, {state:?}"
        );
    }
}

#[test]
fn a_stored_state_reads_as_itself_and_anything_else_as_closed() {
    for state in State::ALL {
        assert_eq!(State::from_u8(state as u8), state);
    }
    for value in (0..=u8::MAX).filter(|value| State::ALL.iter().all(|it| *it as u8 != *value)) {
        assert_eq!(State::from_u8(value), Close, "{value}");
    }
}

#[test]
fn states_have_names_of_their_own() {
    for (index, state) in State::ALL.iter().enumerate() {
        let is_shouted = state
            .name()
            .chars()
            .all(|c| c.is_ascii_uppercase() || c == '_');
        assert!(is_shouted, "{}", state.name());
        let others = &State::ALL[index + 1..];
        assert!(
            others.iter().all(|other| other.name() != state.name()),
            "{}",
            state.name()
        );
    }
}

proptest! {
    #[test]
    fn age_is_counted_across_the_wrap_of_the_clock(start: u32, age in 0..=u32::MAX / 2) {
        prop_assert_eq!(Tick(start.wrapping_add(age)).since(Tick(start)), age);
    }

    #[test]
    fn what_lies_ahead_has_no_age(start: u32, ahead in 1..=u32::MAX / 2) {
        prop_assert_eq!(Tick(start).since(Tick(start.wrapping_add(ahead))), 0);
    }

    #[test]
    fn ticks_cover_the_milliseconds_and_no_tick_is_too_much(
        millis in prop_oneof![0..10_000_u64, 0..500_000_000_000_u64, Just(1 << 21), Just(1 << 30)],
    ) {
        let nanos = u128::from(millis) * 1_000_000;
        let ticks = Tick::count_from_millis(millis);
        let covered = |ticks: u32| u128::from(ticks) << Tick::SHIFT;
        prop_assert!(ticks >= 1);
        prop_assert!(covered(ticks) >= nanos);
        prop_assert!(ticks == 1 || covered(ticks - 1) < nanos, "{} ticks", ticks);
    }

    #[test]
    fn a_half_is_idle_once_it_is_older_than_its_timeout(
        state in state(), protocol in protocol(), seen: u32, age in 0..2 * TIMEOUTS.established,
    ) {
        let entry = Entry::<V4> {
            state: state as u8,
            last_seen: Tick(seen),
            ..Entry::default()
        };
        let now = Tick(seen.wrapping_add(age));
        let is_idle = age > state.timeout(protocol, &TIMEOUTS);
        prop_assert_eq!(entry.is_idle(protocol, now, &TIMEOUTS), is_idle);
        let behind = Tick(seen.wrapping_sub(1));
        prop_assert!(!entry.is_idle(protocol, behind, &TIMEOUTS), "another CPU's clock is behind");
    }
}

#[test]
fn a_time_beyond_the_clock_is_the_longest_there_is() {
    assert_eq!(Tick::count_from_millis(u64::MAX), u32::MAX);
    assert_eq!(Tick::count_from_millis(1_000_000_000_000), u32::MAX);
}

#[test]
fn a_tick_is_about_an_eighth_of_a_second() {
    assert_eq!(Tick::from_nanos((1 << 27) - 1), Tick(0));
    assert_eq!(Tick::from_nanos(1 << 27), Tick(1));
    assert_eq!(Tick::from_nanos(1 << (27 + 32)), Tick(0));
}

/// What only the table knows about a flow.
#[derive(Clone, Copy, Debug)]
struct Place {
    slot: u32,
    generation: u32,
    now: Tick,
}

fn place() -> impl Strategy<Value = Place> {
    any::<(u32, u32, u32)>().prop_map(|(slot, generation, now)| Place {
        slot,
        generation,
        now: Tick(now),
    })
}

/// One half of a flow, written over `before`.
fn half_over<F: Draw>(
    mut before: Entry<F>,
    flow: &NewFlow<F>,
    direction: Direction,
    at: Place,
) -> Entry<F> {
    flow.write_half(direction, at.slot, at.generation, at.now, &mut before);
    before
}

fn half<F: Draw>(flow: &NewFlow<F>, direction: Direction, at: Place) -> Entry<F> {
    half_over(Entry::default(), flow, direction, at)
}

fn halves_name_each_other<F: Draw>(flow: &NewFlow<F>, at: Place) -> Result<(), TestCaseError> {
    let (original, reply) = (half(flow, Original, at), half(flow, Reply, at));
    prop_assert_eq!(original.direction(), Original);
    prop_assert_eq!(reply.direction(), Reply);
    prop_assert_eq!(original.partner(), flow.reply_key());
    prop_assert_eq!(reply.partner(), flow.original);
    Ok(())
}

/// The answer to a translated packet comes in under the reply key and leaves as the answer to the
/// packet that was sent.
fn answers_are_translated_back<F: Draw>(flow: &NewFlow<F>, at: Place) -> Result<(), TestCaseError> {
    let sent = half(flow, Original, at).translated;
    prop_assert_eq!(sent, flow.translated);
    let answer = sent.reversed();
    prop_assert_eq!(answer, flow.reply_key());
    prop_assert_eq!(half(flow, Reply, at).translated, flow.original.reversed());
    Ok(())
}

fn flags_are_true_of_the_flow<F: Draw>(flow: &NewFlow<F>, at: Place) -> Result<(), TestCaseError> {
    for (direction, key) in [(Original, flow.original), (Reply, flow.reply_key())] {
        let half = half(flow, direction, at);
        let has = |flag| half.flags & flag != 0;
        prop_assert_eq!(has(entry_flags::REPLY), direction == Reply);
        prop_assert_eq!(has(entry_flags::REWRITE), half.translated != key);
        prop_assert_eq!(has(entry_flags::ROUTED), flow.routed != 0);
    }
    Ok(())
}

fn each_half_leads_from_one_end_to_the_other<F: Draw>(
    flow: &NewFlow<F>,
    at: Place,
) -> Result<(), TestCaseError> {
    for (direction, from, to) in [(Original, flow.from, flow.to), (Reply, flow.to, flow.from)] {
        let half = half(flow, direction, at);
        let only = |way, value| if to.way == way { value } else { 0 };
        prop_assert_eq!(half.way, to.way);
        prop_assert_eq!(half.in_ifindex, from.ifindex);
        prop_assert_eq!(half.out_ifindex, only(way::CONTAINER, to.ifindex));
        let came_by = if direction == Original {
            flow.ingress_ifindex
        } else {
            0
        };
        let via = if to.way == way::OUTSIDE {
            flow.via_ifindex
        } else {
            came_by
        };
        prop_assert_eq!(half.via_ifindex, via);
        prop_assert_eq!((half.in_endpoint, half.in_mac), (from.endpoint, from.mac));
        prop_assert_eq!((half.out_endpoint, half.out_dst_mac), (to.endpoint, to.mac));
        prop_assert_eq!(half.out_src_mac, to.gateway_mac);
        prop_assert_eq!(half.mtu, to.mtu);
    }
    Ok(())
}

fn halves_share_what_is_the_flows<F: Draw>(
    flow: &NewFlow<F>,
    at: Place,
) -> Result<(), TestCaseError> {
    for direction in [Original, Reply] {
        let half = half(flow, direction, at);
        prop_assert_eq!((half.packets, half.bytes), (0, 0));
        prop_assert_eq!((half.created, half.last_seen), (at.now, at.now));
        prop_assert_eq!((half.slot, half.generation), (at.slot, at.generation));
        prop_assert_eq!((half.state, half.mapping), (flow.state, flow.mapping));
        let is_promoted = !State::from_u8(flow.state).is_half_open();
        prop_assert_eq!(half.is_promoted(), is_promoted);
    }
    Ok(())
}

/// The interface to the outside is the one last looked at, and says nothing about a flow.
fn a_half_is_led_as_its_flow_is<F: Draw>(
    flow: &NewFlow<F>,
    (at, later): (Place, Place),
) -> Result<(), TestCaseError> {
    for direction in [Original, Reply] {
        let old = half(flow, direction, at);
        let mut new = half(flow, direction, later);
        prop_assert!(new.is_led_as(&old));
        new.out_ifindex ^= 1;
        prop_assert_eq!(new.is_led_as(&old), new.way == way::OUTSIDE);
        let others: [fn(&mut Entry<F>); 7] = [
            |half| half.mapping ^= 1,
            |half| half.in_endpoint ^= 1,
            |half| half.out_dst_mac.0[2] ^= 1,
            |half| half.mtu ^= 1,
            |half| half.via_ifindex ^= 1,
            |half| half.flags ^= entry_flags::ROUTED,
            |half| half.translated = half.translated.reversed(),
        ];
        for change in others {
            let mut other = half(flow, direction, later);
            change(&mut other);
            let is_same = other == half(flow, direction, later);
            prop_assert_eq!(other.is_led_as(&old), is_same);
        }
    }
    Ok(())
}

fn nothing_is_left_of_what_was_there<F: Draw>(
    flow: &NewFlow<F>,
    at: Place,
) -> Result<(), TestCaseError>
where
    Entry<F>: Pod,
{
    for direction in [Original, Reply] {
        let mut ones = Entry::default();
        bytemuck::bytes_of_mut(&mut ones).fill(0xff);
        let (over_zeroes, over_ones) = (
            half(flow, direction, at),
            half_over(ones, flow, direction, at),
        );
        prop_assert_eq!(
            bytemuck::bytes_of(&over_zeroes),
            bytemuck::bytes_of(&over_ones)
        );
    }
    Ok(())
}

proptest! {
    #[test]
    fn each_half_names_the_key_of_the_other(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        halves_name_each_other(&v4, at)?;
        halves_name_each_other(&v6, at)?;
    }

    #[test]
    fn the_answer_to_a_translated_packet_becomes_the_answer_to_what_was_sent(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        answers_are_translated_back(&v4, at)?;
        answers_are_translated_back(&v6, at)?;
    }

    #[test]
    fn a_half_is_rewritten_exactly_when_something_is_translated(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        flags_are_true_of_the_flow(&v4, at)?;
        flags_are_true_of_the_flow(&v6, at)?;
    }

    #[test]
    fn where_one_half_comes_in_the_other_goes_out(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        each_half_leads_from_one_end_to_the_other(&v4, at)?;
        each_half_leads_from_one_end_to_the_other(&v6, at)?;
    }

    #[test]
    fn both_halves_have_the_flows_state_place_and_clock(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        halves_share_what_is_the_flows(&v4, at)?;
        halves_share_what_is_the_flows(&v6, at)?;
    }

    #[test]
    fn a_connection_is_led_as_an_earlier_one_if_nothing_about_it_differs(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(), later in place(),
    ) {
        a_half_is_led_as_its_flow_is(&v4, (at, later))?;
        a_half_is_led_as_its_flow_is(&v6, (at, later))?;
    }

    /// Entries are written over a scratch value that the last flow used.
    #[test]
    fn a_half_has_nothing_of_the_flow_before(
        v4 in flow::<V4>(), v6 in flow::<V6>(), at in place(),
    ) {
        nothing_is_left_of_what_was_there(&v4, at)?;
        nothing_is_left_of_what_was_there(&v6, at)?;
    }

    #[test]
    fn a_draft_has_nothing_of_the_draft_before(
        before in flow::<V6>(), next in flow::<V6>(), at in place(),
    ) {
        let state = State::from_u8(next.state);
        let (mut fresh, mut used) = (NewFlow::default(), before);
        fresh.begin(&next.original, state, next.from, next.to);
        used.begin(&next.original, state, next.from, next.to);
        for direction in [Original, Reply] {
            prop_assert_eq!(half(&fresh, direction, at), half(&used, direction, at));
        }
        prop_assert_eq!(half(&fresh, Original, at).flags, 0);
        prop_assert_eq!(used.reply_key(), next.original.reversed());
    }
}
