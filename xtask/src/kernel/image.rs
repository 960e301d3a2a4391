//! The machine's root file system, which lies in its memory: netbpf, the lab and the examples, the
//! programs that they call, and the kernel's modules.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{command, product};

/// The machine's first process: mounts, runs the lab, switches the machine off.
const INIT: &str = include_str!("image/init.sh");

/// Programs of this machine that are called there.
const PROGRAMS: [&str; 6] = ["busybox", "ip", "modprobe", "nft", "nsenter", "ping"];

/// Makes the root file system below `root` anew, and its archive beside it, which is the result.
pub fn build(kernel: &Path, root: &Path) -> Result<PathBuf> {
    if root.exists() {
        fs::remove_dir_all(root).with_context(|| format!("failed to clear {}", root.display()))?;
    }
    for name in PROGRAMS {
        let found = command::path(name).with_context(|| format!("there is no program {name}"))?;
        add_program(&found, &root.join("bin").join(name))?;
    }
    for name in ["netbpf", "lab"] {
        add_program(&product::path(name)?, &root.join("bin").join(name))?;
    }
    add_folder(
        &command::workspace().join("examples"),
        &root.join("examples"),
    )?;
    add_modules(kernel, root)?;
    let init = root.join("init");
    fs::write(&init, INIT)
        .and_then(|()| fs::set_permissions(&init, fs::Permissions::from_mode(0o755)))
        .with_context(|| format!("failed to write {}", init.display()))?;
    archive(root)
}

/// A program as it will be called there, with the libraries that it is linked to.
fn add_program(from: &Path, to: &Path) -> Result<()> {
    add_file(from, to)?;
    let root = to.ancestors().nth(2).context("a program lies in /bin")?;
    // It fails for a program that needs no library.
    let libraries = command::output(command::program("ldd").arg(from)).unwrap_or_default();
    for word in libraries.split_whitespace() {
        if let Some(library) = word.strip_prefix('/') {
            add_file(Path::new(word), &root.join(library))?;
        }
    }
    Ok(())
}

/// The modules, with the index that the kernel's package leaves to its installation.
fn add_modules(kernel: &Path, root: &Path) -> Result<()> {
    let modules = root.join("lib/modules");
    add_folder(&kernel.join("lib/modules"), &modules)?;
    let release = command::entry(&modules, "")?;
    command::run(
        command::program("depmod")
            .arg("--basedir")
            .arg(root)
            .args(release.file_name()),
    )
}

fn add_folder(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to).with_context(|| format!("failed to make {}", to.display()))?;
    command::run(
        command::program("cp")
            .arg("--recursive")
            .arg(from.join("."))
            .arg(to),
    )
}

fn add_file(from: &Path, to: &Path) -> Result<()> {
    let folder = to.parent().unwrap_or(to);
    fs::create_dir_all(folder)
        .and_then(|()| fs::copy(from, to))
        .with_context(|| format!("failed to copy {} to {}", from.display(), to.display()))?;
    Ok(())
}

/// Packs the folder as the kernel unpacks it.
fn archive(root: &Path) -> Result<PathBuf> {
    let archive = root.with_extension("cpio");
    // Its names are relative to the folder.
    command::run(
        command::program("sh")
            .current_dir(root)
            .args(["-c", "find . | busybox cpio -o -H newc >\"$0\""])
            .arg(&archive),
    )?;
    Ok(archive)
}
