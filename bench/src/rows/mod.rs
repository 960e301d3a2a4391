//! The rows: one file for each path of a packet, and for each other thing that is measured.

mod containers;

use std::path::Path;

use anyhow::Result;

use crate::{rounds::Pace, row::Row};

/// Measures the rows whose id contains `word`, one path after the other.
///
/// # Errors
///
/// When the user ends the run, or the machine lacks what every row needs.
pub fn measure(word: &str, netbpf: &Path, pace: &Pace) -> Result<Vec<Row>> {
    let choice = Choice { word, netbpf, pace };
    containers::measure(&choice)
}

/// What the user wants, for each file of rows.
#[derive(Clone, Copy, Debug)]
pub struct Choice<'c> {
    /// What the ids of the rows contain.
    pub word: &'c str,
    /// The command to measure.
    pub netbpf: &'c Path,
    /// How often and how long.
    pub pace: &'c Pace,
}

impl Choice<'_> {
    /// Whether a row is to be measured.
    pub fn has(&self, id: &str) -> bool {
        id.contains(self.word)
    }
}
