//! The reference load: a fixed piece of work, which has no network in it and is timed whenever
//! somebody asks. It goes through the kernel and its memory as the loads do, so that what disturbs
//! them disturbs it.

use std::{
    io::{self, Read as _, Write as _},
    os::unix::net::UnixStream,
    time::Instant,
};

use anyhow::Result;

use super::{Ready, process::say};

/// How many bytes go to the other end, one after the other: they take most of a millisecond.
const ROUNDS: usize = 700;

/// Times the work once for each line that comes, and says so in milliseconds.
pub fn answer() -> Result<()> {
    let (mut one, mut other) = UnixStream::pair()?;
    say(&Ready)?;
    for line in io::stdin().lines() {
        line?;
        let began = Instant::now();
        for _ in 0..ROUNDS {
            one.write_all(&[1])?;
            other.read_exact(&mut [0])?;
        }
        say(&(began.elapsed().as_secs_f64() * 1e3))?;
    }
    Ok(())
}
