//! Debian's packages: which there are, their installation, and kernels, which are only fetched.

use std::{
    cmp::Reverse,
    fs::{self, File, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
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

/// The package of the newest kernel of this version, such as `6.1`, in its variant for virtual
/// machines.
pub fn kernel(version: &str) -> Result<String> {
    let prefix = format!("linux-image-{version}.");
    let names = command::output(command::program("apt-cache").args(["pkgnames", &prefix]));
    newest_kernels(&names.unwrap_or_default())
        .into_iter()
        .find(|name| candidate(name).is_some())
        .map(str::to_owned)
        .with_context(|| {
            format!("apt knows no kernel {version} (`apt-get update` fetches its lists)")
        })
}

/// Those of the packages that are such kernels, the newest first.
fn newest_kernels(names: &str) -> Vec<&str> {
    let numbers = |name: &str| -> Vec<u32> {
        name.split(|letter: char| !letter.is_ascii_digit())
            .filter_map(|word| word.parse().ok())
            .collect()
    };
    let mut kernels: Vec<_> = names
        .lines()
        .filter(|name| name.ends_with("-cloud-amd64"))
        .collect();
    kernels.sort_by_key(|name| Reverse(numbers(name)));
    kernels
}

/// The file of a package, fetched into the folder unless it is there, and not installed.
pub fn fetched(package: &str, folder: &Path) -> Result<PathBuf> {
    whole(folder, &format!("{package}_"), |partial| {
        command::run(
            command::program("apt-get")
                .current_dir(partial)
                .args(["download", package]),
        )
        .context("apt-get could not fetch it (`apt-get update` fetches its lists)")
    })
}

/// The file of the folder whose name begins so. Where there is none, `fetch` fetches it into a
/// folder beside, from where it comes once it is whole: what was cut short is never taken for it.
fn whole(
    folder: &Path,
    beginning: &str,
    fetch: impl FnOnce(&Path) -> Result<()>,
) -> Result<PathBuf> {
    if let Ok(there) = command::entry(folder, beginning) {
        return Ok(there);
    }
    let partial = folder.join("partial");
    let failed = || format!("failed to make {} anew", partial.display());
    if partial.exists() {
        fs::remove_dir_all(&partial).with_context(failed)?;
    }
    fs::create_dir(&partial).with_context(failed)?;
    fetch(&partial)?;
    let fetched = command::entry(&partial, beginning)?;
    let there = folder.join(fetched.file_name().context("a file without a name")?);
    fs::rename(&fetched, &there).with_context(|| format!("failed to make {}", there.display()))?;
    Ok(there)
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

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn the_newest_kernel_for_virtual_machines_comes_first() {
        let names = "linux-image-6.1.0-9-cloud-amd64\n\
                     linux-image-6.1.0-56-cloud-amd64-unsigned\n\
                     linux-image-6.1.0-50-cloud-amd64\n\
                     linux-image-6.1.0-60-amd64\n";
        assert_eq!(
            newest_kernels(names),
            [
                "linux-image-6.1.0-50-cloud-amd64",
                "linux-image-6.1.0-9-cloud-amd64"
            ]
        );
    }

    #[test]
    fn a_download_that_was_cut_short_is_fetched_again_and_a_whole_one_is_not() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let fetch = |text: &'static str| {
            move |at: &Path| Ok(fs::write(at.join("kernel_1_amd64.deb"), text)?)
        };
        let cut_short = |at: &Path| fetch("wh")(at).and_then(|()| bail!("killed"));
        whole(folder.path(), "kernel_", cut_short).expect_err("it was cut short");
        for text in ["whole", "again"] {
            let there = whole(folder.path(), "kernel_", fetch(text)).expect("it is fetched");
            assert_eq!(there, folder.path().join("kernel_1_amd64.deb"));
            assert_eq!(fs::read_to_string(there).expect("a file"), "whole");
        }
    }

    #[test]
    fn what_apt_fetched_under_another_name_is_not_there() {
        let folder = tempfile::tempdir().expect("a temporary directory");
        let other = |at: &Path| Ok(fs::write(at.join("other_1.deb"), "")?);
        whole(folder.path(), "kernel_", other).expect_err("there is no such file");
    }
}
