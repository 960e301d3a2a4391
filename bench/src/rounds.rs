//! Rounds: all contenders of a row in turn, again and again, so that what the machine does meanwhile
//! meets all of them alike.
//!
//! In a round each contender begins anew, and then they alternate in short slices: once around is a
//! cycle, and in the next one each comes after somebody else (`rounds/order.rs`). A round's figure
//! of a contender is its median share of a cycle, or where a slice is too short for a number, that
//! of all its slices together.
//! Cycles that were disturbed are taken again (`quiet.rs`); where a target is too close to tell,
//! there are more rounds. How many of all of it there are is the pace (`rounds/pace.rs`).

mod order;
mod pace;

use std::time::Instant;

use anyhow::{Context as _, Result};

use self::order::in_order;
pub use self::pace::Pace;
use crate::{
    budget::{Budget, OVER},
    quiet::Quiet,
    row::{About, Absent, Row, SUBJECT, Series, Tally},
    statistics::by_shares,
    stop,
    work::{Load, Order, Session, Slice},
};

/// Somebody at work, from the beginning of a round to its end.
pub trait Working {
    /// Works for a slice.
    ///
    /// # Errors
    ///
    /// What went wrong.
    fn slice(&mut self, order: Order) -> Result<Slice>;

    /// Ends.
    ///
    /// # Errors
    ///
    /// What went wrong, also before.
    fn end(self: Box<Self>) -> Result<()>;
}

impl Working for Session {
    fn slice(&mut self, order: Order) -> Result<Slice> {
        self.slice(order)
    }

    fn end(self: Box<Self>) -> Result<()> {
        Self::end(*self).map(drop)
    }
}

/// Somebody who does the work.
pub struct Contender<'s> {
    /// The subject's or the peer's name.
    pub name: String,
    /// Forgets what was before a round. All forget before anyone begins: two contenders may stand
    /// on one host.
    pub forget: Box<dyn FnMut() -> Result<()> + 's>,
    /// Begins a round.
    pub begin: Box<dyn FnMut() -> Result<Box<dyn Working>> + 's>,
}

/// A work, who does it, and the rows that it fills.
pub struct Plan<'s> {
    /// The work.
    pub load: Load,
    /// One row for each of its numbers.
    pub about: Vec<About>,
    /// The subject first.
    pub contenders: Vec<Contender<'s>>,
    /// Who can't.
    pub absent: Vec<Absent>,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
}

/// What became of a contender.
#[derive(Clone, Default)]
struct Taken {
    /// Its figures, round by round.
    figures: Vec<Vec<f64>>,
    /// Why it left.
    failed: Option<String>,
}

/// One slice of everybody who is at work, in the contenders' order.
struct Cycle(Vec<Option<Slice>>);

