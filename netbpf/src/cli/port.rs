//! `port`: its verbs.

use clap::{Args, Subcommand};

use super::{Changing, Listing};

/// Verbs of `port`.
#[derive(Clone, Debug, Subcommand)]
pub enum Port {
    /// List them; of one container, as `docker port` does.
    Ls {
        /// The container.
        container: Option<String>,
        /// How to show them.
        #[command(flatten)]
        listing: Listing,
    },
    /// Publish ports of a container.
    Add(PortAdd),
    /// Publish them no more.
    Rm(PortRm),
}

/// `port add`.
#[derive(Args, Clone, Debug)]
pub struct PortAdd {
    /// The container.
    pub container: String,
    /// What: [[HOST ADDR:]HOST PORT:]PORT[/PROTO], or ranges.
    #[arg(required = true, value_name = "SPEC")]
    pub specs: Vec<String>,
    /// Only for this subnet.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub allow: Vec<String>,
    /// Not for this subnet.
    #[arg(long, value_name = "CIDR", value_delimiter = ',')]
    pub deny: Vec<String>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}

/// `port rm`.
#[derive(Args, Clone, Debug)]
pub struct PortRm {
    /// The container.
    pub container: String,
    /// What, as it was published.
    #[arg(required = true, value_name = "SPEC")]
    pub specs: Vec<String>,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}
