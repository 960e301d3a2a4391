//! Container to a virtual IP, beside connections to the backends themselves.

use std::{net::SocketAddr, path::PathBuf};

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::Choice;
use crate::{
    peers::{PORT, forget_connections, netbpf::Pool, set_up},
    rounds::{Contender, Plan},
    row::{About, Absent, Row, SUBJECT, Target},
    work::{Ends, Load},
};

/// How many backends there are.
const BACKENDS: [u8; 2] = [2, 100];

/// The same container asking the same backends, at their own addresses in turn.
const DIRECTLY: &str = "direct connection";

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for backends in BACKENDS {
        let abouts = Family::ALL.map(|family| (family, about(backends, family)));
        if !abouts.iter().any(|(_, about)| choice.has(&about.id)) {
            continue;
        }
        // Each on a host of its own: a connection to a backend that was made by the virtual IP
        // keeps its ports from one that is made directly, for as long as it waits after its end.
        let [by_vip, directly] =
            [(); 2].map(|()| set_up(|| Pool::set_up(&choice.netbpf, backends)));
        for (family, about) in abouts {
            if !choice.has(&about.id) {
                continue;
            }
            let mut plan = Plan {
                about: vec![about],
                contenders: Vec::new(),
                absent: Vec::new(),
                notes: Vec::new(),
            };
            let vip = vec![Pool::virtual_ip(family)];
            add(&mut plan, SUBJECT, by_vip.as_ref(), |_| vip.clone());
            add(&mut plan, DIRECTLY, directly.as_ref(), |pool| {
                pool.direct(family)
            });
            rows.extend(plan.measure(&choice.pace)?);
        }
    }
    Ok(rows)
}

/// Adds a contender who asks what `to` says, or that there is none.
fn add<'p>(
    plan: &mut Plan<'p>,
    name: &str,
    pool: Result<&'p Pool, &anyhow::Error>,
    to: impl Fn(&Pool) -> Vec<SocketAddr>,
) {
    match pool {
        Ok(pool) => plan.contenders.push(contender(name, pool, to(pool))),
        Err(reason) => plan.absent.push(Absent {
            name: name.to_owned(),
            reason: format!("{reason:#}"),
        }),
    }
}

fn about(backends: u8, family: Family) -> About {
    let number = Load::Crr.numbers()[0];
    let name = family.name();
    About {
        id: format!("vip/{backends}/crr/{}", name.to_lowercase()),
        title: format!("container to a virtual IP with {backends} backends, {name}"),
        unit: number.unit,
        direction: number.direction,
        targets: vec![Target::at_least(0.95, DIRECTLY)],
    }
}

fn contender<'p>(name: &str, pool: &'p Pool, to: Vec<SocketAddr>) -> Contender<'p> {
    Contender {
        name: name.to_owned(),
        sampler: Box::new(move |pace| {
            forget_connections(pool.host());
            let ends = Ends {
                client: &pool.client,
                servers: pool.backends.iter().map(PathBuf::as_path).collect(),
                to: to.clone(),
                ports: vec![PORT],
                cpus: Load::Crr.cpus()?,
            };
            Load::Crr.measure(&ends, pace)
        }),
    }
}
