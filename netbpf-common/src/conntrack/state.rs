//! The states of a flow: how packets move them, and how long each may be idle.

use super::{Tick, Timeouts};
use crate::{
    packet::tcp_flags::{ACK, FIN, RST, SYN},
    tuple::{Direction, proto},
};

/// The state of a flow, with netfilter's names.
#[repr(u8)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum State {
    /// TCP: the originator sent SYN, or was adopted in mid-stream; nobody answered yet.
    SynSent = 1,
    /// TCP: the other side answered SYN-ACK.
    SynRecv = 2,
    /// TCP: the handshake is complete, or an adopted flow was answered.
    Established = 3,
    /// TCP: the originator sent FIN first.
    FinWait = 4,
    /// TCP: the other side sent FIN first.
    CloseWait = 5,
    /// TCP: both sent FIN.
    LastAck = 6,
    /// TCP: both FINs are acknowledged.
    TimeWait = 7,
    /// TCP: somebody sent RST.
    Close = 8,
    /// Not TCP: nobody answered yet.
    Unreplied = 9,
    /// Not TCP: answered.
    Replied = 10,
    /// Not TCP: answered, and still talking a while after its first packet.
    Assured = 11,
}

impl State {
    /// Every state.
    pub const ALL: [Self; 11] = [
        Self::SynSent,
        Self::SynRecv,
        Self::Established,
        Self::FinWait,
        Self::CloseWait,
        Self::LastAck,
        Self::TimeWait,
        Self::Close,
        Self::Unreplied,
        Self::Replied,
        Self::Assured,
    ];

    /// The state as an entry stores it; what no state has reads as [`State::Close`].
    #[inline(always)]
    pub const fn from_u8(value: u8) -> Self {
        match value {
            1 => Self::SynSent,
            2 => Self::SynRecv,
            3 => Self::Established,
            4 => Self::FinWait,
            5 => Self::CloseWait,
            6 => Self::LastAck,
            7 => Self::TimeWait,
            9 => Self::Unreplied,
            10 => Self::Replied,
            11 => Self::Assured,
            _ => Self::Close,
        }
    }

    /// netfilter's name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::SynSent => "SYN_SENT",
            Self::SynRecv => "SYN_RECV",
            Self::Established => "ESTABLISHED",
            Self::FinWait => "FIN_WAIT",
            Self::CloseWait => "CLOSE_WAIT",
            Self::LastAck => "LAST_ACK",
            Self::TimeWait => "TIME_WAIT",
            Self::Close => "CLOSE",
            Self::Unreplied => "UNREPLIED",
            Self::Replied => "REPLIED",
            Self::Assured => "ASSURED",
        }
    }

    /// Whether a flow that begins in this state begins in the half-open room.
    #[inline(always)]
    pub const fn is_half_open(self) -> bool {
        matches!(self, Self::SynSent | Self::SynRecv | Self::Unreplied)
    }

    /// Whether a SYN may begin a new flow over this one (RFC 9293, 3.6.1 for TIME-WAIT).
    #[inline(always)]
    pub const fn can_be_recycled(self) -> bool {
        matches!(self, Self::LastAck | Self::TimeWait | Self::Close)
    }

    /// How long a flow in this state may be idle, in ticks.
    #[inline(always)]
    pub const fn timeout(self, protocol: u8, timeouts: &Timeouts) -> u32 {
        match self {
            Self::SynSent | Self::SynRecv => timeouts.half_open,
            Self::Established => timeouts.established,
            Self::FinWait | Self::CloseWait | Self::LastAck | Self::TimeWait | Self::Close => {
                timeouts.closing
            }
            Self::Unreplied | Self::Replied | Self::Assured => match (protocol, self) {
                (proto::ICMP | proto::ICMPV6, _) => timeouts.icmp,
                (_, Self::Assured) => timeouts.udp_stream,
                (proto::UDP, _) | (_, Self::Unreplied) => timeouts.udp,
                _ => timeouts.udp_stream,
            },
        }
    }
}

/// A datagram flow that still talks this long after its first packet is a stream. netfilter
/// waits two seconds (`nf_conntrack_proto_udp.c`).
pub const STREAM_AFTER: u32 = Tick::count_from_millis(2000);

/// The state of a new flow, or `None` where a TCP segment can't begin one by itself.
#[inline(always)]
pub const fn first_state(protocol: u8, flags: u8) -> Option<State> {
    if protocol != proto::TCP {
        return Some(State::Unreplied);
    }
    if is_initial_syn(flags) {
        Some(State::SynSent)
    } else {
        None
    }
}

/// Whether a TCP segment begins a connection.
#[inline(always)]
pub const fn is_initial_syn(flags: u8) -> bool {
    flags & (SYN | ACK | RST | FIN) == SYN
}

/// The state after a TCP segment. Sequence windows play no part: what lies outside of one is
/// translated all the same, so that nothing leaks untranslated (row N6).
#[inline(always)]
pub const fn next_tcp(state: State, flags: u8, direction: Direction) -> State {
    if flags & RST != 0 {
        return State::Close;
    }
    let from_originator = matches!(direction, Direction::Original);
    match state {
        State::SynSent if !from_originator && flags & (SYN | ACK) == SYN | ACK => State::SynRecv,
        // Adopted in mid-stream, and answered.
        State::SynSent if !from_originator && flags & (SYN | ACK) == ACK => State::Established,
        State::SynRecv if from_originator && flags & (SYN | ACK) == ACK => {
            if flags & FIN != 0 {
                State::FinWait
            } else {
                State::Established
            }
        }
        State::Established if flags & FIN != 0 => {
            if from_originator {
                State::FinWait
            } else {
                State::CloseWait
            }
        }
        State::FinWait if !from_originator && flags & FIN != 0 => State::LastAck,
        State::CloseWait if from_originator && flags & FIN != 0 => State::LastAck,
        State::LastAck if flags & (SYN | FIN | ACK) == ACK => State::TimeWait,
        _ => state,
    }
}

/// The state after a packet that is not TCP; `age` is the flow's, in ticks.
#[inline(always)]
pub const fn next_datagram(state: State, direction: Direction, age: u32) -> State {
    match (state, direction) {
        (State::Unreplied, Direction::Reply) => State::Replied,
        (State::Replied, _) if age > STREAM_AFTER => State::Assured,
        _ => state,
    }
}
