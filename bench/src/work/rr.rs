//! Requests and answers of one byte on one connection.

use std::{
    io::{Read as _, Write as _},
    net::TcpStream,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Asked, Asking, Door, Ends, Part, Ready, Served, doors::Doors, process::say, rate};
use crate::rounds::Pace;

/// How many requests there are between two looks at the clock.
const BATCH: u64 = 16;

/// Requests per second.
///
/// # Errors
///
/// When anything went wrong, or the ends counted differently.
pub fn measure(ends: &Ends, pace: &Pace) -> Result<f64> {
    let (asked, served) = run(ends, pace)?;
    rate(&asked, &served)
}

/// How many requests there were, from the first to the last.
///
/// # Errors
///
/// As [`measure`].
pub fn count(ends: &Ends, pace: &Pace) -> Result<u64> {
    let (asked, served) = run(ends, pace)?;
    rate(&asked, &served)?;
    Ok(asked.requests)
}

fn run(ends: &Ends, pace: &Pace) -> Result<(Asked, Served)> {
    let server = Part::RrServer(ends.doors()?);
    ends.run(
        server,
        Part::RrClient(ends.asking(pace.warm_up, pace.sample)),
    )
}

/// Answers on one connection until it ends.
pub fn serve(doors: &[Door]) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let mut stream = doors.accept()?;
    stream.set_nodelay(true)?;
    let mut requests = 0;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
        requests += 1;
    }
    say(&Served { requests })
}

/// Asks on one connection.
pub fn ask(asking: &Asking) -> Result<()> {
    let to = asking.to.first().context("nobody to ask")?;
    let mut stream = TcpStream::connect(to).with_context(|| format!("failed to reach {to}"))?;
    stream.set_nodelay(true)?;
    let (warmed, _) = ask_for(&mut stream, asking.warm_up)?;
    let (counted, seconds) = ask_for(&mut stream, asking.sample)?;
    say(&Asked {
        requests: warmed + counted,
        counted,
        seconds,
    })
}

/// How many answers there were in that time, and how long it really was, in seconds.
fn ask_for(stream: &mut TcpStream, time: Duration) -> Result<(u64, f64)> {
    let began = Instant::now();
    let mut answers = 0;
    while began.elapsed() < time {
        for _ in 0..BATCH {
            stream.write_all(&[1])?;
            stream.read_exact(&mut [0])?;
        }
        answers += BATCH;
    }
    Ok((answers, began.elapsed().as_secs_f64()))
}
