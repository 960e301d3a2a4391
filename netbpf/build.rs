//! Builds the eBPF objects that the library embeds.
//!
//! With `AYA_BUILD_SKIP=1` each is an empty file: the library compiles, and loading says so.

#[path = "../xtask/src/toolchain.rs"]
#[expect(dead_code, reason = "the set-up asks for more than a build does")]
mod toolchain;

use std::{env, fs, path::PathBuf};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

use crate::toolchain::{Compiler, NIGHTLY, OVERRIDE};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed={OVERRIDE}");
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let workspace = PathBuf::from(manifest_dir).join("..");
    for input in [
        "Cargo.toml",
        "Cargo.lock",
        "netbpf-common/src",
        "netbpf-common/Cargo.toml",
    ] {
        println!("cargo:rerun-if-changed={}", workspace.join(input).display());
    }
    let ebpf = workspace.join("netbpf-ebpf");
    let root_dir = ebpf
        .to_str()
        .context("the path of netbpf-ebpf is not UTF-8")?;
    let out_dir = env::var("OUT_DIR").context("OUT_DIR is not set")?;
    let objects = ["netbpf-ebpf", "netbpf-ebpf-l3"].map(|name| PathBuf::from(&out_dir).join(name));
    for object in &objects {
        fs::write(object, []).with_context(|| format!("failed to write {}", object.display()))?;
    }
    let toolchain = toolchain()?;
    prepare_environment();
    build_ebpf(
        [Package {
            name: "netbpf-ebpf",
            root_dir,
            ..Package::default()
        }],
        Toolchain::Custom(&toolchain),
    )?;
    tell_hash(&objects)
}

/// Tells the library what tells these objects from others.
fn tell_hash(objects: &[PathBuf]) -> Result<()> {
    let mut bytes = Vec::new();
    for object in objects {
        let read = fs::read(object);
        bytes.extend(read.with_context(|| format!("failed to read {}", object.display()))?);
    }
    println!("cargo:rustc-env=NETBPF_OBJECT_HASH={:016x}", fnv1a(&bytes));
    Ok(())
}

/// FNV-1a over 64 bits: tells objects apart, keeps nobody out.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    })
}

/// The toolchain for aya-build, which without rustup takes the current one whatever the name.
fn toolchain() -> Result<String> {
    if env::var_os("AYA_BUILD_SKIP").is_some() {
        return Ok(NIGHTLY.to_owned());
    }
    let compiler = Compiler::find()
        .context("no compiler here can build eBPF: `cargo xtask setup` installs what is missing")?;
    Ok(compiler.toolchain.unwrap_or_else(|| NIGHTLY.to_owned()))
}

/// What the inner cargo sees beside what this build sees.
fn prepare_environment() {
    #[expect(
        unsafe_code,
        reason = "aya-build takes the environment of its own process"
    )]
    // SAFETY: a build script starts with one thread, and this one has started no other yet.
    unsafe {
        // Lets a stable compiler build `core` for the BPF target. Only the eBPF build may see
        // this: set for the whole `cargo` call it would change, and so rebuild, user space.
        env::set_var("RUSTC_BOOTSTRAP", "1");
        // Each line of progress would come back as a warning, at every later build too.
        env::set_var("CARGO_TERM_QUIET", "true");
        // Incremental builds cut programs into many units, whose calls need more stack than an
        // eBPF program has.
        env::set_var("CARGO_INCREMENTAL", "0");
    }
}
