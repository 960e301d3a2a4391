//! Pins that take the place of others in one step: made under a name of their own, then renamed.
//! What is pinned, and whether it may be, is for others to know.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::Error;
use crate::host::bpffs::PinDirs;

/// How the name of a pin ends that has not got its own yet.
const FRESH: &str = "_new";

/// Where a pin is made that is to be at `pin`. What a kill left there is removed.
///
/// # Errors
///
/// What the kernel answered.
pub(super) fn fresh(pin: &Path) -> io::Result<PathBuf> {
    let name = pin.file_name().unwrap_or_default().to_string_lossy();
    let fresh = pin.with_file_name(format!("{name}{FRESH}"));
    remove_if_there(&fresh)?;
    Ok(fresh)
}

/// Removes a pin; one that is not there is no error.
pub(super) fn remove_if_there(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Gives the links their names that a kill left without: what they run is in place, and only under
/// its name it is found, kept or ended.
///
/// # Errors
///
/// A failed system call; a directory that is missing is no error.
pub fn finish_links(pins: &PinDirs) -> Result<(), Error> {
    let error = |source| Error::Pin {
        path: pins.links.clone(),
        source,
    };
    let entries = match fs::read_dir(&pins.links) {
        Ok(entries) => entries,
        Err(source) if source.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(source) => return Err(error(source)),
    };
    for entry in entries {
        let fresh = entry.map_err(error)?.path();
        let name = fresh.file_name().unwrap_or_default().to_string_lossy();
        if let Some(own) = name.strip_suffix(FRESH) {
            fs::rename(&fresh, fresh.with_file_name(own)).map_err(error)?;
        }
    }
    Ok(())
}
