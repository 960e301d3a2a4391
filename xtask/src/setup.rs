//! What building eBPF, the lab and the tests need beyond a Rust toolchain: looks for it, says
//! what is missing and why, and on Debian 12 installs it from Debian's packages and crates.io.
//!
//! It installs only what is missing and removes nothing; when all is there it takes no time.

pub mod debian;
mod linker;

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command,
    toolchain::{self, Compiler, LINKED, NIGHTLY},
};
use linker::Linker;

/// A program: name, Debian package, purpose.
type Tool = (&'static str, &'static str, &'static str);

/// Programs of the lab and the tests.
const TOOLS: [Tool; 4] = [
    (
        "ip",
        "iproute2",
        "makes the namespaces of the lab and the tests",
    ),
    ("ping", "iputils-ping", "ICMP in the lab and the tests"),
    (
        "nft",
        "nftables",
        "the packet filter that netbpf must not need",
    ),
    ("bpftool", "bpftool", "shows programs and maps by name"),
];

/// What the bench compares with, and what it needs for that.
const PEERS: [Tool; 6] = [
    ("dockerd", "docker.io", "Docker, whose rules are compared"),
    ("iptables", "iptables", "carries Docker's rules"),
    (
        "busybox",
        "busybox-static",
        "what a container of Docker's runs",
    ),
    (
        "conntrack",
        "conntrack",
        "forgets connections that peers tracked",
    ),
    (
        "ethtool",
        "ethtool",
        "shows whether all that is compared offloads the same",
    ),
    (
        "iperf3",
        "iperf3",
        "what the bench's streams are checked against",
    ),
];

/// What another kernel runs in.
const EMULATOR: [Tool; 3] = [
    (
        "qemu-system-x86_64",
        "qemu-system-x86",
        "emulates the machine that another kernel runs on",
    ),
    (
        "busybox",
        "busybox-static",
        "the shell of that machine, and what packs its files",
    ),
    ("modprobe", "kmod", "loads the modules of that kernel"),
];

/// What was found here.
struct Inventory {
    compiler: Option<Compiler>,
    linker: Option<Linker>,
}

impl Inventory {
    fn look() -> Self {
        Self {
            compiler: Compiler::find(),
            linker: Linker::find(),
        }
    }

    /// The compiler, when this linker can read what it writes.
    fn working_compiler(self) -> Option<Compiler> {
        let linker = self.linker?;
        self.compiler.filter(|compiler| linker.reads(compiler))
    }
}

/// Makes sure that everything is there; the compiler that builds eBPF is the result.
pub fn ensure() -> Result<Compiler> {
    let inventory = Inventory::look();
    let tools = missing(&TOOLS);
    let needs = needs(&inventory, &tools);
    if !needs.is_empty() {
        report(&needs);
        if !debian::is_debian_12() {
            bail!(
                "this is not Debian 12, so nothing was installed: install what is listed above \
                 and try again"
            );
        }
        eprintln!("xtask: installing that from Debian's packages and crates.io, in some minutes");
        install(inventory, &tools)?;
    }
    Inventory::look()
        .working_compiler()
        .context("the set-up went through, yet there is no compiler with a linker to match")
}

/// Installs the peers of the bench that are missing. Where that can't be, the bench runs without
/// them and its report says so.
pub fn ensure_peers() -> Result<()> {
    let tools = missing(&PEERS);
    if tools.is_empty() {
        return Ok(());
    }
    report(&sentences(&tools));
    if !debian::is_debian_12() {
        eprintln!("xtask: this is not Debian 12, so the bench goes on without them");
        return Ok(());
    }
    debian::install_without_starting(&packages(&tools))
}

/// Installs what is missing of what another kernel runs in.
pub fn ensure_emulator() -> Result<()> {
    ensure!(
        debian::is_debian_12(),
        "other kernels come from the packages of Debian 12, and this is not Debian 12"
    );
    let tools = missing(&EMULATOR);
    if !tools.is_empty() {
        report(&sentences(&tools));
    }
    debian::install(&packages(&tools))
}

fn sentences(tools: &[&Tool]) -> Vec<String> {
    tools
        .iter()
        .map(|(name, _, purpose)| format!("{name}: {purpose}"))
        .collect()
}

fn packages(tools: &[&Tool]) -> Vec<String> {
    tools
        .iter()
        .map(|(_, package, _)| (*package).to_owned())
        .collect()
}

/// One sentence for each missing thing: what it is and what it is for.
fn needs(inventory: &Inventory, tools: &[&Tool]) -> Vec<String> {
    let mut needs = Vec::new();
    if inventory.compiler.is_none() {
        let (major, minor) = toolchain::minimum_release().unwrap_or_default();
        needs.push(format!(
            "a Rust compiler with the sources of `core`, which must be built for the BPF target: \
             rustup's {NIGHTLY} with the component rust-src, or a distribution's rustc {major}.{minor} or \
             newer with its source package"
        ));
    }
    match (&inventory.linker, &inventory.compiler) {
        (None, _) => needs.push(format!(
            "bpf-linker {} or newer, which links eBPF objects and gives them their type \
             information",
            linker::VERSION
        )),
        (Some(linker), Some(compiler)) if !linker.reads(compiler) => needs.push(format!(
            "a bpf-linker with LLVM {}: the one found here has LLVM {} and can't read what the \
             compiler writes",
            compiler.llvm, linker.llvm
        )),
        _ => {}
    }
    needs.extend(sentences(tools));
    needs
}

fn report(needs: &[String]) {
    eprintln!("xtask: missing here:");
    for need in needs {
        eprintln!("  - {need}");
    }
}

fn missing(tools: &'static [Tool]) -> Vec<&'static Tool> {
    tools
        .iter()
        .filter(|(name, ..)| !command::is_installed(name))
        .collect()
}

fn install(inventory: Inventory, tools: &[&Tool]) -> Result<()> {
    debian::install(&packages(tools))?;
    let compiler = match inventory.compiler.filter(linkable) {
        Some(compiler) => compiler,
        None => install_compiler()?,
    };
    if !inventory
        .linker
        .is_some_and(|linker| linker.reads(&compiler))
    {
        debian::install(&linker::packages(compiler.llvm))?;
        linker::install(compiler.llvm)?;
    }
    Ok(())
}

/// Whether there is, or Debian has, an LLVM that is new enough for this compiler.
fn linkable(compiler: &Compiler) -> bool {
    let found = Linker::find().is_some_and(|linker| linker.reads(compiler))
        || debian::knows(&linker::packages(compiler.llvm));
    if !found {
        eprintln!(
            "xtask: Debian has no LLVM {}, so the compiler found here is not used for eBPF",
            compiler.llvm
        );
    }
    found
}

/// Debian's own compiler stays beside the user's toolchain: rustup only learns its name.
fn install_compiler() -> Result<Compiler> {
    debian::install(&debian::COMPILER.map(str::to_owned))?;
    if toolchain::has_rustup() {
        command::run(command::program("rustup").args(["toolchain", "link", LINKED, "/usr"]))?;
    }
    Compiler::find().context("Debian's rustc is installed, but can't build `core` from source")
}
