//! The bench: netbpf beside what people use today, on one machine, in one run, in namespaces of
//! its own. Prints a table and writes a report; exits 0 only when every row could be measured.
//!
//! Whether a target is reached has no part in the exit code: that is for the reader of the report.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::Instant,
};

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use netbpf_bench::{
    guard::Guard,
    machine::Machine,
    report::{Report, kept, markdown},
    rounds::Pace,
    rows::{self, Choice, Measured},
    stop, work,
};

/// Measures netbpf beside what people use today.
#[derive(Debug, Parser)]
struct Arguments {
    /// Few short rounds within two minutes: a first impression, not a measurement.
    #[arg(long)]
    quick: bool,
    /// Only the rows whose id contains this word.
    #[arg(long, value_name = "WORD", default_value = "")]
    only: String,
    /// The netbpf command to measure.
    #[arg(long, env = "NETBPF_BIN", default_value = "target/release/netbpf")]
    netbpf: PathBuf,
    /// Where the report goes.
    #[arg(long, default_value = "target/bench")]
    out: PathBuf,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Measures what `bench/guard.json` keeps, and keeps it anew.
    Guard {
        /// The file.
        #[arg(default_value = "bench/guard.json")]
        file: PathBuf,
    },
    /// Keeps the report of the last run, and writes the README's figures from it.
    Readme {
        /// Where it is kept.
        #[arg(long, default_value = "bench/kept/report.json")]
        kept: PathBuf,
        /// The README.
        #[arg(default_value = "README.md")]
        file: PathBuf,
    },
    /// One end of a load, as a process of its own.
    #[command(hide = true)]
    Work {
        /// What to do, in JSON.
        task: String,
    },
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    let ended = match &arguments.action {
        Some(Action::Work { task }) => work::perform(task).map(|()| ExitCode::SUCCESS),
        Some(Action::Guard { file }) => keep(file),
        Some(Action::Readme { kept, file }) => {
            let report = arguments.out.join("report.json");
            kept::keep(&report, kept, file).map(|()| ExitCode::SUCCESS)
        }
        None => measure(&arguments),
    };
    ended.unwrap_or_else(|error| {
        eprintln!("{error:#}");
        ExitCode::FAILURE
    })
}

/// Measures what is guarded, and keeps it.
fn keep(file: &Path) -> Result<ExitCode> {
    Guard::measure(Pace::FULL.rounds)?.write(file)?;
    Ok(ExitCode::SUCCESS)
}

/// Measures, writes the report and prints it.
fn measure(arguments: &Arguments) -> Result<ExitCode> {
    stop::listen()?;
    let began = Instant::now();
    let pace = if arguments.quick {
        Pace::QUICK
    } else {
        Pace::FULL
    };
    let machine = Machine::look();
    let netbpf = (arguments.netbpf.canonicalize()).with_context(|| {
        format!(
            "there is no netbpf command at {}",
            arguments.netbpf.display()
        )
    })?;
    // All hosts go before the report is written.
    let (measured, cycles, cuts) = {
        let choice = Choice::new(&arguments.only, netbpf, pace);
        (rows::measure(&choice)?, choice.cycles(), choice.cuts())
    };
    let Measured {
        resolution,
        rows,
        notes,
    } = measured;
    let report = Report::new(machine, &pace, notes, rows)
        .beside(cycles, resolution)
        .within(cuts);
    report.write(&arguments.out)?;
    print!("{}", markdown::render(&report));
    eprintln!(
        "bench: all of it took {:.0} s",
        began.elapsed().as_secs_f64()
    );
    Ok(if report.is_whole() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}
