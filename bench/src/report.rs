//! The report of a run: what was measured on what, as JSON for programs, Markdown for people,
//! and pictures.

pub mod kept;
pub mod markdown;
mod plot;

use std::{fs, path::Path};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    budget::Cuts,
    machine::Machine,
    quiet::Cycles,
    rounds::Pace,
    row::{Judgement, Row, Tally, Target},
    rows::Resolution,
};

/// Everything that one run found.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Report {
    /// What it ran on.
    pub machine: Machine,
    /// How often and how long.
    pub pace: Pace,
    /// How often the machine was disturbed.
    pub cycles: Cycles,
    /// What there was no time for.
    #[serde(default)]
    pub cuts: Cuts,
    /// How two hosts compare that are alike.
    pub resolution: Vec<Resolution>,
    /// What a reader must know beside the rows.
    pub notes: Vec<String>,
    /// In the order in which they were measured.
    pub rows: Vec<Judged>,
}

/// A row with what became of its targets.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Judged {
    /// The row.
    #[serde(flatten)]
    pub row: Row,
    /// In the order of its targets. They follow from the samples.
    #[serde(skip_deserializing)]
    pub judgements: Vec<(Target, Judgement)>,
}

impl Report {
    /// Judges rows.
    pub fn new(machine: Machine, pace: &Pace, notes: Vec<String>, rows: Vec<Row>) -> Self {
        let judge = |row: Row| {
            let judgements = row.judged().collect();
            Judged { row, judgements }
        };
        Self {
            machine,
            pace: *pace,
            cycles: Cycles::default(),
            cuts: Cuts::default(),
            resolution: Vec::new(),
            notes,
            rows: rows.into_iter().map(judge).collect(),
        }
    }

    /// The same, beside how quiet the machine was and how fine the bench sees.
    #[must_use]
    pub fn beside(self, cycles: Cycles, resolution: Vec<Resolution>) -> Self {
        Self {
            cycles,
            resolution,
            ..self
        }
    }

    /// The same, without what there was no time for.
    #[must_use]
    pub fn within(self, cuts: Cuts) -> Self {
        Self { cuts, ..self }
    }

    /// What became of all targets.
    pub fn tally(&self) -> Tally {
        Tally::of(self.rows.iter().flat_map(|row| &row.judgements))
    }

    /// Whether there is anything, and all of it could be measured.
    pub fn is_whole(&self) -> bool {
        !self.rows.is_empty() && self.rows.iter().all(|judged| judged.row.is_whole())
    }

    /// Writes all forms of it into a directory.
    ///
    /// # Errors
    ///
    /// When a file can't be written.
    pub fn write(&self, directory: &Path) -> Result<()> {
        let write = |name: &str, text: &str| {
            let path = directory.join(name);
            fs::write(&path, text).with_context(|| format!("failed to write {}", path.display()))
        };
        fs::create_dir_all(directory)
            .with_context(|| format!("failed to make {}", directory.display()))?;
        write("report.json", &serde_json::to_string_pretty(self)?)?;
        write("report.md", &markdown::render(self))?;
        plot::draw(self, directory)
    }
}
