//! `cargo xtask bench`: builds netbpf as it is released, then becomes the bench.

use anyhow::Result;

use crate::{command, product, setup};

/// Measures, with these arguments for the bench.
pub fn bench(arguments: &[String]) -> Result<()> {
    command::require_root("measuring in network namespaces")?;
    setup::ensure()?;
    setup::ensure_peers()?;
    command::run(command::cargo("build").args(["--release", "--package", "netbpf"]))?;
    product::build()?;
    let mut bench = command::program(product::path("bench")?);
    bench
        .current_dir(command::workspace())
        .arg("--netbpf")
        .arg(product::path("../release/netbpf")?)
        .args(arguments);
    command::replace_by(&mut bench)
}
