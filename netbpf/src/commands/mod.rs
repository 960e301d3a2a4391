//! What the command line asks for, one subcommand a file. Nothing here knows a map or a link.

mod apply;
mod check;
mod committed;
mod conntrack;
mod container;
mod network;
mod port;
mod purge;
mod run;
mod service;
mod status;

#[cfg(test)]
mod testing;

use anyhow::Result;

use crate::{
    cli::{Cli, Command, Conntrack, Container, Network, Port, Service},
    error::Error,
    state::Instance,
};

/// Does what the command line asks for.
///
/// # Errors
///
/// Whatever went wrong; [`crate::error::exit_code`] says which exit code it has.
pub fn run(cli: &Cli) -> Result<()> {
    let instance = Instance::new(&cli.instance);
    match &cli.command {
        Command::Check { file } => check::check(file),
        Command::Apply(asked) => apply::apply(cli, &instance, asked),
        Command::Run(asked) => run::run(cli, &instance, asked),
        Command::Purge => purge::purge(cli, &instance),
        Command::Status(listing) => status::status(cli, &instance, *listing),
        Command::Network(verb) => match verb {
            Network::Ls(listing) => network::ls(&instance, *listing),
            Network::Inspect(_) => later("network inspect"),
            Network::Add(_) => later("network add"),
            Network::Rm(_) => later("network rm"),
            Network::Connect(_) => later("network connect"),
            Network::Disconnect(_) => later("network disconnect"),
        },
        Command::Container(verb) => match verb {
            Container::Ls(listing) => container::ls(&instance, *listing),
            Container::Inspect(_) => later("container inspect"),
            Container::Add(_) => later("container add"),
            Container::Rm(_) => later("container rm"),
        },
        Command::Port(verb) => match verb {
            Port::Ls {
                container: None,
                listing,
            } => port::ls(&instance, *listing),
            Port::Ls {
                container: Some(container),
                listing,
            } => port::ls_container(&instance, container, *listing),
            Port::Add(_) => later("port add"),
            Port::Rm(_) => later("port rm"),
        },
        Command::Service(verb) => match verb {
            Service::Ls(listing) => service::ls(&instance, *listing),
            Service::Inspect(_) => later("service inspect"),
            Service::Add(_) => later("service add"),
            Service::Rm(_) => later("service rm"),
            Service::Set(_) => later("service set"),
        },
        Command::Conntrack(verb) => match verb {
            Conntrack::Ls { filter, listing } => conntrack::ls(&instance, filter, *listing),
            Conntrack::Flush(_) => later("conntrack flush"),
        },
        Command::Monitor(_) => later("monitor"),
        Command::Explain(_) => later("explain"),
    }
}

fn later(command: &str) -> Result<()> {
    Err(Error::not_supported_yet(command).into())
}
