//! Makes the host match a document, and takes it back: observe, compare, act.
//!
//! All or nothing. A change that fails is taken back by the same way it was made: the host is
//! brought to the committed document again. One that was cut short is found by its journal and
//! taken back by the next command. Nothing here knows what is wanted; that is [`crate::plan`]'s.

mod act;
mod applying;
mod keeper;
mod meaning;
mod noted;
mod ports;
mod purge;
mod ranges;
mod report;
mod reservations;
mod steps;
mod survey;
mod words;

use anyhow::Result;

use self::{applying::Applying, meaning::Wanted};
pub use self::{
    keeper::Keeper,
    meaning::Source,
    purge::purge,
    report::{Action, Change, ContainerPort, Report},
    reservations::Reservations,
    survey::facts,
};
use crate::{
    config::Document,
    dataplane::{Error as DataplaneError, maps::Contents},
    edit::Edit,
    host::{Host, bpffs, kernel},
    model::Model,
    state::{Allocated, Instance, Journal},
};

/// Whether a change is made or only told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// It is made.
    #[default]
    Apply,
    /// It is told.
    DryRun,
}

/// Stops a change before one of its steps, so that tests see what a failure and a kill leave.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum Fault {
    /// Nothing stops it.
    #[default]
    None,
    /// It fails before the step of that number, counted down.
    Fail(u32),
    /// The process ends before the step of that number, counted down.
    Kill(u32),
}

impl Fault {
    fn before(&mut self, step: &str) -> Result<(), DataplaneError> {
        match self {
            Self::None => Ok(()),
            Self::Fail(0) => {
                *self = Self::None;
                Err(DataplaneError::Stopped(step.to_owned()))
            }
            Self::Kill(0) => std::process::abort(),
            Self::Fail(left) | Self::Kill(left) => {
                *left -= 1;
                Ok(())
            }
        }
    }
}

/// How to apply.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Whether to act.
    pub mode: Mode,
    /// For tests.
    pub fault: Fault,
}

/// Makes `host` match `document`, or the committed one when there is none, and says what changed.
/// What is published then is what `reservations` keep.
///
/// # Errors
///
/// Whatever is wrong with the document or doesn't allow it on this host. The host is as it was
/// before, and so are `reservations`.
pub fn apply(
    host: &Host,
    instance: &Instance,
    document: Option<&Source>,
    options: Options,
    reservations: &mut Reservations,
) -> Result<Report> {
    let wanted = document.map_or(Wanted::Committed, Wanted::Given);
    Ok(change(host, instance, &wanted, options, reservations)?.report)
}

/// Makes `host` match the committed document after some edits, and says what changed. Reading,
/// editing and applying is one transaction: edits of others come before or after.
///
/// # Errors
///
/// As [`apply`]; what is wrong with the document is said without a line of it.
pub fn edit(
    host: &Host,
    instance: &Instance,
    edits: &[Edit],
    options: Options,
    reservations: &mut Reservations,
) -> Result<Report> {
    let wanted = Wanted::Edited(edits);
    Ok(change(host, instance, &wanted, options, reservations)?.report)
}

fn change(
    host: &Host,
    instance: &Instance,
    wanted: &Wanted<'_>,
    options: Options,
    reservations: &mut Reservations,
) -> Result<Applied> {
    kernel::require()?;
    bpffs::require_lasting()?;
    let lock = instance.lock()?;
    let result = Applying::begin(host, instance, &lock, reservations)
        .and_then(|applying| applying.run(wanted, options));
    match &result {
        Ok(Applied {
            kept: Some(kept), ..
        }) => reservations.keep_published(&kept.model),
        Ok(Applied { kept: None, .. }) | Err(_) => reservations.go_back(),
    }
    instance.remove_if_unused(lock)?;
    result
}

/// What an apply came to.
struct Applied {
    report: Report,
    /// What holds now; `None` where it was only told.
    kept: Option<Kept>,
}

/// What a change that looked at the whole leaves.
struct Kept {
    text: String,
    document: Document,
    model: Model,
    contents: Contents,
    reserved_ports: Vec<(u16, u16)>,
    journal: Journal,
    allocated: Allocated,
}

/// Brings the host back to the committed state if a change was cut short.
///
/// # Errors
///
/// When that fails; the next command tries again.
pub fn recover(host: &Host, instance: &Instance) -> Result<()> {
    if instance
        .inventory()?
        .is_none_or(|inventory| inventory.pending.is_none())
    {
        return Ok(());
    }
    let lock = instance.lock()?;
    let mut reservations = Reservations::momentary();
    Applying::begin(host, instance, &lock, &mut reservations)?.recover(&mut Fault::None)?;
    Ok(instance.remove_if_unused(lock)?)
}
