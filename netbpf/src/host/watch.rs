//! Waits for changes of links and addresses. It says that something changed, never what: whoever
//! acts looks at the whole.

use std::{
    io::IoSliceMut,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
};

use nix::{
    errno::Errno,
    sys::socket::{
        AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, bind, recvmsg,
        socket,
    },
};

use super::error::{Doing as _, Result};

/// `RTMGRP_LINK`, `RTMGRP_IPV4_IFADDR` and `RTMGRP_IPV6_IFADDR` (`linux/rtnetlink.h`).
const GROUPS: u32 = 0x1 | 0x10 | 0x100;

/// A subscription to the kernel's messages about links and addresses of one namespace; its file
/// descriptor is readable when there are some.
#[derive(Debug)]
pub struct Watch(OwnedFd);

impl Watch {
    /// Subscribes in the calling thread's namespace.
    pub fn open() -> Result<Self> {
        let action = || "watch links and addresses".to_owned();
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let protocol = SockProtocol::NetlinkRoute;
        let socket =
            socket(AddressFamily::Netlink, SockType::Raw, flags, protocol).doing(action)?;
        bind(socket.as_raw_fd(), &NetlinkAddr::new(0, GROUPS)).doing(action)?;
        Ok(Self(socket))
    }

    /// Takes all messages that are there.
    pub fn drain(&self) -> Result<()> {
        // A message that doesn't fit is cut short: nobody reads it.
        let mut buffer = [0; 64];
        loop {
            let mut parts = [IoSliceMut::new(&mut buffer)];
            let received =
                recvmsg::<()>(self.0.as_raw_fd(), &mut parts, None, MsgFlags::empty()).map(drop);
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
}

impl AsFd for Watch {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}
