//! Requests and answers of one byte on one connection.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{Door, Ready, Served, Slice, doors::Doors, process::say, session::orders};

/// How many requests there are between two looks at the clock.
const BATCH: u64 = 16;

/// Answers on one connection until it ends.
pub fn serve(doors: &[Door]) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let mut stream = doors.accept()?;
    stream.set_nodelay(true)?;
    let mut done = 0;
    let mut byte = [0];
    while stream.read(&mut byte)? == 1 {
        stream.write_all(&byte)?;
        done += 1;
    }
    say(&Served { done })
}

/// Asks on one connection.
pub fn ask(to: &[SocketAddr]) -> Result<()> {
    let to = to.first().context("nobody to ask")?;
    let mut stream = TcpStream::connect(to).with_context(|| format!("failed to reach {to}"))?;
    stream.set_nodelay(true)?;
    say(&Ready)?;
    for order in orders() {
        let order = order?;
        let (warmed, _) = ask_for(&mut stream, order.warm_up)?;
        let (counted, seconds) = ask_for(&mut stream, order.sample)?;
        say(&Slice {
            all: warmed + counted,
            counted,
            seconds,
            ..Slice::default()
        })?;
    }
    Ok(())
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
