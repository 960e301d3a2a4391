//! A connection, one request and answer of one byte on it, and its end, again and again.
//!
//! The server closes first, so that the waiting time after a connection is its own and the client's
//! port is free again at once.

use std::{
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpStream},
};

use anyhow::{Context as _, Result, ensure};

use super::{Door, Ready, Served, asking, doors::Doors, process::say};

/// An ordinary request.
const REQUEST: u8 = 1;
/// The request after which the server tells how many there were; it does not count itself.
const LAST: u8 = 2;

/// Answers once on each connection, whichever door it comes in by.
pub fn serve(doors: &[Door]) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let mut done = 0;
    loop {
        let mut stream = doors.accept()?;
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        stream.write_all(&byte)?;
        if byte == [LAST] {
            return say(&Served { done });
        }
        done += 1;
    }
}

/// Asks once on each connection.
pub fn ask(to: &[SocketAddr]) -> Result<()> {
    let mut turn = Turn::new(to)?;
    say(&Ready)?;
    asking::as_ordered(1, || ask_once(turn.next(), REQUEST))?;
    ask_once(turn.next(), LAST)
}

fn ask_once(to: SocketAddr, word: u8) -> Result<()> {
    let mut stream = TcpStream::connect(to).with_context(|| format!("failed to reach {to}"))?;
    let mut answer = [0; 2];
    stream.write_all(&[word])?;
    stream.read_exact(&mut answer[..1])?;
    ensure!(answer[0] == word, "{to} answered something else");
    ensure!(stream.read(&mut answer)? == 0, "{to} answered too much");
    Ok(())
}

/// Whose turn it is: as good as random, and the same in every run.
struct Turn<'t> {
    to: &'t [SocketAddr],
    state: u64,
}

impl<'t> Turn<'t> {
    fn new(to: &'t [SocketAddr]) -> Result<Self> {
        ensure!(!to.is_empty(), "nobody to ask");
        Ok(Self {
            to,
            state: 0x9e37_79b9_7f4a_7c15,
        })
    }

    /// By Marsaglia's xorshift.
    const fn next(&mut self) -> SocketAddr {
        self.state ^= self.state << 13;
        self.state ^= self.state >> 7;
        self.state ^= self.state << 17;
        self.to[(self.state >> 16) as usize % self.to.len()]
    }
}
