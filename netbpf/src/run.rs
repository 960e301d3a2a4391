//! `netbpf run`: the process that stays, and how other commands reach it.
//!
//! The dataplane never needs it. While it lives it carries out every change, so that there is one
//! place that changes things; a command that finds it dead does the change itself.

mod caller;
mod claim;
mod control;

use std::{
    fs,
    os::{
        fd::{AsFd as _, AsRawFd as _},
        linux::net::SocketAddrExt as _,
        unix::net::{SocketAddr, UnixDatagram, UnixListener},
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal},
        signalfd::{SfdFlags, SignalFd},
        socket::{Shutdown, shutdown},
    },
};

pub use self::caller::{apply, edit, purge};
use self::{
    claim::Claim,
    control::{Asked, Clients, Letter, Request, Response, listen, send, socket_of},
};
use crate::{
    display,
    error::{self, Error},
    host::{Host, NetnsId, watch::Watch},
    reconcile::{Keeper, Options, Report, Source},
    reserved::Sign,
    state::{self, Instance},
};

/// How many milliseconds the host must be quiet before what changed is looked at: one cable brings
/// many messages.
const QUIET_MS: u8 = 100;

/// For how many milliseconds nobody has asked when what can wait is done.
const REST_MS: u8 = 100;

/// How long a `run` that ends waits for requests of those who have reached it.
const LAST_PATIENCE: Duration = Duration::from_secs(1);

/// How long a host that is never quiet is waited for.
const NEVER_QUIET: Duration = Duration::from_secs(1);

/// What wakes a `run`.
enum Event {
    /// SIGHUP.
    Reload,
    /// SIGTERM or SIGINT.
    End,
    /// A client has sent its request.
    Asked(Asked),
    /// Links, addresses, forwarding or IPsec policies of the host changed.
    HostChanged,
    /// Nothing has happened for a while.
    Quiet,
}

/// A `run` at work.
struct Run<'a> {
    host: &'a Host,
    instance: &'a Instance,
    file: Option<&'a Path>,
    listener: UnixListener,
    clients: Clients,
    signals: SignalFd,
    watch: Watch,
    /// The published ports, kept from other processes, and what stands.
    keeper: Keeper,
    sign: Sign,
}

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