impl Plan<'_> {
    /// Measures. Who fails in one round leaves the row, with the reason; the others go on.
    ///
    /// # Errors
    ///
    /// When the user ends the run, or the reference load does.
    pub fn measure(
        mut self,
        pace: &Pace,
        budget: &mut Budget,
        quiet: &mut Quiet<'_>,
    ) -> Result<Vec<Row>> {
        let Some(mut rounds) = budget.work(pace.rounds) else {
            return Ok(self.unmeasured());
        };
        quiet.grant();
        let mut taken = vec![Taken::default(); self.contenders.len()];
        let mut rows = Vec::new();
        for round in 0..pace.most_rounds.max(pace.rounds) {
            let is_planned = round < pace.rounds;
            let is_wanted = self.has_shares() && is_close(&rows) && quiet.is_patient();
            if !is_planned && !is_wanted || !budget.another(&mut rounds) {
                break;
            }
            let began = Instant::now();
            self.round(round, pace, quiet, &mut taken)?;
            if !is_planned {
                quiet.spend(began.elapsed());
            }
            rows = self.rows(&taken);
        }
        Ok(rows)
    }

    /// The rows when there is no time for any round.
    fn unmeasured(mut self) -> Vec<Row> {
        let names = self.contenders.drain(..).map(|it| it.name);
        let mut absent: Vec<_> = names.map(|name| Absent::new(&name, OVER)).collect();
        if absent.is_empty() {
            absent.push(Absent::new(SUBJECT, OVER));
        }
        self.absent.extend(absent);
        self.rows(&[])
    }

    fn round(
        &mut self,
        round: usize,
        pace: &Pace,
        quiet: &mut Quiet<'_>,
        taken: &mut [Taken],
    ) -> Result<()> {
        let mut at_work = self.begin(round, taken);
        let (mut slowest, mut cycles) = (Vec::new(), Vec::new());
        while cycles.len() < pace.slices + pace.spare
            && quiet.judge.wants_more(&slowest, pace.slices)
        {
            let began = Instant::now();
            let is_planned = cycles.len() < pace.slices;
            if !is_planned && !quiet.is_patient() {
                break;
            }
            let order = in_order(at_work.len(), round * pace.slices + cycles.len());
            let work = (self.load.order(pace), round);
            let (reading, cycle) = cycle(&mut at_work, &order, work, quiet, taken)?;
            slowest.push(reading);
            cycles.push(cycle);
            // A round that was not planned is paid for as a whole.
            if !is_planned && round < pace.rounds {
                quiet.spend(began.elapsed());
            }
        }
        let kept = quiet.judge.keep(&slowest, pace.slices);
        let kept: Vec<&Cycle> = kept.iter().map(|at| &cycles[*at]).collect();
        let shares = self.shares(&kept);
        for (at, working) in at_work.into_iter().enumerate() {
            let Some(working) = working else { continue };
            let slices = kept.iter().filter_map(|cycle| cycle.0[at].as_ref());
            let figures = working
                .end()
                .and_then(|()| self.figures(slices, shares[at]));
            taken[at].note(round, figures);
        }
        Ok(())
    }

    /// Lets everybody begin who has not failed.
    fn begin(&mut self, round: usize, taken: &mut [Taken]) -> Vec<Option<Box<dyn Working>>> {
        for (contender, taken) in self.contenders.iter_mut().zip(&mut *taken) {
            if taken.failed.is_none() {
                taken.or_failed(round, (contender.forget)());
            }
        }
        let contenders = self.contenders.iter_mut().zip(taken);
        let begin = |(contender, taken): (&mut Contender<'_>, &mut Taken)| {
            if taken.failed.is_some() {
                return None;
            }
            taken.or_failed(round, (contender.begin)())
        };
        contenders.map(begin).collect()
    }

    /// Whether a slice is enough for a number: a rate is all that the load has. The others need all
    /// slices together, and scatter more than a few more rounds would change.
    const fn has_shares(&self) -> bool {
        matches!(self.load, Load::Rr | Load::Crr)
    }

    /// What everybody's shares of the cycles come to, where there are any.
    fn shares(&self, cycles: &[&Cycle]) -> Vec<Option<f64>> {
        if !self.has_shares() {
            return vec![None; self.contenders.len()];
        }
        let rate = |slice: &Slice| slice.counted as f64 / slice.seconds;
        let rates = |cycle: &&Cycle| {
            let slices = cycle.0.iter();
            slices.map(|slice| slice.as_ref().map(rate)).collect()
        };
        by_shares(&cycles.iter().map(rates).collect::<Vec<_>>())
    }

    fn figures<'s>(
        &self,
        slices: impl Iterator<Item = &'s Slice> + Clone,
        share: Option<f64>,
    ) -> Result<Vec<f64>> {
        let figures = match share {
            Some(rate) => vec![rate],
            None => self.load.figures(slices)?,
        };
        (figures.len() == self.about.len() && figures.iter().all(|number| number.is_finite()))
            .then_some(figures)
            .context("a sample lacks a number")
    }

    fn rows(&self, taken: &[Taken]) -> Vec<Row> {
        let mut absent = self.absent.clone();
        let mut present = Vec::new();
        for (contender, taken) in self.contenders.iter().zip(taken) {
            let name = contender.name.clone();
            match taken.failed.clone() {
                Some(reason) => absent.push(Absent { name, reason }),
                None => present.push((name, &taken.figures)),
            }
        }
        let series = |number: usize| {
            present.iter().map(move |(name, figures)| Series {
                name: name.clone(),
                samples: figures.iter().map(|figures| figures[number]).collect(),
            })
        };
        let abouts = self.about.iter().enumerate();
        abouts
            .map(|(number, about)| Row {
                about: about.clone(),
                series: series(number).collect(),
                absent: absent.clone(),
                notes: self.notes.clone(),
            })
            .collect()
    }
}

impl Taken {
    /// What came of something, or `None` and why it failed.
    fn or_failed<T>(&mut self, round: usize, done: Result<T>) -> Option<T> {
        let fail = |error| self.failed = Some(format!("failed in round {round}: {error:#}"));
        done.map_err(fail).ok()
    }

    fn note(&mut self, round: usize, figures: Result<Vec<f64>>) {
        let figures = self.or_failed(round, figures);
        self.figures.extend(figures);
    }
}

/// One slice of each, and the slowest of the readings before, between and after them.
fn cycle(
    at_work: &mut [Option<Box<dyn Working>>],
    order: &[usize],
    (work, round): (Order, usize),
    quiet: &mut Quiet<'_>,
    taken: &mut [Taken],
) -> Result<(f64, Cycle)> {
    let mut slices = vec![None; at_work.len()];
    let mut slowest = quiet.read()?;
    for at in order {
        stop::check()?;
        let Some(working) = &mut at_work[*at] else {
            continue;
        };
        slices[*at] = taken[*at].or_failed(round, working.slice(work));
        if slices[*at].is_none() {
            at_work[*at] = None;
        }
        slowest = slowest.max(quiet.read()?);
    }
    Ok((slowest, Cycle(slices)))
}

/// Whether a target of these rows is too close to tell.
fn is_close(rows: &[Row]) -> bool {
    rows.iter().any(|row| {
        let judged: Vec<_> = row.judged().collect();
        let tally = Tally::of(&judged);
        tally.barely + tally.nearly > 0
    })
}

#[cfg(test)]
mod tests;
