//! A path of packets, the loads on it and their rows.

use std::time::Instant;

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::Choice;
use crate::{
    peers::{Chosen, Site},
    pin::Cpus,
    row::{About, Row, Target},
    work::{Ends, Load, Number},
};

/// A path.
pub struct Path<'p> {
    /// The first word of its rows' ids.
    pub word: String,
    /// Its name for people.
    pub title: String,
    /// What is measured on it.
    pub works: &'p [(Load, Family)],
    /// Between whom.
    pub ends: &'p dyn for<'s> Fn(&'s Site, Family, Cpus) -> Ends<'s>,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
    /// What the subject has to reach.
    pub targets: &'p dyn Fn(Load, &Number) -> Vec<Target>,
}

impl Path<'_> {
    /// Measures what was chosen; `who` is asked for the contenders once a row needs them.
    ///
    /// # Errors
    ///
    /// When the user ends the run.
    pub fn measure<'s>(&self, choice: &Choice, who: impl Fn() -> Chosen<'s>) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (load, family) in self.works {
            let about = self.about(*load, *family);
            if !about.iter().any(|about| choice.has(&about.id)) {
                continue;
            }
            let (id, began) = (about[0].id.clone(), Instant::now());
            let cpus = load.cpus()?;
            let mut plan = who().plan(about, |site, pace| {
                load.measure(&(self.ends)(site, *family, cpus), pace)
            });
            plan.notes.clone_from(&self.notes);
            rows.extend(plan.measure(&choice.pace)?);
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("bench: {id} is measured in {seconds:.1} s");
        }
        Ok(rows)
    }

    /// Whether any of its rows was chosen.
    pub fn is_chosen(&self, choice: &Choice) -> bool {
        let mut works = self.works.iter();
        works.any(|(load, family)| {
            let about = self.about(*load, *family);
            about.iter().any(|about| choice.has(&about.id))
        })
    }

    fn about(&self, load: Load, family: Family) -> Vec<About> {
        let about = |number: Number| {
            let family = family.name();
            let mut id = format!("{}/{}/{}", self.word, load.id(), family.to_lowercase());
            let mut title = format!("{}: {}, {family}", self.title, load.title());
            if !number.word.is_empty() {
                id = format!("{id}/{}", number.word);
                title = format!("{title}, {}", number.word);
            }
            About {
                id,
                title,
                unit: number.unit,
                direction: number.direction,
                targets: (self.targets)(load, &number),
            }
        };
        load.numbers().into_iter().map(about).collect()
    }
}

/// What a stream or an answer's time has to reach beside a peer: no less of a rate, no more of a
/// cost.
pub fn no_worse_than(number: &Number, peer: &str) -> Target {
    match number.direction {
        crate::row::Direction::HigherIsBetter => Target::at_least(1.0, peer),
        crate::row::Direction::LowerIsBetter => Target::at_most(1.0, peer),
    }
}
