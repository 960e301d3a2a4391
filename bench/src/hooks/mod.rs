//! What one packet costs in one hook: `BPF_PROG_TEST_RUN` of single programs on a bed of their own,
//! timed by the kernel's own statistics.
//!
//! Each run is a system call with a packet that was never changed, for a program may translate it;
//! `repeat` would give the translated packet to the next run. The kernel takes the time around the
//! program alone, and what taking it costs is taken off: that of a program that does nothing, run
//! in the same way.

mod reference;
mod ways;

use std::os::fd::OwnedFd;

use anyhow::{Context as _, Result, ensure};
use aya::sys::{Stats, enable_stats};
use netbpf::dataplane::maps::Sizes;
use netbpf_tests::{
    prog_run::{Action, Bed, Context, Program, on_bed_of},
    topology::Family,
};

pub use self::{
    reference::{EMPTY, REFERENCE, Reference},
    ways::{Kind, Way},
};

/// Tables that no measurement here fills, so that nobody gives way to a new flow.
const SIZES: Sizes = Sizes {
    max_flows: 65536,
    max_half_open: 65536,
};

/// How many packets one sample is the mean of.
#[derive(Clone, Copy, Debug)]
pub struct Runs {
    /// Packets of an established flow.
    pub established: u16,
    /// New flows.
    pub new: u16,
}

impl Runs {
    /// For a measurement.
    pub const FULL: Self = Self {
        established: 2000,
        new: 400,
    };
}

/// One thing that a hook does.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct Case {
    /// What the packet is about.
    pub way: Way,
    /// Whether its flow is new.
    pub kind: Kind,
    /// Its family.
    pub family: Family,
}

impl Case {
    /// Every case.
    pub fn all() -> Vec<Self> {
        let kinds = |way: Way| way.kinds().iter().map(move |kind| (way, *kind));
        let all = Way::ALL.into_iter().flat_map(kinds);
        all.flat_map(|(way, kind)| Family::ALL.map(|family| Self { way, kind, family }))
            .collect()
    }

    /// `from_netdev/published/new/ipv4`.
    pub fn name(self) -> String {
        let family = self.family.name().to_lowercase();
        let (hook, way) = (self.way.hook().name(), self.way.name());
        format!("{hook}/{way}/{}/{family}", self.kind.name())
    }
}

/// The costs of one round, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Round {
    /// That of each case, in the order of [`Lab::cases`].
    pub costs: Vec<f64>,
    /// That of the reference program.
    pub reference: f64,
}

/// A bed on which hooks are timed.
pub struct Lab<'b> {
    bed: &'b mut Bed,
    empty: Reference,
    reference: Reference,
    cases: Vec<Case>,
    /// For each case, a packet of an established flow and how many new ones there were.
    prepared: Vec<(Vec<u8>, u16)>,
    _statistics: OwnedFd,
}

/// Times `cases` on a bed of their own.
///
/// # Errors
///
/// The kernel keeps no statistics, or refuses the reference programs; what `work` says.
pub fn in_lab<T: Send>(
    cases: Vec<Case>,
    work: impl FnOnce(&mut Lab<'_>) -> Result<T> + Send,
) -> Result<T> {
    let mut done = None;
    on_bed_of(SIZES, |bed| {
        done = Some(Lab::make(bed, cases).and_then(|mut lab| work(&mut lab)));
    });
    done.context("the bed ran nothing")?
}

impl<'b> Lab<'b> {
    fn make(bed: &'b mut Bed, cases: Vec<Case>) -> Result<Self> {
        let statistics =
            enable_stats(Stats::RunTime).context("the kernel keeps no run time of programs")?;
        let directory = bed.programs_dir();
        let mut prepared = Vec::new();
        for case in &cases {
            prepared.push((case.way.established(bed, case.family).bytes(), 0));
        }
        Ok(Self {
            empty: Reference::load(&directory, &EMPTY)?,
            reference: Reference::load(&directory, &REFERENCE)?,
            bed,
            cases,
            prepared,
            _statistics: statistics,
        })
    }

    /// What is timed.
    pub fn cases(&self) -> &[Case] {
        &self.cases
    }

    /// The bed.
    pub fn bed(&self) -> &Bed {
        self.bed
    }

    /// The bed, to change its world.
    pub fn bed_mut(&mut self) -> &mut Bed {
        self.bed
    }

    /// Times each case once.
    ///
    /// # Errors
    ///
    /// The kernel counts nothing.
    pub fn round(&mut self, runs: Runs) -> Result<Round> {
        let context = Context {
            ifindex: 1,
            ingress: 1,
            mark: 0,
        };
        let packet = [0; 64];
        let repeated = || (0..runs.established).map(|_| &packet[..]);
        let nothing = mean(self.empty.program(), context, repeated())?;
        let reference = mean(self.reference.program(), context, repeated())? - nothing;
        let mut costs = Vec::new();
        for at in 0..self.cases.len() {
            let cost = self.cost(at, runs);
            let cost = cost.with_context(|| self.cases[at].name())?;
            costs.push((cost - nothing).max(0.0));
        }
        Ok(Round { costs, reference })
    }

    fn cost(&mut self, at: usize, runs: Runs) -> Result<f64> {
        let case = self.cases[at];
        let program = self.bed.program(case.way.hook());
        let context = case.way.context(self.bed);
        let (established, used) = &mut self.prepared[at];
        if case.kind == Kind::Established {
            let packets = (0..runs.established).map(|_| established.as_slice());
            return mean(&program, context, packets);
        }
        let first = *used;
        *used += runs.new;
        let packets: Vec<Vec<u8>> = (first..*used)
            .map(|number| case.way.first(case.family, number).bytes())
            .collect();
        mean(&program, context, packets.iter().map(Vec::as_slice))
    }
}

/// The mean time of runs of a program, by the kernel's statistics, with what taking it costs.
fn mean<'p>(
    program: &Program,
    context: Context,
    packets: impl Iterator<Item = &'p [u8]>,
) -> Result<f64> {
    let before = program.info();
    for packet in packets {
        let (action, ..) = program.run(context, packet);
        ensure!(action != Action::Shot, "a packet was dropped");
    }
    let after = program.info();
    let runs = after.run_count() - before.run_count();
    ensure!(runs > 0, "the kernel counted no run");
    let time = after.run_time() - before.run_time();
    Ok(time.as_nanos() as f64 / runs as f64)
}
