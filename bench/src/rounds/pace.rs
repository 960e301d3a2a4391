//! How often and for how long everything is done: that of a measurement, and that of a first
//! impression. Nothing here measures.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::hooks::Runs;

/// How often and for how long.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Pace {
    /// Rounds, each with one figure of each contender.
    pub rounds: usize,
    /// How many there are at most, where a target of a rate is too close to tell.
    pub most_rounds: usize,
    /// Slices of each contender in a round that count.
    pub slices: usize,
    /// How many more there are at most, for those that were disturbed.
    pub spare: usize,
    /// How long each plan may take for what was not planned, beside what those before it left:
    /// what was disturbed, and what was too close to tell.
    pub patience: Duration,
    /// How long a slice is, after its warm-up.
    pub slice: Duration,
    /// What of each slice does not count.
    pub warm_up: Duration,
    /// How long a slice of streams is.
    pub long: Duration,
    /// What of it does not count: sockets fill, and their windows grow.
    pub fill: Duration,
    /// How long a slice of answers' times is: of 1,000 of them one counts for the last number.
    pub tail: Duration,
    /// How long the whole run may take, its removal included; `None`: as long as what is planned.
    #[serde(default)]
    pub limit: Option<Duration>,
    /// How many ports dockerd itself publishes, where there are many: it takes long for each.
    pub by_dockerd: u16,
    /// In how many rounds those take part who take seconds for a change among very many ports.
    pub slow_rounds: usize,
    /// In how many rounds single hooks are timed: a round of them is short.
    pub hook_rounds: usize,
    /// How many packets a sample of single hooks has.
    pub runs: Runs,
    /// How long iptables adds the rules of very many ports one by one.
    pub one_by_one: Duration,
}

impl Pace {
    /// A measurement.
    pub const FULL: Self = Self {
        rounds: 9,
        most_rounds: 17,
        slices: 3,
        spare: 2,
        patience: Duration::from_millis(2_400),
        slice: Duration::from_millis(40),
        warm_up: Duration::from_millis(8),
        long: Duration::from_millis(100),
        fill: Duration::from_millis(30),
        tail: Duration::from_millis(100),
        limit: None,
        by_dockerd: 100,
        slow_rounds: 7,
        hook_rounds: 21,
        runs: Runs::FULL,
        one_by_one: Duration::from_secs(5),
    };
    /// A first impression.
    pub const QUICK: Self = Self {
        rounds: 2,
        most_rounds: 2,
        slices: 1,
        spare: 0,
        patience: Duration::ZERO,
        slice: Duration::from_millis(25),
        warm_up: Duration::from_millis(5),
        long: Duration::from_millis(45),
        fill: Duration::from_millis(15),
        tail: Duration::from_millis(45),
        // Two minutes, less what comes before the bench and what can't be ended half way.
        limit: Some(Duration::from_secs(110)),
        by_dockerd: 10,
        slow_rounds: 1,
        hook_rounds: 3,
        runs: Runs {
            established: 4_000,
            new: 200,
        },
        one_by_one: Duration::from_millis(300),
    };
}
