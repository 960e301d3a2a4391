//! The loads. Each end of one is a process of its own, inside a namespace, pinned to a CPU, and
//! bounded in time; both ends count, and a load whose ends count differently has failed.

pub mod crr;
mod doors;
pub mod latency;
mod load;
mod process;
pub mod rr;
pub mod stream;
mod turn;

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
use serde::{Deserialize, Serialize, de::DeserializeOwned};

pub use load::{Load, Number};
pub use process::Worker;

use crate::{pin, stop};

/// No end of a load lives longer, in seconds.
const LIMIT: u32 = 60;
/// What an asking end may need beside the time in which it asks, in seconds.
const GRACE: u32 = 5;

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
    RrServer(Vec<Door>),
    /// Asks on one connection.
    RrClient(Asking),
    /// Answers one request on each connection.
    CrrServer(Vec<Door>),
    /// Asks once on each connection.
    CrrClient(Asking),
    /// Takes what so many connections bring.
    StreamServer(Vec<Door>, usize),
    /// Sends on so many connections.
    StreamClient(Asking, usize),
    /// Answers requests on one connection, in real time.
    LatencyServer(Vec<Door>),
    /// Asks on one connection, so many times per second, in real time.
    LatencyClient(Asking, u32),
}

/// Where a server listens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Door {
    /// In which namespace.
    pub netns: PathBuf,
    /// At which address.
    pub at: SocketAddr,
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
    /// Who answers; several only where the load says so.
    pub servers: Vec<&'p Path>,
    /// Whom the client asks.
    pub to: Vec<SocketAddr>,
    /// Where servers listen, on every address of the family.
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
    alarm::set(task.part.limit());
    turn::of(&task.part)?;
    netns::join(&task.netns);
    pin::to(task.cpu)?;
    match &task.part {
        Part::RrServer(doors) | Part::LatencyServer(doors) => rr::serve(doors),
        Part::RrClient(asking) => rr::ask(asking),
        Part::CrrServer(doors) => crr::serve(doors),
        Part::CrrClient(asking) => crr::ask(asking),
        Part::StreamServer(doors, count) => stream::serve(doors, *count),
        Part::StreamClient(asking, count) => stream::send(asking, *count),
        Part::LatencyClient(asking, rate) => latency::ask(asking, *rate),
    }
}

/// Every address of a family.
fn any(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
        Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
    }
}

impl Part {
    /// How long it may live, in seconds.
    fn limit(&self) -> u32 {
        match self {
            Self::RrServer(_)
            | Self::CrrServer(_)
            | Self::StreamServer(..)
            | Self::LatencyServer(_) => LIMIT,
            Self::RrClient(asking)
            | Self::CrrClient(asking)
            | Self::StreamClient(asking, _)
            | Self::LatencyClient(asking, _) => {
                LIMIT.min(GRACE + (asking.warm_up + asking.sample).as_secs() as u32)
            }
        }
    }
}

impl Ends<'_> {
    /// Every door of every server.
    fn doors(&self) -> Result<Vec<Door>> {
        let family = Family::of(self.to.first().context("nobody to ask")?.ip());
        let door = |netns: &Path, port: u16| Door {
            netns: netns.to_owned(),
            at: SocketAddr::new(any(family), port),
        };
        let servers = self.servers.iter();
        Ok(servers
            .flat_map(|netns| self.ports.iter().map(|port| door(netns, *port)))
            .collect())
    }

    fn asking(&self, warm_up: Duration, sample: Duration) -> Asking {
        Asking {
            to: self.to.clone(),
            warm_up,
            sample,
        }
    }

    /// Runs a server and a client to their ends.
    fn run<A: DeserializeOwned>(&self, server: Part, client: Part) -> Result<(A, Served)> {
        let home = self.servers.first().context("nobody answers")?;
        let mut server = Worker::start(home, self.cpus.server, server)?;
        let Ready = server.hear().context("the server did not get ready")?;
        let mut client = Worker::start(self.client, self.cpus.client, client)?;
        let asked = client.hear().context("the client")?;
        Ok((asked, server.hear().context("the server")?))
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
