//! `cargo xtask test`: everything that must hold before a change lands. The tests come last, so
//! that the output ends in the runner's own summary; they find the product in `NETBPF_BIN`.

use anyhow::Result;

use crate::{command, product, setup, tidy};

/// Checks the sources and runs all tests, or runs only the tests that `arguments` ask for.
pub fn test(arguments: &[String]) -> Result<()> {
    command::require_root("testing in network namespaces")?;
    let compiler = setup::ensure()?;
    if arguments.is_empty() {
        tidy::tidy(&compiler)?;
    }
    product::build()?;
    let netbpf = product::path("netbpf")?;
    let runner = |subcommand: &str| {
        let mut cargo = command::cargo(subcommand);
        cargo.env("NETBPF_BIN", &netbpf);
        cargo
    };
    if !command::is_installed("cargo-nextest") {
        return command::replace_by(runner("test").arg("--no-fail-fast").args(arguments));
    }
    if arguments.is_empty() {
        // Nextest runs no examples of the documentation.
        command::run(runner("test").args(["--doc", "--quiet"]))?;
    }
    command::replace_by(runner("nextest").arg("run").args(arguments))
}
