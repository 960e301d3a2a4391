//! The loads. Each end of one is a process of its own, inside a namespace, pinned to a CPU, and
//! bounded in time; both ends count, and a load whose ends count differently has failed.

pub mod crr;
mod process;
pub mod rr;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::{netns, topology::Family};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::alarm,
};
use serde::{Deserialize, Serialize};

pub use process::Worker;

use crate::{pin, rounds::Pace, stop};

/// A load whose sample is one rate.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Work {
    /// Requests on one connection.
    Rr,
    /// Connections with one request each.
    Crr,
}

impl Work {
    /// Its name in the ids of rows.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Rr => "rr",
            Self::Crr => "crr",
        }
    }

    /// Takes one sample, per second.
    ///
    /// # Errors
    ///
    /// When anything went wrong, or the ends counted differently.
    pub fn measure(self, ends: &Ends, pace: &Pace) -> Result<f64> {
        match self {
            Self::Rr => rr::measure(ends, pace),
            Self::Crr => crr::measure(ends, pace),
        }
    }
}

/// No end of a load lives longer, in seconds.
const LIMIT: u32 = 60;

/// The port of a server that has only one.
pub const PORT: u16 = 8000;

/// One end of a load.
#[derive(Debug, Deserialize, Serialize)]
pub struct Task {
    /// Where.
    pub netns: PathBuf,
    /// On which CPU.
    pub cpu: usize,
    /// What.
    pub part: Part,
}

/// The ends that there are.
#[derive(Debug, Deserialize, Serialize)]
pub enum Part {
    /// Answers requests on one connection.
    RrServer(SocketAddr),
    /// Asks on one connection.
    RrClient(Asking),
    /// Answers one request on each connection.
    CrrServer(Vec<SocketAddr>),
    /// Asks once on each connection.
    CrrClient(Asking),
}

/// Whom a client asks and for how long.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Asking {
    /// Whom; where there are several, one of them for each connection, in an order that is the same
    /// in every run.
    pub to: Vec<SocketAddr>,
    /// What does not count.
    pub warm_up: Duration,
    /// What counts.
    pub sample: Duration,
}

/// The first word of a server: its port is open.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ready;

/// The last word of a server.
#[derive(Debug, Deserialize, Serialize)]
pub struct Served {
    /// How many requests it answered.
    pub requests: u64,
}

/// The last word of a client.
#[derive(Debug, Deserialize, Serialize)]
pub struct Asked {
    /// How many requests were answered, warm-up included.
    pub requests: u64,
    /// How many of them count.
    pub counted: u64,
    /// How long these took, in seconds.
    pub seconds: f64,
}

/// Between whom a load goes.
#[derive(Clone, Debug)]
pub struct Ends<'p> {
    /// Who asks.
    pub client: &'p Path,
    /// Who answers.
    pub server: &'p Path,
    /// Whom the client asks.
    pub to: Vec<SocketAddr>,
    /// Where the server listens, on every address of the family.
    pub ports: Vec<u16>,
    /// On which CPUs.
    pub cpus: pin::Cpus,
}

/// Does what a task says, in this process.
///
/// # Errors
///
/// What went wrong in the load.
///
/// # Panics
///
/// When the namespace can't be entered.
pub fn perform(task: &str) -> Result<()> {
    let task: Task = serde_json::from_str(task).context("this is no task")?;
    stop::unblock()?;
    // A load must not outlive who asked for it, nor go on for ever.
    prctl::set_pdeathsig(Signal::SIGKILL).context("failed to follow the parent")?;
    alarm::set(LIMIT);
    netns::join(&task.netns);
    pin::to(task.cpu)?;
    match &task.part {
        Part::RrServer(at) => rr::serve(*at),
        Part::RrClient(asking) => rr::ask(asking),
        Part::CrrServer(at) => crr::serve(at),
        Part::CrrClient(asking) => crr::ask(asking),
    }
}

/// Every address of a family.
fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl Ends<'_> {
    fn listening(&self) -> Result<Vec<SocketAddr>> {
        let family = Family::of(self.to.first().context("nobody to ask")?.ip());
        Ok(self
            .ports
            .iter()
            .map(|port| SocketAddr::new(any(family), *port))
            .collect())
    }

    fn serve(&self, part: Part) -> Result<Worker> {
        let mut server = Worker::start(self.server, self.cpus.server, part)?;
        let Ready = server.hear().context("the server did not get ready")?;
        Ok(server)
    }
}

/// Requests per second, when both ends agree on their number.
fn rate(asked: &Asked, served: &Served) -> Result<f64> {
    ensure!(
        asked.requests == served.requests,
        "the client had {} answers, the server gave {}",
        asked.requests,
        served.requests
    );
    Ok(asked.counted as f64 / asked.seconds)
}
