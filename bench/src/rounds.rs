//! Rounds: all contenders of a row one after the other, again and again, so that what the machine
//! does meanwhile meets all of them alike.

use std::time::Duration;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use crate::{
    hooks::Runs,
    row::{About, Absent, Row, Series},
    stop,
};

/// How often and for how long.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Pace {
    /// Rounds, each with one sample of each contender.
    pub rounds: usize,
    /// How long a sample is, after its warm-up.
    pub sample: Duration,
    /// What of each load does not count.
    pub warm_up: Duration,
    /// How long a sample of streams and of answers' times is: it takes more of these for a number.
    pub long: Duration,
    /// How many ports dockerd itself publishes, where there are many: it takes long for each.
    pub by_dockerd: u16,
    /// In how many rounds those take part who take seconds for a change among very many ports.
    pub slow_rounds: usize,
    /// How many packets a sample of single hooks has.
    pub runs: Runs,
    /// How long iptables adds the rules of very many ports one by one.
    pub one_by_one: Duration,
}

impl Pace {
    /// A measurement.
    pub const FULL: Self = Self {
        rounds: 7,
        sample: Duration::from_millis(300),
        warm_up: Duration::from_millis(50),
        long: Duration::from_millis(400),
        by_dockerd: 100,
        slow_rounds: 7,
        runs: Runs::FULL,
        one_by_one: Duration::from_secs(10),
    };
    /// A first impression.
    pub const QUICK: Self = Self {
        rounds: 3,
        sample: Duration::from_millis(25),
        warm_up: Duration::from_millis(5),
        long: Duration::from_millis(45),
        by_dockerd: 10,
        slow_rounds: 1,
        runs: Runs {
            established: 4_000,
            new: 200,
        },
        one_by_one: Duration::from_millis(300),
    };
}

/// Takes one sample: one number for each row of the plan.
pub type Sampler<'s> = Box<dyn FnMut(&Pace) -> Result<Vec<f64>> + 's>;

/// Somebody who does the work.
pub struct Contender<'s> {
    /// The subject's or the peer's name.
    pub name: String,
    /// Takes its samples.
    pub sampler: Sampler<'s>,
}

/// A work, who does it, and the rows that one sample of it fills.
pub struct Plan<'s> {
    /// One row for each number of a sample.
    pub about: Vec<About>,
    /// The subject first.
    pub contenders: Vec<Contender<'s>>,
    /// Who can't.
    pub absent: Vec<Absent>,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
}

impl Plan<'_> {
    /// Measures. Who fails in one round leaves the row, with the reason; the others go on.
    ///
    /// # Errors
    ///
    /// When the user ends the run.
    pub fn measure(mut self, pace: &Pace) -> Result<Vec<Row>> {
        let mut taken: Vec<Vec<Vec<f64>>> = vec![Vec::new(); self.contenders.len()];
        let mut failed: Vec<Option<String>> = vec![None; self.contenders.len()];
        for round in 0..pace.rounds {
            for at in in_order(self.contenders.len(), round) {
                stop::check()?;
                if failed[at].is_some() {
                    continue;
                }
                match take(&mut self.contenders[at], pace, self.about.len()) {
                    Ok(sample) => taken[at].push(sample),
                    Err(error) => failed[at] = Some(format!("failed in round {round}: {error:#}")),
                }
            }
        }
        Ok(self.rows(&taken, &failed))
    }

    fn rows(self, taken: &[Vec<Vec<f64>>], failed: &[Option<String>]) -> Vec<Row> {
        let mut absent = self.absent;
        let mut present = Vec::new();
        for ((contender, taken), failed) in self.contenders.into_iter().zip(taken).zip(failed) {
            let name = contender.name;
            match failed.clone() {
                Some(reason) => absent.push(Absent { name, reason }),
                None => present.push((name, taken)),
            }
        }
        let series = |number: usize| {
            present.iter().map(move |(name, taken)| Series {
                name: name.clone(),
                samples: taken.iter().map(|sample| sample[number]).collect(),
            })
        };
        self.about
            .into_iter()
            .enumerate()
            .map(|(number, about)| Row {
                about,
                series: series(number).collect(),
                absent: absent.clone(),
                notes: self.notes.clone(),
            })
            .collect()
    }
}

/// Every other round goes backwards, so that nobody always comes after the same neighbour.
fn in_order(count: usize, round: usize) -> Vec<usize> {
    let forwards = 0..count;
    if round.is_multiple_of(2) {
        forwards.collect()
    } else {
        forwards.rev().collect()
    }
}

fn take(contender: &mut Contender, pace: &Pace, numbers: usize) -> Result<Vec<f64>> {
    let sample = (contender.sampler)(pace)?;
    (sample.len() == numbers && sample.iter().all(|number| number.is_finite()))
        .then_some(sample)
        .context("a sample lacks a number")
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;

    use anyhow::bail;

    use super::*;
    use crate::row::{Direction, SUBJECT};

    const PACE: Pace = Pace {
        rounds: 3,
        sample: Duration::ZERO,
        warm_up: Duration::ZERO,
        long: Duration::ZERO,
        by_dockerd: 1,
        slow_rounds: 1,
        runs: Runs::FULL,
        one_by_one: Duration::ZERO,
    };

    fn about(id: &str) -> About {
        About {
            id: id.to_owned(),
            title: id.to_owned(),
            unit: "requests/s".to_owned(),
            direction: Direction::HigherIsBetter,
            targets: Vec::new(),
        }
    }

    #[test]
    fn contenders_take_turns_and_every_other_round_goes_backwards() {
        let order = RefCell::new(String::new());
        let contender = |name: &'static str| Contender {
            name: name.to_owned(),
            sampler: Box::new(|_| {
                order.borrow_mut().push_str(name);
                Ok(vec![1.0])
            }),
        };
        let plan = Plan {
            about: vec![about("row")],
            contenders: vec![contender("a"), contender("b")],
            absent: Vec::new(),
            notes: Vec::new(),
        };
        plan.measure(&PACE).expect("nobody ends the run");
        assert_eq!(*order.borrow(), "abbaab");
    }

    #[test]
    fn who_fails_in_a_round_leaves_the_row_with_the_reason() {
        let mut round = 0;
        let plan = Plan {
            about: vec![about("first"), about("second")],
            contenders: vec![
                Contender {
                    name: SUBJECT.to_owned(),
                    sampler: Box::new(|_| Ok(vec![1.0, 2.0])),
                },
                Contender {
                    name: "broken".to_owned(),
                    sampler: Box::new(|_| {
                        round += 1;
                        if round == 2 {
                            bail!("refused");
                        }
                        Ok(vec![1.0, 1.0])
                    }),
                },
            ],
            absent: Vec::new(),
            notes: Vec::new(),
        };
        let rows = plan.measure(&PACE).expect("nobody ends the run");
        assert_eq!(rows.len(), 2);
        assert_eq!(rows[1].samples(SUBJECT), Some(&[2.0, 2.0, 2.0][..]));
        assert_eq!(rows[1].samples("broken"), None);
        assert_eq!(rows[1].absent[0].reason, "failed in round 1: refused");
    }
}
