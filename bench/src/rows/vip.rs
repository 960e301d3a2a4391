//! Container to a virtual IP, beside connections to the backends themselves; streams also beside the
//! kernel's bridge and loopback.

use std::{net::SocketAddr, path::Path, time::Instant};

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice, containers,
    path::{about, in_both_families, no_worse_than},
};
use crate::{
    peers::{
        Chosen, LOOPBACK, PLAIN,
        netbpf::{Pool, Service},
    },
    pin::Cpus,
    rounds::{Contender, Plan},
    row::{About, Absent, Row, SUBJECT, Target},
    work::{Ends, Load, Number},
};

/// Another container, asking the same backends at their own addresses in turn.
const DIRECTLY: &str = "direct connection";

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = Vec::new();
    for service in Service::ALL {
        for (load, family) in works(service) {
            let about = about_service(service, load, family);
            if !about.iter().any(|about| choice.has(&about.id)) {
                continue;
            }
            let (id, began) = (about[0].id.clone(), Instant::now());
            rows.extend(choice.measure(plan(choice, about, service, load, family))?);
            let seconds = began.elapsed().as_secs_f64();
            eprintln!("bench: {id} is measured in {seconds:.1} s");
        }
    }
    Ok(rows)
}

/// The number of backends matters where connections begin.
fn works(service: Service) -> Vec<(Load, Family)> {
    if service == Service::ALL[0] {
        in_both_families(&Load::ALL)
    } else {
        in_both_families(&[Load::Crr])
    }
}

fn about_service(service: Service, load: Load, family: Family) -> Vec<About> {
    let backends = service.backends;
    let title = format!("container to a virtual IP with {backends} backends");
    about(&format!("vip/{backends}"), &title, load, family, |number| {
        targets(load, number)
    })
}

fn targets(load: Load, number: &Number) -> Vec<Target> {
    match load {
        Load::Rr | Load::Crr => vec![Target::at_least(0.95, DIRECTLY)],
        Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

fn plan<'p>(
    choice: &'p Choice,
    about: Vec<About>,
    service: Service,
    load: Load,
    family: Family,
) -> Plan<'p> {
    let mut plan = beside(choice, load).plan(about, load, move |site| {
        Ok(containers::ends(site, family, load.cpus()?))
    });
    match choice.pool() {
        Ok(pool) => drop(
            plan.contenders
                .splice(..0, ours(pool, service, load, family)),
        ),
        Err(reason) => plan.absent.push(Absent {
            name: SUBJECT.to_owned(),
            reason: format!("{reason:#}"),
        }),
    }
    plan
}

/// Who else takes part: from container to container, without a virtual IP.
fn beside(choice: &Choice, load: Load) -> Chosen<'_> {
    match load {
        Load::Rr | Load::Crr => Chosen::default(),
        Load::Stream(_) => choice.common().choose(&[PLAIN, LOOPBACK]),
        Load::Latency => choice.common().choose(&[PLAIN]),
    }
}

/// Who asks by the virtual IP, and who asks directly. They are two containers: one's connections
/// that wait after their end would be in the other's way, for both lead to the same answers.
fn ours(pool: &Pool, service: Service, load: Load, family: Family) -> [Contender<'_>; 2] {
    let [by_vip, directly] = &pool.clients;
    let contender = |name: &str, client, to: Vec<SocketAddr>| Contender {
        name: name.to_owned(),
        forget: Box::new(|| pool.forget()),
        begin: Box::new(move || {
            let ends = ends(pool, service, client, &to, load.cpus()?);
            Ok(Box::new(load.open(&ends)?))
        }),
    };
    [
        contender(SUBJECT, by_vip, vec![service.virtual_ip(family)]),
        contender(DIRECTLY, directly, service.direct(family)),
    ]
}

/// From one of who asks, to a service's backends.
pub fn ends<'p>(
    pool: &'p Pool,
    service: Service,
    client: &'p Path,
    to: &[SocketAddr],
    cpus: Cpus,
) -> Ends<'p> {
    Ends {
        client,
        servers: pool.backends(service),
        to: to.to_vec(),
        ports: to.iter().map(SocketAddr::port).take(1).collect(),
        cpus,
    }
}
