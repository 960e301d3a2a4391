//! As many bytes as go through, on one connection or several.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    os::fd::AsRawFd as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use nix::{errno::Errno, libc};

use super::{Door, Order, Ready, Served, Slice, doors::Doors, process::say, session::orders};

/// How much is written or read at once.
const CHUNK: usize = 128 * 1024;

/// Takes what comes until all connections have ended.
pub fn serve(doors: &[Door], connections: usize) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let mut takers = Vec::new();
    for _ in 0..connections {
        let stream = doors.accept()?;
        takers.push(thread::spawn(move || take(stream)));
    }
    let mut done = 0;
    for taker in takers {
        done += taker
            .join()
            .map_err(|_| anyhow!("a connection is lost"))??;
    }
    say(&Served { done })
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
pub fn send(to: &[SocketAddr], connections: usize) -> Result<()> {
    ensure!(!to.is_empty(), "nobody to send to");
    let to = to.iter().cycle().take(connections);
    let mut streams: Vec<_> = to
        .map(|to| TcpStream::connect(to).with_context(|| format!("failed to reach {to}")))
        .collect::<Result<_>>()?;
    say(&Ready)?;
    for order in orders() {
        say(&send_for(&mut streams, order?)?)?;
    }
    for stream in &mut streams {
        stream.shutdown(Shutdown::Write)?;
        ensure!(stream.read(&mut [0])? == 0, "the server says something");
    }
    Ok(())
}

/// Sends on all of them, each by a thread of its own.
fn send_for(streams: &mut [TcpStream], order: Order) -> Result<Slice> {
    let counts_from = Instant::now() + order.warm_up;
    let ends_at = counts_from + order.sample;
    thread::scope(|scope| {
        let senders: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(move || send_until(stream, counts_from, ends_at)))
            .collect();
        wait_for(counts_from);
        let (busy, from) = (busy_time()?, Instant::now());
        wait_for(ends_at);
        let (busy, seconds) = (busy_time()? - busy, from.elapsed().as_secs_f64());
        let mut slice = Slice {
            seconds,
            busy,
            ..Slice::default()
        };
        for sender in senders {
            let sent = sender.join().map_err(|_| anyhow!("a connection is lost"))?;
            let (all, counted) = sent?;
            slice.all += all;
            slice.counted += counted;
        }
        Ok(slice)
    })
}

/// Sends until a time; how many bytes there were in all, and from `counts_from` on. Returns when
/// the other end's kernel has all of them, so that the next slice has the machine for itself.
fn send_until(
    stream: &mut TcpStream,
    counts_from: Instant,
    ends_at: Instant,
) -> Result<(u64, u64)> {
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
    while unacknowledged(stream)? > 0 {
        thread::sleep(Duration::from_micros(100));
    }
    Ok((all, counted))
}

/// How many bytes the other end has not acknowledged.
fn unacknowledged(stream: &TcpStream) -> Result<libc::c_int> {
    let mut bytes = 0;
    #[expect(unsafe_code, reason = "nobody else tells what waits in a socket")]
    // SAFETY: the kernel writes one int, which is there.
    let told = unsafe { libc::ioctl(stream.as_raw_fd(), libc::TIOCOUTQ, &raw mut bytes) };
    ensure!(
        told == 0,
        "a socket does not say what waits: {}",
        Errno::last()
    );
    Ok(bytes)
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
