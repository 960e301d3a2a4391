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
use crate::{error::Error, state::Instance};

/// How long a `run` that ends is waited for: it still answers those who had reached it.
const PATIENCE: Duration = Duration::from_secs(10);

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
    /// Waits until a `run` that ends has ended.
    ///
    /// # Errors
    ///
    /// Another `run` lives, or the file can't be made or locked.
    pub(super) fn take(instance: &Instance) -> Result<Self> {
        Self::take_within(instance, PATIENCE)
    }

    fn take_within(instance: &Instance, patience: Duration) -> Result<Self> {
        let deadline = Instant::now() + patience;
        loop {
            let answers = connect(instance)?.is_some();
            let claim = if answers {
                None
            } else {
                Self::tried(instance)?
            };
            if let Some(mut claim) = claim {
                claim.write_pid()?;
                return Ok(claim);
            }
            if answers || Instant::now() >= deadline {
                let name = instance.name();
                let what = format!("instance {name} already has a running netbpf");
                return Err(Error::host(what).into());
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
    use crate::reserved::{self, Sign};

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
        assert!(Claim::take_within(&instance, NO_TIME).is_err());
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
