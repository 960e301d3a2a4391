//! `cargo xtask tidy`: format, house rules, lints on the host and on the BPF target, and the
//! documentation. It changes no file.

use std::process::Command;

use anyhow::Result;

use crate::{command, house, product, toolchain::Compiler};

/// Runs every check that needs no test to be built; `compiler` is the eBPF crate's.
pub fn tidy(compiler: &Compiler) -> Result<()> {
    if has_component("fmt") {
        command::run(command::cargo("fmt").args(["--all", "--check"]))?;
    }
    house::check(command::workspace())?;
    if has_component("clippy") {
        command::run(command::cargo("clippy").args(["--all-targets", "--", "--deny", "warnings"]))?;
    }
    lint_ebpf(compiler)?;
    command::run(
        command::cargo("doc")
            .args(["--no-deps", "--document-private-items"])
            .env("RUSTDOCFLAGS", "--deny warnings"),
    )
}

/// A toolchain of rustup's minimal profile has neither formatter nor linter; that is said, and
/// the tests still run.
fn has_component(component: &str) -> bool {
    let found = command::output(command::cargo(component).arg("--version")).is_some();
    if !found {
        eprintln!("xtask: not checked: this toolchain has no cargo {component}");
    }
    found
}

/// Lints the eBPF crate as what it is: `core` comes from source, as in the real build.
fn lint_ebpf(compiler: &Compiler) -> Result<()> {
    if !compiler.sysroot.join("bin/cargo-clippy").exists() {
        eprintln!("xtask: not checked: the compiler of the eBPF crate has no cargo clippy");
        return Ok(());
    }
    let mut clippy = cargo_of(compiler);
    clippy
        .current_dir(command::workspace())
        .args([
            "clippy",
            "--package",
            "netbpf-ebpf",
            "--no-deps",
            "--release",
        ])
        .args(["--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(product::path("ebpf-lint")?)
        .args(["--", "--deny", "warnings"])
        .env("RUSTC_BOOTSTRAP", "1")
        .env(
            "RUSTFLAGS",
            format!("--cfg=bpf_target_arch=\"{}\"", std::env::consts::ARCH),
        );
    command::run(&mut clippy)
}

fn cargo_of(compiler: &Compiler) -> Command {
    let Some(toolchain) = &compiler.toolchain else {
        return command::program("cargo");
    };
    let mut command = command::program("rustup");
    command.args(["run", toolchain, "cargo"]);
    // What the outer cargo says about itself would lead the inner one to the outer compiler.
    for variable in [
        "CARGO",
        "RUSTC",
        "RUSTC_WORKSPACE_WRAPPER",
        "RUSTUP_TOOLCHAIN",
    ] {
        command.env_remove(variable);
    }
    command
}
