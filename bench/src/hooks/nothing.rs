//! What the kernel's statistics of programs cost themselves.

use std::{fs, path::Path};

use anyhow::{Result, ensure};
use netbpf_tests::prog_run::{Action, Context};

use super::reference::{EMPTY, load};

/// How many runs that is the mean of.
const RUNS: u32 = 2000;

/// What a program that does nothing takes by the kernel's statistics, which are kept meanwhile, in
/// nanoseconds: in a loop, for which everything is at hand. Between two packets statistics cost more,
/// but to take off more than they surely cost would make programs cheaper than they are. `directory`
/// is one of pins, and keeps none of it.
///
/// # Errors
///
/// The kernel refuses the program, or counts nothing.
pub fn nothing(directory: &Path) -> Result<f64> {
    let program = load(directory, &EMPTY)?;
    fs::remove_file(directory.join(EMPTY.name()))?;
    let context = Context {
        ifindex: 1,
        ingress: 1,
        mark: 0,
    };
    let before = program.info();
    let (_, action) = program.time(context, &[0; 64], RUNS);
    ensure!(action != Action::Shot, "a packet was dropped");
    let after = program.info();
    let runs = after.run_count() - before.run_count();
    ensure!(runs > 0, "the kernel counted no run");
    let time = after.run_time() - before.run_time();
    Ok(time.as_nanos() as f64 / runs as f64)
}
