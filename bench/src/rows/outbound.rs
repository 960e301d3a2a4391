//! Container to the outside: masqueraded, but by the plain host, which routes.

use std::net::SocketAddr;

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, in_both_families, no_worse_than, with_loopback_beside_streams},
};
use crate::{
    peers::{DOCKER_LEGACY, DOCKER_NFT, NFT_MAPS, PLAIN, PORT, Site},
    pin::Cpus,
    row::{Row, SUBJECT, Target},
    work::{Ends, Load, Number},
};

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let who = [SUBJECT, DOCKER_NFT, DOCKER_LEGACY, NFT_MAPS, PLAIN];
    let path = Path {
        word: "outbound".to_owned(),
        title: "container to the outside".to_owned(),
        works: in_both_families(&Load::ALL),
        ends,
        notes: Vec::new(),
        targets: &targets,
    };
    path.measure(choice, |load, _| {
        choice
            .common()
            .choose(&with_loopback_beside_streams(&who, load))
    })
}

fn targets(load: Load, _: Family, number: &Number) -> Vec<Target> {
    match load {
        Load::Rr | Load::Crr => vec![
            Target::at_least(1.3, DOCKER_NFT),
            Target::at_least(1.3, DOCKER_LEGACY),
        ],
        Load::Stream(_) => [DOCKER_NFT, DOCKER_LEGACY, PLAIN]
            .map(|peer| no_worse_than(number, peer))
            .to_vec(),
        Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

/// From the first container to the machine outside.
pub fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.containers[0],
        servers: vec![&site.client],
        to: vec![SocketAddr::new(family.client(), PORT)],
        ports: vec![PORT],
        cpus,
    }
}
