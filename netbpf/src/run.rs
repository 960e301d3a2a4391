//! `netbpf run`: the process that stays, and how other commands reach it.
//!
//! The dataplane never needs it. While it lives it carries out every change, so that there is one
//! place that changes things; a command that finds it dead does the change itself.
//!
//! On the control socket each request and each answer is one line of JSON.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        linux::net::SocketAddrExt as _,
        unix::{
            fs::PermissionsExt as _,
            net::{SocketAddr, UnixDatagram, UnixListener, UnixStream},
        },
    },
    path::{Path, PathBuf},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::{
        signal::{SigSet, Signal, kill},
        signalfd::{SfdFlags, SignalFd},
    },
    unistd::Pid,
};
use serde::{Deserialize, Serialize};

use crate::{
    edit::Edit,
    error::{self, Error},
    host::{Host, watch::Watch},
    reconcile::{self, Mode, Options, Report, Reservations, Source},
    reserved::Sign,
    state::Instance,
};

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits for its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// How long a `run` that doesn't answer may take to end.
const END_PATIENCE: Duration = Duration::from_secs(10);

/// How many milliseconds the host must be quiet before what changed is looked at: one cable brings
/// many messages.
const QUIET_MS: u8 = 100;

/// How long a host that is never quiet is waited for.
const NEVER_QUIET: Duration = Duration::from_secs(1);

/// The longest request, in bytes.
const REQUEST_MAX: u64 = 64 << 20;

/// What can be asked of a living `run`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Request {
    /// Apply a document, or the committed one.
    Apply {
        document: Option<Source>,
        mode: Mode,
    },
    /// Edit the committed document and apply it.
    Edit { edits: Vec<Edit>, mode: Mode },
    /// End, for a purge follows. The dataplane stays.
    End,
}

/// What it answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Response {
    /// It was done.
    Done(Report),
    /// It was not.
    Failed { message: String, exit_code: u8 },
}

fn socket_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("control.sock")
}

fn pid_file_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("pid")
}

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

impl Request {
    fn carry_out(
        &self,
        host: &Host,
        instance: &Instance,
        reservations: &mut Reservations,
    ) -> Result<Report> {
        let options = |mode| Options {
            mode,
            ..Options::default()
        };
        match self {
            Self::Apply { document, mode } => {
                let document = document.as_ref();
                reconcile::apply(host, instance, document, options(*mode), reservations)
            }
            Self::Edit { edits, mode } => {
                reconcile::edit(host, instance, edits, options(*mode), reservations)
            }
            Self::End => Ok(Report::default()),
        }
    }

    /// Whether it changes something if it succeeds.
    const fn acts(&self) -> bool {
        match self {
            Self::Apply { mode, .. } | Self::Edit { mode, .. } => matches!(mode, Mode::Apply),
            Self::End => false,
        }
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

fn connect(instance: &Instance) -> Result<Option<UnixStream>> {
    let path = socket_of(instance);
    match UnixStream::connect(&path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error).with_context(|| format!("failed to connect to {}", path.display())),
        },
    }
}

fn ask(stream: &mut UnixStream, request: &Request) -> Result<Response> {
    let mut line = serde_json::to_vec(request)?;
    line.push(b'\n');
    stream.write_all(&line)?;
    stream.set_read_timeout(Some(ANSWER_PATIENCE))?;
    let mut answer = String::new();
    BufReader::new(stream)
        .read_line(&mut answer)
        .map_err(|error| match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                let seconds = ANSWER_PATIENCE.as_secs();
                Error::host(format!(
                    "no answer within {seconds} s; it may still come to it"
                ))
            }
            _ => Error::host(error.to_string()),
        })?;
    if answer.is_empty() {
        return Err(Error::host("it ended without an answer").into());
    }
    Ok(serde_json::from_str(&answer)?)
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
}

/// A client with its request: one line, if it is well.
struct Asked {
    stream: UnixStream,
    line: Vec<u8>,
}

/// Reads requests, each client on a thread of its own, so that one that sends nothing keeps nobody
/// waiting.
struct Clients {
    sender: mpsc::Sender<Asked>,
    receiver: mpsc::Receiver<Asked>,
    wake: PipeReader,
    waker: PipeWriter,
}

impl Clients {
    fn new() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let (wake, waker) = io::pipe().context("failed to make a pipe")?;
        Ok(Self {
            sender,
            receiver,
            wake,
            waker,
        })
    }

    /// Begins to read what a client wants.
    fn begin(&self, stream: UnixStream) -> Result<()> {
        let sender = self.sender.clone();
        let mut waker = self.waker.try_clone()?;
        let read = move || match request(&stream) {
            // Somebody only looked whether anybody is here.
            Ok(line) if line.is_empty() => {}
            Ok(line) => {
                // Whoever ended in between has no use for it.
                if sender.send(Asked { stream, line }).is_ok() {
                    let _ = waker.write_all(&[0]);
                }
            }
            Err(error) => tracing::warn!(%error, "a client on the control socket"),
        };
        thread::Builder::new().spawn(read)?;
        Ok(())
    }

    /// The request whose coming made `wake` readable.
    fn next(&self) -> Result<Option<Asked>> {
        let mut wake = &self.wake;
        wake.read_exact(&mut [0])?;
        Ok(self.receiver.try_recv().ok())
    }
}

