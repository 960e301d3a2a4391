//! Container to container on one network.

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, in_both_families, no_worse_than},
};
use crate::{
    peers::{DIRECT, DOCKER_LEGACY, DOCKER_NFT, LOOPBACK, PLAIN, PORT, Site},
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
    let who = [SUBJECT, DOCKER_NFT, DOCKER_LEGACY, PLAIN, DIRECT, LOOPBACK];
    let path = Path {
        word: "containers".to_owned(),
        title: "container to container, one network".to_owned(),
        works: in_both_families(&Load::ALL),
        ends,
        notes: vec![
            "Docker's host has br_netfilter, as dockerd finds or loads it up to release 27: bridged \
             packets go through the rules. Without it Docker's containers reach each other as by \
             the plain bridge."
                .to_owned(),
        ],
        targets: &targets,
    };
    path.measure(choice, |_, _| choice.common().choose(&who))
}

fn targets(load: Load, _: Family, number: &Number) -> Vec<Target> {
    match load {
        Load::Rr | Load::Crr => vec![
            Target::at_least(1.3, DOCKER_NFT),
            Target::at_least(1.3, DOCKER_LEGACY),
            Target::at_least(0.95, DIRECT),
        ],
        Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

/// From the second container to the first.
pub fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.containers[1],
        servers: vec![&site.containers[0]],
        to: vec![site.container(0, family, PORT)],
        ports: vec![PORT],
        cpus,
    }
}
