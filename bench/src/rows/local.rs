//! A process of the host to a published port on the loopback address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, in_both_families, no_worse_than, with_loopback_beside_streams},
};
use crate::{
    peers::{DOCKER_NFT, DOCKER_NO_PROXY, DOCKER_PROXY, PLAIN, PORT, Site},
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
        title: "the host to a published port on its loopback address".to_owned(),
        works: in_both_families(&Load::ALL),
        ends,
        notes: Vec::new(),
        targets: &targets,
    };
    path.measure(choice, |load, family| {
        let who = with_loopback_beside_streams(&[SUBJECT, DOCKER_NFT, PLAIN], load);
        let without = choice.without_proxy().choose(&[DOCKER_NO_PROXY]);
        choice
            .common()
            .choose(&who)
            // By default a process of Docker's carries what comes by a loopback address.
            .renamed(DOCKER_NFT, DOCKER_PROXY)
            .and(match family {
                Family::V4 => without,
                Family::V6 => without.but(DOCKER_NO_PROXY, "its rules lead [::1] nowhere"),
            })
    })
}

fn targets(load: Load, family: Family, number: &Number) -> Vec<Target> {
    match load {
        Load::Crr => rates(family),
        Load::Stream(_) if number.word.is_empty() => {
            let mut targets = rates(family);
            targets.push(no_worse_than(number, PLAIN));
            targets
        }
        Load::Rr | Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

/// Docker without proxy does not lead \[::1\] anywhere, so that there is nothing to compare with.
fn rates(family: Family) -> Vec<Target> {
    let mut targets = vec![Target::at_least(2.0, DOCKER_PROXY)];
    if family == Family::V4 {
        targets.push(Target::at_least(1.0, DOCKER_NO_PROXY));
    }
    targets
}

/// From the host to the first container's published port.
pub fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.host,
        servers: vec![&site.containers[0]],
        to: vec![site.published(loopback(family), 0)],
        ports: vec![PORT],
        cpus,
    }
}

fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    }
}
