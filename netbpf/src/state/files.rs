//! Files that are read and replaced as a whole. What they hold is for others to know.

use std::{
    fs::{self, File},
    io::{self, Write as _},
    path::Path,
};

use super::{Error, Result};

pub(super) trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            action: action(),
            source,
        })
    }
}

pub(super) fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text.trim().to_owned())
}

pub(super) fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).doing(|| format!("create {}", path.display()))
}

pub(super) fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

pub(super) fn read_bytes(path: &Path) -> Result<Option<Vec<u8>>> {
    match fs::read(path) {
        Ok(bytes) => Ok(Some(bytes)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

pub(super) fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a file in one step; a power cut may lose it.
pub(super) fn write_at_once(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).doing(|| format!("write {}", new.display()))?;
    fs::rename(&new, path).doing(|| format!("replace {}", path.display()))
}

/// Replaces a file in one step that a power cut can't undo. An error means that the old one stands.
pub(super) fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    create_dir(parent)?;
    let new = path.with_extension("new");
    let write = || -> io::Result<File> {
        let directory = File::open(parent)?;
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        Ok(directory)
    };
    let directory = write().doing(|| format!("write {}", path.display()))?;
    // Whoever reads it has the new one by now.
    if let Err(error) = directory.sync_all() {
        tracing::warn!(%error, "{} may not outlive a power cut", path.display());
    }
    Ok(())
}
