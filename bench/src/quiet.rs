//! Whether the machine was quiet: a fixed load beside what is measured, timed again and again
//! through the whole run, and the rule by which a cycle that was disturbed is taken again.
//!
//! The rule sees the reference's readings alone, never what was measured, and a cycle has all
//! contenders in it, so that it can favour nobody.

use std::time::Duration;

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    pin::Cpus,
    statistics::quantile,
    work::{Part, Ready, Worker},
};

/// Which part of all readings is at the quiet level or quicker.
const QUIET: f64 = 0.2;

/// From how many times the quiet level on a reading is off it.
const OFF: f64 = 1.25;

/// How often a quiet machine is looked for before anything is measured.
const FIRST: usize = 50;

/// What the readings of a run say.
#[derive(Clone, Debug, Default)]
pub struct Level {
    /// In ascending order.
    readings: Vec<f64>,
}

impl Level {
    /// Takes a reading in.
    pub fn note(&mut self, reading: f64) {
        let at = self.readings.partition_point(|it| *it <= reading);
        self.readings.insert(at, reading);
    }

    /// Whether a reading is that of a disturbed machine. Without any other none is.
    pub fn is_off(&self, reading: f64) -> bool {
        !self.readings.is_empty() && reading > quantile(&self.readings, QUIET) * OFF
    }
}

/// How many cycles there were.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Cycles {
    /// Those that count.
    pub kept: usize,
    /// Those that were disturbed, and another one counts in their place.
    pub again: usize,
    /// Those that count though they were disturbed: there was no quieter one in time.
    pub stayed: usize,
}

/// Judges by the readings of a run, wherever they come from.
#[derive(Clone, Debug, Default)]
pub struct Judge {
    level: Level,
    cycles: Cycles,
}

impl Judge {
    /// Takes a reading in.
    pub fn note(&mut self, reading: f64) {
        self.level.note(reading);
    }

    /// Whether one more cycle is wanted to have `keep` quiet ones, of those whose slowest readings
    /// these are.
    pub fn wants_more(&self, slowest: &[f64], keep: usize) -> bool {
        let quiet = slowest.iter().filter(|it| !self.level.is_off(**it));
        quiet.count() < keep
    }

    /// Which cycles count: the `keep` quietest ones, in the order in which they were.
    pub fn keep(&mut self, slowest: &[f64], keep: usize) -> Vec<usize> {
        let kept = quietest(slowest, keep);
        self.cycles.kept += kept.len();
        self.cycles.again += slowest.len() - kept.len();
        let off = kept.iter().filter(|at| self.level.is_off(slowest[**at]));
        self.cycles.stayed += off.count();
        kept
    }

    /// How many cycles there were so far.
    pub const fn cycles(&self) -> Cycles {
        self.cycles
    }
}

/// The reference load of a run, what it says, and how much time there still is to take again what
/// was disturbed or too close to tell. Each plan is granted as much, so that none lives on those
/// after it; what it leaves stays for them.
pub struct Quiet<'r> {
    read: Box<dyn FnMut() -> Result<f64> + 'r>,
    /// Who judges by it.
    pub judge: Judge,
    grant: Duration,
    patience: Duration,
}

impl<'r> Quiet<'r> {
    /// Judges by what `read` reads: how long a fixed load takes. `grant` is what each plan gets.
    pub fn by(read: impl FnMut() -> Result<f64> + 'r, grant: Duration) -> Self {
        Self {
            read: Box::new(read),
            judge: Judge::default(),
            grant,
            patience: Duration::ZERO,
        }
    }

    /// Judges by the reference load, on the CPU on which all loads are.
    ///
    /// # Errors
    ///
    /// There can be no such process.
    pub fn start(grant: Duration) -> Result<Quiet<'static>> {
        let here = "/proc/self/ns/net".as_ref();
        let mut worker = Worker::start(here, Cpus::one()?.server, Part::Reference)?;
        let Ready = worker.hear()?;
        let read = move || {
            worker.tell(&Ready)?;
            worker.hear()
        };
        let mut quiet = Quiet::by(read, grant);
        for _ in 0..FIRST {
            quiet.read()?;
        }
        Ok(quiet)
    }

    /// Reads once.
    ///
    /// # Errors
    ///
    /// What the reference load says.
    pub fn read(&mut self) -> Result<f64> {
        let reading = (self.read)()?;
        self.judge.note(reading);
        Ok(reading)
    }

    /// A plan begins.
    pub const fn grant(&mut self) {
        self.patience = self.patience.saturating_add(self.grant);
    }

    /// How much time there is for more than was planned.
    pub const fn left(&self) -> Duration {
        self.patience
    }

    /// Whether there is any.
    pub const fn is_patient(&self) -> bool {
        !self.patience.is_zero()
    }

    /// What more than was planned took so long.
    pub const fn spend(&mut self, time: Duration) {
        self.patience = self.patience.saturating_sub(time);
    }
}

fn quietest(slowest: &[f64], keep: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..slowest.len()).collect();
    // Of two that are alike the earlier one is kept.
    order.sort_by(|one, other| slowest[*one].total_cmp(&slowest[*other]));
    order.truncate(keep);
    order.sort_unstable();
    order
}

#[cfg(test)]
mod tests {
    use super::*;

    /// After ten readings of a quiet machine.
    fn judge() -> Judge {
        let mut judge = Judge::default();
        for _ in 0..10 {
            judge.note(1.0);
        }
        judge
    }

    #[test]
    fn a_reading_is_off_by_what_the_run_itself_had_when_it_was_quiet() {
        let mut level = Level::default();
        assert!(!level.is_off(9.0), "there is nothing to compare with");
        for reading in [2.0, 1.9, 1.0, 1.1, 1.0] {
            level.note(reading);
        }
        assert!(!level.is_off(1.2));
        assert!(level.is_off(1.3));
    }

    #[test]
    fn another_cycle_is_wanted_until_enough_were_quiet() {
        let judge = judge();
        assert!(judge.wants_more(&[], 1));
        assert!(judge.wants_more(&[1.0, 1.6], 2));
        assert!(!judge.wants_more(&[1.0, 1.6, 1.1], 2));
    }

    #[test]
    fn the_quietest_cycles_count_in_their_order_and_those_that_had_to_stay_are_told() {
        let mut judge = judge();
        assert_eq!(judge.keep(&[1.0, 1.7, 1.1, 1.5], 3), [0, 2, 3]);
        let cycles = Cycles {
            kept: 3,
            again: 1,
            stayed: 1,
        };
        assert_eq!(judge.cycles(), cycles);
    }

    #[test]
    fn of_cycles_that_are_alike_the_earlier_ones_count() {
        assert_eq!(quietest(&[1.0, 1.0, 1.0], 2), [0, 1]);
    }

    #[test]
    fn patience_ends_and_the_next_plan_has_its_own() {
        let mut quiet = Quiet::by(|| Ok(1.0), Duration::from_secs(2));
        quiet.grant();
        quiet.spend(Duration::from_secs(1));
        assert!(quiet.is_patient());
        quiet.spend(Duration::from_secs(3));
        assert!(!quiet.is_patient());
        quiet.grant();
        assert_eq!(quiet.left(), Duration::from_secs(2));
    }
}
