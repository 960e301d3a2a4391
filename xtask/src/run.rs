//! `cargo xtask run`: builds, then becomes the lab or netbpf itself.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{command, product, setup};

/// Checks every path of the examples in namespaces, or, where `option` keeps a lab, of the
/// quickstart alone; `option` goes to the lab.
pub fn lab(option: Option<&str>) -> Result<()> {
    command::require_root("the lab")?;
    setup::ensure()?;
    product::build()?;
    let mut lab = command::program(product::path("lab")?);
    lab.args(option)
        .arg("--netbpf")
        .arg(product::path("netbpf")?);
    let examples = command::workspace().join("examples");
    let configs = match option {
        Some(_) => vec![examples.join("quickstart.toml")],
        None => files_of(&examples)?,
    };
    for config in configs {
        lab.arg("--config").arg(config);
    }
    command::replace_by(&mut lab)
}

fn files_of(folder: &Path) -> Result<Vec<PathBuf>> {
    let mut files = fs::read_dir(folder)
        .and_then(|entries| {
            entries
                .map(|entry| Ok(entry?.path()))
                .collect::<io::Result<Vec<_>>>()
        })
        .with_context(|| format!("failed to list {}", folder.display()))?;
    files.sort();
    Ok(files)
}

/// Runs `netbpf` with these arguments on this machine.
pub fn netbpf(arguments: &[String]) -> Result<()> {
    setup::ensure()?;
    product::build()?;
    command::replace_by(command::program(product::path("netbpf")?).args(arguments))
}
