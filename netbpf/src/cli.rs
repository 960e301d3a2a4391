//! The command line: what can be asked, not what is done about it.
//!
//! Commands and flags of later releases stand here too, so that they are refused by name and not
//! as unknown words.

mod container;
mod network;
mod port;
mod service;
mod verbs;

use std::{ffi::OsString, net::IpAddr, path::PathBuf};

use clap::{ArgAction, Args, Parser, Subcommand};
use ipnet::IpNet;

pub use self::{
    container::{Container, ContainerAdd, Joining},
    network::{Network, NetworkAdd, NetworkConnect, NetworkDisconnect},
    port::{Port, PortAdd, PortRm},
    service::{Service, ServiceAdd, ServiceKeys, ServiceSet},
    verbs::Verbs,
};
use crate::{naming, reconcile::Mode, state::Instance};

/// A container-network dataplane for Linux in eBPF.
#[derive(Clone, Debug, Parser)]
#[command(
    name = "netbpf",
    version,
    propagate_version = true,
    max_term_width = 100
)]
pub struct Cli {
    /// The instance to act on.
    #[arg(
        long,
        global = true,
        env = "NETBPF_INSTANCE",
        default_value = Instance::DEFAULT,
        value_name = "NAME",
        value_parser = instance_name
    )]
    pub instance: String,
    /// The network namespace that is the host; by default the one that netbpf is started in.
    #[arg(long, global = true, value_name = "NAME|PATH")]
    pub netns: Option<String>,
    /// Say nothing but errors and what was asked for; of `ls`, only names.
    #[arg(long, short, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// Say more; twice, even more.
    #[arg(long, short, global = true, action = ArgAction::Count)]
    pub verbose: u8,
    /// What to do.
    #[command(subcommand)]
    pub command: Command,
}

/// What to do.
#[derive(Clone, Debug, Subcommand)]
pub enum Command {
    /// Validate a config file without touching anything.
    Check {
        /// The config file.
        file: PathBuf,
    },
    /// Make the host match, all or nothing, and print what changed.
    Apply(Apply),
    /// Apply, then stay in the foreground and follow the host's links and addresses.
    Run(Run),
    /// Remove everything that this instance made.
    Purge,
    /// Show the instance, its hooks, its maps and what it dropped.
    Status(Listing),
    /// List and change networks.
    #[command(subcommand)]
    Network(Verbs<Network>),
    /// List and change containers.
    #[command(subcommand)]
    Container(Verbs<Container>),
    /// List, publish and unpublish ports.
    #[command(subcommand)]
    Port(Verbs<Port>),
    /// List and change services.
    #[command(subcommand)]
    Service(Verbs<Service>),
    /// List the connection table.
    #[command(subcommand)]
    Conntrack(Verbs<Conntrack>),
    /// Show new flows and drops as they happen (not supported yet).
    Monitor(Later),
    /// Show what would happen to a packet (not supported yet).
    Explain(Later),
}

/// How to show something.
#[derive(Args, Clone, Copy, Debug)]
pub struct Listing {
    /// Print JSON.
    #[arg(long)]
    pub json: bool,
}

/// `apply`.
#[derive(Args, Clone, Debug)]
pub struct Apply {
    /// The config file that replaces the desired state; without it, the state as it stands.
    pub file: Option<PathBuf>,
    /// Print what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How to show what changed.
    #[command(flatten)]
    pub listing: Listing,
}

/// `run`.
#[derive(Args, Clone, Debug)]
pub struct Run {
    /// The config file that replaces the desired state; without it, the state as it stands.
    pub file: Option<PathBuf>,
    /// Follow Docker (not supported yet).
    #[arg(long, value_name = "SOCKET", num_args = 0..=1, require_equals = true)]
    pub docker: Option<Option<PathBuf>>,
}

/// How a change is made and shown.
#[derive(Args, Clone, Copy, Debug)]
pub struct Changing {
    /// Print what would change, and change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// How to show what changed.
    #[command(flatten)]
    pub listing: Listing,
}

impl Changing {
    /// Whether the change is made or only told.
    pub const fn mode(self) -> Mode {
        if self.dry_run {
            Mode::DryRun
        } else {
            Mode::Apply
        }
    }
}

/// Things that are already there, by name.
#[derive(Args, Clone, Debug)]
pub struct Names {
    /// Their names.
    #[arg(required = true, value_name = "NAME")]
    pub names: Vec<String>,
}

/// Things that go.
#[derive(Args, Clone, Debug)]
pub struct Rm {
    /// Which.
    #[command(flatten)]
    pub names: Names,
    /// How.
    #[command(flatten)]
    pub changing: Changing,
}

/// Things that are shown.
#[derive(Args, Clone, Debug)]
pub struct Inspect {
    /// Which.
    #[command(flatten)]
    pub names: Names,
    /// Print JSON, which is what it prints anyway.
    #[arg(long)]
    pub json: bool,
}

