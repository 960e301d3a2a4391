//! The automatic choices on their way to their file: what changes is a line at its end.

use serde::{Deserialize, Serialize};

use super::{
    Instance, Lock, Result,
    files::create_dir,
    log::{Log, lines},
};
use crate::allocations::{Allocations, AllocationsChange};

/// How many bytes of changes may follow the choices, beside half as many as those are, until they
/// are written anew as a whole.
const CHANGES_MAX: u64 = 64 << 10;

/// A line of the file.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Line {
    /// All of them.
    Whole(Allocations),
    /// What changed then.
    Change(Box<AllocationsChange>),
}

fn replay(lines: Vec<Line>) -> Allocations {
    let mut now = Allocations::default();
    for line in lines {
        match line {
            Line::Whole(whole) => now = whole,
            Line::Change(change) => now.change(*change),
        }
    }
    now
}

impl Instance {
    /// The automatic choices, for readers; none when there are none.
    pub fn allocations(&self) -> Result<Allocations> {
        Ok(replay(lines(&self.allocations_path())?))
    }
}

/// The automatic choices while they are being changed.
#[derive(Debug)]
pub struct Allocated {
    log: Log,
    now: Allocations,
    /// How many bytes the choices were when they were written as a whole.
    whole: u64,
}

impl Allocated {
    /// Opens those of `instance`.
    ///
    /// # Errors
    ///
    /// The file can't be read, or does not hold what we write.
    pub fn open(instance: &Instance, _lock: &Lock) -> Result<Self> {
        create_dir(&instance.state)?;
        let (lines, log) = Log::open(&instance.allocations_path())?;
        Ok(Self {
            now: replay(lines),
            whole: log.first(),
            log,
        })
    }

    /// What they are.
    pub fn now(&self) -> &Allocations {
        &self.now
    }

    /// How long the file is that has them: what [`Self::go_back`] goes back to.
    pub fn length(&self) -> u64 {
        self.log.length()
    }

    /// Writes what `new` changes. What was chosen is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn change_to(&mut self, new: &Allocations) -> Result<()> {
        if self.now == *new {
            return Ok(());
        }
        if self.log.length() == 0 {
            return self.write_whole(new.clone());
        }
        self.change(AllocationsChange::between(&self.now, new))
    }

    /// Writes one change. What was chosen is on the disk when this returns.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn change(&mut self, change: AllocationsChange) -> Result<()> {
        let has_choices = change.has_choices(&self.now);
        let line = Line::Change(Box::new(change));
        self.log.append(&line)?;
        if has_choices {
            self.log.sync()?;
        }
        if let Line::Change(change) = line {
            self.now.change(*change);
        }
        Ok(())
    }

    /// Takes back what was written behind `length`.
    ///
    /// # Errors
    ///
    /// The file can't be cut or read.
    pub fn go_back(&mut self, length: u64) -> Result<()> {
        if length >= self.log.length() {
            return Ok(());
        }
        let lines = self.log.cut(length)?;
        self.now = replay(lines);
        Ok(())
    }

    /// Writes them as a whole where the changes have become many. Nothing may be under way that
    /// could go back.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn tidy(&mut self) -> Result<()> {
        let changes = self.log.length().saturating_sub(self.whole);
        if changes > CHANGES_MAX + self.whole / 2 {
            return self.write_whole(self.now.clone());
        }
        Ok(())
    }

    fn write_whole(&mut self, whole: Allocations) -> Result<()> {
        let line = Line::Whole(whole);
        self.log.replace_durably(&line)?;
        self.whole = self.log.length();
        if let Line::Whole(whole) = line {
            self.now = whole;
        }
        Ok(())
    }
}
