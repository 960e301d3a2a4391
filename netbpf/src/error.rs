//! What can go wrong, sorted by whose fault it is: that alone decides the exit code.
//!
//! Code below the commands may use `anyhow` freely; [`exit_code`] finds the [`Error`] in the
//! chain, and what has none is the host's.

use std::fmt::Display;

use crate::{config::ConfigErrors, host};

/// An error with an exit code.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The document is wrong; `check` alone can see it. Nothing was touched. Exit code 2.
    #[error(transparent)]
    Config(#[from] ConfigErrors),
    /// The command line is wrong, or asks for what is not supported yet. Nothing was touched.
    /// Exit code 2.
    #[error("{0}")]
    Usage(String),
    /// The host or the state doesn't allow it. The host is as it was before. Exit code 1.
    #[error("{0}")]
    Host(String),
    /// The kernel or the privileges don't allow it; says what is missing. Exit code 3.
    #[error("{0}")]
    Kernel(String),
}

impl Error {
    /// A wrong command line.
    pub fn usage(message: impl Display) -> Self {
        Self::Usage(message.to_string())
    }

    /// A thing of a later release, named as the user wrote it.
    pub fn not_supported_yet(thing: impl Display) -> Self {
        Self::Usage(format!("{thing} is not supported yet"))
    }

    /// Something that the host or the state forbids.
    pub fn host(message: impl Display) -> Self {
        Self::Host(message.to_string())
    }

    /// Something that the kernel or the privileges forbid.
    pub fn kernel(message: impl Display) -> Self {
        Self::Kernel(message.to_string())
    }

    /// The exit code of the contract.
    pub const fn exit_code(&self) -> u8 {
        match self {
            Self::Host(_) => 1,
            Self::Config(_) | Self::Usage(_) => 2,
            Self::Kernel(_) => 3,
        }
    }
}

/// The exit code of an error with context: that of the first [`Error`] or [`host::Error`] in its
/// chain, else 1.
pub fn exit_code(error: &anyhow::Error) -> u8 {
    error
        .chain()
        .find_map(|cause| {
            let ours = cause.downcast_ref::<Error>().map(Error::exit_code);
            ours.or_else(|| {
                cause
                    .downcast_ref::<host::Error>()
                    .map(host::Error::exit_code)
            })
        })
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use anyhow::Context as _;

    use super::*;

    #[test]
    fn exit_code_is_found_under_context() {
        let kernel = anyhow::Error::from(Error::kernel("no BTF")).context("failed to load");
        assert_eq!(exit_code(&kernel), 3);
        let usage: Result<(), _> = Err(Error::not_supported_yet("monitor"));
        assert_eq!(exit_code(&usage.context("while parsing").unwrap_err()), 2);
        assert_eq!(exit_code(&anyhow::anyhow!("link is gone")), 1);
    }
}
