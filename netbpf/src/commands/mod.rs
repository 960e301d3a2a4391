//! What the command line asks for, one subcommand a file. Nothing here knows a map or a link.

mod apply;
mod change;
mod check;
mod committed;
mod conntrack;
mod container;
mod inspect;
mod names;
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
    edit::Kind,
    error::Error,
    host::kernel,
    state::Instance,
};

/// Does what the command line asks for.
///
/// # Errors
///
/// Whatever went wrong; [`crate::error::exit_code`] says which exit code it has.
pub fn run(cli: &Cli) -> Result<()> {
    kernel::check_ruled_out().map_err(Error::usage)?;
    let instance = Instance::new(&cli.instance);
    match &cli.command {
        Command::Check { file } => check::check(file),
        Command::Apply(asked) => apply::apply(cli, &instance, asked),
        Command::Run(asked) => run::run(cli, &instance, asked),
        Command::Purge => purge::purge(cli, &instance),
        Command::Status(listing) => status::status(cli, &instance, *listing),
        Command::Network(verb) => network_verb(cli, &instance, verb),
        Command::Container(verb) => container_verb(cli, &instance, verb),
        Command::Port(verb) => port_verb(cli, &instance, verb),
        Command::Service(verb) => service_verb(cli, &instance, verb),
        Command::Conntrack(verb) => match &**verb {
            Conntrack::Ls { filter, listing } => conntrack::ls(&instance, filter, *listing),
            Conntrack::Flush(_) => later("conntrack flush"),
        },
        Command::Monitor(_) => later("monitor"),
        Command::Explain(_) => later("explain"),
    }
}

fn network_verb(cli: &Cli, instance: &Instance, verb: &Network) -> Result<()> {
    match verb {
        Network::Ls(listing) if cli.quiet && !listing.json => names::networks(instance),
        Network::Ls(listing) => network::ls(instance, *listing),
        Network::Inspect(asked) => inspect::networks(cli, instance, &asked.names.names),
        Network::Add(asked) => change::network::add(cli, instance, asked),
        Network::Rm(asked) => change::rm(cli, instance, Kind::Network, asked),
        Network::Connect(asked) => change::network::connect(cli, instance, asked),
        Network::Disconnect(asked) => change::network::disconnect(cli, instance, asked),
    }
}

fn container_verb(cli: &Cli, instance: &Instance, verb: &Container) -> Result<()> {
    match verb {
        Container::Ls(listing) if cli.quiet && !listing.json => names::containers(instance),
        Container::Ls(listing) => container::ls(instance, *listing),
        Container::Inspect(asked) => inspect::containers(cli, instance, &asked.names.names),
        Container::Add(asked) => change::container::add(cli, instance, asked),
        Container::Rm(asked) => change::rm(cli, instance, Kind::Container, asked),
    }
}

fn port_verb(cli: &Cli, instance: &Instance, verb: &Port) -> Result<()> {
    match verb {
        Port::Ls {
            container: None,
            listing,
        } => port::ls(instance, *listing),
        Port::Ls {
            container: Some(container),
            listing,
        } => port::ls_container(instance, container, *listing),
        Port::Add(asked) => change::port::add(cli, instance, asked),
        Port::Rm(asked) => change::port::rm(cli, instance, asked),
    }
}

fn service_verb(cli: &Cli, instance: &Instance, verb: &Service) -> Result<()> {
    match verb {
        Service::Ls(listing) if cli.quiet && !listing.json => names::services(instance),
        Service::Ls(listing) => service::ls(instance, *listing),
        Service::Inspect(asked) => inspect::services(instance, &asked.names.names),
        Service::Add(asked) => change::service::add(cli, instance, asked),
        Service::Rm(asked) => change::rm(cli, instance, Kind::Service, asked),
        Service::Set(asked) => change::service::set(cli, instance, asked),
    }
}

fn later(command: &str) -> Result<()> {
    Err(Error::not_supported_yet(command).into())
}
