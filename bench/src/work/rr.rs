//! Requests and answers of one byte on one connection.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Asked, Asking, Ends, Part, Ready, Served, process::say, rate};
use crate::rounds::Pace;

/// How many requests there are between two looks at the clock.
const BATCH: u64 = 16;

/// Requests per second.
///
/// # Errors
///
/// When anything went wrong, or the ends counted differently.
pub fn measure(ends: &Ends, pace: &Pace) -> Result<f64> {
    let server = Part::RrServer(ends.door()?);
    let (asked, served) = ends.run(server, Part::RrClient(ends.asking(pace)))?;
    rate(&asked, &served)
}

/// Answers on one connection until it ends.
pub fn serve(at: SocketAddr) -> Result<()> {
    let listener = TcpListener::bind(at).with_context(|| format!("failed to listen at {at}"))?;
    say(&Ready)?;
    let (mut stream, _) = listener.accept()?;
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
