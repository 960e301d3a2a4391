//! Both containers in one namespace, on its loopback interface: what the stack costs without any
//! way between.

use netbpf_tests::{
    netns::{Netns, unique},
    topology::Family,
};

use super::{CONTAINERS_V4, CONTAINERS_V6, Site, Way};

/// One namespace with the addresses of both containers and of the machine outside.
///
/// # Panics
///
/// When a step fails.
pub fn site() -> Site {
    let netns = Netns::create(&unique());
    for number in [0, 1] {
        netns.ip(&format!("addr add {}/32 dev lo", CONTAINERS_V4[number]));
        netns.ip(&format!(
            "addr add {}/128 dev lo nodad",
            CONTAINERS_V6[number]
        ));
    }
    netns.ip(&format!("addr add {}/32 dev lo", Family::V4.client()));
    netns.ip(&format!(
        "addr add {}/128 dev lo nodad",
        Family::V6.client()
    ));
    let path = netns.path().to_owned();
    Site {
        containers: [path.clone(), path.clone()],
        host: path.clone(),
        client: path,
        way: Way::Direct,
        ports: 1,
        guard: Box::new(netns),
    }
}
