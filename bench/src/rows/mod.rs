//! The rows: one file for each path of a packet, and for each other thing that is measured.

mod change;
mod choice;
mod containers;
mod hooks;
mod local;
mod outbound;
mod path;
mod published;
mod scale;
mod vip;

use anyhow::Result;

pub use choice::Choice;

use crate::row::Row;

/// Measures the rows that were chosen, one path after the other.
///
/// # Errors
///
/// When the user ends the run, or the machine lacks what every row needs.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let files = [
        containers::measure,
        published::measure,
        outbound::measure,
        local::measure,
        vip::measure,
        hooks::measure,
        change::measure,
        scale::measure,
    ];
    let mut rows = Vec::new();
    for measure in files {
        rows.extend(measure(choice)?);
    }
    Ok(rows)
}
