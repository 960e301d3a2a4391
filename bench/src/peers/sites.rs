//! The hosts of one path's contenders, set up together, and the plans of work on them.
//!
//! What is made, changed or removed is so at the same time on all hosts: mostly it waits for
//! somebody. Nothing is measured meanwhile.

use std::{mem, thread, time::Instant};

use anyhow::{Result, anyhow, bail};

use super::{Site, offloads, set_up};
use crate::{
    rounds::{Contender, Plan},
    row::{About, Absent},
    work::{Ends, Load},
};

/// A contender, and how its host is made.
pub struct Wanted<'w> {
    name: String,
    make: Box<dyn FnOnce() -> Result<Site> + Send + 'w>,
}

impl<'w> Wanted<'w> {
    /// A contender whose host `make` makes.
    pub fn new(name: &str, make: impl FnOnce() -> Result<Site> + Send + 'w) -> Self {
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
    /// Makes what can be made. Whose interfaces offload otherwise than those of the others does not
    /// stand.
    pub fn set_up(wanted: Vec<Wanted>) -> Self {
        let wanted = wanted.into_iter().map(|it| (it.name, it.make));
        let made = at_once(wanted, "is set up", |_, make| {
            let site = make()?;
            offloads::demand_defaults(site.places())?;
            Ok(site)
        });
        Self::gather(made, Vec::new())
    }

    /// Changes all of them; a host that can't be changed stands no longer.
    pub fn change(&mut self, change: impl Fn(&str, &mut Site) -> Result<()> + Sync) {
        let changed = at_once(
            mem::take(&mut self.standing),
            "is changed",
            |name, mut site| {
                change(name, &mut site)?;
                Ok(site)
            },
        );
        *self = Self::gather(changed, mem::take(&mut self.absent));
    }

    fn gather(made: Vec<(String, Result<Site>)>, mut absent: Vec<Absent>) -> Self {
        let mut standing = Vec::new();
        for (name, made) in made {
            match made {
                Ok(site) => standing.push((name, site)),
                Err(reason) => absent.push(Absent {
                    name,
                    reason: format!("{reason:#}"),
                }),
            }
        }
        Self { standing, absent }
    }

    /// The hosts that stand, by name.
    pub fn standing(&self) -> impl Iterator<Item = (&str, &Site)> {
        self.standing.iter().map(|(name, site)| (&name[..], site))
    }

    /// One of them.
    ///
    /// # Errors
    ///
    /// Why it does not stand.
    pub fn site(&self, name: &str) -> Result<&Site> {
        if let Some((_, site)) = self.standing().find(|(standing, _)| *standing == name) {
            return Ok(site);
        }
        let absent = self.absent.iter().find(|absent| absent.name == name);
        bail!(
            "{name}: {}",
            absent.map_or("nobody asked for it", |it| &it.reason)
        )
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

impl Drop for Sites {
    fn drop(&mut self) {
        at_once(mem::take(&mut self.standing), "is removed", |_, site| {
            drop(site);
            Ok(())
        });
    }
}

/// Does the same with everybody, each on a thread of its own; what came of it, in their order.
fn at_once<W: Send, D: Send>(
    with: impl IntoIterator<Item = (String, W)>,
    what: &str,
    work: impl Fn(&str, W) -> Result<D> + Sync,
) -> Vec<(String, Result<D>)> {
    let work = &work;
    thread::scope(|scope| {
        let begin = |(name, with): (String, W)| {
            let done = scope.spawn({
                let name = name.clone();
                move || timed(&name, what, || work(&name, with))
            });
            (name, done)
        };
        let begun: Vec<_> = with.into_iter().map(begin).collect();
        begun
            .into_iter()
            .map(|(name, done)| {
                let done = done.join().unwrap_or_else(|_| Err(anyhow!("it panicked")));
                (name, done)
            })
            .collect()
    })
}

/// Does something with a host, and says how long it took.
fn timed<D>(name: &str, what: &str, work: impl FnOnce() -> Result<D>) -> Result<D> {
    let began = Instant::now();
    let done = set_up(work);
    let seconds = began.elapsed().as_secs_f64();
    eprintln!("bench: {name} {what} in {seconds:.1} s");
    done
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

    /// Without one of them, who can't do this work, for a reason.
    #[must_use]
    pub fn but(mut self, who: &str, reason: &str) -> Self {
        self.standing.retain(|(name, _)| *name != who);
        self.absent.push(Absent {
            name: who.to_owned(),
            reason: reason.to_owned(),
        });
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

    /// A load on each of them, between these ends of a host.
    pub fn plan(
        self,
        about: Vec<About>,
        load: Load,
        ends: impl Fn(&'s Site) -> Result<Ends<'s>> + Copy + 's,
    ) -> Plan<'s> {
        let contender = |(name, site): (&str, &'s Site)| Contender {
            name: name.to_owned(),
            forget: Box::new(|| site.forget()),
            begin: Box::new(move || Ok(Box::new(load.open(&ends(site)?)?))),
        };
        Plan {
            load,
            about,
            contenders: self.standing.into_iter().map(contender).collect(),
            absent: self.absent,
            notes: Vec::new(),
        }
    }
}
