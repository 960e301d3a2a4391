//! Building netbpf and the commands of its tests, and where they are then.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};

use crate::command;

/// Builds all default members at once: one at a time, cargo would unify other features and
/// compile shared dependencies again.
pub fn build() -> Result<()> {
    command::run(&mut command::cargo("build"))
}

/// A binary or directory of a build: it lies beside this binary, wherever the target directory is.
pub fn path(name: &str) -> Result<PathBuf> {
    let own = env::current_exe().context("failed to find the path of xtask")?;
    Ok(own.with_file_name(name))
}
