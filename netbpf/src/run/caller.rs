//! What other commands ask of a living `run`, and do themselves where there is none.

use std::{
    fs,
    io::Write as _,
    os::unix::net::UnixStream,
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
    claim::{Claim, PATIENCE, SILENT_PATIENCE, pid_file_of},
    control::{Letter, Request, Response, ask, connect},
};
use crate::{
    edit::Edit,
    error::Error,
    host::{Host, Netns, NetnsId, kernel},
    reconcile::{self, Keeper, Mode, Report, Source},
    state::Instance,
};

const PAUSE: Duration = Duration::from_millis(20);

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
    let place = place(netns, instance);
    match ask(&mut stream, &letter, &place).context("failed to ask the running netbpf")? {
        Response::Done(report) => Ok(report),
        Response::Failed { message, exit_code } => Err(match exit_code {
            2 => Error::usage(message),
            3 => Error::kernel(message),
            _ => Error::host(message),
        }
        .into()),
    }
}

/// The options that a command about the same instance of the same host needs, as they are typed.
fn place(netns: Option<&str>, instance: &Instance) -> String {
    let name = Some(instance.name()).filter(|name| *name != Instance::DEFAULT);
    [("--instance", name), ("--netns", netns)]
        .iter()
        .filter_map(|(option, value)| value.map(|value| format!("{option} {value} ")))
        .collect()
}

fn change_here(netns: Option<&str>, instance: &Instance, request: &Request) -> Result<Report> {
    kernel::require()?;
    let host = Host::enter(netns)?;
    instance.check_namespace(host.netns().id())?;
    request.carry_out(&host, instance, &mut Keeper::momentary())
}

/// Ends the living `run`, and one that only begins, then removes what the journal says this instance
/// made. A `run` that is started meanwhile waits.
///
/// # Errors
///
/// As [`reconcile::purge`].
pub fn purge(host: &Host, instance: &Instance) -> Result<Report> {
    instance.check_namespace(host.netns().id())?;
    let _claim = end(instance, host.netns().id())?;
    reconcile::purge(host, instance)
}

/// Ends whichever `run` has the claim, and takes it; none where no `run` can have begun.
fn end(instance: &Instance, host: NetnsId) -> Result<Option<Claim>> {
    let begin = Instant::now();
    let mut told: Option<(Option<Pid>, Option<UnixStream>)> = None;
    let mut is_said = false;
    while instance.run_dir().exists() {
        if let Some(claim) = Claim::tried(instance)? {
            return Ok(Some(claim));
        }
        let pid = living(instance);
        // Another one may follow on the one that was told.
        if told.as_ref().is_none_or(|(whom, _)| *whom != pid) {
            told = Some((pid, tell_to_end(instance, host, pid)?));
        }
        if begin.elapsed() >= PATIENCE {
            return Err(Error::host(format!("{} does not end", named(instance, pid))).into());
        }
        if !is_said && begin.elapsed() >= SILENT_PATIENCE {
            is_said = true;
            let seconds = PATIENCE.as_secs();
            let who = named(instance, pid);
            eprintln!("waiting for at most {seconds} s until {who} ends");
        }
        thread::sleep(PAUSE);
    }
    Ok(None)
}

/// By its socket, and by its process id, if they can be had. It needs nobody who waits for an
/// answer; the connection is given back so that it can give one.
fn tell_to_end(instance: &Instance, host: NetnsId, pid: Option<Pid>) -> Result<Option<UnixStream>> {
    let stream = connect(instance)?;
    if let Some(mut stream) = stream.as_ref() {
        let request = Request::End;
        // One that has ended meanwhile hears nothing any more, and need not.
        let _ = stream.write_all(&Letter { host, request }.line()?);
    }
    match pid.map(|pid| kill(pid, Signal::SIGTERM)) {
        None | Some(Ok(()) | Err(Errno::ESRCH)) => Ok(stream),
        Some(Err(errno)) => Err(errno).context("failed to end the running netbpf"),
    }
}

/// A `run`, and whom it waits for, if it does.
fn named(instance: &Instance, pid: Option<Pid>) -> String {
    let holder = instance.lock_holder();
    let (process, own) = pid.map_or_else(
        || ("netbpf run".to_owned(), None),
        |pid| {
            let process = format!("process {pid}");
            (format!("{process} (netbpf run)"), Some(process))
        },
    );
    match holder.filter(|holder| own.as_ref() != Some(holder)) {
        Some(holder) => format!("{process}, which finds the instance locked by {holder},"),
        None => process,
    }
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
