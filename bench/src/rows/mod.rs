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
pub use resolution::Resolution;

use crate::row::Row;

/// What a run found.
pub struct Measured {
    /// How two hosts compare that are alike.
    pub resolution: Vec<Resolution>,
    /// The rows, in the order in which they were measured.
    pub rows: Vec<Row>,
    /// What a reader must know beside the rows.
    pub notes: Vec<String>,
}

/// What the time of a run is shared out by.
struct Part {
    name: &'static str,
    /// About how many seconds of a first impression it takes; more of what can't be cut.
    weight: u32,
    /// How many works it has.
    works: u32,
}

const fn part(name: &'static str, weight: u32, works: u32) -> Part {
    Part {
        name,
        weight,
        works,
    }
}

type Measure = fn(&Choice) -> Result<Vec<Row>>;

const RESOLUTION: Part = part("resolution", 3, 4);
const GENERATOR: Part = part("generator", 8, 2);
/// The parts that have rows.
const PATHS: [(Part, Measure); 9] = [
    (part("containers", 9, 10), containers::measure),
    (part("published", 20, 18), published::measure),
    (part("outbound", 8, 10), outbound::measure),
    (part("local", 5, 10), local::measure),
    (part("vip", 5, 12), vip::measure),
    (part("hooks", 5, 1), hooks::measure),
    (part("live hooks", 2, 10), live::measure),
    (part("change", 26, 1), change::measure),
    (part("scale", 16, 2), scale::measure),
];

impl Part {
    fn measure<T>(&self, choice: &Choice, work: impl FnOnce(&Choice) -> Result<T>) -> Result<T> {
        choice.begin_part(self.weight, self.works);
        let began = Instant::now();
        let measured = work(choice)?;
        let seconds = began.elapsed().as_secs_f64();
        eprintln!("bench: all of {} took {seconds:.1} s", self.name);
        Ok(measured)
    }
}

/// The weights of all parts together.
fn weight() -> u32 {
    let paths = PATHS.iter().map(|(part, _)| part.weight);
    RESOLUTION.weight + paths.sum::<u32>() + GENERATOR.weight
}

/// Measures what was chosen, one part after the other.
///
/// # Errors
///
/// When the user ends the run, or the machine lacks what every row needs.
pub fn measure(choice: &Choice) -> Result<Measured> {
    choice.prepare();
    let resolution = RESOLUTION.measure(choice, resolution::check)?;
    let mut rows = Vec::new();
    for (part, measure) in PATHS {
        rows.extend(part.measure(choice, measure)?);
    }
    let notes = GENERATOR.measure(choice, generator::check)?;
    Ok(Measured {
        resolution,
        rows,
        notes,
    })
}
