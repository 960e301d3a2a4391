//! `service`: its verbs. Flags are the config's keys; what they may hold is for the config to say.

use clap::{Args, Subcommand};

use super::{Changing, Inspect, Listing, Rm};

/// Verbs of `service`.
#[derive(Clone, Debug, Subcommand)]
pub enum Service {
    /// List them.
    Ls(Listing),
    /// Show all that is known about them, as JSON.
    Inspect(Inspect),
    /// Add one.
    #[command(alias = "create")]
    Add(Box<ServiceAdd>),
    /// Remove them.
    #[command(alias = "remove")]
    Rm(Rm),
    /// Change one.
    #[command(alias = "update")]
    Set(Box<ServiceSet>),
}

/// What a service is.
#[derive(Args, Clone, Debug)]
pub struct ServiceKeys {
    /// A virtual address, one a family.
    #[arg(long = "vip", value_name = "ADDR", value_delimiter = ',')]
    pub vips: Vec<String>,
    /// A port: SERVICE PORT:CONTAINER PORT[/PROTO].
    #[arg(long = "port", value_name = "SPEC")]
    pub ports: Vec<String>,
    /// Publish a port: HOST PORT:SERVICE PORT[/PROTO].
    #[arg(long, short, value_name = "SPEC")]
    pub publish: Vec<String>,
    /// A backend: CONTAINER, with `,weight=NUMBER` and `,drain` behind it if wanted.
    #[arg(long = "backend", value_name = "BACKEND")]
    pub backends: Vec<String>,
    /// maglev, random, round-robin or least-connections.
    #[arg(long)]
    pub scheduler: Option<String>,
    /// none or client-ip.
    #[arg(long)]
    pub affinity: Option<String>,
    /// How long a client keeps its backend.
    #[arg(long, value_name = "TIME")]
    pub affinity_timeout: Option<String>,
    /// vip or dnsrr.
    #[arg(long, value_name = "MODE")]
    pub endpoint_mode: Option<String>,
}

/// `service add`.
#[derive(Args, Clone, Debug)]
pub struct ServiceAdd {
    /// Its name.
    pub name: String,
    /// Its network.
    #[arg(long)]
    pub network: Option<String>,
    /// What it is.
    #[command(flatten)]
    pub keys: ServiceKeys,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}

/// `service set`: lists that are given replace those that were; backends come, go and change one
/// by one.
#[derive(Args, Clone, Debug)]
pub struct ServiceSet {
    /// Its name.
    pub name: String,
    /// What it becomes.
    #[command(flatten)]
    pub keys: ServiceKeys,
    /// A backend that goes.
    #[arg(long = "rm-backend", value_name = "CONTAINER")]
    pub rm_backends: Vec<String>,
    /// The weight of a backend.
    #[arg(long = "weight", value_name = "CONTAINER=NUMBER")]
    pub weights: Vec<String>,
    /// A backend that gets no new connections.
    #[arg(long = "drain", value_name = "CONTAINER")]
    pub drains: Vec<String>,
    /// A backend that gets new connections again.
    #[arg(long = "undrain", value_name = "CONTAINER")]
    pub undrains: Vec<String>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}
