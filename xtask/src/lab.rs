//! `cargo xtask run`: builds, then becomes the lab or netbpf itself, so that signals and the exit
//! code are theirs.

use std::{env, os::unix::process::CommandExt as _, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::{command, setup};

/// Checks every path of the quickstart in namespaces; `option` goes to the lab.
pub fn run_lab(option: Option<&str>) -> Result<()> {
    command::require_root("the lab")?;
    setup::ensure()?;
    build()?;
    let lab = binary("lab")?;
    let failure = command::program(lab)
        .args(option)
        .arg("--netbpf")
        .arg(binary("netbpf")?)
        .exec();
    Err(failure).context("failed to start the lab")
}

/// Runs `netbpf` with these arguments on this machine.
pub fn run_netbpf(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    build()?;
    let failure = command::program(binary("netbpf")?).args(arguments).exec();
    Err(failure).context("failed to start netbpf")
}

/// Builds all default members at once: one at a time, cargo would unify other features and
/// compile shared dependencies again.
fn build() -> Result<()> {
    command::run(&mut command::cargo("build"))
}

/// A binary of this workspace: it lies beside this one, wherever the target directory is.
fn binary(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("failed to find the path of xtask")?;
    Ok(own.with_file_name(name))
}
