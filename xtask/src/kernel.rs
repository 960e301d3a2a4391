//! `cargo xtask kernel VERSION`: the lab on another kernel, Debian's own, in a machine that qemu
//! emulates. This machine's kernel and network take no part; packages and images lie below the
//! target directory.

mod image;

use std::{
    fs,
    path::{Path, PathBuf},
    process::Stdio,
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command, product,
    setup::{self, debian},
};

/// The machine: emulated whole, so that it needs nothing of this one's processor; in MiB, memory for
/// its root file system and the flow tables of a lab.
const MACHINE: [&str; 8] = [
    "-accel", "tcg", "-cpu", "max", "-m", "3072", "-display", "none",
];

/// How long the machine may run, in seconds.
const PATIENCE: &str = "1800";

/// Boots Debian's newest kernel of this version and tries every path of every example on it.
pub fn lab(version: &str) -> Result<()> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "kernels are known for x86_64 alone"
    );
    setup::ensure()?;
    setup::ensure_emulator()?;
    product::build()?;
    let work = product::path("../kernel")?;
    fs::create_dir_all(&work).with_context(|| format!("failed to make {}", work.display()))?;
    let kernel = unpacked(version, &work)?;
    let image = image::build(&kernel, &work.join("image"))?;
    boot(&kernel, &image, &work.join("exit"))
}

/// The folder with the files of the kernel's package, which is fetched where it is not there yet.
fn unpacked(version: &str, work: &Path) -> Result<PathBuf> {
    let package = debian::kernel(version)?;
    let folder = work.join(&package);
    // What is there already may be half of it.
    command::run(
        command::program("dpkg-deb")
            .arg("--extract")
            .args([&debian::fetched(&package, work)?, &folder]),
    )?;
    Ok(folder)
}

/// Runs the machine until it is off. It shows its console here and leaves the lab's exit code in
/// the file `exit`, by its second serial line.
fn boot(kernel: &Path, image: &Path, exit: &Path) -> Result<()> {
    let vmlinuz = command::entry(&kernel.join("boot"), "vmlinuz")?;
    fs::write(exit, "").with_context(|| format!("failed to write {}", exit.display()))?;
    command::run(
        command::program("timeout")
            // In the foreground, so that an interrupt ends the machine as well.
            .args([
                "--foreground",
                PATIENCE,
                "qemu-system-x86_64",
                "-nodefaults",
                "-no-reboot",
            ])
            .args(MACHINE)
            .args(["-serial", "stdio", "-serial"])
            .arg(format!("file:{}", exit.display()))
            .args(["-append", "console=ttyS0 quiet panic=1", "-kernel"])
            .arg(vmlinuz)
            .arg("-initrd")
            .arg(image)
            .stdin(Stdio::null()),
    )?;
    let code =
        fs::read_to_string(exit).with_context(|| format!("failed to read {}", exit.display()))?;
    match code.trim() {
        "" => bail!("the machine went off before the lab came to its end"),
        "0" => Ok(()),
        code => bail!("the lab failed with exit code {code}"),
    }
}