impl Run<'_> {
    fn serve(&mut self) -> Result<()> {
        loop {
            match self.wait()? {
                Event::End => return Ok(()),
                Event::Reload => self.reload(),
                Event::HostChanged => self.follow(),
                Event::Quiet => self.keeper.rest(),
                Event::Asked(asked) => {
                    if self.answer(&asked) == Then::End {
                        return Ok(());
                    }
                }
            }
        }
    }

    /// Answers those who had reached the socket when this `run` was told to end. Nobody else comes
    /// in: whoever finds the socket closed does by itself what it would have asked.
    fn answer_the_last(&mut self) {
        if let Err(error) = shutdown(self.listener.as_raw_fd(), Shutdown::Both) {
            tracing::warn!(%error, "failed to close the control socket");
            return;
        }
        while let Ok((stream, _)) = self.listener.accept() {
            match self.clients.begin(stream) {
                Ok(Some(asked)) => drop(self.answer(&asked)),
                Ok(None) => {}
                Err(error) => tracing::warn!(
                    error = format!("{error:#}"),
                    "a client on the control socket"
                ),
            }
        }
        let end = Instant::now() + LAST_PATIENCE;
        while let Some(asked) = self.clients.last(end) {
            self.answer(&asked);
        }
    }

    fn wait(&self) -> Result<Event> {
        let patience = if self.keeper.can_rest() {
            PollTimeout::from(REST_MS)
        } else {
            PollTimeout::NONE
        };
        loop {
            let [changes, policies] = self.watch.fds();
            let mut fds = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(changes, PollFlags::POLLIN),
                PollFd::new(self.clients.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(policies, PollFlags::POLLIN),
            ];
            match poll(&mut fds, patience) {
                Err(Errno::EINTR) => continue,
                Ok(0) => return Ok(Event::Quiet),
                other => other.context("failed to wait")?,
            };
            if fds[0].any() == Some(true) {
                let Some(signal) = self.signals.read_signal()? else {
                    continue;
                };
                let hangup = signal.ssi_signo == Signal::SIGHUP as u32;
                return Ok(if hangup { Event::Reload } else { Event::End });
            }
            if fds[1].any() == Some(true) {
                let Some(asked) = self.accept() else {
                    continue;
                };
                return Ok(Event::Asked(asked));
            }
            if fds[3].any() == Some(true) {
                let Some(asked) = self.clients.next()? else {
                    continue;
                };
                return Ok(Event::Asked(asked));
            }
            if fds[2].any() == Some(true) || fds[4].any() == Some(true) {
                self.until_quiet()?;
                return Ok(Event::HostChanged);
            }
        }
    }

    /// A client that can't be heard is no reason to end.
    fn accept(&self) -> Option<Asked> {
        let begun = self
            .listener
            .accept()
            .map_err(anyhow::Error::from)
            .and_then(|(stream, _)| self.clients.begin(stream));
        begun.unwrap_or_else(|error| {
            tracing::warn!(
                error = format!("{error:#}"),
                "a client on the control socket"
            );
            None
        })
    }

    /// Waits until the host is quiet, but not for ever.
    fn until_quiet(&self) -> Result<()> {
        let end = Instant::now() + NEVER_QUIET;
        loop {
            self.watch.drain()?;
            let mut fds = self
                .watch
                .fds()
                .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
            match poll(&mut fds, PollTimeout::from(QUIET_MS)) {
                Ok(0) => return Ok(()),
                Ok(_) if Instant::now() >= end => return Ok(()),
                Ok(_) | Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno).context("failed to wait"),
            }
        }
    }

    fn apply(&mut self, document: Option<&Source>) -> Result<Report> {
        let options = Options::default();
        let applied = self
            .keeper
            .apply(self.host, self.instance, document, options);
        self.tell_reserved();
        applied
    }

    /// Lets `status` know whether other processes can still take a published port.
    fn tell_reserved(&mut self) {
        if !self.keeper.reservations().are_whole() {
            self.sign.take_down();
            return;
        }
        if let Err(error) = self.sign.put_up() {
            tracing::warn!(%error, "failed to tell that ports are reserved");
        }
    }

    /// Makes the host fit the committed document again: an uplink that appeared gets its hooks, a
    /// new address its published ports. What fails is logged, and the next change tries again.
    fn follow(&mut self) {
        match self.apply(None) {
            Ok(report) => log_changes(&report),
            Err(error) => {
                tracing::warn!(error = format!("{error:#}"), "failed to follow the host");
            }
        }
    }

    /// A document that can't be applied is logged and changes nothing.
    fn reload(&mut self) {
        let document = self.file.map(read).transpose();
        let applied = document.and_then(|document| self.apply(document.as_ref()));
        match applied {
            Ok(report) => {
                tracing::info!(changes = report.changes.len(), "reloaded");
                log_changes(&report);
            }
            Err(error) => {
                tracing::error!(
                    error = format!("{error:#}"),
                    "failed to reload, nothing changed"
                );
            }
        }
    }

    fn answer(&mut self, asked: &Asked) -> Then {
        let (response, then) = match serde_json::from_slice(&asked.line) {
            Ok(Letter { host, .. }) if host != self.host.netns().id() => {
                (self.elsewhere(host), Then::GoOn)
            }
            Ok(Letter {
                request: Request::End,
                ..
            }) => (Response::Done(Report::default()), Then::End),
            Ok(letter) => (self.carry_out(&letter.request), Then::GoOn),
            Err(error) => {
                let message = format!("not a request: {error}");
                let exit_code = 1;
                (Response::Failed { message, exit_code }, Then::GoOn)
            }
        };
        if let Err(error) = send(&asked.stream, &response) {
            tracing::warn!(
                error = format!("{error:#}"),
                "a client on the control socket"
            );
        }
        self.keeper.tidy();
        then
    }

    /// An instance acts on one namespace.
    fn elsewhere(&self, here: NetnsId) -> Response {
        let error = state::Error::ElsewhereBound {
            instance: self.instance.name().to_owned(),
            owner: self.host.netns().id(),
            here,
        };
        let message = error.to_string();
        let exit_code = 1;
        Response::Failed { message, exit_code }
    }

    fn carry_out(&mut self, request: &Request) -> Response {
        // What changed on the host and was not looked at yet is looked at with this change.
        if self.watch.has_news() {
            self.keeper.forget();
        }
        let done = request.carry_out(self.host, self.instance, &mut self.keeper);
        self.tell_reserved();
        match done {
            Ok(report) => {
                if request.acts() {
                    log_changes(&report);
                }
                Response::Done(report)
            }
            Err(error) => Response::Failed {
                message: display::causes(&error),
                exit_code: error::exit_code(&error),
            },
        }
    }
}

/// Whether a `run` goes on after a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    GoOn,
    End,
}
