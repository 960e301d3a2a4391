//! Builds the eBPF object that the library embeds.

use std::{env, path::PathBuf};

use anyhow::{Context as _, Result};
use aya_build::{Package, Toolchain, build_ebpf};

fn main() -> Result<()> {
    println!("cargo:rerun-if-env-changed=NETBPF_EBPF_TOOLCHAIN");
    let manifest_dir = env::var("CARGO_MANIFEST_DIR").context("CARGO_MANIFEST_DIR is not set")?;
    let workspace = PathBuf::from(manifest_dir).join("..");
    println!(
        "cargo:rerun-if-changed={}",
        workspace.join("netbpf-common/src").display()
    );
    let ebpf = workspace.join("netbpf-ebpf");
    let root_dir = ebpf
        .to_str()
        .context("the path of netbpf-ebpf is not UTF-8")?;
    let toolchain = env::var("NETBPF_EBPF_TOOLCHAIN").ok();
    build_ebpf(
        [Package {
            name: "netbpf-ebpf",
            root_dir,
            ..Package::default()
        }],
        toolchain
            .as_deref()
            .map_or(Toolchain::Nightly, Toolchain::Custom),
    )
}
