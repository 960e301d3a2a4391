//! `network`: its verbs. Flags are the config's keys; what they may hold is for the config to say.

use clap::{Args, Subcommand};

use super::{Changing, Inspect, Joining, Listing, Rm};

/// Verbs of `network`.
#[derive(Clone, Debug, Subcommand)]
pub enum Network {
    /// List them.
    Ls(Listing),
    /// Show all that is known about them, as JSON.
    Inspect(Inspect),
    /// Add one.
    #[command(alias = "create")]
    Add(Box<NetworkAdd>),
    /// Remove them; those that are in use stay.
    #[command(alias = "remove")]
    Rm(Rm),
    /// Connect a container.
    Connect(NetworkConnect),
    /// Disconnect a container.
    Disconnect(NetworkDisconnect),
}

/// `network add`.
#[derive(Args, Clone, Debug)]
pub struct NetworkAdd {
    /// Its name.
    pub name: String,
    /// Its driver.
    #[arg(long, short)]
    pub driver: Option<String>,
    /// Its bridge.
    #[arg(long, value_name = "INTERFACE")]
    pub bridge: Option<String>,
    /// A subnet, one a family.
    #[arg(long = "subnet", value_name = "CIDR", value_delimiter = ',')]
    pub subnets: Vec<String>,
    /// A gateway address, one a subnet.
    #[arg(long = "gateway", value_name = "ADDR", value_delimiter = ',')]
    pub gateways: Vec<String>,
    /// Where automatic addresses come from, one a family.
    #[arg(long = "ip-range", value_name = "CIDR", value_delimiter = ',')]
    pub ip_range: Vec<String>,
    /// Whether its containers may talk to each other.
    #[arg(long, value_name = "BOOL")]
    pub icc: Option<bool>,
    /// No way in or out.
    #[arg(
        long,
        value_name = "BOOL",
        num_args = 0..=1,
        require_equals = true,
        default_missing_value = "true"
    )]
    pub internal: Option<bool>,
    /// nat, nat-unprotected, routed or isolated; or by family, as ipv4=nat,ipv6=routed.
    #[arg(long, value_name = "MODE")]
    pub gateway_mode: Option<String>,
    /// Whether what leaves the host gets the host's address.
    #[arg(long, value_name = "BOOL")]
    pub masquerade: Option<bool>,
    /// The MTU of the bridge and of the containers' interfaces.
    #[arg(long)]
    pub mtu: Option<i64>,
    /// The host address of what is published without one.
    #[arg(long, value_name = "ADDR")]
    pub host_binding: Option<String>,
    /// An interface from which container addresses may be reached.
    #[arg(
        long = "trusted-interface",
        value_name = "INTERFACE",
        value_delimiter = ','
    )]
    pub trusted_interfaces: Vec<String>,
    /// A subnet from which container addresses may be reached.
    #[arg(long = "trusted-source", value_name = "CIDR", value_delimiter = ',')]
    pub trusted_sources: Vec<String>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}

/// `network connect`.
#[derive(Args, Clone, Debug)]
pub struct NetworkConnect {
    /// The network.
    pub network: String,
    /// The container.
    pub container: String,
    /// As what.
    #[command(flatten)]
    pub joining: Joining,
    /// Another name for the container in this network.
    #[arg(long = "alias", value_name = "NAME", value_delimiter = ',')]
    pub aliases: Vec<String>,
    /// The network with the highest has the default gateway.
    #[arg(long, value_name = "NUMBER", allow_hyphen_values = true)]
    pub gw_priority: Option<i64>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}

/// `network disconnect`.
#[derive(Args, Clone, Debug)]
pub struct NetworkDisconnect {
    /// The network.
    pub network: String,
    /// The container.
    pub container: String,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}
