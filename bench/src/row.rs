//! A row: one work on one path, the samples of everybody who did it, and what netbpf has to reach.
//! Pure: what is measured comes from elsewhere.

use serde::{Deserialize, Serialize};

use crate::statistics::{Spread, ratios};

/// The series that targets are about.
pub const SUBJECT: &str = "netbpf";

/// Which way a number gets better.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// A rate, for example.
    HigherIsBetter,
    /// A time, for example.
    LowerIsBetter,
}

/// What a row is about and what it has to reach.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct About {
    /// `PATH/WORK/VARIANT`, by which `--only` chooses.
    pub id: String,
    /// One line for people.
    pub title: String,
    /// What the samples count: `requests/s`, `ns`, …
    pub unit: String,
    /// Which way they get better.
    pub direction: Direction,
    /// What the subject has to reach.
    pub targets: Vec<Target>,
}

/// What the subject has to reach.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
pub struct Target {
    /// The series that the subject is divided by; `None`: the bound is in the row's unit.
    pub peer: Option<String>,
    /// From which side the bound must hold.
    pub sense: Sense,
    /// The bound.
    pub bound: f64,
}

/// From which side a bound must hold.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Sense {
    /// The value must not be below.
    AtLeast,
    /// The value must not be above.
    AtMost,
}

impl Target {
    /// At least `bound` times as much as a peer.
    pub fn at_least(bound: f64, peer: &str) -> Self {
        Self {
            peer: Some(peer.to_owned()),
            sense: Sense::AtLeast,
            bound,
        }
    }

    /// At most `bound` times as much as a peer.
    pub fn at_most(bound: f64, peer: &str) -> Self {
        Self {
            sense: Sense::AtMost,
            ..Self::at_least(bound, peer)
        }
    }

    /// At most this much, in the row's unit.
    pub const fn within(bound: f64) -> Self {
        Self {
            peer: None,
            sense: Sense::AtMost,
            bound,
        }
    }
}

/// What one contender measured, one sample a round.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Series {
    /// Whose samples these are: [`SUBJECT`], or a peer's name.
    pub name: String,
    /// In the order of the rounds.
    pub samples: Vec<f64>,
}

/// A contender that could not take part.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Absent {
    /// Its name.
    pub name: String,
    /// Why it could not.
    pub reason: String,
}

impl Absent {
    /// Who, and why.
    pub fn new(name: &str, reason: &str) -> Self {
        Self {
            name: name.to_owned(),
            reason: reason.to_owned(),
        }
    }
}

/// A measured row.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Row {
    /// What it is about.
    #[serde(flatten)]
    pub about: About,
    /// Who took part; the subject first.
    pub series: Vec<Series>,
    /// Who could not.
    pub absent: Vec<Absent>,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
}

/// What became of a target.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Judgement {
    /// The median reaches it.
    Reached {
        /// The ratio, or the value where the target names no peer.
        spread: Spread,
    },
    /// The median does not.
    Short {
        /// As above.
        spread: Spread,
        /// What is missing, in parts of the bound: 0.02 is two percent.
        by: f64,
    },
    /// The subject or the peer was not measured.
    Unknown,
}

/// How many targets came out how, and of how many it can't be told.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Tally {
    /// All of them.
    pub targets: usize,
    /// Those that the median reaches.
    pub reached: usize,
    /// Those of them that it could as well not reach: the interval of the median holds the bound.
    pub barely: usize,
    /// Those that the median does not reach.
    pub short: usize,
    /// Those of them that it could as well reach.
    pub nearly: usize,
}

impl Tally {
    /// Counts.
    pub fn of<'j>(judged: impl IntoIterator<Item = &'j (Target, Judgement)>) -> Self {
        let mut tally = Self::default();
        for (target, judgement) in judged {
            tally.targets += 1;
            match judgement {
                Judgement::Reached { spread } => {
                    tally.reached += 1;
                    tally.barely += usize::from(spread.is_close_to(target.bound));
                }
                Judgement::Short { spread, .. } => {
                    tally.short += 1;
                    tally.nearly += usize::from(spread.is_close_to(target.bound));
                }
                Judgement::Unknown => {}
            }
        }
        tally
    }
}

impl Row {
    /// One that could not be measured, and why.
    pub fn unmeasured(about: About, reason: &str) -> Self {
        Self {
            about,
            series: Vec::new(),
            absent: vec![Absent::new(SUBJECT, reason)],
            notes: Vec::new(),
        }
    }

