//! `cargo xtask release`: builds netbpf as it is released: linked with no library of the machine it
//! was built on, so that it runs on others, and starts without looking for any.

use std::path::PathBuf;

use anyhow::Result;

use crate::{command, product};

/// Builds it, and says where it lies.
pub fn build() -> Result<PathBuf> {
    command::run(command::cargo("rustc").args([
        "--release",
        "--package",
        "netbpf",
        "--bin",
        "netbpf",
        "--",
        "-Ctarget-feature=+crt-static",
    ]))?;
    product::path("../release/netbpf")
}
