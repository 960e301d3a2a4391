//! The control socket: each request and each answer is one line of JSON.

use std::{
    fs,
    io::{self, BufRead as _, BufReader, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::AsFd as _,
        unix::{
            fs::PermissionsExt as _,
            net::{UnixListener, UnixStream},
        },
    },
    path::PathBuf,
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use serde::{Deserialize, Serialize};

use crate::{
    edit::Edit,
    error::Error,
    host::{Host, NetnsId},
    reconcile::{Keeper, Mode, Options, Report, Source},
    state::Instance,
};

/// How long a client may take to send its request.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long a client waits for its answer.
const ANSWER_PATIENCE: Duration = Duration::from_secs(30);

/// What is known of a request that changes nothing.
const NOTHING: &str = "nothing was to be changed";

/// The longest request, in bytes.
const REQUEST_MAX: u64 = 64 << 20;

/// What a client asks of a living `run`, and for which host.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(super) struct Letter {
    pub(super) host: NetnsId,
    pub(super) request: Request,
}

impl Letter {
    /// As it is sent.
    pub(super) fn line(&self) -> Result<Vec<u8>> {
        let mut line = serde_json::to_vec(self)?;
        line.push(b'\n');
        Ok(line)
    }
}

/// What can be asked of a living `run`.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Request {
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
pub(super) enum Response {
    /// It was done.
    Done(Report),
    /// It was not.
    Failed { message: String, exit_code: u8 },
}

impl Request {
    pub(super) fn carry_out(
        &self,
        host: &Host,
        instance: &Instance,
        keeper: &mut Keeper,
    ) -> Result<Report> {
        let options = |mode| Options {
            mode,
            ..Options::default()
        };
        match self {
            Self::Apply { document, mode } => {
                let document = document.as_ref();
                keeper.apply(host, instance, document, options(*mode))
            }
            Self::Edit { edits, mode } => keeper.edit(host, instance, edits, options(*mode)),
            Self::End => Ok(Report::default()),
        }
    }

    /// What is known of it by whoever asked, where the one who was asked ended before it had
    /// answered, and which command tells the rest: one that reads what is committed, which a change
    /// is or is not as a whole. `place` says whose, as in [`ask`].
    fn once_ended(&self, place: &str) -> String {
        let tells = match self {
            _ if !self.acts() => return NOTHING.to_owned(),
            Self::Edit { edits, .. } => edits.last().map(|edit| format!("{} ls", edit.noun())),
            Self::Apply { document, .. } => document
                .as_ref()
                .map(|source| format!("apply {} --dry-run", source.path)),
            Self::End => None,
        };
        let tells = tells.as_deref().unwrap_or("apply --dry-run");
        format!("the change may or may not have been made, `netbpf {place}{tells}` shows which")
    }

    /// The same where no answer came in time: nothing shows yet what becomes of it.
    const fn once_late(&self) -> &'static str {
        if self.acts() {
            "it may still come to it"
        } else {
            NOTHING
        }
    }

    /// Whether it changes something if it succeeds.
    pub(super) const fn acts(&self) -> bool {
        match self {
            Self::Apply { mode, .. } | Self::Edit { mode, .. } => matches!(mode, Mode::Apply),
            Self::End => false,
        }
    }
}

pub(super) fn socket_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("control.sock")
}

pub(super) fn connect(instance: &Instance) -> Result<Option<UnixStream>> {
    let path = socket_of(instance);
    match UnixStream::connect(&path) {
        Ok(stream) => Ok(Some(stream)),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused => Ok(None),
            _ => Err(error).with_context(|| format!("failed to connect to {}", path.display())),
        },
    }
}

/// Asks, and waits for the answer. `place` are the options that name instance and host where they
/// are not the defaults, each with a blank behind it.
pub(super) fn ask(stream: &mut UnixStream, letter: &Letter, place: &str) -> Result<Response> {
    ask_within(stream, letter, place, ANSWER_PATIENCE)
}

fn ask_within(
    stream: &mut UnixStream,
    letter: &Letter,
    place: &str,
    patience: Duration,
) -> Result<Response> {
    // It acts on whole lines alone.
    stream
        .write_all(&letter.line()?)
        .map_err(|error| Error::host(format!("{error}; nothing was changed")))?;
    stream.set_read_timeout(Some(patience))?;
    let mut answer = String::new();
    let read = BufReader::new(stream).read_line(&mut answer);
    let lost = match read.map_err(|error| error.kind()) {
        Ok(_) if answer.ends_with('\n') => return Ok(serde_json::from_str(&answer)?),
        Err(io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            let known = letter.request.once_late();
            format!("no answer within {} s; {known}", patience.as_secs())
        }
        Ok(_) | Err(_) => {
            let known = letter.request.once_ended(place);
            format!("it ended before it had answered; {known}")
        }
    };
    Err(Error::host(lost).into())
}

