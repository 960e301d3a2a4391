//! The lab: a host, a client and the containers of an example, all in namespaces of their own; the
//! real `netbpf apply` in it; every allowed and every forbidden path tried with real sockets.
//!
//! Exits 0 only when all is as expected. It leaves nothing behind unless it is asked to.

use std::{
    env, fs,
    os::unix::process::CommandExt as _,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use clap::{Parser, Subcommand};
use netbpf_tests::{
    matrix::{self, Bench, Listing, OWN_SERVICE, Tried},
    netns::Netns,
    product::Instance,
    sockets::{self, Log},
    topology::{Topology, with_private_namespaces},
};
use nix::{
    sys::signal::{SigSet, Signal, kill},
    unistd::Pid,
};

/// Builds netbpf's lab in network namespaces, tries every path in it, and removes it.
#[derive(Debug, Parser)]
struct Arguments {
    /// The netbpf command to try; default: the one beside this program.
    #[arg(long)]
    netbpf: Option<PathBuf>,
    /// A config file to apply; each gets a lab of its own, one after the other.
    #[arg(long, default_value = "examples/quickstart.toml")]
    config: Vec<PathBuf>,
    /// Leaves the lab up, with servers running, and says how to enter and how to remove it.
    #[arg(long)]
    keep: bool,
    #[command(subcommand)]
    action: Option<Action>,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Removes a lab that was kept.
    Remove {
        /// The word that the names of its namespaces begin with.
        id: String,
    },
    /// Runs the servers of one place of a lab that is kept.
    #[command(hide = true)]
    Serve {
        netns: PathBuf,
        name: String,
        ports: Vec<u16>,
    },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    match &arguments.action {
        Some(Action::Serve { netns, name, ports }) => {
            // What the lab let wait was inherited.
            signals().thread_unblock()?;
            sockets::serve(netns, name, ports, &Log::default()).wait();
            Ok(ExitCode::SUCCESS)
        }
        Some(Action::Remove { id }) => {
            remove(id, &arguments)?;
            Ok(ExitCode::SUCCESS)
        }
        None => lab(&arguments),
    }
}

/// The signals that end a lab. They wait until it is removed, which takes seconds.
fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}

fn lab(arguments: &Arguments) -> Result<ExitCode> {
    signals().thread_block()?;
    let ended = in_namespaces(arguments);
    signals().thread_unblock()?;
    ended
}

