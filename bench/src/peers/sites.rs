//! The hosts of one path's contenders, set up together, and the plans of work on them.

use std::time::Instant;

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
            let began = Instant::now();
            let made = set_up(make);
            eprintln!(
                "bench: {name} is set up in {:.1} s",
                began.elapsed().as_secs_f64()
            );
            match made {
                Ok(site) => sites.standing.push((name, site)),
                Err(reason) => sites.absent.push(Absent {
                    name,
                    reason: format!("{reason:#}"),
                }),
            }
        }
        sites
    }

    /// Changes all of them; a host that can't be changed stands no longer.
    pub fn change(&mut self, mut change: impl FnMut(&str, &mut Site) -> Result<()>) {
        for (name, mut site) in std::mem::take(&mut self.standing) {
            match set_up(|| change(&name, &mut site)) {
                Ok(()) => self.standing.push((name, site)),
                Err(reason) => self.absent.push(Absent {
                    name,
                    reason: format!("{reason:#}"),
                }),
            }
        }
    }

    /// The hosts that stand, by name.
    pub fn standing(&self) -> impl Iterator<Item = (&str, &Site)> {
        self.standing.iter().map(|(name, site)| (&name[..], site))
    }

    /// Those of `names` alone, in that order, and who of them is absent.
    pub fn choose<'s>(&'s self, names: &[&str]) -> Chosen<'s> {
        let find = |name: &&str| self.standing().find(|(standing, _)| standing == name);
        Chosen {
            standing: names.iter().filter_map(find).collect(),
            absent: self
                .absent
                .iter()
                .filter(|absent| names.contains(&&absent.name[..]))
                .cloned()
                .collect(),
        }
    }
}

/// Contenders of a row and their hosts.
#[derive(Clone, Default)]
pub struct Chosen<'s> {
    standing: Vec<(&'s str, &'s Site)>,
    absent: Vec<Absent>,
}

impl<'s> Chosen<'s> {
    /// All of these and all of those.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.standing.extend(others.standing);
        self.absent.extend(others.absent);
        self
    }

    /// The same, under another name for one of them.
    #[must_use]
    pub fn renamed(mut self, from: &str, to: &'s str) -> Self {
        for (name, _) in &mut self.standing {
            if *name == from {
                *name = to;
            }
        }
        for absent in &mut self.absent {
            if absent.name == from {
                to.clone_into(&mut absent.name);
            }
        }
        self
    }

    /// A work on each of them: `sample` takes one sample on one host.
    pub fn plan(
        self,
        about: Vec<About>,
        sample: impl Fn(&Site, &Pace) -> Result<Vec<f64>> + Copy + 's,
    ) -> Plan<'s> {
        let contender = |(name, site): (&str, &'s Site)| Contender {
            name: name.to_owned(),
            sampler: Box::new(move |pace| {
                site.forget_connections();
                sample(site, pace)
            }),
        };
        Plan {
            about,
            contenders: self.standing.into_iter().map(contender).collect(),
            absent: self.absent,
            notes: Vec::new(),
        }
    }
}
