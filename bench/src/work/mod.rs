//! The loads. Each end of one is a process of its own, inside a namespace, pinned to a CPU, and
//! bounded in time; both ends count, and a load whose ends count differently has failed.

mod asking;
mod crr;
mod doors;
mod latency;
mod load;
mod process;
mod reference;
mod rr;
mod session;
mod stream;
mod turn;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use netbpf_tests::{netns, topology::Family};
use nix::{
    sys::{prctl, signal::Signal},
    unistd::alarm,
};
use serde::{Deserialize, Serialize};

pub use load::{Load, Number};
pub use process::Worker;
pub use session::{Order, Session, Slice};

use crate::{pin, stop};

/// No end of a load lives longer, in seconds.
const LIMIT: u32 = 60;

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

/// The ends that there are. Clients are told whom to ask; where there are several, it is one of them
/// for each connection, in an order that is the same in every run.
#[derive(Debug, Deserialize, Serialize)]
pub enum Part {
    /// Answers requests on one connection.
    RrServer(Vec<Door>),
    /// Asks on one connection.
    RrClient(Vec<SocketAddr>),
    /// Answers one request on each connection.
    CrrServer(Vec<Door>),
    /// Asks once on each connection.
    CrrClient(Vec<SocketAddr>),
    /// Takes what so many connections bring.
    StreamServer(Vec<Door>, usize),
    /// Sends on so many connections.
    StreamClient(Vec<SocketAddr>, usize),
    /// Answers requests on one connection, in real time.
    LatencyServer(Vec<Door>),
    /// Asks on one connection, so many times per second, in real time.
    LatencyClient(Vec<SocketAddr>, u32),
    /// Does a fixed piece of work whenever it is asked, and says how long it took.
    Reference,
}

/// Where a server listens.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Door {
    /// In which namespace.
    pub netns: PathBuf,
    /// At which address.
    pub at: SocketAddr,
}

/// The first word of an end: a server's port is open, a client listens.
#[derive(Debug, Deserialize, Serialize)]
pub struct Ready;

/// The last word of a server.
#[derive(Debug, Deserialize, Serialize)]
pub struct Served {
    /// How many requests it answered, or bytes it took.
    pub done: u64,
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
    if let Some(limit) = task.part.limit() {
        alarm::set(limit);
    }
    turn::of(&task.part)?;
    netns::join(&task.netns);
    pin::to(task.cpu)?;
    match &task.part {
        Part::RrServer(doors) | Part::LatencyServer(doors) => rr::serve(doors),
        Part::RrClient(to) => rr::ask(to),
        Part::CrrServer(doors) => crr::serve(doors),
        Part::CrrClient(to) => crr::ask(to),
        Part::StreamServer(doors, count) => stream::serve(doors, *count),
        Part::StreamClient(to, count) => stream::send(to, *count),
        Part::LatencyClient(to, rate) => latency::ask(to, *rate),
        Part::Reference => reference::answer(),
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
    /// How long it may live, in seconds. The reference is there for the whole run.
    const fn limit(&self) -> Option<u32> {
        match self {
            Self::Reference => None,
            _ => Some(LIMIT),
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
}
