//! The listening sockets of a server, whichever namespaces they are in.

use std::net::{SocketAddr, TcpListener, TcpStream};

use anyhow::{Context as _, Result};
use netbpf_tests::netns;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use super::Door;

/// Open doors.
pub struct Doors {
    epoll: Epoll,
    listeners: Vec<TcpListener>,
}

impl Doors {
    /// Listens at all of them.
    ///
    /// # Errors
    ///
    /// When an address is taken.
    ///
    /// # Panics
    ///
    /// When a namespace can't be entered.
    pub fn open(doors: &[Door]) -> Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::empty())?;
        let mut listeners = Vec::new();
        for (number, Door { netns, at }) in doors.iter().enumerate() {
            // A socket stays in the namespace in which it was made.
            netns::join(netns);
            let listener = listen(*at).with_context(|| format!("failed to listen at {at}"))?;
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            epoll.add(&listener, event)?;
            listeners.push(listener);
        }
        Ok(Self { epoll, listeners })
    }

    /// The next connection, whichever door it comes in by.
    ///
    /// # Errors
    ///
    /// What the kernel says.
    pub fn accept(&self) -> Result<TcpStream> {
        let mut events = [EpollEvent::empty()];
        while self.epoll.wait(&mut events, EpollTimeout::NONE)? == 0 {}
        Ok(self.listeners[events[0].data() as usize].accept()?.0)
    }
}

fn listen(at: SocketAddr) -> Result<TcpListener> {
    // What a server before this one left waiting must not keep the port.
    let socket = socket2::Socket::new(
        socket2::Domain::for_address(at),
        socket2::Type::STREAM,
        None,
    )?;
    socket.set_reuse_address(true)?;
    socket.bind(&at.into())?;
    socket.listen(128)?;
    Ok(socket.into())
}
