//! The hosts of one path's contenders, set up together, and the plans of work on them.

use anyhow::Result;

use super::{Site, set_up};
use crate::{
    rounds::{Contender, Pace, Plan},
    row::{About, Absent},
};

/// A contender, and how its host is made.
pub struct Wanted<'w> {
    name: String,
    make: Box<dyn FnOnce() -> Result<Site> + 'w>,
}

impl<'w> Wanted<'w> {
    /// A contender whose host `make` makes.
    pub fn new(name: &str, make: impl FnOnce() -> Result<Site> + 'w) -> Self {
        Self {
            name: name.to_owned(),
            make: Box::new(make),
        }
    }
}

/// Hosts that stand, and those that could not be made.
pub struct Sites {
    standing: Vec<(String, Site)>,
    absent: Vec<Absent>,
}

impl Sites {
    /// Makes what can be made.
    pub fn set_up(wanted: Vec<Wanted>) -> Self {
        let mut sites = Self {
            standing: Vec::new(),
            absent: Vec::new(),
        };
        for Wanted { name, make } in wanted {
            match set_up(make) {
                Ok(site) => sites.standing.push((name, site)),
                Err(reason) => sites.absent.push(Absent {
                    name,
                    reason: format!("{reason:#}"),
                }),
            }
        }
        sites
    }

    /// A work on each of them: `sample` takes one sample on one host.
    pub fn plan<'s>(
        &'s self,
        about: Vec<About>,
        sample: impl Fn(&Site, &Pace) -> Result<Vec<f64>> + Copy + 's,
    ) -> Plan<'s> {
        let contenders = self.standing.iter().map(|(name, site)| Contender {
            name: name.clone(),
            sampler: Box::new(move |pace| sample(site, pace)),
        });
        Plan {
            about,
            contenders: contenders.collect(),
            absent: self.absent.clone(),
            notes: Vec::new(),
        }
    }
}
