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
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use super::{Ready, Slice, process::say, session::orders};
use crate::statistics::quantile;

/// Requests per second: a fraction of what every contender manages.
pub const RATE: u32 = 10_000;

/// Who is later than this does not keep up.
const LATE: Duration = Duration::from_millis(50);

/// The parts of the answers whose times are told.
pub const PERCENTILES: [(&str, f64); 3] = [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)];

/// Asks on one connection, `rate` times per second.
pub fn ask(to: &[SocketAddr], rate: u32) -> Result<()> {
    let to = to.first().context("nobody to ask")?;
    let mut stream = TcpStream::connect(to).with_context(|| format!("failed to reach {to}"))?;
    stream.set_nodelay(true)?;
    let mut once = || {
        stream.write_all(&[1])?;
        Ok(stream.read_exact(&mut [0])?)
    };
    say(&Ready)?;
    for order in orders() {
        let order = order?;
        let warmed = times(order.warm_up, rate, &mut once)?;
        let times = times(order.sample, rate, &mut once)?;
        say(&Slice {
            all: (warmed.len() + times.len()) as u64,
            counted: times.len() as u64,
            times,
            ..Slice::default()
        })?;
    }
    Ok(())
}

/// How long each answer took, in nanoseconds, for requests that are due within `time`, each of which
/// `once` asks.
fn times(time: Duration, rate: u32, once: &mut impl FnMut() -> Result<()>) -> Result<Vec<u64>> {
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
        once()?;
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

/// The times of [`PERCENTILES`], in microseconds, of answers' times in nanoseconds.
///
/// # Errors
///
/// There are none.
pub fn percentiles(times: impl Iterator<Item = u64>) -> Result<Vec<f64>> {
    let mut sorted: Vec<_> = times.map(|nanos| nanos as f64 / 1000.0).collect();
    ensure!(!sorted.is_empty(), "no request was due");
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
    fn who_waits_behind_a_slow_answer_has_waited_as_well() {
        const SLOW: Duration = Duration::from_millis(10);
        let try_once = |_| {
            let mut asked = 0;
            let mut once = || {
                asked += 1;
                if asked == 1 {
                    wait_for(Instant::now() + SLOW);
                }
                Ok(())
            };
            times(Duration::from_millis(20), 1000, &mut once).ok()
        };
        // Where somebody else keeps the CPU for too long, nobody keeps up.
        let times = (0..10).find_map(try_once).expect("a CPU");
        assert_eq!(times.len(), 20);
        for (at, nanos) in times.iter().take(10).enumerate() {
            let waited = SLOW - Duration::from_millis(at as u64);
            assert!(u128::from(*nanos) >= waited.as_nanos(), "{at}: {nanos} ns");
        }
    }

    #[test]
    fn percentiles_are_of_the_sorted_times_in_microseconds() {
        let times = (0..=1000).rev().map(|micros| micros * 1000);
        assert_eq!(percentiles(times).ok(), Some(vec![500.0, 990.0, 999.0]));
    }
}
