//! What a change costs where ten thousand ports are published: all of them at once, one more, one
//! less. netbpf by a command that does it itself, and by one that asks a living `run`; beside it
//! `docker run -p`, the rules of one port by iptables one after the other, and those of all ports
//! by `iptables-restore`.

mod ours;
mod theirs;

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};

use super::Choice;
use crate::{
    budget::OVER,
    peers::set_up,
    row::{About, Absent, Direction, Row, SUBJECT, Series, Target},
    stop,
};

/// How many ports stand.
const PORTS: u16 = 10_000;

/// The rows of changes. All contenders take turns, once a round.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let abouts = By::ALL.map(|by| Work::ALL.map(|work| (by, work, about(work, by))));
    let mut abouts: Vec<_> = abouts.into_iter().flatten().collect();
    abouts.retain(|(.., about)| choice.has(&about.id));
    if abouts.is_empty() {
        return Ok(Vec::new());
    }
    let planned = choice.pace.rounds;
    let rounds = choice.with_budget(|budget| budget.work_with_set_up(planned));
    let Some(mut rounds) = rounds else {
        let abouts = abouts.into_iter().map(|(.., about)| about);
        return Ok(abouts.map(|about| Row::unmeasured(about, OVER)).collect());
    };
    let ours = ours(choice);
    choice.with_ports(PORTS, |sites| {
        let mut contenders = ours;
        contenders.extend(theirs::contenders(sites, &choice.pace));
        for round in 0..planned {
            let expected = expected(&contenders, round);
            if !choice.with_budget(|budget| budget.another_of(&mut rounds, expected)) {
                break;
            }
            for contender in &mut contenders {
                stop::check()?;
                if choice.with_budget(|budget| budget.is_over()) {
                    contender.leave_unmeasured();
                } else {
                    contender.take(round);
                }
            }
        }
        for Contender { name, took, .. } in &contenders {
            eprintln!("bench: changes by {name} took {:.1} s", took.as_secs_f64());
        }
        let row = |(by, work, about)| row(by, work, about, &contenders);
        Ok(abouts.into_iter().map(row).collect())
    })
}

/// Who carries a change of netbpf's out.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum By {
    Itself,
    Run,
}

impl By {
    const ALL: [Self; 2] = [Self::Itself, Self::Run];
}

/// What is done.
#[derive(Clone, Copy, Debug)]
enum Work {
    Apply,
    Add,
    Remove,
}

impl Work {
    const ALL: [Self; 3] = [Self::Apply, Self::Add, Self::Remove];
}

/// Milliseconds, of what a contender does.
#[derive(Clone, Copy, Debug, Default)]
struct Sample {
    apply: Option<f64>,
    add: Option<f64>,
    remove: Option<f64>,
}

impl Sample {
    const fn of(self, work: Work) -> Option<f64> {
        match work {
            Work::Apply => self.apply,
            Work::Add => self.add,
            Work::Remove => self.remove,
        }
    }
}

/// Somebody who makes changes.
struct Contender<'s> {
    name: String,
    /// Whether it is netbpf, and then by whom.
    by: Option<By>,
    /// In how many rounds it takes part.
    rounds: usize,
    /// Takes its samples; `Err` is why it takes none.
    sampler: Result<Box<dyn FnMut() -> Result<Sample> + 's>, String>,
    samples: Vec<Sample>,
    /// How long all of them took, with what is not timed.
    took: Duration,
    /// What a reader must know beside the numbers of all ports at once.
    note: Option<String>,
}

impl<'s> Contender<'s> {
    fn new(name: &str, rounds: usize, sampler: impl FnMut() -> Result<Sample> + 's) -> Self {
        Self {
            name: name.to_owned(),
            by: None,
            rounds,
            sampler: Ok(Box::new(sampler)),
            samples: Vec::new(),
            took: Duration::ZERO,
            note: None,
        }
    }

