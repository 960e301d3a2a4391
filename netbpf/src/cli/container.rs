//! `container`: its verbs. Flags are Docker's where Docker has them, else the config's keys; what
//! they may hold is for the config to say.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::{Changing, Inspect, Listing, Rm};

/// Verbs of `container`.
#[derive(Clone, Debug, Subcommand)]
pub enum Container {
    /// List them.
    Ls(Listing),
    /// Show all that is known about them, as JSON.
    Inspect(Inspect),
    /// Add one.
    #[command(alias = "create")]
    Add(Box<ContainerAdd>),
    /// Remove them; those that are in use stay.
    #[command(alias = "remove")]
    Rm(Rm),
}

/// As what a container is in a network.
#[derive(Args, Clone, Debug, Default)]
pub struct Joining {
    /// Its IPv4 address.
    #[arg(long, value_name = "ADDR")]
    pub ip: Option<String>,
    /// Its IPv6 address.
    #[arg(long, value_name = "ADDR")]
    pub ip6: Option<String>,
    /// Its MAC.
    #[arg(long, value_name = "MAC")]
    pub mac_address: Option<String>,
    /// The name of its interface.
    #[arg(long, value_name = "INTERFACE")]
    pub interface: Option<String>,
}

/// `container add`.
#[derive(Args, Clone, Debug)]
pub struct ContainerAdd {
    /// Its name.
    pub name: String,
    /// A network: its name, or name=NETWORK,ip=ADDR,ip6=ADDR,mac-address=MAC,interface=INTERFACE,
    /// alias=NAME,gw-priority=NUMBER; none, host and container:NAME are modes.
    #[arg(long = "network", value_name = "NETWORK")]
    pub networks: Vec<String>,
    /// As what it is in the first network.
    #[command(flatten)]
    pub joining: Joining,
    /// Another name for it in the first network.
    #[arg(
        long = "network-alias",
        alias = "net-alias",
        value_name = "NAME",
        value_delimiter = ','
    )]
    pub aliases: Vec<String>,
    /// Publish a port: [[HOST ADDR:]HOST PORT:]PORT[/PROTO], or ranges.
    #[arg(long, short, value_name = "SPEC")]
    pub publish: Vec<String>,
    /// Publish all exposed ports.
    #[arg(long, short = 'P')]
    pub publish_all: bool,
    /// Expose a port to those that link to it.
    #[arg(long, value_name = "PORT[/PROTO]")]
    pub expose: Vec<String>,
    /// Link to another container.
    #[arg(long = "link", value_name = "CONTAINER[:ALIAS]")]
    pub links: Vec<String>,
    /// Its network namespace; made when it is missing.
    #[arg(long = "container-netns", value_name = "PATH")]
    pub container_netns: Option<PathBuf>,
    /// bridge, none, host or container:NAME.
    #[arg(long)]
    pub mode: Option<String>,
    /// Whether it may only send from its own addresses.
    #[arg(long, value_name = "BOOL")]
    pub source_check: Option<bool>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}
