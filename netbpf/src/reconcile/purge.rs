//! Takes everything back that an instance made.

use anyhow::Result;

use super::{Report, words};
use crate::{
    error::Error,
    host::{Host, bpffs::PinDirs, undo},
    state::{Change, Changes, Instance, Journal},
};

/// Removes what the journal says this instance made; nothing left is fine.
///
/// Goes on after failures: what could not be removed stays in the journal for the next purge.
///
/// # Errors
///
/// Everything that could not be removed.
pub fn purge(host: &Host, instance: &Instance) -> Result<Report> {
    if !instance.exists() && !PinDirs::of(instance.name()).exist() {
        return Ok(Report::default());
    }
    let lock = instance.lock()?;
    let (mut journal, unreadable) = Journal::open_readable(instance, &lock, host.netns().id())?;
    // Pins outlive a lost journal.
    let pins = Change::Pins {
        instance: instance.name().to_owned(),
    };
    let mut changes: Vec<_> = journal.changes().iter().cloned().collect();
    if journal.changes().same(&pins).is_none() && PinDirs::of(instance.name()).exist() {
        changes.push(pins);
    }
    let failures = undo::undo_all(host, &changes);
    let left = failures.iter().map(|failure| failure.change.clone());
    let left: Changes = left.collect();
    changes.retain(|change| left.same(change).is_none());
    let removals: Vec<_> = changes.iter().filter_map(words::removal).collect();
    let report = Report {
        warnings: unreadable
            .iter()
            .map(|error| format!("{error}: what it says was made is left"))
            .collect(),
        ..Report::from(removals)
    };
    if failures.is_empty() {
        instance.remove(lock)?;
        return Ok(report);
    }
    journal.forget(&changes)?;
    let words: Vec<String> = failures
        .iter()
        .map(|failure| failure.error.to_string())
        .collect();
    Err(Error::host(format!("purge left something behind: {}", words.join("; "))).into())
}
