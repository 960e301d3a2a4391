//! What a hook costs while real connections go through it: the kernel's own statistics of each
//! program during requests and connections on each path, in samples of their own. The statistics
//! cost time themselves, so that no rate is taken here; what they cost is taken off, as that of a
//! program that does nothing.
//!
//! The kernel counts runs and not kinds of packets. A packet of a known flow is what a run costs
//! during requests on one connection. A first packet is estimated from connections: what all runs
//! for one connection cost, less the known cost of all but one of them. The ends of connections
//! cost more than the packets between, so that the estimate is above the truth.

use std::{
    collections::BTreeMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::ProgramInfo,
    sys::{Stats, enable_stats},
};
use netbpf::host::bpffs::PinDirs;
use netbpf_common::verdict::Hook;
use netbpf_tests::topology::Family;

use super::{Choice, containers, local, outbound, published, vip};
use crate::{
    budget::OVER,
    hooks::{Kind, nothing},
    peers::{Site, forget, netbpf::Service},
    pin::Cpus,
    quiet::Quiet,
    rounds::Pace,
    row::{About, Absent, Direction, Row, SUBJECT, Series, Target},
    stop,
    work::{Ends, Load, Order},
};

/// A path of packets.
struct LivePath {
    word: &'static str,
    title: &'static str,
    /// The hook that the first packet of a connection meets.
    first: Hook,
    place: for<'c> fn(&'c Choice, Family) -> Result<Place<'c>>,
}

const PATHS: [LivePath; 5] = [
    LivePath {
        word: "containers",
        title: "container to container",
        first: Hook::FromContainer,
        place: |choice, family| site(choice, family, containers::ends),
    },
    LivePath {
        word: "published",
        title: "outside to a published port",
        first: Hook::FromNetdev,
        place: |choice, family| site(choice, family, published::ends),
    },
    LivePath {
        word: "outbound",
        title: "container to the outside",
        first: Hook::FromContainer,
        place: |choice, family| site(choice, family, outbound::ends),
    },
    LivePath {
        word: "local",
        title: "the host to a published port",
        first: Hook::ToContainer,
        place: |choice, family| site(choice, family, local::ends),
    },
    LivePath {
        word: "vip",
        title: "container to a virtual IP",
        first: Hook::FromContainer,
        place: pool,
    },
];

/// Where a load goes, and whose programs it meets.
struct Place<'c> {
    ends: Ends<'c>,
    host: &'c Path,
    pins: PinDirs,
}

/// The rows of hooks during live connections.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for path in PATHS {
        for family in Family::ALL {
            let kinds = [Kind::Established, Kind::New].into_iter();
            let mut ids = kinds.flat_map(|kind| Hook::ALL.map(|hook| path.id(hook, kind, family)));
            if ids.any(|id| choice.has(&id)) {
                let began = Instant::now();
                rows.extend(path.measure(choice, family)?);
                let (word, seconds) = (path.word, began.elapsed().as_secs_f64());
                eprintln!("bench: the live hooks of {word} are measured in {seconds:.1} s");
            }
        }
    }
    rows.retain(|row| choice.has(&row.about.id));
    Ok(rows)
}

/// What one round found, in nanoseconds.
struct Found {
    /// A packet of a known flow, by the hooks that each request meets.
    known: BTreeMap<&'static str, f64>,
    /// A first packet.
    new: f64,
    /// How often the first packet's hook runs for one connection.
    runs: f64,
}

impl LivePath {
    fn id(&self, hook: Hook, kind: Kind, family: Family) -> String {
        let (hook, kind, family) = (hook.name(), kind.name(), family.name().to_lowercase());
        format!("hooks/live/{}/{hook}/{kind}/{family}", self.word)
    }

    fn measure(&self, choice: &Choice, family: Family) -> Result<Vec<Row>> {
        let mut found = Vec::new();
        let place = (self.place)(choice, family);
        choice.with_quiet(|quiet| {
            quiet.grant();
            Ok(())
        })?;
        let planned = choice.pace.rounds;
        let Some(mut rounds) = choice.with_budget(|budget| budget.work(planned)) else {
            return Ok(vec![self.absent(self.first, family, OVER.to_owned())]);
        };
        for _ in 0..planned {
            stop::check()?;
            if !choice.with_budget(|budget| budget.another(&mut rounds)) {
                break;
            }
            let round = (place.as_ref().map_err(|error| format!("{error:#}"))).and_then(|place| {
                let round = choice.with_quiet(|quiet| self.quietest(place, &choice.pace, quiet));
                round.map_err(|error| format!("{error:#}"))
            });
            match round {
                Ok(round) => found.push(round),
                Err(reason) => return Ok(vec![self.absent(self.first, family, reason)]),
            }
        }
        Ok(self.rows(family, &found))
    }

    /// One round, again where the reference load says that it was disturbed.
    fn quietest(&self, place: &Place<'_>, pace: &Pace, quiet: &mut Quiet<'_>) -> Result<Found> {
        let (mut found, mut slowest) = (Vec::new(), Vec::new());
        while found.len() <= pace.spare && quiet.judge.wants_more(&slowest, 1) {
            let began = Instant::now();
            if !found.is_empty() && !quiet.is_patient() {
                break;
            }
            let before = quiet.read()?;
            found.push(self.round(place, pace)?);
            slowest.push(before.max(quiet.read()?));
            if found.len() > 1 {
                quiet.spend(began.elapsed());
            }
        }
        let kept = quiet.judge.keep(&slowest, 1);
        let kept = *kept.first().context("there was no round")?;
        Ok(found.swap_remove(kept))
    }

