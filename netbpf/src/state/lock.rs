//! The lock that every writer of an instance holds; readers never ask for it.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    thread,
    time::{Duration, Instant},
};

use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};

use super::{
    Error, Instance, Result,
    files::{Doing as _, create_dir},
};

/// How long a second writer waits for the first.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(30);

const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Proof of being the only writer of an instance.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

impl Instance {
    /// Takes the lock that every writer holds, waiting for [`LOCK_PATIENCE`] and saying so.
    pub fn lock(&self) -> Result<Lock> {
        self.lock_within(LOCK_PATIENCE)
    }

    /// Takes the lock, waiting for `patience` and saying so.
    pub fn lock_within(&self, patience: Duration) -> Result<Lock> {
        let deadline = Instant::now() + patience;
        let mut said = false;
        loop {
            let holder = match self.try_lock()? {
                Ok(lock) => return Ok(lock),
                Err(holder) => holder,
            };
            if Instant::now() >= deadline {
                return Err(Error::Locked {
                    instance: self.name.clone(),
                    holder,
                });
            }
            if !said {
                said = true;
                let seconds = patience.as_secs();
                eprintln!(
                    "instance {} is locked by {holder}, waiting for at most {seconds} s",
                    self.name
                );
            }
            thread::sleep(LOCK_PAUSE);
        }
    }

    /// Who holds the lock now, in the words of [`Error::Locked`].
    pub fn lock_holder(&self) -> Option<String> {
        let mut file = File::open(self.run.join("lock")).ok()?;
        let mut text = String::new();
        let _ = file.read_to_string(&mut text);
        match Flock::lock(file, FlockArg::LockSharedNonblock) {
            Err((_, Errno::EWOULDBLOCK)) => Some(holder(&text)),
            Ok(_) | Err(_) => None,
        }
    }

    /// The lock, or who holds it.
    fn try_lock(&self) -> Result<std::result::Result<Lock, String>> {
        let path = self.run.join("lock");
        create_dir(&self.run)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = match file {
            Ok(file) => file,
            // A purge took the directory away in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err("a purge".to_owned()));
            }
            Err(error) => return Err(error).doing(|| format!("open {}", path.display())),
        };
        let mut text = String::new();
        // Only to name the holder in a message.
        let _ = file.read_to_string(&mut text);
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                return Ok(Err(holder(&text)));
            }
            Err((_, errno)) => {
                return Err(io::Error::from(errno)).doing(|| format!("lock {}", path.display()));
            }
        };
        // A purge that ended while we waited has removed the file that we hold now.
        let ours = lock
            .metadata()
            .doing(|| format!("stat {}", path.display()))?;
        if fs::metadata(&path)
            .ok()
            .is_none_or(|there| there.ino() != ours.ino())
        {
            return Ok(Err("a purge".to_owned()));
        }
        // One who stays holds it again and again.
        let pid = std::process::id().to_string();
        if text != pid {
            let written = lock.set_len(0).and_then(|()| lock.rewind());
            written
                .and_then(|()| lock.write_all(pid.as_bytes()))
                .doing(|| format!("write {}", path.display()))?;
        }
        Ok(Ok(Lock { _file: lock }))
    }
}

/// Who wrote that into the lock.
fn holder(text: &str) -> String {
    match text.trim() {
        "" => "another process".to_owned(),
        pid => format!("process {pid}"),
    }
}
