//! Two containers at the two ends of one veth pair, without a host between them: as close as
//! containers can be.

use netbpf_tests::netns::{Netns, unique};

use super::{CONTAINERS_V4, CONTAINERS_V6, Site, Way};

/// Two containers, of which each is also the other's host and outside.
///
/// # Panics
///
/// When a step fails.
pub fn site() -> Site {
    let id = unique();
    let containers = [0, 1].map(|number| Netns::create(&format!("{id}-c{number}")));
    let [first, second] = &containers;
    first.ip(&format!(
        "link add eth0 type veth peer name eth0 netns {}",
        second.name()
    ));
    for (number, netns) in containers.iter().enumerate() {
        netns.ip(&format!("addr add {}/24 dev eth0", CONTAINERS_V4[number]));
        netns.ip(&format!(
            "addr add {}/64 dev eth0 nodad",
            CONTAINERS_V6[number]
        ));
        netns.ip("link set eth0 up");
    }
    let paths = [first, second].map(|netns| netns.path().to_owned());
    Site {
        host: paths[1].clone(),
        client: paths[1].clone(),
        containers: paths,
        way: Way::Direct,
        ports: 1,
        guard: Box::new(containers),
    }
}
