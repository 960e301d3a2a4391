//! What wakes a `run`, and what it does then.

use std::{
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::net::UnixListener,
    },
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::Signal,
        signalfd::SignalFd,
        socket::{Shutdown, shutdown},
    },
};

use super::{
    control::{Asked, Clients, Letter, Request, Response, send},
    log_changes, read,
};
use crate::{
    display, error,
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
pub(super) struct Run<'a> {
    pub(super) host: &'a Host,
    pub(super) instance: &'a Instance,
    pub(super) file: Option<&'a Path>,
    pub(super) listener: UnixListener,
    pub(super) clients: Clients,
    pub(super) signals: SignalFd,
    pub(super) watch: Watch,
    /// The published ports, kept from other processes, and what stands.
    pub(super) keeper: Keeper,
    pub(super) sign: Sign,
}

impl Run<'_> {
    /// Until it is told to end.
    pub(super) fn serve(&mut self) -> Result<()> {
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
    pub(super) fn answer_the_last(&mut self) {
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
    pub(super) fn tell_reserved(&mut self) {
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
