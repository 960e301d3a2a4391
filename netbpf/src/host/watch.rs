//! Waits for changes of links, addresses, forwarding and IPsec policies. It says that something
//! changed, never what: whoever acts looks at the whole.

use std::{
    io::IoSliceMut,
    os::fd::{AsFd as _, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    poll::{PollFd, PollFlags, PollTimeout, poll},
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg,
        socket,
    },
};
use rtnetlink::sys::Socket;

use super::{
    error::{Doing as _, Result},
    xfrm,
};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR`; the groups 24 and 25, of forwarding
/// and its like in IPv4 and IPv6 (`linux/rtnetlink.h`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100 | 1 << 23 | 1 << 24;

/// A subscription to the kernel's messages about one namespace; its file descriptors are readable
/// when there are some.
#[derive(Debug)]
pub struct Watch {
    routes: OwnedFd,
    policies: Option<Socket>,
}

impl Watch {
    /// Subscribes in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let action = || "watch links and addresses".to_owned();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let routes =
            socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).doing(action)?;
        bind(routes.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).doing(action)?;
        let policies = xfrm::watch()?;
        Ok(Self { routes, policies })
    }

    /// What to wait for.
    pub fn fds(&self) -> [BorrowedFd<'_>; 2] {
        let routes = self.routes.as_fd();
        let policies = self.policies.as_ref();
        [routes, policies.map_or(routes, Socket::as_fd)]
    }

    /// Whether something changed that was not taken yet.
    pub fn has_news(&self) -> bool {
        let mut fds = self.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        !matches!(poll(&mut fds, PollTimeout::ZERO), Ok(0))
    }

    /// Takes all messages that are there.
    pub fn drain(&self) -> Result<()> {
        self.fds().into_iter().try_for_each(drain)
    }
}

fn drain(socket: BorrowedFd<'_>) -> Result<()> {
    // A message that doesn't fit is cut short: nobody reads it.
    let mut buffer = [0; 64];
    loop {
        let mut parts = [IoSliceMut::new(&mut buffer)];
        let received =
            recvmsg::<()>(socket.as_raw_fd(), &mut parts, None, MsgFlags::empty()).map(drop);
        match received {
            Err(Errno::EAGAIN) => return Ok(()),
            // Messages were lost, and so something changed; that is all we want to know.
            Ok(()) | Err(Errno::EINTR | Errno::ENOBUFS) => {}
            Err(errno) => {
                return Err(errno).doing(|| "read changes of links".to_owned());
            }
        }
    }
}
