//! Interfaces without Ethernet header: two tun devices in two namespaces, and a thread between them
//! that carries what the one sends to the other.

use std::{
    fs::{File, OpenOptions},
    io::{self, ErrorKind, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::fs::OpenOptionsExt as _,
    },
    thread::{self, JoinHandle},
};

use nix::{
    libc,
    poll::{PollFd, PollFlags, PollTimeout, poll},
};

use crate::netns::Netns;

/// Longer than any packet that a tun device hands out.
const LONGEST: usize = 1 << 16;

/// A cable between two tun devices. Dropping it removes both.
#[derive(Debug)]
pub struct Cable {
    stop: Option<PipeWriter>,
    carrier: Option<JoinHandle<()>>,
}

impl Cable {
    /// Makes a device of the given name in each namespace, down and without addresses.
    ///
    /// # Panics
    ///
    /// When one can't be made.
    pub fn between(one: (&Netns, &str), other: (&Netns, &str)) -> Self {
        let ends = [one, other].map(|(netns, name)| netns.enter(|| tun(name)));
        let ends = ends.map(|end| end.expect("a tun device is made"));
        let (stopped, stop) = io::pipe().expect("a pipe");
        let carrier = thread::spawn(move || {
            loop {
                let [one, other] = &ends;
                let mut fds = [stopped.as_fd(), one.as_fd(), other.as_fd()]
                    .map(|fd| PollFd::new(fd, PollFlags::POLLIN));
                poll(&mut fds, PollTimeout::NONE).expect("the devices are waited for");
                if fds[0].any() == Some(true) {
                    return;
                }
                carry(one, other);
                carry(other, one);
            }
        });
        Self {
            stop: Some(stop),
            carrier: Some(carrier),
        }
    }
}

impl Drop for Cable {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(carrier) = self.carrier.take() {
            let _ = carrier.join();
        }
    }
}

/// Moves all packets that wait. What a device that is down refuses is lost, as on any wire.
fn carry(mut from: &File, mut to: &File) {
    let mut packet = [0; LONGEST];
    loop {
        match from.read(&mut packet) {
            Ok(len) => drop(to.write(&packet[..len])),
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(_) => return,
        }
    }
}

/// Makes a tun device in the calling thread's namespace; it lives as long as the file is open.
#[expect(unsafe_code, reason = "only an ioctl names a tun device")]
fn tun(name: &str) -> io::Result<File> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NONBLOCK)
        .open("/dev/net/tun")?;
    // SAFETY: an ifreq is integers, for which zero is a value.
    let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
    for (place, byte) in request.ifr_name.iter_mut().zip(name.bytes()) {
        *place = byte.cast_signed();
    }
    request.ifr_ifru.ifru_flags = (libc::IFF_TUN | libc::IFF_NO_PI) as libc::c_short;
    // SAFETY: the request is valid for the call, which only reads and writes it.
    let made = unsafe { libc::ioctl(file.as_raw_fd(), libc::TUNSETIFF, &mut request) };
    if made < 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(file)
}
