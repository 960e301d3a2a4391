//! Whole frames, sent and heard on an interface past the stack.

use std::{
    os::fd::{AsRawFd as _, OwnedFd},
    path::Path,
};

use nix::{
    libc,
    sys::socket::{
        AddressFamily, LinkAddr, MsgFlags, SockFlag, SockProtocol, SockType, bind, recvfrom, send,
        socket,
    },
};

use crate::netns::Netns;

/// Sends frames as they are from an interface of a namespace.
///
/// # Panics
///
/// When there is no such interface, or a frame can't be sent.
pub fn send_frames(netns: &Path, interface: &str, frames: &[Vec<u8>]) {
    let fd = packet_socket(netns, interface, None);
    for frame in frames {
        send(fd.as_raw_fd(), frame, MsgFlags::empty()).expect("a frame is sent");
    }
}

/// A packet socket on an interface; without a protocol it hears nothing.
fn packet_socket(netns: &Path, interface: &str, protocol: Option<SockProtocol>) -> OwnedFd {
    Netns::existing(netns).enter(|| {
        let addresses = nix::ifaddrs::getifaddrs().expect("the interfaces are listed");
        let link = addresses
            .filter(|address| address.interface_name == interface)
            .find_map(|address| address.address?.as_link_addr().copied())
            .unwrap_or_else(|| panic!("{interface} has no link address"));
        let fd = socket(
            AddressFamily::Packet,
            SockType::Raw,
            SockFlag::SOCK_NONBLOCK,
            protocol,
        )
        .expect("a packet socket");
        bind(fd.as_raw_fd(), &link).expect("a packet socket is bound");
        fd
    })
}

/// Hears every frame that comes in by an interface.
#[derive(Debug)]
pub struct Tap {
    socket: OwnedFd,
    heard: Vec<Vec<u8>>,
}

impl Tap {
    /// Begins to listen.
    ///
    /// # Panics
    ///
    /// When there is no such interface.
    pub fn on(netns: &Path, interface: &str) -> Self {
        Self {
            socket: packet_socket(netns, interface, Some(SockProtocol::EthAll)),
            heard: Vec::new(),
        }
    }

    /// Whether a frame with these bytes in it has come in since the tap was opened.
    pub fn has_heard(&mut self, bytes: &[u8]) -> bool {
        self.take_in();
        self.heard
            .iter()
            .any(|frame| frame.windows(bytes.len()).any(|part| part == bytes))
    }

    /// Takes in what the kernel has kept.
    fn take_in(&mut self) {
        let mut buffer = [0; 2048];
        while let Ok((length, from)) = recvfrom::<LinkAddr>(self.socket.as_raw_fd(), &mut buffer) {
            // What the machine itself sends passes here, too.
            if from.is_some_and(|from| from.pkttype() != libc::PACKET_OUTGOING) {
                self.heard.push(buffer[..length.min(buffer.len())].to_vec());
            }
        }
    }
}
