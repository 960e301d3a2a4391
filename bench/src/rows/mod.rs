//! The rows: one file for each path of a packet, and for each other thing that is measured.

mod change;
mod choice;
mod containers;
mod generator;
mod hooks;
mod live;
mod local;
mod outbound;
mod path;
mod published;
mod resolution;
mod scale;
mod vip;

use std::time::Instant;

use anyhow::Result;

pub use choice::Choice;
pub use generator::check as check_generator;
pub use resolution::{Resolution, check as check_resolution};

use crate::row::Row;

/// Measures the rows that were chosen, one path after the other.
///
/// # Errors
///
/// When the user ends the run, or the machine lacks what every row needs.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    type Measure = fn(&Choice) -> Result<Vec<Row>>;
    let files: [(&str, Measure); 9] = [
        ("containers", containers::measure),
        ("published", published::measure),
        ("outbound", outbound::measure),
        ("local", local::measure),
        ("vip", vip::measure),
        ("hooks", hooks::measure),
        ("live hooks", live::measure),
        ("change", change::measure),
        ("scale", scale::measure),
    ];
    choice.prepare();
    let mut rows = Vec::new();
    for (name, measure) in files {
        let began = Instant::now();
        rows.extend(measure(choice)?);
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("bench: all of {name} took {seconds:.1} s");
    }
    Ok(rows)
}