fn request(stream: &UnixStream) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut line = Vec::new();
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', &mut line)?;
    Ok(line)
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
    /// The published ports, kept from other processes.
    reservations: Reservations,
    sign: Sign,
}

/// Applies `file`, or the committed document, and stays until it is told to end: by a signal or by
/// a purge. The dataplane stays in place either way.
///
/// # Errors
///
/// When the document can't be read or applied at the start, or another `run` lives.
pub fn run(host: &Host, instance: &Instance, file: Option<&Path>) -> Result<()> {
    if connect(instance)?.is_some() {
        let name = instance.name();
        return Err(Error::host(format!("instance {name} already has a running netbpf")).into());
    }
    // Blocked before the first change, so that a signal never falls between two steps.
    let signals = signals()?;
    // Before the first look at the host, so that no change after it is missed.
    let watch = Watch::open()?;
    let document = file.map(read).transpose()?;
    let mut reservations = Reservations::lasting();
    let document = document.as_ref();
    let options = Options::default();
    let report = reconcile::apply(host, instance, document, options, &mut reservations)?;
    log_changes(&report);
    let mut run = Run {
        host,
        instance,
        file,
        listener: listen(instance)?,
        clients: Clients::new()?,
        signals,
        watch,
        reservations,
        sign: Sign::new(instance),
    };
    write_pid(instance)?;
    run.tell_reserved();
    tracing::info!(instance = instance.name(), "ready");
    notify("READY=1");
    let ended = run.serve();
    let _ = fs::remove_file(pid_file_of(instance));
    let _ = fs::remove_file(socket_of(instance));
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

fn listen(instance: &Instance) -> Result<UnixListener> {
    let path = socket_of(instance);
    match fs::remove_file(&path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("failed to remove {}", path.display()));
        }
        _ => {}
    }
    fs::create_dir_all(instance.run_dir())?;
    let listening = || format!("failed to listen on {}", path.display());
    let listener = UnixListener::bind(&path).with_context(listening)?;
    // Whatever the umask: who may connect may change the host's network.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).with_context(listening)?;
    Ok(listener)
}

fn write_pid(instance: &Instance) -> Result<()> {
    let path = pid_file_of(instance);
    fs::write(&path, format!("{}\n", std::process::id()))
        .with_context(|| format!("failed to write {}", path.display()))
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
                Event::Asked(asked) => {
                    if self.answer(&asked) == Then::End {
                        return Ok(());
                    }
                }
            }
        }
    }

    fn wait(&self) -> Result<Event> {
        loop {
            let [changes, policies] = self.watch.fds();
            let mut fds = [
                PollFd::new(self.signals.as_fd(), PollFlags::POLLIN),
                PollFd::new(self.listener.as_fd(), PollFlags::POLLIN),
                PollFd::new(changes, PollFlags::POLLIN),
                PollFd::new(self.clients.wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(policies, PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Err(Errno::EINTR) => continue,
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
                self.accept();
                continue;
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
    fn accept(&self) {
        let begun = self
            .listener
            .accept()
            .map_err(anyhow::Error::from)
            .and_then(|(stream, _)| self.clients.begin(stream));
        if let Err(error) = begun {
            tracing::warn!(
                error = format!("{error:#}"),
                "a client on the control socket"
            );
        }
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
        let Self {
            host,
            instance,
            reservations,
            ..
        } = self;
        let applied = reconcile::apply(host, instance, document, Options::default(), reservations);
        self.tell_reserved();
        applied
    }

    /// Lets `status` know whether other processes can still take a published port.
    fn tell_reserved(&mut self) {
        if !self.reservations.are_whole() {
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
            Ok(Request::End) => (Response::Done(Report::default()), Then::End),
            Ok(request) => (self.carry_out(&request), Then::GoOn),
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
        then
    }

    fn carry_out(&mut self, request: &Request) -> Response {
        let done = request.carry_out(self.host, self.instance, &mut self.reservations);
        self.tell_reserved();
        match done {
            Ok(report) => {
                if request.acts() {
                    log_changes(&report);
                }
                Response::Done(report)
            }
            Err(error) => Response::Failed {
                message: format!("{error:#}"),
                exit_code: error::exit_code(&error),
            },
        }
    }
}

fn send(mut stream: &UnixStream, response: &Response) -> Result<()> {
    let mut answer = serde_json::to_vec(response)?;
    answer.push(b'\n');
    Ok(stream.write_all(&answer)?)
}

/// Whether a `run` goes on after a request.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Then {
    GoOn,
    End,
}
