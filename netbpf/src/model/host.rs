//! What belongs to the host itself: its ways out, and the flow table.

use std::time::Duration;

/// The host's own settings.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Host {
    /// The interfaces to the outside, by name; `None`: every one that qualifies.
    pub uplinks: Option<Vec<String>>,
}

/// The flow table.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Conntrack {
    /// How many flows of each family it holds.
    pub max_entries: u32,
    /// How long idle flows live.
    pub timeouts: Timeouts,
}

impl Default for Conntrack {
    fn default() -> Self {
        Self {
            max_entries: 262_144,
            timeouts: Timeouts::default(),
        }
    }
}

/// How long idle flows live; each at least a millisecond and at most a year.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Timeouts {
    /// TCP after its handshake.
    pub established: Duration,
    /// TCP in its handshake.
    pub half_open: Duration,
    /// TCP after a FIN or RST.
    pub closing: Duration,
    /// UDP that is unanswered or was a single exchange.
    pub udp: Duration,
    /// UDP that goes on.
    pub udp_stream: Duration,
    /// ICMP echo.
    pub icmp: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            established: Duration::from_secs(24 * 60 * 60),
            half_open: Duration::from_secs(60),
            closing: Duration::from_secs(120),
            udp: Duration::from_secs(30),
            udp_stream: Duration::from_secs(180),
            icmp: Duration::from_secs(30),
        }
    }
}
