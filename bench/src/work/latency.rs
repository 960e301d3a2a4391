//! How long answers take under a fixed load below saturation.
//!
//! Requests are due at fixed times, and an answer's time runs from when its request was due: a
//! request that had to wait for a slow answer before it has waited as well. Who was free when it
//! was due, and asked later, is late by the timer alone, which is not the path's doing: its time
//! runs from when it asked, and all that follow are due so much later.
//!
//! Both ends are real-time processes, or the tail would be that of whoever else wants the CPU. They
//! sleep between two requests, so that nobody starves.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};
use serde::{Deserialize, Serialize};

use super::{Asking, Ends, Part, Served, process::say};
use crate::{rounds::Pace, statistics::quantile};

/// Requests per second: a fraction of what every contender manages.
pub const RATE: u32 = 10_000;

/// Who is later than this does not keep up.
const LATE: Duration = Duration::from_millis(50);

/// The parts of the answers whose times are told.
pub const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// The last word of a client.
#[derive(Debug, Deserialize, Serialize)]
pub struct Waited {
    /// All answers, warm-up included.
    requests: u64,
    /// By [`PERCENTILES`], in microseconds.
    micros: Vec<f64>,
}

/// The times of [`PERCENTILES`], in microseconds.
///
/// # Errors
///
/// When anything went wrong, the ends counted differently, or the load was too much.
pub fn measure(ends: &Ends, pace: &Pace) -> Result<Vec<f64>> {
    let server = Part::LatencyServer(ends.doors()?);
    let client = Part::LatencyClient(ends.asking(pace.warm_up, pace.long), RATE);
    let (waited, served): (Waited, Served) = ends.run(server, client)?;
    ensure!(
        waited.requests == served.requests,
        "the client had {} answers, the server gave {}",
        waited.requests,
        served.requests
    );
    Ok(waited.micros)
}

/// Asks on one connection, `rate` times per second.
pub fn ask(asking: &Asking, rate: u32) -> Result<()> {
    let to = asking.to.first().context("nobody to ask")?;
    let mut stream = TcpStream::connect(to).with_context(|| format!("failed to reach {to}"))?;
    stream.set_nodelay(true)?;
    let warmed = times(&mut stream, asking.warm_up, rate)?;
    let counted = times(&mut stream, asking.sample, rate)?;
    let requests = (warmed.len() + counted.len()) as u64;
    say(&Waited {
        requests,
        micros: percentiles(counted)?,
    })
}

/// How long each answer took, in nanoseconds, for requests that are due within `time`.
fn times(stream: &mut TcpStream, time: Duration, rate: u32) -> Result<Vec<u64>> {
    let count = (time.as_secs_f64() * f64::from(rate)) as usize;
    let mut times = Vec::with_capacity(count);
    let mut due = Instant::now();
    let mut free = due;
    while times.len() < count {
        wait_for(due);
        let asked = Instant::now();
        if free <= due {
            due = asked;
        }
        stream.write_all(&[1])?;
        stream.read_exact(&mut [0])?;
        free = Instant::now();
        ensure!(
            free < due + LATE,
            "{rate} requests per second are too many here"
        );
        times.push((free - due).as_nanos() as u64);
        due += Duration::from_secs(1) / rate;
    }
    Ok(times)
}

/// Sleeps almost until a time, and spins the rest of it, so that the CPU is awake when it comes.
fn wait_for(due: Instant) {
    const SPIN: Duration = Duration::from_micros(30);
    let left = due.saturating_duration_since(Instant::now());
    if let Some(sleep) = left.checked_sub(SPIN) {
        // Who wakes early spins for longer.
        let _ = clock_nanosleep(
            ClockId::CLOCK_MONOTONIC,
            ClockNanosleepFlags::empty(),
            &sleep.into(),
        );
    }
    while Instant::now() < due {
        std::hint::spin_loop();
    }
}

fn percentiles(times: Vec<u64>) -> Result<Vec<f64>> {
    ensure!(!times.is_empty(), "no request was due");
    let mut sorted: Vec<_> = times
        .into_iter()
        .map(|nanos| nanos as f64 / 1000.0)
        .collect();
    sorted.sort_by(f64::total_cmp);
    Ok(PERCENTILES
        .iter()
        .map(|(_, part)| quantile(&sorted, *part))
        .collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_the_sorted_times_in_microseconds() {
        let times = (0..=1000).rev().map(|micros| micros * 1000).collect();
        assert_eq!(percentiles(times).ok(), Some(vec![500.0, 990.0, 999.0]));
    }
}
