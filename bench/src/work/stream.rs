//! As many bytes as go through, on one connection or several. What counts is what the server has
//! read: what was sent may wait in a socket, or in a process between.

use std::{
    fs,
    io::{self, Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};

use super::{
    Door, Order, Ready, Served, Slice,
    doors::Doors,
    process::say,
    session::{Word, orders},
};

/// How much is written or read at once.
const CHUNK: usize = 128 * 1024;

/// How long the server waits for what was sent.
const PATIENCE: Duration = Duration::from_secs(10);

/// Takes what comes until all connections have ended, and says how much whenever it is asked.
pub fn serve(doors: &[Door], connections: usize) -> Result<()> {
    let doors = Doors::open(doors)?;
    say(&Ready)?;
    let read = Arc::new(AtomicU64::new(0));
    let mut takers = Vec::new();
    for _ in 0..connections {
        let (stream, read) = (doors.accept()?, Arc::clone(&read));
        takers.push(thread::spawn(move || take(stream, &read)));
    }
    for line in io::stdin().lines() {
        match serde_json::from_str(&line?).context("this is no word for a server")? {
            Word::Count(order) => say(&count(&read, order)?)?,
            Word::Until(all) => {
                wait_until(&read, all)?;
                say(&Ready)?;
            }
        }
    }
    for taker in takers {
        taker
            .join()
            .map_err(|_| anyhow!("a connection is lost"))??;
    }
    let done = read.load(Ordering::Relaxed);
    say(&Served { done })
}

fn take(mut stream: TcpStream, read: &AtomicU64) -> Result<()> {
    let mut buffer = vec![0; CHUNK];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            length => read.fetch_add(length as u64, Ordering::Relaxed),
        };
    }
}

/// How much is read in the part of an order that counts, which begins now.
fn count(read: &AtomicU64, order: Order) -> Result<Slice> {
    thread::sleep(order.warm_up);
    let (busy, before, from) = (busy_time()?, read.load(Ordering::Relaxed), Instant::now());
    thread::sleep(order.sample);
    let (counted, seconds) = (
        read.load(Ordering::Relaxed) - before,
        from.elapsed().as_secs_f64(),
    );
    Ok(Slice {
        counted,
        seconds,
        busy: busy_time()? - busy,
        ..Slice::default()
    })
}

/// Waits until so much is read in all.
fn wait_until(read: &AtomicU64, all: u64) -> Result<()> {
    let began = Instant::now();
    while read.load(Ordering::Relaxed) < all {
        ensure!(began.elapsed() < PATIENCE, "what was sent does not arrive");
        thread::sleep(Duration::from_micros(100));
    }
    Ok(())
}

/// Sends on several connections at once; where there are several to send to, to one after the other.
pub fn send(to: &[SocketAddr], connections: usize) -> Result<()> {
    ensure!(!to.is_empty(), "nobody to send to");
    let to = to.iter().cycle().take(connections);
    let mut streams: Vec<_> = to
        .map(|to| TcpStream::connect(to).with_context(|| format!("failed to reach {to}")))
        .collect::<Result<_>>()?;
    say(&Ready)?;
    let mut orders = orders();
    while let Some(order) = orders.next() {
        order?;
        say(&send_until_told(&mut streams, &mut orders)?)?;
    }
    for stream in &mut streams {
        stream.shutdown(Shutdown::Write)?;
        ensure!(stream.read(&mut [0])? == 0, "the server says something");
    }
    Ok(())
}

/// Sends on all of them, each by a thread of its own, until the order comes again.
fn send_until_told(
    streams: &mut [TcpStream],
    orders: &mut impl Iterator<Item = Result<Order>>,
) -> Result<Slice> {
    let enough = AtomicBool::new(false);
    thread::scope(|scope| {
        let senders: Vec<_> = streams
            .iter_mut()
            .map(|stream| scope.spawn(|| send_until(stream, &enough)))
            .collect();
        let told = orders.next();
        enough.store(true, Ordering::Relaxed);
        let mut slice = Slice::default();
        for sender in senders {
            slice.all += sender
                .join()
                .map_err(|_| anyhow!("a connection is lost"))??;
        }
        told.context("nobody says when it is enough")??;
        Ok(slice)
    })
}

/// Sends until it is enough; how many bytes there were.
fn send_until(stream: &mut TcpStream, enough: &AtomicBool) -> Result<u64> {
    let chunk = vec![0; CHUNK];
    let mut all = 0;
    while !enough.load(Ordering::Relaxed) {
        all += stream.write(&chunk)? as u64;
    }
    Ok(all)
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
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn what_waits_in_a_socket_does_not_count_and_a_slice_waits_until_it_is_read() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port of loopback");
        let to = listener.local_addr().expect("its address");
        let mut client = TcpStream::connect(to).expect("somebody listens");
        let (server, _) = listener.accept().expect("somebody connects");
        let read = Arc::new(AtomicU64::new(0));
        client.write_all(&[0; 1000]).expect("a socket holds that");
        let order = Order {
            warm_up: Duration::ZERO,
            sample: Duration::from_millis(1),
        };
        let slice = count(&read, order).expect("there is a /proc");
        assert_eq!(slice.counted, 0, "nobody has read");
        let taker = thread::spawn({
            let read = Arc::clone(&read);
            move || take(server, &read)
        });
        wait_until(&read, 1000).expect("it is read");
        assert_eq!(read.load(Ordering::Relaxed), 1000);
        drop(client);
        taker.join().expect("no panic").expect("an orderly end");
    }

    #[test]
    fn idle_stolen_and_waiting_time_is_not_busy() {
        let stat = "cpu  1 20 300 4000 50000 600 7000 80000 9 9\ncpu0 1 1 1 1 1 1 1 1 1 1\n";
        assert_eq!(busy_ticks(stat), Some(1 + 20 + 300 + 600 + 7000));
        assert_eq!(busy_ticks("intr 1\n"), None);
    }
}
