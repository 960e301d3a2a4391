//! The loads by name, and what the numbers of their samples are.

use anyhow::Result;

use super::{Ends, crr, latency, rr, stream};
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

    /// Takes one sample.
    ///
    /// # Errors
    ///
    /// When anything went wrong, or the ends counted differently.
    pub fn measure(self, ends: &Ends, pace: &Pace) -> Result<Vec<f64>> {
        match self {
            Self::Rr => Ok(vec![rr::measure(ends, pace)?]),
            Self::Crr => Ok(vec![crr::measure(ends, pace)?]),
            Self::Stream(connections) => stream::measure(ends, connections, pace),
            Self::Latency => latency::measure(ends, pace),
        }
    }
}
