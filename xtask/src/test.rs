//! `cargo xtask test`: everything that must hold before a change lands. The tests come last, so
//! that the output ends in the runner's own summary.

use anyhow::Result;

use crate::{command, setup, tidy};

/// Checks the sources and runs all tests, or runs only the tests that `arguments` ask for.
pub fn test(arguments: &[String]) -> Result<()> {
    command::require_root("testing in network namespaces")?;
    let compiler = setup::ensure()?;
    if arguments.is_empty() {
        tidy::tidy(&compiler)?;
    }
    if !command::is_installed("cargo-nextest") {
        return command::run(command::cargo("test").arg("--no-fail-fast").args(arguments));
    }
    if arguments.is_empty() {
        // Nextest runs no examples of the documentation.
        command::run(command::cargo("test").args(["--doc", "--quiet"]))?;
    }
    command::run(command::cargo("nextest").arg("run").args(arguments))
}