/// Verbs of `conntrack`.
#[derive(Clone, Debug, Subcommand)]
pub enum Conntrack {
    /// List flows.
    Ls {
        /// Which.
        #[command(flatten)]
        filter: FlowFilter,
        /// How to show them.
        #[command(flatten)]
        listing: Listing,
    },
    /// End flows (not supported yet).
    Flush(Later),
}

/// Which flows; all conditions must hold.
#[derive(Args, Clone, Debug, Default)]
pub struct FlowFilter {
    /// The address or subnet that sent the first packet.
    #[arg(long, value_name = "ADDR|CIDR", value_parser = address_or_subnet)]
    pub src: Option<IpNet>,
    /// The address or subnet that the first packet was for.
    #[arg(long, value_name = "ADDR|CIDR", value_parser = address_or_subnet)]
    pub dst: Option<IpNet>,
    /// tcp, udp, icmp, icmpv6 or a number.
    #[arg(long)]
    pub proto: Option<String>,
    /// The container at one of the flow's ends.
    #[arg(long, value_name = "NAME")]
    pub container: Option<String>,
}

/// The arguments of a command of a later release: whatever they are.
#[derive(Args, Clone, Debug)]
pub struct Later {
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, hide = true)]
    arguments: Vec<OsString>,
}

fn instance_name(text: &str) -> Result<String, String> {
    if naming::is_valid(text) {
        Ok(text.to_owned())
    } else {
        Err(naming::RULE.to_owned())
    }
}

fn address_or_subnet(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address
        .or_else(|_| text.parse())
        .map_err(|_| "neither an IP address nor a subnet".to_owned())
}

#[cfg(test)]
mod tests {
    use clap::{CommandFactory as _, error::ErrorKind};

    use super::*;

    fn parse(line: &str) -> Result<Cli, clap::Error> {
        Cli::try_parse_from(line.split(' '))
    }

    #[test]
    fn command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn every_command_of_the_contract_is_known() {
        for line in [
            "netbpf check a.toml",
            "netbpf apply",
            "netbpf apply a.toml --dry-run --json",
            "netbpf run",
            "netbpf run a.toml --docker",
            "netbpf run --docker=/run/docker.sock a.toml",
            "netbpf purge --instance lab",
            "netbpf --netns host status --json",
            "netbpf network ls --json",
            "netbpf network inspect front",
            "netbpf network create --subnet 10.0.0.0/24 front",
            "netbpf network add front --internal",
            "netbpf network rm front",
            "netbpf network connect front web --ip 10.0.0.7",
            "netbpf network disconnect front web",
            "netbpf container ls",
            "netbpf container inspect web",
            "netbpf network rm front back --dry-run --json",
            "netbpf network inspect front back --json",
            "netbpf container add web -p 80:80 -P --network front",
            "netbpf container create web --network name=front,ip=10.0.0.7 --link db --expose 22",
            "netbpf container rm web",
            "netbpf port ls",
            "netbpf port ls web --json",
            "netbpf port add web 80:80 [::1]:53:53/udp --allow 10.0.0.0/8 --deny fd00::/8",
            "netbpf port rm web 80:80",
            "netbpf service ls",
            "netbpf service inspect api",
            "netbpf service create api --network front --vip fd00::9 --port 80:80 --backend web",
            "netbpf service rm api",
            "netbpf service set api --drain web",
            "netbpf conntrack ls --src 10.0.0.1 --dst fd00::/64 --proto tcp --container web",
            "netbpf conntrack flush --src 10.0.0.1",
            "netbpf monitor --json",
            "netbpf explain --from web --to 10.0.0.1:80/tcp",
        ] {
            assert!(parse(line).is_ok(), "{line}: {}", parse(line).unwrap_err());
        }
    }

    #[test]
    fn wrong_command_lines_are_refused() {
        for (line, kind) in [
            (
                "netbpf",
                ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand,
            ),
            ("netbpf check", ErrorKind::MissingRequiredArgument),
            ("netbpf network rm", ErrorKind::MissingRequiredArgument),
            ("netbpf port add web", ErrorKind::MissingRequiredArgument),
            (
                "netbpf network add front --icc maybe",
                ErrorKind::InvalidValue,
            ),
            (
                "netbpf network connect front",
                ErrorKind::MissingRequiredArgument,
            ),
            ("netbpf frob", ErrorKind::InvalidSubcommand),
            ("netbpf --instance a/b purge", ErrorKind::ValueValidation),
            ("netbpf -q -v purge", ErrorKind::ArgumentConflict),
            (
                "netbpf conntrack ls --src there",
                ErrorKind::ValueValidation,
            ),
        ] {
            assert_eq!(parse(line).map(|_| ()).unwrap_err().kind(), kind, "{line}");
        }
    }
}
