//! `cargo xtask bench`: builds netbpf as it is released, then becomes the bench.

use anyhow::Result;

use crate::{command, product, release, setup};

/// Measures, with these arguments for the bench.
pub fn bench(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    // What was measured needs no peers and no product to be kept.
    if arguments.first().is_none_or(|first| first != "readme") {
        command::require_root("measuring in network namespaces")?;
        setup::ensure_peers()?;
        release::build()?;
    }
    product::build()?;
    let mut bench = command::program(product::path("bench")?);
    bench
        .current_dir(command::workspace())
        .arg("--netbpf")
        .arg(product::path("../release/netbpf")?)
        .args(arguments);
    command::replace_by(&mut bench)
}
