//! The one `run` of an instance: its process id, in a file that it keeps locked while it lives, so
//! that nobody begins between the last change of one that ends and its last file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::MetadataExt as _,
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::control::connect;
use crate::{
    error::Error,
    state::{Instance, LOCK_PATIENCE},
};

/// How long a `run` that ends, or a purge, is waited for: what it does may wait for the lock.
pub(super) const PATIENCE: Duration = LOCK_PATIENCE.saturating_add(Duration::from_secs(5));

/// After how long it is said who is waited for.
pub(super) const SILENT_PATIENCE: Duration = Duration::from_millis(500);

const PAUSE: Duration = Duration::from_millis(20);

/// Proof of being the only `run` of an instance.
#[derive(Debug)]
pub(super) struct Claim {
    path: PathBuf,
    file: Flock<File>,
}

/// The file with the process id of the living `run`.
pub(super) fn pid_file_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("pid")
}

impl Claim {
    /// Waits until a `run` that ends, or a purge, has ended.
    ///
    /// # Errors
    ///
    /// Another `run` lives, or the file can't be made or locked.
    pub(super) fn take(instance: &Instance) -> Result<Self> {
        Self::take_within(instance, PATIENCE)
    }

    fn take_within(instance: &Instance, patience: Duration) -> Result<Self> {
        let name = instance.name();
        let begin = Instant::now();
        let mut is_said = false;
        loop {
            if connect(instance)?.is_some() {
                let what = format!("instance {name} already has a running netbpf");
                return Err(Error::host(what).into());
            }
            if let Some(mut claim) = Self::tried(instance)? {
                claim.write_pid()?;
                return Ok(claim);
            }
            // Nobody answers: it is not yet, or no longer, one that runs.
            let held = format!("another netbpf begins, ends or purges instance {name}");
            if begin.elapsed() >= patience {
                return Err(Error::host(held).into());
            }
            if !is_said && begin.elapsed() >= SILENT_PATIENCE {
                is_said = true;
                let seconds = patience.as_secs();
                eprintln!("{held}, waiting for at most {seconds} s");
            }
            thread::sleep(PAUSE);
        }
    }

    /// `None` while another holds it. A file that is claimed names no process yet.
    ///
    /// # Errors
    ///
    /// The file can't be made or locked.
    pub(super) fn tried(instance: &Instance) -> Result<Option<Self>> {
        let path = pid_file_of(instance);
        let failed = || format!("failed to claim {}", path.display());
        fs::create_dir_all(instance.run_dir()).with_context(failed)?;
        let mut options = OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).open(&path);
        let file = match file {
            Ok(file) => file,
            // A purge took the directory away in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(failed),
        };
        let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => file,
            Err((_, Errno::EWOULDBLOCK)) => return Ok(None),
            Err((_, errno)) => return Err(errno).with_context(failed),
        };
        // Whoever had it is gone, and its number may be another process's by now.
        file.set_len(0).with_context(failed)?;
        let claim = Self { path, file };
        Ok(claim.is_in_place().then_some(claim))
    }

    /// Takes another where the file is gone: a purge of an earlier version, which knows of no claim,
    /// has ended while the document was applied.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub(super) fn keep(&mut self, instance: &Instance) -> Result<()> {
        if !self.is_in_place() {
            *self = Self::take(instance)?;
        }
        Ok(())
    }

    /// Writes the process id: who purges ends the one that it names.
    fn write_pid(&mut self) -> Result<()> {
        let pid = format!("{}\n", std::process::id());
        self.file
            .write_all(pid.as_bytes())
            .with_context(|| format!("failed to write {}", self.path.display()))
    }

    /// Whether the file of that name is still the one that is locked here.
    fn is_in_place(&self) -> bool {
        let there = fs::metadata(&self.path).map(|there| (there.dev(), there.ino()));
        let ours = self.file.metadata().map(|ours| (ours.dev(), ours.ino()));
        matches!((there, ours), (Ok(there), Ok(ours)) if there == ours)
    }
}

impl Drop for Claim {
    /// Removed before it is unlocked: whoever waits sees that it locked a file without a name.
    fn drop(&mut self) {
        if self.is_in_place() {
            // A file that stays is taken by the next `run`, and its process id by nobody: that
            // process is gone.
            let _ = fs::remove_file(&self.path);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        reserved::{self, Sign},
        run::control::listen,
    };

    const NO_TIME: Duration = Duration::ZERO;

    fn told(instance: &Instance) -> Claim {
        let mut claim = Claim::take(instance).unwrap();
        claim.keep(instance).unwrap();
        claim
    }

    fn pid_of(instance: &Instance) -> Option<String> {
        fs::read_to_string(pid_file_of(instance)).ok()
    }

    #[test]
    fn one_that_begins_waits_for_one_that_ends_and_keeps_its_files() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "claim");
        let ending = told(&instance);
        let mut ending_sign = Sign::new(&instance);
        ending_sign.put_up().unwrap();
        // Its socket is gone already: nothing but the claim says that it lives.
        let error = Claim::take_within(&instance, NO_TIME).unwrap_err();
        let held = "another netbpf begins, ends or purges instance claim";
        assert_eq!(error.to_string(), held);
        let listening = listen(&instance).unwrap();
        let error = Claim::take_within(&instance, NO_TIME).unwrap_err();
        let lives = "instance claim already has a running netbpf";
        assert_eq!(error.to_string(), lives);
        drop(listening);
        let own = format!("{}\n", std::process::id());
        assert_eq!(pid_of(&instance), Some(own.clone()));
        thread::scope(|scope| {
            let next = scope.spawn(|| {
                let claim = told(&instance);
                let mut sign = Sign::new(&instance);
                sign.put_up().unwrap();
                (claim, sign)
            });
            drop((ending_sign, ending));
            let begun = next.join().unwrap();
            assert_eq!(pid_of(&instance), Some(own));
            assert!(reserved::is_up(&instance));
            drop(begun);
        });
        assert_eq!(pid_of(&instance), None);
    }

    #[test]
    fn claim_of_a_purge_names_no_process() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "claim");
        let path = pid_file_of(&instance);
        fs::create_dir_all(instance.run_dir()).unwrap();
        // As a `run` that was killed leaves it: the number may be a stranger's by now.
        fs::write(&path, "4711\n").unwrap();
        let purging = Claim::tried(&instance).unwrap();
        assert_eq!(pid_of(&instance).as_deref(), Some(""));
        // Who has not got it leaves it alone.
        fs::write(&path, "4712\n").unwrap();
        assert!(Claim::tried(&instance).unwrap().is_none());
        assert_eq!(pid_of(&instance).as_deref(), Some("4712\n"));
        drop(purging);
    }

    #[test]
    fn files_of_another_stay() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "claim");
        let ending = Claim::take(&instance).unwrap();
        fs::remove_dir_all(instance.run_dir()).unwrap();
        let begun = told(&instance);
        drop(ending);
        assert!(pid_of(&instance).is_some());
        drop(begun);
        assert_eq!(pid_of(&instance), None);
    }

    #[test]
    fn claim_whose_file_a_purge_removed_is_made_anew() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "claim");
        let mut claim = Claim::take(&instance).unwrap();
        fs::remove_dir_all(instance.run_dir()).unwrap();
        claim.keep(&instance).unwrap();
        assert!(pid_of(&instance).is_some());
        assert!(Claim::take_within(&instance, NO_TIME).is_err());
        drop(claim);
    }
}
