//! Container to a virtual IP, beside connections to the backends themselves.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

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

/// Another container, asking the same backends at their own addresses in turn.
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
        let pool = set_up(|| Pool::set_up(&choice.netbpf, backends));
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
            match &pool {
                Ok(pool) => plan.contenders.extend(contenders(pool, family)),
                Err(reason) => plan.absent.push(Absent {
                    name: SUBJECT.to_owned(),
                    reason: format!("{reason:#}"),
                }),
            }
            rows.extend(plan.measure(&choice.pace)?);
        }
    }
    Ok(rows)
}

/// Who asks by the virtual IP, and who asks directly. They are two containers: one's connections
/// that wait after their end would be in the other's way, for both lead to the same answers.
fn contenders(pool: &Pool, family: Family) -> [Contender<'_>; 2] {
    let [by_vip, directly] = &pool.clients;
    [
        contender(SUBJECT, pool, by_vip, vec![Pool::virtual_ip(family)]),
        contender(DIRECTLY, pool, directly, pool.direct(family)),
    ]
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

fn contender<'p>(
    name: &str,
    pool: &'p Pool,
    client: &'p Path,
    to: Vec<SocketAddr>,
) -> Contender<'p> {
    Contender {
        name: name.to_owned(),
        sampler: Box::new(move |pace| {
            forget_connections(pool.host());
            let ends = Ends {
                client,
                servers: pool.backends.iter().map(PathBuf::as_path).collect(),
                to: to.clone(),
                ports: vec![PORT],
                cpus: Load::Crr.cpus()?,
            };
            Load::Crr.measure(&ends, pace)
        }),
    }
}
