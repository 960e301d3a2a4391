//! `check`: validates a file; and how every command reads one.

use std::{fs, path::Path};

use anyhow::Result;
use tracing::warn;

use crate::{
    config::{self, Document},
    error::Error,
};

/// Reads and validates a file, and logs its warnings: its text, byte for byte, and what it says.
pub(super) fn read(file: &Path) -> Result<(String, Document)> {
    let path = file.display().to_string();
    let bytes = fs::read(file).map_err(|error| Error::usage(format!("{path}: {error}")))?;
    let text = String::from_utf8(bytes).map_err(|error| {
        let valid = &error.as_bytes()[..error.utf8_error().valid_up_to()];
        let line = valid.iter().filter(|&&byte| byte == b'\n').count() + 1;
        Error::usage(format!("{path}:{line}: this is not UTF-8"))
    })?;
    let document = config::load(&path, &text).map_err(Error::from)?;
    for warning in document.warnings() {
        warn!("{warning}");
    }
    Ok((text, document))
}

/// `check FILE`.
pub(super) fn check(file: &Path) -> Result<()> {
    read(file).map(drop)
}
