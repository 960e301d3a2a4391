//! `purge`: ends `run`, then removes what this instance made.

use anyhow::Result;

use super::apply;
use crate::{
    cli::Cli,
    display,
    host::{Host, kernel},
    run,
    state::Instance,
};

/// `purge`.
pub(super) fn purge(cli: &Cli, instance: &Instance) -> Result<()> {
    kernel::require_privileges()?;
    let host = Host::enter(cli.netns.as_deref())?;
    let report = run::purge(&host, instance)?;
    for warning in &report.warnings {
        tracing::warn!("{warning}");
    }
    if cli.quiet {
        return Ok(());
    }
    if !report.changed {
        return display::print("nothing to purge\n");
    }
    display::print(&apply::lines(&report))
}
