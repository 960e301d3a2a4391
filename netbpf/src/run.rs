//! `netbpf run`: the process that stays, and how other commands reach it.
//!
//! The dataplane never needs it. While it lives it carries out every change, so that there is one
//! place that changes things; a command that finds it dead does the change itself.

mod caller;
mod claim;
mod control;
mod serve;

use std::{
    fs,
    os::{
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram},
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use nix::sys::{
    signal::{SigSet, Signal},
    signalfd::{SfdFlags, SignalFd},
};

pub use self::caller::{apply, edit, purge};
use self::{
    claim::Claim,
    control::{Clients, listen, socket_of},
    serve::Run,
};
use crate::{
    error::Error,
    host::{Host, watch::Watch},
    reconcile::{Keeper, Options, Report, Source},
    reserved::Sign,
    state::Instance,
};

/// Applies `file`, or the committed document, and stays until it is told to end: by a signal or by
/// a purge. The dataplane stays in place either way.
///
/// # Errors
///
/// When the document can't be read or applied at the start, or another `run` lives.
pub fn run(host: &Host, instance: &Instance, file: Option<&Path>) -> Result<()> {
    // Blocked before the first change, so that a signal never falls between two steps.
    let signals = signals()?;
    // Before the first look at the host, so that no change after it is missed.
    let watch = Watch::open()?;
    let document = file.map(read).transpose()?;
    // Let go last of all, when ports and files are given back.
    let mut claim = Claim::take(instance)?;
    let mut keeper = Keeper::lasting();
    let report = keeper.apply(host, instance, document.as_ref(), Options::default())?;
    log_changes(&report);
    claim.keep(instance)?;
    let mut run = Run {
        host,
        instance,
        file,
        listener: listen(instance)?,
        clients: Clients::new()?,
        signals,
        watch,
        keeper,
        sign: Sign::new(instance),
    };
    run.tell_reserved();
    tracing::info!(instance = instance.name(), "ready");
    notify("READY=1");
    let ended = run.serve();
    let _ = fs::remove_file(socket_of(instance));
    run.answer_the_last();
    ended
}

/// Reads a document; one that can't be read is the command line's fault.
///
/// # Errors
///
/// The file can't be read, or is not UTF-8.
pub fn read(path: &Path) -> Result<Source> {
    let text = fs::read_to_string(path)
        .map_err(|source| Error::usage(format!("failed to read {}: {source}", path.display())))?;
    Ok(Source {
        path: path.display().to_string(),
        text,
    })
}

fn signals() -> Result<SignalFd> {
    let mut mask = SigSet::empty();
    for signal in [Signal::SIGHUP, Signal::SIGTERM, Signal::SIGINT] {
        mask.add(signal);
    }
    mask.thread_block().context("failed to block signals")?;
    SignalFd::with_flags(&mask, SfdFlags::SFD_CLOEXEC).context("failed to listen for signals")
}

fn log_changes(report: &Report) {
    for change in &report.changes {
        tracing::info!(
            kind = %change.kind,
            name = change.name,
            detail = change.detail,
            "{}",
            change.action.name()
        );
    }
}

/// Tells systemd, if it wants to know (`sd_notify(3)`). Whoever doesn't listen misses nothing.
fn notify(state: &str) {
    let Some(path) = std::env::var_os("NOTIFY_SOCKET") else {
        return;
    };
    let address = match path.to_str().and_then(|path| path.strip_prefix('@')) {
        Some(name) => SocketAddr::from_abstract_name(name),
        None => SocketAddr::from_pathname(&path),
    };
    let sent = address
        .and_then(|address| UnixDatagram::unbound()?.send_to_addr(state.as_bytes(), &address));
    if let Err(error) = sent {
        tracing::warn!(%error, "failed to notify the service manager");
    }
}
