//! The loads by name, and what the numbers of their samples are.

use anyhow::Result;

use super::{Ends, Order, Part, Session, Slice, latency, session::CountedBy};
use crate::{pin::Cpus, rounds::Pace, row::Direction};

/// A kind of load.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// Requests on one connection.
    Rr,
    /// Connections with one request each.
    Crr,
    /// As much as goes through so many connections.
    Stream(usize),
    /// Requests on one connection, at a fixed rate.
    Latency,
}

/// One number of a load's sample.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Number {
    /// Tells it from the other numbers of the load; empty for the first.
    pub word: &'static str,
    /// Its unit.
    pub unit: &'static str,
    /// Which way it gets better.
    pub direction: Direction,
}

impl Load {
    /// What is measured on every path.
    pub const ALL: [Self; 5] = [
        Self::Rr,
        Self::Crr,
        Self::Stream(1),
        Self::Stream(8),
        Self::Latency,
    ];

    /// Its name in the ids of rows.
    pub fn id(self) -> String {
        match self {
            Self::Rr => "rr".to_owned(),
            Self::Crr => "crr".to_owned(),
            Self::Stream(connections) => format!("stream-{connections}"),
            Self::Latency => "latency".to_owned(),
        }
    }

    /// Its name for people.
    pub fn title(self) -> String {
        match self {
            Self::Rr => "requests on one connection".to_owned(),
            Self::Crr => "a connection for each request".to_owned(),
            Self::Stream(1) => "a stream on one connection".to_owned(),
            Self::Stream(connections) => format!("streams on {connections} connections"),
            Self::Latency => format!("answers at {} requests/s", latency::RATE),
        }
    }

    /// What the numbers of a sample are.
    pub fn numbers(self) -> Vec<Number> {
        let number = |word, unit, direction| Number {
            word,
            unit,
            direction,
        };
        let rate = |unit| number("", unit, Direction::HigherIsBetter);
        let cost = |word, unit| number(word, unit, Direction::LowerIsBetter);
        match self {
            Self::Rr => vec![rate("requests/s")],
            Self::Crr => vec![rate("connections/s")],
            Self::Stream(_) => vec![rate("Gbit/s"), cost("cpu", "CPU ms/Gbit")],
            Self::Latency => latency::PERCENTILES
                .iter()
                .map(|(word, _)| cost(word, "µs"))
                .collect(),
        }
    }

    /// Where its ends run: what goes both ways all the time on one CPU, streams on two.
    ///
    /// # Errors
    ///
    /// When this process may run nowhere.
    pub fn cpus(self) -> Result<Cpus> {
        match self {
            Self::Rr | Self::Crr | Self::Latency => Cpus::one(),
            Self::Stream(_) => Cpus::two(),
        }
    }

    /// Starts both ends of it.
    ///
    /// # Errors
    ///
    /// An end can't be started.
    pub fn open(self, ends: &Ends) -> Result<Session> {
        let (doors, to) = (ends.doors()?, ends.to.clone());
        let (server, client) = match self {
            Self::Rr => (Part::RrServer(doors), Part::RrClient(to)),
            Self::Crr => (Part::CrrServer(doors), Part::CrrClient(to)),
            Self::Stream(connections) => (
                Part::StreamServer(doors, connections),
                Part::StreamClient(to, connections),
            ),
            Self::Latency => (
                Part::LatencyServer(doors),
                Part::LatencyClient(to, latency::RATE),
            ),
        };
        let counts = match self {
            Self::Stream(_) => CountedBy::Server,
            Self::Rr | Self::Crr | Self::Latency => CountedBy::Client,
        };
        Session::open(ends, server, client, counts)
    }

    /// How long one slice of it is.
    pub const fn order(self, pace: &Pace) -> Order {
        let (warm_up, sample) = match self {
            Self::Rr | Self::Crr => (pace.warm_up, pace.slice),
            Self::Stream(_) => (pace.fill, pace.long),
            Self::Latency => (pace.warm_up, pace.tail),
        };
        Order { warm_up, sample }
    }

    /// The numbers of a sample that consists of these slices.
    ///
    /// # Errors
    ///
    /// They hold nothing.
    pub fn figures<'s>(self, slices: impl Iterator<Item = &'s Slice> + Clone) -> Result<Vec<f64>> {
        let sum = |part: fn(&Slice) -> f64| slices.clone().map(part).sum::<f64>();
        let (counted, seconds) = (sum(|it| it.counted as f64), sum(|it| it.seconds));
        match self {
            Self::Rr | Self::Crr => Ok(vec![counted / seconds]),
            Self::Stream(_) => {
                let gigabits = counted * 8.0 / 1e9;
                Ok(vec![gigabits / seconds, sum(|it| it.busy) * 1e3 / gigabits])
            }
            Self::Latency => latency::percentiles(slices.flat_map(|it| it.times.iter().copied())),
        }
    }
}
