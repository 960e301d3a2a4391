//! `cargo xtask`: set-up, lab and tests. It needs nothing but a Rust toolchain to compile, for it
//! is what installs everything else.

mod bench;
mod command;
mod house;
mod kernel;
mod product;
mod release;
mod run;
mod setup;
mod test;
mod tidy;
mod toolchain;

use std::process::ExitCode;

use anyhow::Result;
use clap::{Parser, Subcommand};

/// netbpf's build, lab and test commands.
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building eBPF, the lab and the tests need and this machine lacks.
    Setup,
    /// Build, make the lab in network namespaces, check every path, remove the lab.
    Run {
        /// Leave the lab up and print how to enter it.
        #[arg(long, conflicts_with = "arguments")]
        keep: bool,
        /// Run `netbpf ARGS` on this machine instead of the lab.
        #[arg(last = true, value_name = "ARGS")]
        arguments: Vec<String>,
    },
    /// Boot Debian's kernel of a version, such as 6.1, in an emulated machine and run the lab there.
    Kernel {
        /// The first two numbers of the version.
        version: String,
    },
    /// Check format, lints, house rules and documentation, then run every test.
    Test {
        /// For the test runner; with any, only the tests are run.
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        arguments: Vec<String>,
    },
    /// Build the command as it is released: target/release/netbpf.
    Release,
    /// Measure netbpf beside what people use today, and write target/bench/report.{json,md}.
    Bench {
        /// For the bench: `--quick`, `--only WORD`, …
        #[arg(
            trailing_var_arg = true,
            allow_hyphen_values = true,
            value_name = "ARGS"
        )]
        arguments: Vec<String>,
    },
    /// Check format, lints, house rules and documentation.
    Tidy,
}

fn main() -> ExitCode {
    match perform(Arguments::parse().task) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn perform(task: Task) -> Result<()> {
    match task {
        Task::Setup => {
            setup::ensure()?;
            eprintln!("xtask: everything is there");
            Ok(())
        }
        Task::Run { keep: _, arguments } if !arguments.is_empty() => run::netbpf(&arguments),
        Task::Run { keep, arguments: _ } => run::lab(keep.then_some("--keep")),
        Task::Kernel { version } => kernel::lab(&version),
        Task::Test { arguments } => test::test(&arguments),
        Task::Release => {
            setup::ensure()?;
            println!("{}", release::build()?.display());
            Ok(())
        }
        Task::Bench { arguments } => bench::bench(&arguments),
        Task::Tidy => tidy::tidy(&setup::ensure()?),
    }
}