    fn round(&self, place: &Place<'_>, pace: &Pace) -> Result<Found> {
        let _statistics =
            enable_stats(Stats::RunTime).context("the kernel keeps no run time of programs")?;
        let nothing = nothing(&place.pins.progs)?;
        let (requests, spent) = place.spent(Load::Rr, pace)?;
        let met = spent.iter().filter(|(_, spent)| spent.runs >= requests / 2);
        let known: BTreeMap<_, _> = met
            .map(|(hook, spent)| (*hook, (spent.nanos / spent.runs as f64 - nothing).max(0.0)))
            .collect();
        let (connections, spent) = place.spent(Load::Crr, pace)?;
        let first = self.first.name();
        let (at_first, known_there) = (spent.get(first).zip(known.get(first)))
            .with_context(|| format!("{first} does not run on this path"))?;
        let runs = at_first.runs as f64 / connections as f64;
        let cost = at_first.nanos / connections as f64 - runs * nothing;
        let new = cost - (runs - 1.0) * known_there;
        ensure!(
            new > 0.0,
            "{first} took less for a whole connection than for its known packets"
        );
        Ok(Found { new, known, runs })
    }

    fn rows(&self, family: Family, found: &[Found]) -> Vec<Row> {
        let known = |hook: Hook| {
            let samples = found
                .iter()
                .map(|found| found.known.get(hook.name()).copied());
            samples.collect::<Option<Vec<f64>>>()
        };
        let is_met = |hook: Hook| {
            let mut rounds = found.iter();
            rounds.any(|found| found.known.contains_key(hook.name()))
        };
        let mut rows = Vec::new();
        for hook in Hook::ALL.into_iter().filter(|hook| is_met(*hook)) {
            rows.push(match known(hook) {
                Some(samples) => self.row(hook, Kind::Established, family, samples),
                None => self.absent(hook, family, "it did not run in every round".to_owned()),
            });
        }
        let mut new = self.row(
            self.first,
            Kind::New,
            family,
            found.iter().map(|found| found.new).collect(),
        );
        let runs = found.iter().map(|found| found.runs).sum::<f64>() / found.len() as f64;
        new.notes.push(format!(
            "estimated: all {runs:.1} runs of the hook for one connection, less the known cost of \
             all but one of them"
        ));
        rows.push(new);
        rows
    }

    fn row(&self, hook: Hook, kind: Kind, family: Family, samples: Vec<f64>) -> Row {
        let (what, bound) = match kind {
            Kind::Established => ("a packet of a known flow", 100.0),
            Kind::New => ("the first packet of a flow", 600.0),
        };
        let (title, hook_name, family_name) = (self.title, hook.name(), family.name());
        Row {
            about: About {
                id: self.id(hook, kind, family),
                title: format!("{hook_name}, live, {title}: {what}, {family_name}"),
                unit: "ns".to_owned(),
                direction: Direction::LowerIsBetter,
                targets: vec![Target::within(bound)],
            },
            series: vec![Series {
                name: SUBJECT.to_owned(),
                samples,
            }],
            absent: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn absent(&self, hook: Hook, family: Family, reason: String) -> Row {
        let kind = if hook.name() == self.first.name() {
            Kind::New
        } else {
            Kind::Established
        };
        let mut row = self.row(hook, kind, family, Vec::new());
        row.series.clear();
        row.absent.push(Absent {
            name: SUBJECT.to_owned(),
            reason,
        });
        row
    }
}

fn site<'c>(
    choice: &'c Choice,
    family: Family,
    ends: for<'s> fn(&'s Site, Family, Cpus) -> Ends<'s>,
) -> Result<Place<'c>> {
    let site = choice.common().site(SUBJECT)?;
    Ok(Place {
        ends: ends(site, family, Cpus::one()?),
        host: &site.host,
        pins: site.guard.pins().context("no programs of netbpf")?,
    })
}

fn pool(choice: &Choice, family: Family) -> Result<Place<'_>> {
    let pool = choice
        .pool()
        .as_ref()
        .map_err(|error| anyhow::anyhow!("{error:#}"))?;
    let service = Service::ALL[0];
    let to = [service.virtual_ip(family)];
    Ok(Place {
        ends: vip::ends(pool, service, &pool.clients[0], &to, Cpus::one()?),
        host: pool.host(),
        pins: pool.pins().context("no programs of netbpf")?,
    })
}

/// What a program has run.
#[derive(Clone, Copy, Debug, Default)]
struct Spent {
    runs: u64,
    nanos: f64,
}

impl Place<'_> {
    /// How many requests a load had, and what each hook ran meanwhile.
    fn spent(&self, load: Load, pace: &Pace) -> Result<(u64, BTreeMap<&'static str, Spent>)> {
        forget(self.host, Some(&self.pins))?;
        let before = self.counted()?;
        let mut session = load.open(&self.ends)?;
        session.slice(Order {
            warm_up: Duration::ZERO,
            sample: pace.slice * pace.slices as u32,
        })?;
        let requests = session.end()?;
        let mut spent = self.counted()?;
        ensure!(requests > 0, "there was no request");
        for (hook, spent) in &mut spent {
            let before = before.get(hook).copied().unwrap_or_default();
            spent.runs -= before.runs;
            spent.nanos -= before.nanos;
        }
        spent.retain(|_, spent| spent.runs > 0);
        Ok((requests, spent))
    }

    fn counted(&self) -> Result<BTreeMap<&'static str, Spent>> {
        let hooks = Hook::ALL.map(|hook| (hook.name(), self.pins.progs.join(hook.name())));
        let pinned = hooks.into_iter().filter(|(_, pin)| pin.exists());
        pinned
            .map(|(name, pin)| {
                let info = ProgramInfo::from_pin(pin)?;
                let spent = Spent {
                    runs: info.run_count(),
                    nanos: info.run_time().as_nanos() as f64,
                };
                Ok((name, spent))
            })
            .collect()
    }
}