pub(super) fn listen(instance: &Instance) -> Result<UnixListener> {
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

/// A client with its request: one line, if it is well.
pub(super) struct Asked {
    pub(super) stream: UnixStream,
    pub(super) line: Vec<u8>,
}

/// How many milliseconds a client is waited for before it gets a thread of its own.
const AT_ONCE_MS: u8 = 1;

/// Reads requests. Most come with the connection; whoever sends nothing at once is read on a thread
/// of its own, and keeps nobody waiting.
pub(super) struct Clients {
    /// None once nobody new is heard.
    sender: Option<mpsc::Sender<Asked>>,
    receiver: mpsc::Receiver<Asked>,
    /// Readable when a request has come.
    pub(super) wake: PipeReader,
    waker: PipeWriter,
}

impl Clients {
    pub(super) fn new() -> Result<Self> {
        let (sender, receiver) = mpsc::channel();
        let (wake, waker) = io::pipe().context("failed to make a pipe")?;
        Ok(Self {
            sender: Some(sender),
            receiver,
            wake,
            waker,
        })
    }

    /// Begins to read what a client wants. Gives it where all of it is there.
    pub(super) fn begin(&self, stream: UnixStream) -> Result<Option<Asked>> {
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        let mut line = at_once(&stream)?;
        if line.ends_with(b"\n") {
            return Ok(Some(Asked { stream, line }));
        }
        let Some(sender) = self.sender.clone() else {
            return Ok(None);
        };
        let mut waker = self.waker.try_clone()?;
        let read = move || match rest(&stream, &mut line).map(|()| line) {
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
        Ok(None)
    }

    /// The request whose coming made `wake` readable.
    pub(super) fn next(&self) -> Result<Option<Asked>> {
        let mut wake = &self.wake;
        wake.read_exact(&mut [0])?;
        Ok(self.receiver.try_recv().ok())
    }

    /// The next request of those who are being read, until `end`. Nobody new is heard from now on.
    pub(super) fn last(&mut self, end: Instant) -> Option<Asked> {
        self.sender = None;
        let patience = end.saturating_duration_since(Instant::now());
        self.receiver.recv_timeout(patience).ok()
    }
}

/// What a client has sent by now, or sends in a moment.
fn at_once(mut stream: &UnixStream) -> io::Result<Vec<u8>> {
    let mut line = vec![0; 4096];
    let mut fds = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
    let length = match poll(&mut fds, PollTimeout::from(AT_ONCE_MS)) {
        Ok(1) => stream.read(&mut line)?,
        _ => 0,
    };
    line.truncate(length);
    Ok(line)
}

/// What comes after the beginning of a line.
fn rest(stream: &UnixStream, line: &mut Vec<u8>) -> io::Result<()> {
    BufReader::new(stream.take(REQUEST_MAX)).read_until(b'\n', line)?;
    Ok(())
}

pub(super) fn send(mut stream: &UnixStream, response: &Response) -> Result<()> {
    let mut answer = serde_json::to_vec(response)?;
    answer.push(b'\n');
    Ok(stream.write_all(&answer)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lost(mode: Mode, is_there: impl FnOnce(UnixStream) -> Option<UnixStream>) -> String {
        let letter = Letter {
            host: NetnsId { dev: 0, inode: 0 },
            request: Request::Apply {
                document: None,
                mode,
            },
        };
        let (mut stream, other) = UnixStream::pair().unwrap();
        let kept = is_there(other);
        let patience = Duration::from_millis(10);
        let error = ask_within(&mut stream, &letter, "--instance b ", patience).unwrap_err();
        drop(kept);
        error.to_string()
    }

    /// Takes the request and ends.
    fn ends(other: UnixStream) -> Option<UnixStream> {
        thread::spawn(move || BufReader::new(other).read_line(&mut String::new()));
        None
    }

    #[test]
    fn answer_that_is_late_may_still_come_and_one_that_is_lost_can_be_looked_up() {
        let late = lost(Mode::Apply, Some);
        assert_eq!(late, "no answer within 0 s; it may still come to it");
        let late = lost(Mode::DryRun, Some);
        assert!(late.ends_with("; nothing was to be changed"), "{late}");
        let ended = lost(Mode::Apply, ends);
        let shows = "not have been made, `netbpf --instance b apply --dry-run` shows which";
        assert!(ended.ends_with(shows), "{ended}");
        let ended = lost(Mode::DryRun, ends);
        assert!(ended.ends_with("; nothing was to be changed"), "{ended}");
    }
}
