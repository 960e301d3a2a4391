//! Starting other programs: where they are looked for, how they are shown, when they count as
//! failed.

use std::{
    env,
    ffi::{OsStr, OsString},
    fs,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, Result, bail, ensure};

/// A program by name, found also among what `cargo install` has put down.
pub fn program(name: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new(name);
    command.env("PATH", search_path());
    command
}

/// The cargo that started this process, at the workspace's root.
pub fn cargo(subcommand: &str) -> Command {
    let mut command = program(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(workspace()).arg(subcommand);
    command
}

/// Shows the command, runs it and asks for success.
pub fn run(command: &mut Command) -> Result<()> {
    eprintln!("xtask: {}", shown(command));
    let status = command
        .status()
        .with_context(|| format!("failed to start {}", shown(command)))?;
    ensure!(status.success(), "{} failed: {status}", shown(command));
    Ok(())
}

/// Becomes the command: what it prints comes last, and signals and the exit code are its own.
pub fn replace_by(command: &mut Command) -> Result<()> {
    eprintln!("xtask: {}", shown(command));
    let failure = command.exec();
    Err(failure).with_context(|| format!("failed to start {}", shown(command)))
}

/// What the command prints on stdout, if it can be started and succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    output
        .status
        .success()
        .then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program of this name can be started.
pub fn is_installed(name: &str) -> bool {
    path(name).is_some()
}

/// Where the program of this name lies.
pub fn path(name: &str) -> Option<PathBuf> {
    env::split_paths(&search_path())
        .map(|directory| directory.join(name))
        .find(|path| path.is_file())
}

/// The entry of a folder whose name begins so, where there is only one.
pub fn entry(folder: &Path, beginning: &str) -> Result<PathBuf> {
    fs::read_dir(folder)
        .with_context(|| format!("failed to list {}", folder.display()))?
        .filter_map(|entry| Some(entry.ok()?.path()))
        .find(|path| {
            path.file_name()
                .is_some_and(|name| name.to_string_lossy().starts_with(beginning))
        })
        .with_context(|| format!("there is no {beginning}… in {}", folder.display()))
}

/// Asks for root early, with what it is for, instead of failing half way.
pub fn require_root(purpose: &str) -> Result<()> {
    // The directory of a process belongs to its effective user.
    let user = fs::metadata("/proc/self")
        .context("failed to read /proc/self")?
        .uid();
    if user != 0 {
        bail!("{purpose} needs root");
    }
    Ok(())
}

/// The workspace's root.
pub fn workspace() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
}

fn search_path() -> OsString {
    let installed = cargo_home().map(|home| home.join("bin"));
    let inherited = env::var_os("PATH").unwrap_or_default();
    // Administrators' tools are missing in the path of many a login.
    let system = ["/usr/sbin", "/sbin"].map(PathBuf::from);
    env::join_paths(
        installed
            .into_iter()
            .chain(env::split_paths(&inherited))
            .chain(system),
    )
    .unwrap_or(inherited)
}

fn cargo_home() -> Option<PathBuf> {
    env::var_os("CARGO_HOME")
        .map(PathBuf::from)
        .or_else(|| env::home_dir().map(|home| home.join(".cargo")))
}

fn shown(command: &Command) -> String {
    let name = Path::new(command.get_program())
        .file_name()
        .unwrap_or(command.get_program());
    std::iter::once(name)
        .chain(command.get_args())
        .map(OsStr::to_string_lossy)
        .collect::<Vec<_>>()
        .join(" ")
}
