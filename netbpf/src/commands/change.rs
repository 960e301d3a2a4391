//! The verbs that change something: each says which edits of the desired state it is, and
//! whoever may write carries them out. None of them reads or writes a document by itself.

pub(super) mod container;
pub(super) mod network;
pub(super) mod port;
pub(super) mod service;

use anyhow::Result;
use tracing::warn;

use super::apply;
use crate::{
    cli::{Changing, Cli, Rm},
    display,
    edit::{Edit, Kind, Value},
    error::Error,
    reconcile::{Mode, Report},
    run,
    state::Instance,
};

/// A change that was asked for.
struct Asked<'a> {
    cli: &'a Cli,
    instance: &'a Instance,
    changing: Changing,
}

impl Asked<'_> {
    /// Makes the change and prints `done` (one name a line); a report where one was asked for.
    fn carry_out(&self, edits: Vec<Edit>, done: &[String]) -> Result<()> {
        let report = self.report(edits)?;
        self.show(&report, || {
            Ok(done.iter().map(|name| format!("{name}\n")).collect())
        })
    }

    fn report(&self, edits: Vec<Edit>) -> Result<Report> {
        let netns = self.cli.netns.as_deref();
        let report = run::edit(netns, self.instance, edits, self.mode())?;
        report
            .warnings
            .iter()
            .for_each(|warning| warn!("{warning}"));
        Ok(report)
    }

    fn show(&self, report: &Report, done: impl FnOnce() -> Result<String>) -> Result<()> {
        if self.changing.listing.json {
            return display::json(report);
        }
        if self.cli.quiet {
            return Ok(());
        }
        match self.mode() {
            Mode::DryRun => display::print(&apply::shown(report, Mode::DryRun)),
            Mode::Apply => display::print(&done()?),
        }
    }

    const fn mode(&self) -> Mode {
        self.changing.mode()
    }
}

/// `rm NAME…` of a network, container or service.
pub(super) fn rm(cli: &Cli, instance: &Instance, kind: Kind, rm: &Rm) -> Result<()> {
    let mut names = rm.names.names.clone();
    names.sort_unstable();
    names.dedup();
    let asked = Asked {
        cli,
        instance,
        changing: rm.changing,
    };
    let edit = Edit::Remove { kind, names };
    asked.carry_out(vec![edit], &rm.names.names)
}

/// The options of `KEY=VALUE,KEY=VALUE`; a key that stands alone has no value.
fn options(text: &str) -> impl Iterator<Item = (&str, Option<&str>)> {
    text.split(',').map(|option| match option.split_once('=') {
        Some((key, value)) => (key, Some(value)),
        None => (option, None),
    })
}

/// The number that an option must be.
fn number(option: &str, text: &str) -> Result<Value, Error> {
    text.parse()
        .map(Value::Number)
        .map_err(|_| Error::usage(format!("{option} {text:?} is not a number")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_keys_with_and_without_value() {
        let read: Vec<_> = options("web,weight=2,drain").collect();
        assert_eq!(
            read,
            [("web", None), ("weight", Some("2")), ("drain", None)]
        );
    }
}
