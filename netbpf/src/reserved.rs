//! Whether a living `run` keeps every published port from other processes: the lock on a file,
//! which the kernel takes off however the process ends.

use std::{
    fs::{self, File},
    io,
    path::PathBuf,
};

use nix::fcntl::{Flock, FlockArg};

use crate::state::Instance;

/// What a `run` tells about the ports that it keeps.
#[derive(Debug)]
pub struct Sign {
    path: PathBuf,
    lock: Option<Flock<File>>,
}

fn path_of(instance: &Instance) -> PathBuf {
    instance.run_dir().join("reserved")
}

impl Sign {
    /// Tells nothing yet.
    pub fn new(instance: &Instance) -> Self {
        Self {
            path: path_of(instance),
            lock: None,
        }
    }

    /// Tells that every published port is kept.
    ///
    /// # Errors
    ///
    /// The file can't be made or locked.
    pub fn put_up(&mut self) -> io::Result<()> {
        if self.lock.is_some() {
            return Ok(());
        }
        let file = File::create(&self.path)?;
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock);
        self.lock = Some(lock.map_err(|(_, errno)| io::Error::from(errno))?);
        Ok(())
    }

    /// Tells that some published port is not kept.
    pub fn take_down(&mut self) {
        self.lock = None;
    }
}

impl Drop for Sign {
    /// A file without our lock is another's, or tells nobody anything.
    fn drop(&mut self) {
        if self.lock.is_some() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether a living `run` of `instance` keeps every published port.
pub fn is_up(instance: &Instance) -> bool {
    File::open(path_of(instance))
        .is_ok_and(|file| Flock::lock(file, FlockArg::LockSharedNonblock).is_err())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sign_is_seen_as_long_as_it_is_up() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "sign");
        fs::create_dir_all(instance.run_dir()).unwrap();
        assert!(!is_up(&instance));
        let mut sign = Sign::new(&instance);
        assert!(!is_up(&instance));
        sign.put_up().unwrap();
        sign.put_up().unwrap();
        assert!(is_up(&instance));
        sign.take_down();
        assert!(!is_up(&instance));
        sign.put_up().unwrap();
        drop(sign);
        assert!(!is_up(&instance));
    }

    #[test]
    fn sign_that_is_down_leaves_the_file_of_another() {
        let dir = tempfile::tempdir().unwrap();
        let instance = Instance::under(dir.path(), "sign");
        fs::create_dir_all(instance.run_dir()).unwrap();
        let (mut ending, mut begun) = (Sign::new(&instance), Sign::new(&instance));
        ending.put_up().unwrap();
        ending.take_down();
        begun.put_up().unwrap();
        drop(ending);
        assert!(is_up(&instance));
    }
}