    fn ours(by: By, rounds: usize, standing: Result<ours::Subject>) -> Self {
        let mut this = Self::new(SUBJECT, rounds, || Ok(Sample::default()));
        this.by = Some(by);
        this.sampler = match standing {
            Ok(standing) => Ok(Box::new(move || standing.sample())),
            Err(error) => Err(format!("{error:#}")),
        };
        this
    }

    /// Takes a sample, if it takes part in this round. Who fails takes part in none.
    fn take(&mut self, round: usize) {
        let Ok(sampler) = &mut self.sampler else {
            return;
        };
        if round >= self.rounds {
            return;
        }
        let began = Instant::now();
        match sampler() {
            Ok(sample) => self.samples.push(sample),
            Err(error) => self.sampler = Err(format!("failed in round {round}: {error:#}")),
        }
        self.took += began.elapsed();
    }

    /// There is no time for it any more; what it has stays.
    fn leave_unmeasured(&mut self) {
        if self.samples.is_empty() && self.sampler.is_ok() {
            self.sampler = Err(OVER.to_owned());
        }
    }

    fn series(&self, work: Work) -> Option<Series> {
        let samples: Vec<f64> = (self.samples.iter().filter_map(|it| it.of(work))).collect();
        (self.sampler.is_ok() && !samples.is_empty()).then(|| Series {
            name: self.name.clone(),
            samples,
        })
    }

    fn absent(&self) -> Option<Absent> {
        Some(Absent {
            name: self.name.clone(),
            reason: self.sampler.as_ref().err()?.clone(),
        })
    }
}

/// How long a round takes, by the mean of those who take part in it.
fn expected(contenders: &[Contender<'_>], round: usize) -> Duration {
    let there = contenders.iter().filter(|it| round < it.rounds);
    there
        .map(|it| it.took / it.samples.len().max(1) as u32)
        .sum()
}

/// netbpf in both ways, set up at the same time.
fn ours<'s>(choice: &Choice) -> Vec<Contender<'s>> {
    let (netbpf, rounds) = (&*choice.netbpf, choice.pace.rounds);
    let standing = thread::scope(|scope| {
        let begun =
            By::ALL.map(|by| scope.spawn(move || set_up(|| ours::Subject::set_up(netbpf, by))));
        begun.map(|it| it.join().unwrap_or_else(|_| Err(anyhow!("it panicked"))))
    });
    let both = By::ALL.into_iter().zip(standing);
    both.map(|(by, standing)| Contender::ours(by, rounds, standing))
        .collect()
}

/// How long it takes, in milliseconds.
fn time(work: impl FnOnce() -> Result<()>) -> Result<f64> {
    let began = Instant::now();
    work()?;
    Ok(began.elapsed().as_secs_f64() * 1e3)
}

fn about(work: Work, by: By) -> About {
    let (by, how) = match by {
        By::Itself => ("alone", "the command itself"),
        By::Run => ("run", "a living run"),
    };
    let (name, what, bound) = match work {
        Work::Apply => ("apply", "apply 10,000 published ports", 1000.0),
        Work::Add => ("add", "add one port to 10,000", 5.0),
        Work::Remove => ("remove", "remove one port of 10,000", 5.0),
    };
    About {
        id: format!("change/{name}/{by}"),
        title: format!("{what}, by {how}"),
        unit: "ms".to_owned(),
        direction: Direction::LowerIsBetter,
        targets: vec![Target::within(bound)],
    }
}

fn row(by: By, work: Work, about: About, contenders: &[Contender<'_>]) -> Row {
    let there = || (contenders.iter()).filter(|it| it.by.is_none_or(|its| its == by));
    let mut notes = vec![
        "from the start of a command's process to its end; each port is an entry of its own, \
         published in both families"
            .to_owned(),
    ];
    if matches!(work, Work::Apply) {
        notes.extend(there().filter_map(|it| it.note.clone()));
    }
    Row {
        about,
        series: there().filter_map(|it| it.series(work)).collect(),
        absent: there().filter_map(Contender::absent).collect(),
        notes,
    }
}
