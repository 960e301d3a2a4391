//! What other commands ask of a living `run`, and do themselves where there is none.

use std::{
    fs,
    io::Read as _,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::{
    claim::pid_file_of,
    control::{Letter, Request, Response, ask, connect},
};
use crate::{
    edit::Edit,
    error::Error,
    host::{Host, Netns, NetnsId, kernel},
    reconcile::{self, Keeper, Mode, Report, Source},
    state::Instance,
};

/// How long a `run` that doesn't answer may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// Applies a document, or the committed one: by the living `run` if there is one, else here.
///
/// # Errors
///
/// As [`reconcile::apply`].
pub fn apply(
    netns: Option<&str>,
    instance: &Instance,
    document: Option<Source>,
    mode: Mode,
) -> Result<Report> {
    change(netns, instance, Request::Apply { document, mode })
}

/// Edits the committed document and applies it: by the living `run` if there is one, else here.
///
/// # Errors
///
/// As [`reconcile::edit`].
pub fn edit(
    netns: Option<&str>,
    instance: &Instance,
    edits: Vec<Edit>,
    mode: Mode,
) -> Result<Report> {
    change(netns, instance, Request::Edit { edits, mode })
}

/// Where a `run` lives nothing is done here but to ask it: neither kernel nor state is looked at.
fn change(netns: Option<&str>, instance: &Instance, request: Request) -> Result<Report> {
    let mut stream = match connect(instance) {
        Ok(Some(stream)) => stream,
        Ok(None) => return change_here(netns, instance, &request),
        Err(error) => {
            kernel::require()?;
            return Err(error);
        }
    };
    let host = Netns::named(netns)?.id();
    let letter = Letter { host, request };
    match ask(&mut stream, &letter).context("failed to ask the running netbpf")? {
        Response::Done(report) => Ok(report),
        Response::Failed { message, exit_code } => Err(match exit_code {
            2 => Error::usage(message),
            3 => Error::kernel(message),
            _ => Error::host(message),
        }
        .into()),
    }
}

fn change_here(netns: Option<&str>, instance: &Instance, request: &Request) -> Result<Report> {
    kernel::require()?;
    let host = Host::enter(netns)?;
    instance.check_namespace(host.netns().id())?;
    request.carry_out(&host, instance, &mut Keeper::momentary())
}

/// Ends the living `run`, then removes what the journal says this instance made.
///
/// # Errors
///
/// As [`reconcile::purge`].
pub fn purge(host: &Host, instance: &Instance) -> Result<Report> {
    instance.check_namespace(host.netns().id())?;
    end(instance, host.netns().id())?;
    reconcile::purge(host, instance)
}

/// Ends the living `run`: asks it, and where nobody answers, by its process id.
fn end(instance: &Instance, host: NetnsId) -> Result<()> {
    if let Some(mut stream) = connect(instance)? {
        // It closes the connection by ending.
        let request = Request::End;
        ask(&mut stream, &Letter { host, request })?;
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest)?;
    }
    let Some(pid) = living(instance) else {
        return Ok(());
    };
    kill(pid, Signal::SIGTERM)
        .or_else(|errno| {
            if errno == Errno::ESRCH {
                Ok(())
            } else {
                Err(errno)
            }
        })
        .with_context(|| format!("failed to end process {pid}"))?;
    let deadline = Instant::now() + END_PATIENCE;
    while living(instance).is_some() {
        if Instant::now() >= deadline {
            return Err(Error::host(format!("process {pid} (netbpf run) does not end")).into());
        }
        thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// The process in the pid file, if it lives and is a netbpf.
fn living(instance: &Instance) -> Option<Pid> {
    let pid: i32 = fs::read_to_string(pid_file_of(instance))
        .ok()?
        .trim()
        .parse()
        .ok()?;
    let command = fs::read_to_string(format!("/proc/{pid}/comm")).ok()?;
    (command.trim() == "netbpf").then(|| Pid::from_raw(pid))
}
