//! Changes of the host that wake a `run`.

use netbpf::host::{watch::Watch, xfrm};
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

#[test]
fn forwarding_and_ipsec_policies_wake_the_watch() {
    Bed::with(|bed| {
        let watch = Watch::open().unwrap();
        let wakes_at = |what: &str| {
            assert!(wakes(&watch, PollTimeout::from(5000_u16)), "{what}");
            watch.drain().unwrap();
        };
        for family in ["ipv4", "ipv6"] {
            let path = format!("/proc/sys/net/{family}/conf/all/forwarding");
            std::fs::write(&path, "1").unwrap();
            wakes_at(&path);
        }
        assert!(!xfrm::has_policies().unwrap());
        bed.ip("xfrm policy add dst 203.0.113.200/32 dir out action block");
        wakes_at("a policy that comes");
        assert!(xfrm::has_policies().unwrap());
        bed.ip("xfrm policy flush");
        wakes_at("a policy that goes");
        assert!(!xfrm::has_policies().unwrap());
    });
}
