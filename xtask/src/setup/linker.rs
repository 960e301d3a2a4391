//! bpf-linker: what it is here, and its installation from crates.io.

use anyhow::{Context as _, Result};

use crate::{
    command,
    toolchain::{self, Compiler},
};

/// The release that is installed, and the oldest that is accepted.
pub const VERSION: &str = "0.13.0";

/// The linker found in the path.
#[derive(Debug)]
pub struct Linker {
    /// The major version of the LLVM inside.
    pub llvm: u32,
}

impl Linker {
    /// `None` when there is none, when it is too old, and when it does not start because its
    /// shared libraries are gone.
    pub fn find() -> Option<Self> {
        let version = command::output(command::program("bpf-linker").arg("--version"))?;
        let version = version
            .split_whitespace()
            .last()
            .and_then(toolchain::major_minor)?;
        // The linker hands this to its LLVM, which answers before any input is looked at.
        let llvm = command::output(command::program("bpf-linker").args([
            "--llvm-args=--version",
            "--output=/dev/null",
            "/dev/null",
        ]))?;
        (Some(version) >= toolchain::major_minor(VERSION))
            .then(|| llvm_major(&llvm).map(|llvm| Self { llvm }))
            .flatten()
    }

    /// LLVM reads the bitcode of older releases, never of newer ones.
    pub fn reads(&self, compiler: &Compiler) -> bool {
        self.llvm >= compiler.llvm
    }
}

/// What it is linked with.
pub fn packages(llvm: u32) -> Vec<String> {
    let mut packages = vec![format!("llvm-{llvm}-dev"), format!("libpolly-{llvm}-dev")];
    packages.extend(["libzstd-dev", "zlib1g-dev"].map(str::to_owned));
    packages
}

/// Builds and installs it against Debian's LLVM of that version.
pub fn install(llvm: u32) -> Result<()> {
    command::run(
        command::cargo("install")
            .args(["bpf-linker", "--version", VERSION, "--locked", "--force"])
            .args([
                "--no-default-features",
                "--features",
                &format!("llvm-{llvm}"),
            ])
            .env("LLVM_PREFIX", format!("/usr/lib/llvm-{llvm}"))
            // Nobody debugs the linker here, and without it the build takes half the time.
            .env("CARGO_PROFILE_RELEASE_DEBUG", "false"),
    )
    .context("bpf-linker could not be installed")
}

fn llvm_major(answer: &str) -> Option<u32> {
    let version = answer
        .lines()
        .find_map(|line| line.split("LLVM version ").nth(1))?;
    Some(toolchain::major_minor(version.trim())?.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn llvm_is_read_from_the_linkers_answer() {
        assert_eq!(
            llvm_major("Debian LLVM version 22.1.8\n  Optimized build.\n"),
            Some(22)
        );
        assert_eq!(
            llvm_major("LLVM (http://llvm.org/):\n  LLVM version 21.1.0-rust\n"),
            Some(21)
        );
        assert_eq!(llvm_major("unknown argument"), None);
    }
}