    /// The samples of one contender.
    pub fn samples(&self, name: &str) -> Option<&[f64]> {
        let series = self.series.iter().find(|series| series.name == name)?;
        Some(&series.samples)
    }

    /// The spread of the subject's ratio to a peer.
    pub fn ratio(&self, peer: &str) -> Option<Spread> {
        self.between(SUBJECT, peer)
    }

    /// The spread of one contender's ratio to another.
    pub fn between(&self, of: &str, to: &str) -> Option<Spread> {
        Spread::of(&ratios(self.samples(of)?, self.samples(to)?))
    }

    /// What became of one of its targets.
    pub fn judge(&self, target: &Target) -> Judgement {
        let spread = match &target.peer {
            Some(peer) => self.ratio(peer),
            None => self.samples(SUBJECT).and_then(Spread::of),
        };
        let Some(spread) = spread else {
            return Judgement::Unknown;
        };
        let missing = match target.sense {
            Sense::AtLeast => target.bound - spread.median,
            Sense::AtMost => spread.median - target.bound,
        };
        if missing <= 0.0 {
            return Judgement::Reached { spread };
        }
        Judgement::Short {
            spread,
            by: missing / target.bound,
        }
    }

    /// Its targets and what became of them.
    pub fn judged(&self) -> impl Iterator<Item = (Target, Judgement)> {
        let targets = self.about.targets.iter();
        targets.map(|target| (target.clone(), self.judge(target)))
    }

    /// Whether the subject was measured, and everybody whom a target names.
    pub fn is_whole(&self) -> bool {
        let judged = |target| self.judge(target) != Judgement::Unknown;
        self.samples(SUBJECT).is_some_and(|it| !it.is_empty())
            && self.about.targets.iter().all(judged)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &[f64], peer: &[f64]) -> Row {
        let series = |name: &str, samples: &[f64]| Series {
            name: name.to_owned(),
            samples: samples.to_vec(),
        };
        Row {
            about: About {
                id: "path/load".to_owned(),
                title: "a work on a path".to_owned(),
                unit: "requests/s".to_owned(),
                direction: Direction::HigherIsBetter,
                targets: Vec::new(),
            },
            series: vec![series(SUBJECT, subject), series("plain", peer)],
            absent: Vec::new(),
            notes: Vec::new(),
        }
    }

    #[test]
    fn a_target_is_judged_by_the_median_of_the_ratios() {
        let row = row(&[10.0, 12.0, 26.0], &[10.0, 10.0, 10.0]);
        let reached = row.judge(&Target::at_least(1.2, "plain"));
        assert!(matches!(reached, Judgement::Reached { spread } if spread.median == 1.2));
        let Judgement::Short { by, .. } = row.judge(&Target::at_least(1.5, "plain")) else {
            panic!("1.2 is less than 1.5");
        };
        assert!((by - 0.2).abs() < 1e-9);
    }

    #[test]
    fn a_target_without_a_peer_is_about_the_value_itself() {
        let row = row(&[90.0], &[1.0]);
        assert!(matches!(
            row.judge(&Target::within(100.0)),
            Judgement::Reached { .. }
        ));
        assert!(matches!(
            row.judge(&Target::within(80.0)),
            Judgement::Short { .. }
        ));
        assert!(matches!(
            row.judge(&Target::at_most(80.0, "plain")),
            Judgement::Short { .. }
        ));
    }

    #[test]
    fn what_is_too_close_to_tell_counts_among_what_it_came_out_as() {
        let ours = [1.0, 1.01, 1.02, 1.03, 1.04, 1.05, 1.06];
        let row = row(&ours, &[1.0; 7]);
        let bounds = [0.9, 1.02, 1.04, 1.2];
        let mut judged: Vec<_> = bounds
            .map(|bound| Target::at_least(bound, "plain"))
            .map(|target| (target.clone(), row.judge(&target)))
            .into();
        judged.push((Target::at_least(1.0, "absent"), Judgement::Unknown));
        let tally = Tally {
            targets: 5,
            reached: 2,
            barely: 1,
            short: 2,
            nearly: 1,
        };
        assert_eq!(Tally::of(&judged), tally);
    }

    #[test]
    fn a_row_without_somebody_whom_a_target_names_is_not_whole() {
        let mut row = row(&[1.0], &[1.0]);
        row.about.targets = vec![Target::at_least(1.0, "plain")];
        assert!(row.is_whole());
        row.about.targets.push(Target::at_least(1.0, "absent"));
        assert!(!row.is_whole());
        assert_eq!(
            row.judge(&Target::at_least(1.0, "absent")),
            Judgement::Unknown
        );
    }
}
