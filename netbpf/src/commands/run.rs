//! `run`: applies, then stays.

use anyhow::Result;

use super::check;
use crate::{
    cli::{self, Cli},
    error::Error,
    host::{Host, kernel},
    run,
    state::Instance,
};

/// `run [FILE]`.
pub(super) fn run(cli: &Cli, instance: &Instance, asked: &cli::Run) -> Result<()> {
    if asked.docker.is_some() {
        return Err(Error::not_supported_yet("run --docker").into());
    }
    if let Some(file) = &asked.file {
        // What is wrong with the file is said before the host is looked at.
        check::check(file)?;
    }
    kernel::require()?;
    let host = Host::enter(cli.netns.as_deref())?;
    run::run(&host, instance, asked.file.as_deref())
}
