//! Debian's packages: which there are, and their installation.

use std::{
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::Path,
};

use anyhow::{Context as _, Result};

use crate::{command, toolchain};

/// The newest Rust compiler in bookworm, the sources of its library, and its linter.
pub const COMPILER: [&str; 4] = ["rustc-web", "cargo-web", "rust-web-src", "rust-web-clippy"];

/// Whether this is the one distribution whose packages are known here.
pub fn is_debian_12() -> bool {
    let release = fs::read_to_string("/etc/os-release").unwrap_or_default();
    let has = |key: &str, value: &str| {
        release
            .lines()
            .filter_map(|line| line.split_once('='))
            .any(|(name, text)| name == key && text.trim_matches('"') == value)
    };
    has("ID", "debian") && has("VERSION_ID", "12")
}

/// Whether all of these packages can be installed as far as apt knows now.
pub fn knows(packages: &[String]) -> bool {
    packages
        .iter()
        .all(|package| candidate(package).is_some_and(|it| is_new_enough(package, &it)))
}

/// Installs the packages; apt's lists are only fetched when one of them is not in there.
pub fn install(packages: &[String]) -> Result<()> {
    if packages.is_empty() {
        return Ok(());
    }
    command::require_root(&format!("installing {}", packages.join(" ")))?;
    if !knows(packages) {
        command::run(command::program("apt-get").arg("update"))?;
    }
    command::run(
        command::program("apt-get")
            .args(["install", "--yes", "--no-install-recommends", "--no-remove"])
            .args(packages)
            .env("DEBIAN_FRONTEND", "noninteractive"),
    )
    .context("apt-get could not install what is missing")
}

/// As [`install`], for packages with services: none is started, for dockerd would change the
/// machine's own firewall and routes.
pub fn install_without_starting(packages: &[String]) -> Result<()> {
    let _quiet = NoServices::begin()?;
    install(packages)
}

/// What Debian's packages ask before they start a service.
const POLICY: &str = "/usr/sbin/policy-rc.d";

/// While it lives, installed packages start no service. A policy that the machine has stays, and
/// decides.
struct NoServices {
    is_ours: bool,
}

impl NoServices {
    fn begin() -> Result<Self> {
        if Path::new(POLICY).exists() {
            return Ok(Self { is_ours: false });
        }
        let failed = || format!("failed to write {POLICY}");
        let mut file = File::create_new(POLICY).with_context(failed)?;
        let guard = Self { is_ours: true };
        // 101: forbidden.
        file.write_all(b"#!/bin/sh\nexit 101\n")
            .and_then(|()| file.set_permissions(Permissions::from_mode(0o755)))
            .with_context(failed)?;
        Ok(guard)
    }
}

impl Drop for NoServices {
    fn drop(&mut self) {
        if self.is_ours
            && let Err(error) = fs::remove_file(POLICY)
        {
            eprintln!("xtask: {POLICY} is to be removed by hand: {error}");
        }
    }
}

/// The version that apt would install.
fn candidate(package: &str) -> Option<String> {
    let policy = command::output(command::program("apt-cache").args(["policy", package]))?;
    let version = policy
        .lines()
        .find_map(|line| line.trim().strip_prefix("Candidate: "))?;
    (version != "(none)").then(|| version.to_owned())
}

/// Bookworm began with a compiler that is too old: lists from before the newer one don't do.
fn is_new_enough(package: &str, version: &str) -> bool {
    package != COMPILER[0] || toolchain::major_minor(version) >= toolchain::minimum_release()
}
