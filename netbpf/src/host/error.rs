//! What can go wrong while netbpf reads or changes the host. It never decides what to do about it.

use std::{io, net::IpAddr, path::PathBuf};

/// Result of everything in [`crate::host`].
pub type Result<T> = std::result::Result<T, Error>;

/// Why the host could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a system call refused.
    #[error("failed to {action}: {source}")]
    Io {
        /// What was tried, as a verb and its object.
        action: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel refused a route netlink request.
    #[error("failed to {action}: {source}")]
    Netlink {
        /// What was tried, as a verb and its object.
        action: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// The kernel or the privileges do not allow it.
    #[error("{0}")]
    Unsupported(String),
    /// `/sys` belongs to this mount namespace alone, as inside `ip netns exec`, so that pins
    /// would vanish with it.
    #[error(
        "/sys is private to this shell, as inside `ip netns exec`, and pins would be lost with it: \
         run netbpf outside with --netns NAME|PATH"
    )]
    PrivateSys,
    /// A name that we need is taken by something that is not ours.
    #[error("{0}")]
    Foreign(String),
    /// A link that was there a moment ago, or has to be, is not.
    #[error("interface {0} not found")]
    NoLink(String),
    /// A network namespace that has to be there is not.
    #[error("no network namespace at {}", .0.display())]
    NoNetns(PathBuf),
    /// A gateway of the wrong family, or another argument that no caller may pass.
    #[error("{0} is no gateway")]
    NotAGateway(IpAddr),
}

impl Error {
    /// The exit code of the contract: 3 when the kernel or the privileges do not allow it, else 1.
    pub fn exit_code(&self) -> u8 {
        match self {
            Self::Unsupported(_) | Self::PrivateSys => 3,
            Self::Io { source, .. } | Self::Netlink { source, .. }
                if source.kind() == io::ErrorKind::PermissionDenied =>
            {
                3
            }
            _ => 1,
        }
    }

    /// What the kernel answered, where it was the kernel who refused.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Io { source, .. } | Self::Netlink { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Names the action that an `io` or `nix` error interrupted.
pub(crate) trait Doing<T> {
    /// `action` is a verb and its object: `mount a bpffs at /sys/fs/bpf`.
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T, E: Into<io::Error>> Doing<T> for std::result::Result<T, E> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            action: action(),
            source: source.into(),
        })
    }
}
