//! A path of packets, the loads on it and their rows.

use std::time::Instant;

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::Choice;
use crate::{
    peers::{Chosen, LOOPBACK, Site},
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
    pub works: Vec<(Load, Family)>,
    /// Between whom.
    pub ends: for<'s> fn(&'s Site, Family, Cpus) -> Ends<'s>,
    /// What a reader must know beside the numbers.
    pub notes: Vec<String>,
    /// What the subject has to reach.
    pub targets: &'p dyn Fn(Load, Family, &Number) -> Vec<Target>,
}

impl Path<'_> {
    /// Measures what was chosen; `who` is asked for a work's contenders once a row needs them.
    ///
    /// # Errors
    ///
    /// When the user ends the run.
    pub fn measure<'s>(
        &self,
        choice: &Choice,
        who: impl Fn(Load, Family) -> Chosen<'s>,
    ) -> Result<Vec<Row>> {
        let mut rows = Vec::new();
        for (load, family) in &self.works {
            let about = self.about(*load, *family);
            if !about.iter().any(|about| choice.has(&about.id)) {
                continue;
            }
            let (id, began) = (about[0].id.clone(), Instant::now());
            let cpus = load.cpus()?;
            let (ends, family) = (self.ends, *family);
            let ends = move |site| Ok(ends(site, family, cpus));
            let mut plan = who(*load, family).plan(about, *load, ends);
            plan.notes.clone_from(&self.notes);
            rows.extend(choice.measure(plan)?);
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
        about(&self.word, &self.title, load, family, |number| {
            (self.targets)(load, family, number)
        })
    }
}

/// The rows that one load on a path fills: `word` begins their ids, `title` their titles.
pub fn about(
    word: &str,
    title: &str,
    load: Load,
    family: Family,
    targets: impl Fn(&Number) -> Vec<Target>,
) -> Vec<About> {
    let name = family.name();
    let row = |number: Number| {
        let mut id = format!("{word}/{}/{}", load.id(), name.to_lowercase());
        let mut title = format!("{title}: {}, {name}", load.title());
        if !number.word.is_empty() {
            id = format!("{id}/{}", number.word);
            title = format!("{title}, {}", number.word);
        }
        About {
            id,
            title,
            unit: number.unit.to_owned(),
            direction: number.direction,
            targets: targets(&number),
        }
    };
    load.numbers().into_iter().map(row).collect()
}

/// Each of these loads in each family.
pub fn in_both_families(loads: &[Load]) -> Vec<(Load, Family)> {
    let loads = loads.iter();
    loads
        .flat_map(|load| Family::ALL.map(|family| (*load, family)))
        .collect()
}

/// Who takes part: `always`, and loopback beside streams.
pub fn with_loopback_beside_streams<'s>(always: &[&'s str], load: Load) -> Vec<&'s str> {
    let mut who = always.to_vec();
    if matches!(load, Load::Stream(_)) {
        who.push(LOOPBACK);
    }
    who
}

/// What a stream or an answer's time has to reach beside a peer: no less of a rate, no more of a
/// cost.
pub fn no_worse_than(number: &Number, peer: &str) -> Target {
    match number.direction {
        crate::row::Direction::HigherIsBetter => Target::at_least(1.0, peer),
        crate::row::Direction::LowerIsBetter => Target::at_most(1.0, peer),
    }
}
