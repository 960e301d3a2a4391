//! Whether the bench's own streams are those of iperf3: both on the same paths, in turn. No row is
//! about it, for netbpf has no part in it; the report says what came of it. The bench's streams are
//! cut into slices as the rows' are, iperf3's are not.

use std::{
    io::{BufRead as _, BufReader},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::{netns::Netns, topology::Family};
use serde_json::Value;

use super::{Choice, containers};
use crate::{
    budget::OVER,
    peers::{LOOPBACK, PLAIN, Site},
    pin::Cpus,
    rounds::Pace,
    statistics::{Spread, ratios},
    stop,
    work::{Ends, Load, Slice},
};

/// By what `--only` chooses it.
const ID: &str = "generator/stream-1";

/// What came of it, a sentence for each path.
///
/// # Errors
///
/// When the user ends the run.
pub fn check(choice: &Choice) -> Result<Vec<String>> {
    if !choice.has(ID) {
        return Ok(Vec::new());
    }
    [PLAIN, LOOPBACK]
        .into_iter()
        .map(|peer| {
            stop::check()?;
            let compared = (choice.common().site(peer)).and_then(|site| compare(site, choice));
            Ok(match compared {
                Ok(words) => format!("Streams on one connection, {peer}: {words}"),
                Err(error) => format!("Streams are not checked against iperf3, {peer}: {error:#}"),
            })
        })
        .collect()
}

fn compare(site: &Site, choice: &Choice) -> Result<String> {
    let pace = &choice.pace;
    let rounds = choice.with_budget(|budget| budget.work(pace.slow_rounds));
    let mut rounds = rounds.context(OVER)?;
    let ends = containers::ends(site, Family::V4, Cpus::two()?);
    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for _ in 0..pace.slow_rounds {
        stop::check()?;
        if !choice.with_budget(|budget| budget.another(&mut rounds)) {
            break;
        }
        // Neither is always the later one.
        if ours.len().is_multiple_of(2) {
            ours.push(ours_in(&ends, pace)?);
            theirs.push(iperf3(&ends)?);
        } else {
            theirs.push(iperf3(&ends)?);
            ours.push(ours_in(&ends, pace)?);
        }
    }
    let spread = Spread::of(&ratios(&ours, &theirs)).context("no rounds")?;
    Ok(format!(
        "the bench's own generator moves {:.2} ({:.2}–{:.2}) times what iperf3 does; rounds: {}",
        spread.median,
        spread.min,
        spread.max,
        ours.len()
    ))
}

/// What the bench's own generator moves, in Gbit/s.
fn ours_in(ends: &Ends, pace: &Pace) -> Result<f64> {
    let load = Load::Stream(1);
    let mut session = load.open(ends)?;
    let slices = (0..pace.slices).map(|_| session.slice(load.order(pace)));
    let slices = slices.collect::<Result<Vec<Slice>>>()?;
    session.end()?;
    let figures = load.figures(slices.iter())?;
    figures.first().copied().context("a stream has no rate")
}

/// What iperf3 moves, in Gbit/s.
fn iperf3(ends: &Ends) -> Result<f64> {
    let to = ends.to.first().context("nobody to send to")?;
    let server = ends.servers.first().context("nobody receives")?;
    let port = to.port().to_string();
    let _server = Server::start(&Netns::existing(*server), &port, ends.cpus.server)?;
    let mut client = command(&Netns::existing(ends.client), ends.cpus.client);
    client.args(["--client", &to.ip().to_string(), "--port", &port]);
    client.args(["--time", "1", "--json"]);
    let output = client.output().context("failed to start iperf3")?;
    let told: Value = serde_json::from_slice(&output.stdout).context("iperf3 tells no JSON")?;
    let bits = &told["end"]["sum_received"]["bits_per_second"];
    let bits = bits.as_f64();
    Ok(bits.with_context(|| format!("iperf3: {}", told["error"]))? / 1e9)
}

fn command(netns: &Netns, cpu: usize) -> Command {
    // Before whatever else this machine does, as the bench's own ends are (`work/turn.rs`).
    const FIRST: &str = "echo -20 > /proc/self/autogroup; exec \"$0\" \"$@\"";
    let mut command = netns.command("setsid");
    command.args(["nice", "-n", "-20", "sh", "-c", FIRST]);
    command.args(["iperf3", "--affinity", &cpu.to_string()]);
    command
}

/// An iperf3 that takes one stream.
struct Server(Child);

impl Server {
    fn start(netns: &Netns, port: &str, cpu: usize) -> Result<Self> {
        let mut command = command(netns, cpu);
        command.args(["--server", "--one-off", "--forceflush", "--port", port]);
        command.stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = Self(command.spawn().context("failed to start iperf3")?);
        let words = server.0.stdout.take().context("iperf3 has no output")?;
        let listens = BufReader::new(words)
            .lines()
            .map_while(Result::ok)
            .any(|line| line.contains("listening"));
        ensure!(listens, "iperf3 does not listen");
        Ok(server)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
