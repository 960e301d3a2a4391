//! What one packet costs in each hook.

use anyhow::{Context as _, Result};

use super::Choice;
use crate::{
    guard::Counts,
    hooks::{Case, Kind, Round, in_lab},
    rounds::Pace,
    row::{About, Direction, Row, SUBJECT, Series, Target},
    stop,
};

/// The series of the program to whose cost those of other machines can be compared.
const REFERENCE: &str = "reference program";

/// The rows of single hooks. All cases take turns, once a round.
///
/// # Errors
///
/// When the user ends the run, or the kernel keeps no statistics of programs.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let cases = Case::all().into_iter();
    let chosen: Vec<Case> = cases.filter(|case| choice.has(&id(*case))).collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let Pace { rounds, runs, .. } = choice.pace;
    in_lab(chosen.clone(), |lab| {
        let mut taken = Vec::new();
        for _ in 0..rounds {
            stop::check()?;
            taken.push(lab.round(runs)?);
        }
        let row = |(at, case): (usize, &Case)| {
            let counts = Counts::of(&lab.bed().program(case.way.hook()))?;
            Ok(row(*case, at, &taken, counts))
        };
        chosen.iter().enumerate().map(row).collect()
    })
    .context("hooks")
}

fn id(case: Case) -> String {
    format!("hooks/{}", case.name())
}

fn row(case: Case, at: usize, rounds: &[Round], counts: Counts) -> Row {
    let (what, bound) = match case.kind {
        Kind::Established => ("a packet of a known flow", 100.0),
        Kind::New => ("the first packet of a flow", 600.0),
    };
    let series = |name: &str, cost: &dyn Fn(&Round) -> f64| Series {
        name: name.to_owned(),
        samples: rounds.iter().map(cost).collect(),
    };
    let (hook, way) = (case.way.hook().name(), case.way.name());
    Row {
        about: About {
            id: id(case),
            title: format!("{hook} ({way}): {what}, {}", case.family.name()),
            unit: "ns".to_owned(),
            direction: Direction::LowerIsBetter,
            targets: vec![Target::within(bound)],
        },
        series: vec![
            series(SUBJECT, &|round| round.costs[at]),
            series(REFERENCE, &|round| round.reference),
        ],
        absent: Vec::new(),
        notes: vec![format!(
            "{hook}: {} instructions translated, {} bytes of machine code, {} instructions verified",
            counts.translated, counts.jited_bytes, counts.verified
        )],
    }
}
