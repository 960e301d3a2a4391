//! What other commands ask of a living `run`, and do themselves where there is none.

use std::{
    fs,
    io::Read as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use super::control::{Request, Response, ask, connect};
use crate::{
    edit::Edit,
    error::Error,
    host::Host,
    reconcile::{self, Mode, Report, Reservations, Source},
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
    host: &Host,
    instance: &Instance,
    document: Option<&Source>,
    mode: Mode,
) -> Result<Report> {
    change(
        host,
        instance,
        &Request::Apply {
            document: document.cloned(),
            mode,
        },
    )
}

/// Edits the committed document and applies it: by the living `run` if there is one, else here.
///
/// # Errors
///
/// As [`reconcile::edit`].
pub fn edit(host: &Host, instance: &Instance, edits: Vec<Edit>, mode: Mode) -> Result<Report> {
    change(host, instance, &Request::Edit { edits, mode })
}

fn change(host: &Host, instance: &Instance, request: &Request) -> Result<Report> {
    instance.check_namespace(host.netns().id())?;
    let Some(mut stream) = connect(instance)? else {
        return request.carry_out(host, instance, &mut Reservations::momentary());
    };
    match ask(&mut stream, request).context("failed to ask the running netbpf")? {
        Response::Done(report) => Ok(report),
        Response::Failed { message, exit_code } => Err(match exit_code {
            2 => Error::usage(message),
            3 => Error::kernel(message),
            _ => Error::host(message),
        }
        .into()),
    }
}

/// Ends the living `run`, then removes what the journal says this instance made.
///
/// # Errors
///
/// As [`reconcile::purge`].
pub fn purge(host: &Host, instance: &Instance) -> Result<Report> {
    instance.check_namespace(host.netns().id())?;
    end(instance)?;
    reconcile::purge(host, instance)
}

/// Ends the living `run`: asks it, and where nobody answers, by its process id.
fn end(instance: &Instance) -> Result<()> {
    if let Some(mut stream) = connect(instance)? {
        // It closes the connection by ending.
        ask(&mut stream, &Request::End)?;
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

pub(super) fn pid_file_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("pid")
}
