//! Which compiler builds the eBPF crate. `netbpf/build.rs` includes this file, so that a build
//! started by hand and one started by `cargo xtask` always choose the same one.
//!
//! It only looks: it installs nothing and changes no environment.

use std::{env, path::PathBuf, process::Command};

/// Overrides the choice with the name of a rustup toolchain.
pub const OVERRIDE: &str = "NETBPF_EBPF_TOOLCHAIN";
/// The name under which the set-up links a distribution's compiler into rustup.
pub const LINKED: &str = "netbpf-ebpf";
/// The toolchain that most users already have.
pub const NIGHTLY: &str = "nightly";

/// A compiler that has the sources of `core`, which no toolchain ships built for the BPF target.
#[derive(Debug)]
pub struct Compiler {
    /// Its rustup toolchain; `None` where there is no rustup and `rustc` stands for itself.
    pub toolchain: Option<String>,
    /// The major version of its LLVM; a linker with an older one can't read what it writes.
    pub llvm: u32,
    /// Where it lives, with `bin` and `lib` below.
    pub sysroot: PathBuf,
}

impl Compiler {
    /// The first usable one: what the environment names, else the linked one, else nightly.
    pub fn find() -> Option<Self> {
        if let Ok(name) = env::var(OVERRIDE) {
            return Self::probe(Some(&name));
        }
        if !has_rustup() {
            return Self::probe(None);
        }
        [LINKED, NIGHTLY]
            .into_iter()
            .find_map(|name| Self::probe(Some(name)))
    }

    fn probe(toolchain: Option<&str>) -> Option<Self> {
        let version = rustc(toolchain, &["-vV"])?;
        let sysroot = PathBuf::from(rustc(toolchain, &["--print", "sysroot"])?.trim());
        let (release, llvm) = (release(&version)?, llvm(&version)?);
        let sources = sysroot.join("lib/rustlib/src/rust/library/Cargo.lock");
        (release >= minimum_release()? && sources.exists()).then(|| Self {
            toolchain: toolchain.map(str::to_owned),
            llvm,
            sysroot,
        })
    }
}

/// Whether `rustup` is in the path; without it there is no choice of compilers.
pub fn has_rustup() -> bool {
    Command::new("rustup")
        .arg("--version")
        .output()
        .is_ok_and(|output| output.status.success())
}

/// The release that the workspace asks for, as major and minor.
pub fn minimum_release() -> Option<(u32, u32)> {
    major_minor(env!("CARGO_PKG_RUST_VERSION"))
}

/// The first two numbers of a version like `1.96.0+dfsg1`.
pub fn major_minor(version: &str) -> Option<(u32, u32)> {
    let (major, rest) = version.split_once('.')?;
    let minor = rest.split(|c: char| !c.is_ascii_digit()).next()?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

fn rustc(toolchain: Option<&str>, arguments: &[&str]) -> Option<String> {
    let mut command = match toolchain {
        Some(name) => {
            let mut command = Command::new("rustup");
            // Looking must not download a toolchain that is not there.
            command
                .env("RUSTUP_AUTO_INSTALL", "0")
                .args(["run", name, "rustc"]);
            command
        }
        None => Command::new("rustc"),
    };
    let output = command.args(arguments).output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

fn release(version: &str) -> Option<(u32, u32)> {
    major_minor(
        version
            .lines()
            .find_map(|line| line.strip_prefix("release: "))?,
    )
}

fn llvm(version: &str) -> Option<u32> {
    let llvm = version
        .lines()
        .find_map(|line| line.strip_prefix("LLVM version: "))?;
    Some(major_minor(llvm)?.0)
}
