//! Container to the outside: masqueraded, but by the plain host, which routes.

use std::net::SocketAddr;

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, no_worse_than},
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
        works: &[
            (Load::Rr, Family::V4),
            (Load::Crr, Family::V4),
            (Load::Crr, Family::V6),
            (Load::Stream(1), Family::V4),
            (Load::Stream(8), Family::V4),
            (Load::Latency, Family::V4),
        ],
        ends: &ends,
        notes: Vec::new(),
        targets: &targets,
    };
    path.measure(choice, || choice.common().choose(&who))
}

fn targets(load: Load, number: &Number) -> Vec<Target> {
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

fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.containers[0],
        servers: vec![&site.client],
        to: vec![SocketAddr::new(family.client(), PORT)],
        ports: vec![PORT],
        cpus,
    }
}
