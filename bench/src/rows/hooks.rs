//! What one packet costs in each hook.

use std::{thread, time::Duration};

use anyhow::{Context as _, Result};

use super::Choice;
use crate::{
    budget::{Budget, OVER},
    guard::ProgramSize,
    hooks::{Case, Kind, Lab, Runs, in_lab},
    quiet::{Cycles, Judge},
    rounds::Pace,
    row::{About, Direction, Row, SUBJECT, Series, Target},
    stop,
};

/// The series of the program to whose cost those of other machines can be compared.
const REFERENCE: &str = "reference program";

/// How much shorter a look at the reference program is than a case.
const SHORT: u16 = 5;

/// How long is waited before a disturbed case is timed again.
const PAUSE: Duration = Duration::from_millis(20);

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
    choice
        .with_budget(|budget| time(&chosen, choice.pace, budget))
        .context("hooks")
}

fn time(chosen: &[Case], pace: Pace, budget: &mut Budget) -> Result<Vec<Row>> {
    let Some(mut rounds) = budget.work(pace.hook_rounds) else {
        let abouts = chosen.iter().map(|case| about(*case));
        return Ok(abouts.map(|about| Row::unmeasured(about, OVER)).collect());
    };
    in_lab(chosen.to_vec(), |lab| {
        let mut watch = Watch::new(lab, pace)?;
        let mut taken = Vec::new();
        while taken.len() < pace.hook_rounds && budget.another(&mut rounds) {
            taken.push(watch.round(lab)?);
        }
        let disturbed = watch.words();
        let row = |(at, case): (usize, &Case)| {
            let size = ProgramSize::of(&lab.bed().program(case.way.hook()))?;
            Ok(row(*case, at, &taken, size, &disturbed))
        };
        chosen.iter().enumerate().map(row).collect()
    })
}

/// What every case costs once, beside the reference program, in nanoseconds by the number of the
/// case.
pub struct WatchedCosts {
    /// The cost of each case.
    pub cases: Vec<f64>,
    /// That of the reference program at the same time.
    pub references: Vec<f64>,
}

/// Times hooks with an eye on the reference program: a case beside which it was slower than it is on
/// this machine when that is quiet is timed again, within bounds, and the quietest time counts.
pub struct Watch {
    judge: Judge,
    pace: Pace,
}

impl Watch {
    /// Looks how quick the reference program is, through a while.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn new(lab: &Lab<'_>, pace: Pace) -> Result<Self> {
        let mut watch = Self {
            judge: Judge::default(),
            pace,
        };
        for _ in 0..pace.hook_rounds {
            thread::sleep(PAUSE);
            watch.read(lab)?;
        }
        Ok(watch)
    }

    /// Times each case once.
    ///
    /// # Errors
    ///
    /// When the user ends the run, the kernel refuses a program, or a packet is dropped.
    pub fn round(&mut self, lab: &mut Lab<'_>) -> Result<WatchedCosts> {
        let (mut costs, mut references) = (Vec::new(), Vec::new());
        lab.renew()?;
        for at in 0..lab.cases().len() {
            stop::check()?;
            let (cost, reference) = self.case(lab, at)?;
            costs.push(cost);
            references.push(reference);
        }
        Ok(WatchedCosts {
            cases: costs,
            references,
        })
    }

    fn case(&mut self, lab: &mut Lab<'_>, at: usize) -> Result<(f64, f64)> {
        let (mut costs, mut slowest) = (Vec::new(), Vec::new());
        while costs.len() <= self.pace.spare && self.judge.wants_more(&slowest, 1) {
            if !costs.is_empty() {
                // What disturbs may be over then.
                thread::sleep(PAUSE);
            }
            let before = self.read(lab)?;
            costs.push(lab.cost_of(at, self.pace.runs)?);
            slowest.push(before.max(self.read(lab)?));
        }
        let kept = self.judge.keep(&slowest, 1);
        let kept = *kept.first().context("nothing was timed")?;
        Ok((costs[kept], slowest[kept]))
    }

    fn read(&mut self, lab: &Lab<'_>) -> Result<f64> {
        let reading = lab.reference(Runs {
            established: self.pace.runs.established / SHORT,
            ..self.pace.runs
        })?;
        self.judge.note(reading);
        Ok(reading)
    }

    /// How often the machine was disturbed, in words.
    pub fn words(&self) -> String {
        let Cycles {
            kept,
            again,
            stayed,
        } = self.judge.cycles();
        format!(
            "of all hooks together {kept} times count; {again} were taken again because the \
             reference program was slower beside them, and {stayed} of those that count were \
             disturbed as well"
        )
    }
}

fn id(case: Case) -> String {
    format!("hooks/{}", case.name())
}

fn about(case: Case) -> About {
    let (what, bound) = match case.kind {
        Kind::Established => ("a packet of a known flow", 100.0),
        Kind::New => ("the first packet of a flow", 600.0),
    };
    let (hook, way) = (case.way.hook().name(), case.way.name());
    About {
        id: id(case),
        title: format!("{hook} ({way}): {what}, {}", case.family.name()),
        unit: "ns".to_owned(),
        direction: Direction::LowerIsBetter,
        targets: vec![Target::within(bound)],
    }
}

fn row(case: Case, at: usize, rounds: &[WatchedCosts], size: ProgramSize, disturbed: &str) -> Row {
    let series = |name: &str, cost: &dyn Fn(&WatchedCosts) -> f64| Series {
        name: name.to_owned(),
        samples: rounds.iter().map(cost).collect(),
    };
    let hook = case.way.hook().name();
    Row {
        about: about(case),
        series: vec![
            series(SUBJECT, &|round| round.cases[at]),
            series(REFERENCE, &|round| round.references[at]),
        ],
        absent: Vec::new(),
        notes: vec![
            format!(
                "{hook}: {} instructions translated, {} bytes of machine code, {} instructions \
                 verified",
                size.translated, size.jited_bytes, size.verified
            ),
            disturbed.to_owned(),
        ],
    }
}
