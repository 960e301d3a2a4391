//! A process of the host to a published port on the loopback address.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, no_worse_than},
};
use crate::{
    peers::{
        self, DOCKER_NFT, DOCKER_NO_PROXY, DOCKER_PROXY, PLAIN, PORT, Site, Sites, Wanted,
        docker::{Backend, Proxy},
    },
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
    let path = Path {
        word: "local".to_owned(),
        title: "the host to a published port on 127.0.0.1".to_owned(),
        works: &[
            (Load::Crr, Family::V4),
            (Load::Stream(1), Family::V4),
            (Load::Stream(8), Family::V4),
            (Load::Latency, Family::V4),
        ],
        ends: &ends,
        notes: Vec::new(),
        targets: &targets,
    };
    if !path.is_chosen(choice) {
        return Ok(Vec::new());
    }
    let without = Sites::set_up(vec![Wanted::new(DOCKER_NO_PROXY, || {
        peers::docker::site(Backend::Nft, Proxy::Rules, 1)
    })]);
    path.measure(choice, || {
        choice
            .common()
            .choose(&[SUBJECT, DOCKER_NFT, PLAIN])
            // By default a process of Docker's carries what comes by a loopback address.
            .renamed(DOCKER_NFT, DOCKER_PROXY)
            .and(without.choose(&[DOCKER_NO_PROXY]))
    })
}

fn targets(load: Load, number: &Number) -> Vec<Target> {
    match load {
        Load::Rr | Load::Crr => rates().to_vec(),
        Load::Stream(_) if number.word.is_empty() => {
            let mut targets = rates().to_vec();
            targets.push(no_worse_than(number, PLAIN));
            targets
        }
        Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

fn rates() -> [Target; 2] {
    [
        Target::at_least(2.0, DOCKER_PROXY),
        Target::at_least(1.0, DOCKER_NO_PROXY),
    ]
}

fn ends(site: &Site, _: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.host,
        servers: vec![&site.containers[0]],
        to: vec![site.published(IpAddr::V4(Ipv4Addr::LOCALHOST), 0)],
        ports: vec![PORT],
        cpus,
    }
}
