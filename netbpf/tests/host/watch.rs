//! Changes of the host that wake a `run`.

use netbpf::host::watch::Watch;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::bed::Bed;

/// Whether there is a message, now or within the time-out.
fn wakes(watch: &Watch, timeout: PollTimeout) -> bool {
    let mut fds = watch.fds().map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    poll(&mut fds, timeout).unwrap() > 0
}

#[test]
fn links_and_addresses_wake_the_watch() {
    Bed::with(|bed| {
        let watch = Watch::open().unwrap();
        assert!(!wakes(&watch, PollTimeout::ZERO));
        for change in [
            "link add veth-a type veth peer name veth-b",
            "address add 198.51.100.1/24 dev veth-a",
            "address add 2001:db8::1/64 dev veth-a",
            "link delete veth-a",
        ] {
            bed.ip(change);
            assert!(wakes(&watch, PollTimeout::from(5000_u16)), "{change}");
            watch.drain().unwrap();
        }
    });
}
