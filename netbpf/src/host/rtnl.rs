//! The route netlink socket of one namespace, and what all requests over it share.
//! It never knows what is asked.

use std::{future::Future, io};

use nix::errno::Errno;
use tokio::runtime::{self, Runtime};

use super::{
    error::{Doing, Error, Result},
    netns::Netns,
};

/// A route netlink socket. It stays in the namespace it was opened in, whatever thread uses it.
///
/// Its verbs block until the kernel has answered, and must not be called from an async task.
#[derive(Debug)]
pub struct Rtnl {
    runtime: Runtime,
    handle: rtnetlink::Handle,
}

impl Rtnl {
    /// Opens a socket in `netns`.
    pub fn open(netns: &Netns) -> Result<Self> {
        netns.run(Self::open_here)?
    }

    fn open_here() -> Result<Self> {
        let action = || "open a route netlink socket".to_owned();
        let runtime = runtime::Builder::new_current_thread()
            .enable_io()
            .build()
            .doing(action)?;
        let guard = runtime.enter();
        let (connection, handle, _) = rtnetlink::new_connection().doing(action)?;
        runtime.spawn(connection);
        drop(guard);
        Ok(Self { runtime, handle })
    }

    pub(super) fn handle(&self) -> &rtnetlink::Handle {
        &self.handle
    }

    /// Waits for the answer to a request.
    pub(super) fn wait<T>(
        &self,
        action: impl FnOnce() -> String,
        request: impl Future<Output = std::result::Result<T, rtnetlink::Error>>,
    ) -> Result<T> {
        self.runtime
            .block_on(request)
            .map_err(|error| Error::Netlink {
                action: action(),
                source: errno_of(error),
            })
    }
}

/// What makes a request idempotent: an answer that says that it was done before.
pub(super) trait Unless {
    /// Takes one of `errnos` for success.
    fn unless(self, errnos: &[Errno]) -> Result<()>;
}

impl Unless for Result<()> {
    fn unless(self, errnos: &[Errno]) -> Result<()> {
        match self {
            Err(error)
                if error
                    .errno()
                    .is_some_and(|raw| errnos.contains(&Errno::from_raw(raw))) =>
            {
                Ok(())
            }
            result => result,
        }
    }
}

fn errno_of(error: rtnetlink::Error) -> io::Error {
    match error {
        rtnetlink::Error::NetlinkError(message) => message.to_io(),
        error => io::Error::other(error.to_string()),
    }
}
