//! Requests and answers of one byte on one connection.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result};

use super::{Door, Ready, Served, asking, doors::Doors, process::say};

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
    asking::as_ordered(BATCH, || {
        stream.write_all(&[1])?;
        Ok(stream.read_exact(&mut [0])?)
    })
}
