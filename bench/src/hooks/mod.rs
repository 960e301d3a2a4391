//! What one packet costs in one hook: `BPF_PROG_TEST_RUN`, with `repeat`, of single programs on a
//! bed of their own.
//!
//! A harness (`harness.rs`) gives the program its packet anew before each run. What that costs is taken off: the
//! time of a program that does nothing, run in the same way on the same packet.

mod bpf;
mod harness;
mod nothing;
mod reference;
mod ways;

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use netbpf::dataplane::maps::Sizes;
use netbpf_tests::{
    prog_run::{Action, Bed, Context, Program, on_bed_of},
    topology::Family,
};
use serde::{Deserialize, Serialize};

use self::{
    harness::{Harness, Packet},
    reference::{EMPTY, REFERENCE},
};
pub use self::{
    nothing::nothing,
    ways::{Kind, Way},
};
use crate::peers::flows;

/// Tables that no measurement here fills, so that nobody gives way to a new flow.
const SIZES: Sizes = Sizes {
    max_flows: 65536,
    max_half_open: 65536,
};

/// How many packets one sample is taken from: its mean is that of the quickest of ten batches,
/// for whatever else the machine does can only add to it.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub struct Runs {
    /// Packets of an established flow.
    pub established: u16,
    /// New flows.
    pub new: u16,
}

/// How many batches a sample is taken from.
const BATCHES: u16 = 10;

impl Runs {
    /// For a measurement.
    pub const FULL: Self = Self {
        established: 20_000,
        new: 1000,
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

/// What every case costs once, in nanoseconds.
#[derive(Clone, Debug)]
pub struct Costs {
    /// That of each case, in the order of [`Lab::cases`].
    pub cases: Vec<f64>,
    /// That of the reference program.
    pub reference: f64,
}

/// A bed on which hooks are timed.
pub struct Lab<'b> {
    bed: &'b mut Bed,
    harness: Harness,
    empty: Program,
    reference: Program,
    cases: Vec<Case>,
    /// For each case, a packet of an established flow and how many new ones there were.
    prepared: Vec<(Vec<u8>, u16)>,
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
        let directory = bed.programs_dir();
        let prepared = prepare(bed, &cases);
        Ok(Self {
            harness: Harness::new(&directory)?,
            empty: reference::load(&directory, &EMPTY)?,
            reference: reference::load(&directory, &REFERENCE)?,
            bed,
            cases,
            prepared,
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
    /// The kernel refuses a program, or a packet is dropped.
    pub fn round(&mut self, runs: Runs) -> Result<Costs> {
        let reference = self.reference(runs)?;
        let cases = 0..self.cases.len();
        let costs = cases.map(|at| self.cost_of(at, runs));
        Ok(Costs {
            cases: costs.collect::<Result<_>>()?,
            reference,
        })
    }

    /// Times the reference program.
    ///
    /// # Errors
    ///
    /// The kernel refuses it.
    pub fn reference(&self, runs: Runs) -> Result<f64> {
        let packet = Packet {
            bytes: &[0; 64],
            context: Context {
                ifindex: 1,
                ingress: 1,
                mark: 0,
            },
            for_other_host: false,
            counted_at: None,
        };
        let mut quickest = Times::default();
        for _ in 0..BATCHES {
            quickest.note(self.times(&self.reference, packet, runs.established / BATCHES)?);
        }
        Ok(quickest.cost())
    }

    /// Ends all flows and begins those anew that are known: first packets must not fill the tables.
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn renew(&mut self) -> Result<()> {
        flows::end_all(&self.bed.maps_dir())?;
        self.prepared = prepare(self.bed, &self.cases);
        Ok(())
    }

    /// Times one case, by its number.
    ///
    /// # Errors
    ///
    /// The kernel refuses its program, or a packet is dropped.
    pub fn cost_of(&mut self, at: usize, runs: Runs) -> Result<f64> {
        let name = self.cases[at].name();
        self.timed(at, runs).context(name)
    }

    fn timed(&mut self, at: usize, runs: Runs) -> Result<f64> {
        let (case, mut quickest) = (self.cases[at], Times::default());
        let program = self.bed.program(case.way.hook());
        for _ in 0..BATCHES {
            let times = match case.kind {
                Kind::Established => self.established(at, &program, runs.established / BATCHES),
                Kind::New => self.new_flows(at, &program, runs.new / BATCHES),
            };
            quickest.note(times?);
        }
        Ok(quickest.cost())
    }

    /// Packets of one flow, which the table knows already.
    fn established(&self, at: usize, program: &Program, times: u16) -> Result<Times> {
        let case = self.cases[at];
        let packet = self.packet(case, &self.prepared[at].0);
        let before = self.bed.begun();
        let took = self.times(program, packet, times)?;
        ensure!(self.bed.begun() == before, "a known flow began anew");
        Ok(took)
    }

    /// First packets, each of another flow, which begins.
    fn new_flows(&mut self, at: usize, program: &Program, times: u16) -> Result<Times> {
        let (case, used) = (self.cases[at], self.prepared[at].1);
        self.prepared[at].1 += times + 1;
        let bytes = case.way.first(case.family, used).bytes();
        let packet = Packet {
            counted_at: Some(Way::port_at(case.family)),
            ..self.packet(case, &bytes)
        };
        let before = self.bed.begun();
        let took = self.times(program, packet, times)?;
        let begun = self.bed.begun() - before;
        ensure!(
            begun == u64::from(times),
            "{times} first packets began {begun} flows"
        );
        Ok(took)
    }

    fn packet<'p>(&self, case: Case, bytes: &'p [u8]) -> Packet<'p> {
        Packet {
            bytes,
            context: case.way.context(self.bed),
            for_other_host: case.way.is_for_other_host(),
            counted_at: None,
        }
    }

    fn times(&self, program: &Program, packet: Packet<'_>, times: u16) -> Result<Times> {
        let (nothing, _) = self.harness.time(&self.empty, packet, times)?;
        let (whole, action) = self.harness.time(program, packet, times)?;
        ensure!(action != Action::Shot, "a packet was dropped");
        Ok(Times { whole, nothing })
    }
}

fn prepare(bed: &Bed, cases: &[Case]) -> Vec<(Vec<u8>, u16)> {
    let prepare = |case: &Case| (case.way.established(bed, case.family).bytes(), 0);
    cases.iter().map(prepare).collect()
}

/// The mean time of a program with the harness around it, and that of the harness. The quickest
/// batch of each counts by itself: in a difference within a batch, what disturbed the harness alone
/// would make the program cheaper than it is.
#[derive(Clone, Copy, Debug)]
struct Times {
    whole: Duration,
    nothing: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            whole: Duration::MAX,
            nothing: Duration::MAX,
        }
    }
}

impl Times {
    fn note(&mut self, other: Self) {
        self.whole = self.whole.min(other.whole);
        self.nothing = self.nothing.min(other.nothing);
    }

    /// Never below zero, though a program of two instructions costs less than the difference
    /// between two measurements.
    fn cost(self) -> f64 {
        self.whole.saturating_sub(self.nothing).as_nanos() as f64
    }
}