fn in_namespaces(arguments: &Arguments) -> Result<ExitCode> {
    ensure!(
        !arguments.keep || arguments.config.len() == 1,
        "one lab can be kept: --keep goes with one --config"
    );
    let netbpf = command_under_test(arguments)?;
    let mut failed = 0;
    for config in &arguments.config {
        println!("{}:", config.display());
        failed += one_lab(&netbpf, config, arguments.keep)?;
    }
    Ok(if failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Builds one lab, tries every path in it, and says how many are not as expected.
fn one_lab(netbpf: &Path, file: &Path, keep: bool) -> Result<usize> {
    let config =
        fs::read_to_string(file).with_context(|| format!("failed to read {}", file.display()))?;
    let began = Instant::now();
    let mut topology = Topology::create();
    let mut instance = Instance::new(&topology.id, &topology.host).with_binary(netbpf);
    let applied = instance.try_apply(&with_private_namespaces(&config, &topology.id));
    ensure!(
        applied.code == Some(0),
        "netbpf apply failed with exit code {:?}: {}{}",
        applied.code,
        applied.stdout,
        applied.stderr
    );
    println!("{}", applied.stdout.trim_end());
    let tried = Bench::set_up(&topology, &instance).try_everything();
    let failed = report(&tried, began.elapsed());
    if keep {
        topology.keep();
        instance.keep();
        let listing = Listing::of(&instance);
        serve_on(&topology, &listing)?;
        explain(&topology, &listing, netbpf, file);
    }
    Ok(failed)
}

fn command_under_test(arguments: &Arguments) -> Result<PathBuf> {
    let beside = env::current_exe()?.with_file_name("netbpf");
    let path = arguments.netbpf.clone().unwrap_or(beside);
    path.canonicalize()
        .with_context(|| format!("there is no netbpf command at {}", path.display()))
}

/// Prints the matrix and returns how many paths are not as expected.
fn report(tried: &[Tried], took: Duration) -> usize {
    print!("{}", matrix::table(tried));
    let wrong: Vec<_> = tried
        .iter()
        .filter(|one| !one.is_as_expected)
        .cloned()
        .collect();
    let failed = wrong.len();
    if failed > 0 {
        print!("\nNot as expected:\n{}", matrix::table(&wrong));
    }
    println!(
        "{} paths tried in {:.1} s, {} as expected, {failed} not",
        tried.len(),
        took.as_secs_f32(),
        tried.len() - failed
    );
    failed
}

/// Starts a process with the servers of each place, which outlives this one.
fn serve_on(topology: &Topology, listing: &Listing) -> Result<()> {
    let outer = [
        (topology.host.path(), "host"),
        (topology.client.path(), "client"),
    ];
    for (netns, name) in outer {
        serve_in_background(netns, name, &[OWN_SERVICE])?;
    }
    for container in &listing.containers {
        serve_in_background(
            &container.netns,
            &container.name,
            &listing.ports_of(container),
        )?;
    }
    Ok(())
}

fn serve_in_background(netns: &Path, name: &str, ports: &[u16]) -> Result<()> {
    // It enters the namespace as a whole, so that `ip netns pids` finds it there.
    Netns::existing(netns)
        .command(env::current_exe()?)
        .arg("serve")
        .arg(netns)
        .arg(name)
        .args(ports.iter().map(u16::to_string))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn()
        .with_context(|| format!("failed to start the servers of {name}"))?;
    Ok(())
}

fn explain(topology: &Topology, listing: &Listing, netbpf: &Path, config: &Path) {
    let enter = |netns: &Path| format!("nsenter --net={}", netns.display());
    println!("\nThe lab is up. Enter it with:");
    println!("  host:    {}", enter(topology.host.path()));
    println!("  client:  {}", enter(topology.client.path()));
    for container in &listing.containers {
        println!("  {}: {}", container.name, enter(&container.netns));
    }
    println!("Ask netbpf on the host:");
    println!(
        "  {} {} --instance {} status",
        enter(topology.host.path()),
        netbpf.display(),
        topology.id
    );
    println!("Remove it with:");
    let this = env::current_exe().unwrap_or_else(|_| "lab".into());
    println!(
        "  {} --netbpf {} --config {} remove {}",
        this.display(),
        netbpf.display(),
        config.display(),
        topology.id
    );
}

/// Removes a lab that was kept.
fn remove(id: &str, arguments: &Arguments) -> Result<()> {
    let netbpf = command_under_test(arguments)?;
    ensure!(!lab_namespaces(id)?.is_empty(), "there is no lab {id}");
    clear(id, &netbpf)?;
    println!("removed the lab {id}");
    Ok(())
}

/// Ends the servers of a lab, purges its instance and deletes its namespaces.
fn clear(id: &str, netbpf: &Path) -> Result<()> {
    for name in lab_namespaces(id)? {
        let pids = Command::new("ip").args(["netns", "pids", &name]).output()?;
        for pid in String::from_utf8_lossy(&pids.stdout).split_whitespace() {
            let pid = Pid::from_raw(pid.parse()?);
            // A process that has ended by itself is gone all the same.
            let _ = kill(pid, Signal::SIGTERM);
        }
    }
    let host = Netns::existing(format!("/run/netns/{id}-host"));
    let purged = Instance::new(id, &host).with_binary(netbpf).run(&["purge"]);
    for name in lab_namespaces(id)? {
        Command::new("ip").args(["netns", "del", &name]).status()?;
    }
    ensure!(purged.code == Some(0), "purge failed: {}", purged.stderr);
    Ok(())
}

fn lab_namespaces(id: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in fs::read_dir("/run/netns").context("failed to list /run/netns")? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        if name
            .strip_prefix(id)
            .is_some_and(|rest| rest.starts_with('-'))
        {
            names.push(name);
        }
    }
    Ok(names)
}
