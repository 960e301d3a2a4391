//! `cargo xtask run`: builds, then becomes the lab or netbpf itself.

use anyhow::Result;

use crate::{command, product, setup};

/// Checks every path of the quickstart in namespaces; `option` goes to the lab.
pub fn lab(option: Option<&str>) -> Result<()> {
    command::require_root("the lab")?;
    setup::ensure()?;
    product::build()?;
    command::replace_by(
        command::program(product::path("lab")?)
            .args(option)
            .arg("--config")
            .arg(command::workspace().join("examples/quickstart.toml"))
            .arg("--netbpf")
            .arg(product::path("netbpf")?),
    )
}

/// Runs `netbpf` with these arguments on this machine.
pub fn netbpf(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    product::build()?;
    command::replace_by(command::program(product::path("netbpf")?).args(arguments))
}
