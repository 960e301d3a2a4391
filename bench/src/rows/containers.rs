//! Container to container on one network.

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::Choice;
use crate::{
    peers::{self, DIRECT, Site, Sites, Wanted},
    pin::Cpus,
    row::{About, Direction, Row, SUBJECT, Target},
    work::{Ends, PORT, Work},
};

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let works = [
        (Family::V4, Work::Rr),
        (Family::V4, Work::Crr),
        (Family::V6, Work::Rr),
        (Family::V6, Work::Crr),
    ];
    let chosen: Vec<_> = works
        .into_iter()
        .map(|(family, work)| (family, work, about(family, work)))
        .filter(|(.., about)| choice.has(&about.id))
        .collect();
    if chosen.is_empty() {
        return Ok(Vec::new());
    }
    let sites = Sites::set_up(vec![
        Wanted::new(SUBJECT, || peers::netbpf::site(choice.netbpf)),
        Wanted::new(DIRECT, || Ok(peers::direct_veth::site())),
    ]);
    let cpus = Cpus::one()?;
    let mut rows = Vec::new();
    for (family, work, about) in chosen {
        let plan = sites.plan(vec![about], |site, pace| {
            Ok(vec![work.measure(&ends(site, family, cpus), pace)?])
        });
        rows.extend(plan.measure(choice.pace)?);
    }
    Ok(rows)
}

fn about(family: Family, work: Work) -> About {
    let (word, unit) = match work {
        Work::Rr => ("one connection", "requests/s"),
        Work::Crr => ("a connection for each request", "connections/s"),
    };
    About {
        id: format!(
            "containers/{}/{}",
            work.name(),
            family.name().to_lowercase()
        ),
        title: format!(
            "container to container, one network: {word}, {}",
            family.name()
        ),
        unit,
        direction: Direction::HigherIsBetter,
        targets: vec![Target::at_least(0.95, DIRECT)],
    }
}

fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    Ends {
        client: &site.containers[0],
        server: &site.containers[1],
        to: vec![site.container(1, family, PORT)],
        ports: vec![PORT],
        cpus,
    }
}
