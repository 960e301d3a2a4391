//! What a process that stays keeps between changes, so that a change costs what it changes.
//!
//! What it believes of host and maps holds as long as it is the one who changed them last: it is
//! forgotten before every change that looks at the whole, when one fails, when the host says that
//! something changed, and when the files of the state are not those that it wrote.

use std::{fs, io, os::unix::fs::MetadataExt as _, path::PathBuf};

use anyhow::Result;

use super::{
    Applied, Applying, Fault, Kept, Mode, Options, Report, Reservations, Source, Wanted, change,
    ports::{self, Known, Outcome},
};
use crate::{edit::Edit, host::Host, state::Instance};

/// What a process keeps between changes.
#[derive(Debug)]
pub struct Keeper {
    reservations: Reservations,
    known: Option<(Known, Stamps)>,
    /// Whether it is asked again.
    stays: Stays,
    /// How many changes have looked at the whole.
    looks: u64,
}

/// How long a process lives.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Stays {
    ForOneChange,
    OnAndOn,
}

impl Keeper {
    /// For a process that ends: it keeps nothing.
    pub fn momentary() -> Self {
        Self {
            reservations: Reservations::momentary(),
            known: None,
            stays: Stays::ForOneChange,
            looks: 0,
        }
    }

    /// For a process that stays: it keeps the published ports from others, and what it knows.
    pub fn lasting() -> Self {
        Self {
            reservations: Reservations::lasting(),
            known: None,
            stays: Stays::OnAndOn,
            looks: 0,
        }
    }

    /// The ports that are kept from others.
    pub fn reservations(&self) -> &Reservations {
        &self.reservations
    }

    /// How many changes have looked at the whole so far.
    pub fn looks(&self) -> u64 {
        self.looks
    }

    /// Something else may have changed the host.
    pub fn forget(&mut self) {
        self.known = None;
    }

    /// Whether something can wait until nobody asks: see [`Self::rest`].
    pub fn can_rest(&self) -> bool {
        (self.known.as_ref()).is_some_and(|(known, _)| known.can_rest())
    }

    /// Does, of what can wait, what should not wait longer: whoever is asked without a pause never
    /// rests.
    pub fn tidy(&mut self) {
        if let Some((known, _)) = &mut self.known {
            known.tidy();
        }
    }

    /// Does what can wait: the blocks of documents that were replaced are given back, for which some
    /// filesystems take longer than for writing the new one.
    pub fn rest(&mut self) {
        if let Some((known, _)) = &mut self.known {
            known.rest();
        }
    }

    /// As [`super::apply`]: looks at everything.
    ///
    /// # Errors
    ///
    /// As [`super::apply`].
    pub fn apply(
        &mut self,
        host: &Host,
        instance: &Instance,
        document: Option<&Source>,
        options: Options,
    ) -> Result<Report> {
        let wanted = document.map_or(Wanted::Committed, Wanted::Given);
        self.change(host, instance, &wanted, options)
    }

    /// As [`super::edit()`]; ports of a container change by what is known, where that is enough.
    ///
    /// # Errors
    ///
    /// As [`super::edit()`].
    pub fn edit(
        &mut self,
        host: &Host,
        instance: &Instance,
        edits: &[Edit],
        mut options: Options,
    ) -> Result<Report> {
        if options.mode == Mode::Apply
            && let Some(known) = self.known.take()
            && let Some(report) =
                self.edit_known(known, (host, instance), edits, &mut options.fault)?
        {
            return Ok(report);
        }
        self.change(host, instance, &Wanted::Edited(edits), options)
    }

    fn edit_known(
        &mut self,
        (mut known, stamps): (Known, Stamps),
        (host, instance): (&Host, &Instance),
        edits: &[Edit],
        fault: &mut Fault,
    ) -> Result<Option<Report>> {
        let lock = instance.lock()?;
        if !known.stands(instance) || Stamps::of(instance).ok().as_ref() != Some(&stamps) {
            return Ok(None);
        }
        let changing = ports::Changing {
            instance,
            lock: &lock,
            reservations: &mut self.reservations,
            fault,
        };
        match known.change(edits, changing) {
            Outcome::Done(report) => {
                self.known = Stamps::of(instance).ok().map(|stamps| (known, stamps));
                Ok(Some(report))
            }
            Outcome::NotPlain => {
                self.reservations.go_back();
                Ok(None)
            }
            Outcome::Failed(error) => {
                drop(known);
                let begun = Applying::begin(host, instance, &lock, &mut self.reservations);
                let error = match begun {
                    Ok(mut applying) => applying.take_back(error, fault),
                    Err(other) => other.context(error),
                };
                self.reservations.go_back();
                Err(error)
            }
        }
    }

    fn change(
        &mut self,
        host: &Host,
        instance: &Instance,
        wanted: &Wanted<'_>,
        options: Options,
    ) -> Result<Report> {
        if options.mode == Mode::Apply {
            self.forget();
        }
        self.looks += 1;
        let Applied { report, kept } =
            change(host, instance, wanted, options, &mut self.reservations)?;
        if self.stays == Stays::OnAndOn {
            self.keep(instance, kept);
        }
        Ok(report)
    }

    fn keep(&mut self, instance: &Instance, kept: Option<Kept>) {
        let Some(kept) = kept else { return };
        let known = Known::of(instance, kept).and_then(|known| {
            let stamps = Stamps::of(instance)?;
            Ok((known, stamps))
        });
        match known {
            Ok(known) => self.known = Some(known),
            // Whoever knows nothing looks.
            Err(error) => tracing::debug!(error = format!("{error:#}"), "nothing is kept in mind"),
        }
    }
}

/// Tells whether files of the state are the ones that they were.
#[derive(Debug, Eq, PartialEq)]
struct Stamps([(u64, u64, i64, i64); 3]);

impl Stamps {
    fn of(instance: &Instance) -> io::Result<Self> {
        let [document, choices, journal] = instance.files().map(stamp);
        Ok(Self([document?, choices?, journal?]))
    }
}

fn stamp(path: PathBuf) -> io::Result<(u64, u64, i64, i64)> {
    let found = fs::metadata(path)?;
    Ok((found.ino(), found.size(), found.mtime(), found.mtime_nsec()))
}
