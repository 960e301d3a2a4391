//! What was won, and must not be lost by accident: how large each program is, and what a packet
//! costs in it, as a multiple of what a program of fixed work costs in the same run.
//!
//! Sizes hardly differ between runs, and have to stay almost exactly; times do, and have to stay in
//! their order of magnitude. Judging is pure.

use std::{collections::BTreeMap, fs, path::Path};

use anyhow::{Context as _, Result};
use netbpf_common::verdict::{Hook, Seat};
use netbpf_tests::prog_run::Program;
use serde::{Deserialize, Serialize};

use crate::{
    hooks::{Case, Lab, Runs, in_lab},
    machine::Machine,
    statistics::{Spread, ratios},
};

/// How large a program is.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ProgramSize {
    /// Instructions after the verifier has translated them, subprograms among them.
    pub translated: u32,
    /// Bytes of machine code; 0 without a JIT.
    pub jited_bytes: u32,
    /// How many instructions the verifier went through, each as often as it met it.
    pub verified: u32,
}

impl ProgramSize {
    /// Those of a loaded program.
    ///
    /// # Errors
    ///
    /// The kernel does not say.
    pub fn of(program: &Program) -> Result<Self> {
        /// The size of `struct bpf_insn`.
        const INSTRUCTION: u32 = 8;
        let info = program.info();
        let translated = info.size_translated();
        Ok(Self {
            translated: translated.context("no size of a program")? / INSTRUCTION,
            jited_bytes: info.size_jitted(),
            verified: (info.verified_instruction_count()).context("no count of the verifier's")?,
        })
    }
}

/// What is guarded.
#[derive(Clone, Debug, Default, Deserialize, PartialEq, Serialize)]
pub struct Guard {
    /// The release of the kernel that it was measured on: another one translates and verifies
    /// otherwise.
    pub kernel: String,
    /// The programs, by name.
    pub programs: BTreeMap<String, ProgramSize>,
    /// The cost of each case, by name: multiples of the reference program's.
    pub costs: BTreeMap<String, f64>,
}

/// How far a measurement may be above what is guarded.
#[derive(Clone, Copy, Debug)]
pub struct Tolerance {
    /// Of sizes: 1.02 is two percent.
    pub size: f64,
    /// Of what the verifier goes through, which follows from the order in which it does.
    pub verified: f64,
    /// Of costs.
    pub cost: f64,
}

impl Tolerance {
    /// On the kernel that the guard was measured on.
    const SAME_KERNEL: Self = Self {
        size: 1.02,
        verified: 1.1,
        cost: 2.0,
    };
    /// On another one.
    const OTHER_KERNEL: Self = Self {
        size: 1.15,
        verified: 1.5,
        cost: 2.0,
    };
    /// What a ratio to a short program is not good enough for, in the reference's multiples.
    const SMALLEST: f64 = 0.25;
}

impl Guard {
    /// The file that is kept.
    ///
    /// # Errors
    ///
    /// It can't be read, or does not hold what [`Self::write`] wrote.
    pub fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path)
            .with_context(|| format!("failed to read {}", path.display()))?;
        serde_json::from_str(&text).with_context(|| format!("failed to read {}", path.display()))
    }

    /// Keeps it.
    ///
    /// # Errors
    ///
    /// The file can't be written.
    pub fn write(&self, path: &Path) -> Result<()> {
        let text = serde_json::to_string_pretty(self)? + "\n";
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    }

    /// Measures on this machine, in `rounds` rounds.
    ///
    /// # Errors
    ///
    /// The kernel keeps no statistics of programs, or does not say how large they are.
    pub fn measure(rounds: usize) -> Result<Self> {
        let cases = Case::all();
        in_lab(cases, |lab| {
            Ok(Self {
                kernel: Machine::look().kernel,
                programs: programs(lab)?,
                costs: costs(lab, rounds)?,
            })
        })
    }

    /// What of `measured` is worse than this allows, in words.
    pub fn breaches(&self, measured: &Self) -> Vec<String> {
        let tolerance = if short(&self.kernel) == short(&measured.kernel) {
            Tolerance::SAME_KERNEL
        } else {
            Tolerance::OTHER_KERNEL
        };
        let mut breaches = Vec::new();
        for (name, now) in &measured.programs {
            match self.programs.get(name) {
                Some(kept) => breaches.extend(grown(name, *kept, *now, tolerance)),
                None => breaches.push(format!("{name} is not guarded")),
            }
        }
        for (name, now) in &measured.costs {
            match self.costs.get(name) {
                Some(kept) => breaches.extend(dearer(name, *kept, *now, tolerance)),
                None => breaches.push(format!("{name} is not guarded")),
            }
        }
        let gone = self.programs.keys().chain(self.costs.keys());
        let is_gone = |name: &&String| {
            !measured.programs.contains_key(*name) && !measured.costs.contains_key(*name)
        };
        breaches.extend(gone.filter(is_gone).map(|name| format!("{name} is gone")));
        breaches
    }
}

