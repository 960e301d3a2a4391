//! As many bytes as go through, on one connection or several.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, TcpStream},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use serde::{Deserialize, Serialize};

use super::{Asking, Door, Ends, Part, Ready, Served, doors::Doors, process::say};
use crate::rounds::Pace;

/// How much is written or read at once.
const CHUNK: usize = 128 * 1024;

/// The last word of a client.
#[derive(Debug, Deserialize, Serialize)]
pub struct Sent {
    /// All bytes, warm-up included.
    bytes: u64,
    /// Those that count.
    counted: u64,
    /// How long these took, in seconds.
    seconds: f64,
    /// How long all CPUs of the machine together were busy meanwhile, in seconds.
    busy: f64,
}

/// Gbit/s, and milliseconds of CPU time for each Gbit.
///
/// # Errors
///
/// When anything went wrong, or the ends counted differently.
pub fn measure(ends: &Ends, connections: usize, pace: &Pace) -> Result<Vec<f64>> {
    let server = Part::StreamServer(ends.doors()?, connections);
    let client = Part::StreamClient(ends.asking(pace.warm_up, pace.long), connections);
    let (sent, served): (Sent, Served) = ends.run(server, client)?;
    ensure!(
        sent.bytes == served.requests,
        "the client sent {} bytes, the server took {}",
        sent.bytes,
        served.requests
    );
    let gigabits = sent.counted as f64 * 8.0 / 1e9;
    Ok(vec![gigabits / sent.seconds, sent.busy * 1000.0 / gigabits])
}

/// Takes what comes until all connections have ended.
pub fn serve(doors: &[Door], connections: usize) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let mut takers = Vec::new();
    for _ in 0..connections {
        let stream = doors.accept()?;
        takers.push(thread::spawn(move || take(stream)));
    }
    let mut requests = 0;
    for taker in takers {
        requests += taker
            .join()
            .map_err(|_| anyhow!("a connection is lost"))??;
    }
    say(&Served { requests })
}

fn take(mut stream: TcpStream) -> Result<u64> {
    let mut buffer = vec![0; CHUNK];
    let mut taken = 0;
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(taken),
            length => taken += length as u64,
        }
    }
}

/// Sends on several connections at once; where there are several to send to, to one after the other.
pub fn send(asking: &Asking, connections: usize) -> Result<()> {
    ensure!(!asking.to.is_empty(), "nobody to send to");
    let to = asking.to.iter().cycle().take(connections);
    let streams: Vec<_> = to
        .map(|to| TcpStream::connect(to).with_context(|| format!("failed to reach {to}")))
        .collect::<Result<_>>()?;
    let began = Instant::now();
    let counts_from = began + asking.warm_up;
    let ends_at = counts_from + asking.sample;
    let senders: Vec<_> = streams
        .into_iter()
        .map(|stream| thread::spawn(move || send_until(stream, counts_from, ends_at)))
        .collect();
    wait_for(counts_from);
    let (busy, from) = (busy_time()?, Instant::now());
    wait_for(ends_at);
    let (busy, seconds) = (busy_time()? - busy, from.elapsed().as_secs_f64());
    let (mut bytes, mut counted) = (0, 0);
    for sender in senders {
        let (all, of_them) = sender
            .join()
            .map_err(|_| anyhow!("a connection is lost"))??;
        bytes += all;
        counted += of_them;
    }
    say(&Sent {
        bytes,
        counted,
        seconds,
        busy,
    })
}

/// Sends until a time; how many bytes there were in all, and from `counts_from` on. Returns when
/// the other end has taken all.
fn send_until(mut stream: TcpStream, counts_from: Instant, ends_at: Instant) -> Result<(u64, u64)> {
    let chunk = vec![0; CHUNK];
    let (mut all, mut counted) = (0, 0);
    loop {
        let now = Instant::now();
        if now >= ends_at {
            break;
        }
        let length = stream.write(&chunk)? as u64;
        all += length;
        if now >= counts_from {
            counted += length;
        }
    }
    stream.shutdown(Shutdown::Write)?;
    ensure!(stream.read(&mut [0])? == 0, "the server says something");
    Ok((all, counted))
}

fn wait_for(time: Instant) {
    loop {
        let left = time.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return;
        }
        thread::park_timeout(left.max(Duration::from_micros(100)));
    }
}

/// How long all CPUs together have been busy since the machine started, in seconds: what was
/// neither idle nor waiting for a disk, nor taken by the hypervisor.
fn busy_time() -> Result<f64> {
    let stat = fs::read_to_string("/proc/stat").context("failed to read /proc/stat")?;
    busy_ticks(&stat)
        .map(|ticks| ticks as f64 / TICKS_PER_SECOND)
        .context("/proc/stat has no line of all CPUs")
}

/// What user space counts CPU time in; the kernel's interface fixes it.
const TICKS_PER_SECOND: f64 = 100.0;

fn busy_ticks(stat: &str) -> Option<u64> {
    let line = stat.lines().find_map(|line| line.strip_prefix("cpu "))?;
    // user nice system idle iowait irq softirq steal guest guest_nice; guests are in user already.
    let columns: Vec<u64> = line
        .split_whitespace()
        .map(str::parse)
        .collect::<Result<_, _>>()
        .ok()?;
    Some(
        [0, 1, 2, 5, 6]
            .iter()
            .filter_map(|at| columns.get(*at))
            .sum(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn idle_stolen_and_waiting_time_is_not_busy() {
        let stat = "cpu  1 20 300 4000 50000 600 7000 80000 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(1 + 20 + 300 + 600 + 7000));
        assert_eq!(busy_ticks("intr 1\n"), None);
    }
}