/// The first two numbers of a release: the ones that features are told by.
fn short(release: &str) -> Vec<&str> {
    release.split(['.', '-']).take(2).collect()
}

fn grown(name: &str, kept: ProgramSize, now: ProgramSize, tolerance: Tolerance) -> Vec<String> {
    [
        (
            "translated",
            kept.translated,
            now.translated,
            tolerance.size,
        ),
        ("verified", kept.verified, now.verified, tolerance.verified),
    ]
    .into_iter()
    .filter(|(_, kept, now, factor)| f64::from(*now) > f64::from(*kept) * factor)
    .map(|(what, kept, now, factor)| {
        format!("{name}: {now} instructions {what}, {kept} are kept ({factor} times are allowed)")
    })
    .collect()
}

fn dearer(name: &str, kept: f64, now: f64, tolerance: Tolerance) -> Option<String> {
    let allowed = kept.max(Tolerance::SMALLEST) * tolerance.cost;
    (now > allowed).then(|| {
        format!("{name}: {now:.2} times the reference program, {kept:.2} are kept ({allowed:.2} are allowed)")
    })
}

/// The programs on interfaces: those at sockets can't be found on a bed.
fn programs(lab: &Lab<'_>) -> Result<BTreeMap<String, ProgramSize>> {
    let interfaces = Hook::ALL
        .into_iter()
        .filter(|hook| hook.seat() == Seat::Interface);
    interfaces
        .map(|hook| {
            Ok((
                hook.name().to_owned(),
                ProgramSize::of(&lab.bed().program(hook))?,
            ))
        })
        .collect()
}

fn costs(lab: &mut Lab<'_>, rounds: usize) -> Result<BTreeMap<String, f64>> {
    let taken = (0..rounds)
        .map(|_| lab.round(Runs::FULL))
        .collect::<Result<Vec<_>>>()?;
    let reference: Vec<f64> = taken.iter().map(|round| round.reference).collect();
    let mut costs = BTreeMap::new();
    for (at, case) in lab.cases().iter().enumerate() {
        let own: Vec<f64> = taken.iter().map(|round| round.cases[at]).collect();
        let spread = Spread::of(&ratios(&own, &reference)).context("no rounds")?;
        costs.insert(case.name(), (spread.median * 100.0).round() / 100.0);
    }
    Ok(costs)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guard(translated: u32, cost: f64) -> Guard {
        let size = ProgramSize {
            translated,
            jited_bytes: 1,
            verified: 1000,
        };
        Guard {
            kernel: "6.18.44-cloud".to_owned(),
            programs: [("from_netdev".to_owned(), size)].into(),
            costs: [("from_netdev/published/new/ipv4".to_owned(), cost)].into(),
        }
    }

    #[test]
    fn what_grows_beyond_its_tolerance_is_a_breach() {
        let kept = guard(1000, 2.0);
        assert_eq!(kept.breaches(&guard(1019, 3.9)), Vec::<String>::new());
        assert_eq!(kept.breaches(&guard(900, 1.0)), Vec::<String>::new());
        assert_eq!(kept.breaches(&guard(1021, 2.0)).len(), 1);
        assert_eq!(kept.breaches(&guard(1000, 4.1)).len(), 1);
    }

    #[test]
    fn another_kernel_may_translate_otherwise() {
        let mut other = guard(1100, 2.0);
        assert_eq!(guard(1000, 2.0).breaches(&other).len(), 1);
        other.kernel = "6.12.1".to_owned();
        assert_eq!(guard(1000, 2.0).breaches(&other), Vec::<String>::new());
    }

    #[test]
    fn what_comes_or_goes_has_to_be_kept_or_forgotten() {
        let (kept, mut now) = (guard(1000, 2.0), guard(1000, 2.0));
        now.costs = [("from_local/local/new/ipv4".to_owned(), 1.0)].into();
        assert_eq!(kept.breaches(&now).len(), 2);
    }
}
