//! Outside to published ports: one of them, and one of very many.

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, no_worse_than},
};
use crate::{
    peers::{
        self, DOCKER_LEGACY, DOCKER_NFT, NFT_MAPS, PLAIN, PORT, Site, Sites, Wanted,
        docker::{self, Backend, Proxy},
    },
    pin::Cpus,
    row::{Row, SUBJECT, Target},
    work::{Ends, Load, Number},
};

/// How many ports are published, beside one.
const MANY: [u16; 4] = [100, 1_000, 5_000, 10_000];

/// How many of them are asked, in turn.
const ASKED: u16 = 128;

/// The subject with one published port, beside itself with many.
const ONE_PORT: &str = "netbpf, 1 port";

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = one(choice)?;
    let mut standing = None;
    let by_dockerd = choice.pace.by_dockerd;
    for ports in MANY {
        let path = Path {
            word: format!("published/{ports}"),
            title: format!("outside to one of {ports} published ports"),
            works: &[(Load::Crr, Family::V4)],
            ends: &ends,
            notes: vec![format!(
                "dockerd published {by_dockerd} ports, the rest was multiplied in the same form by \
                 iptables-restore; {} ports, spread over all, are asked in turn",
                ports.min(ASKED)
            )],
            targets: &|_, _| targets_of_many(ports),
        };
        if path.is_chosen(choice) {
            let standing = standing.get_or_insert_with(|| Standing::set_up(choice));
            standing.grow(ports);
            rows.extend(many(choice, &path, standing, ports)?);
        }
    }
    Ok(rows)
}

fn one(choice: &Choice) -> Result<Vec<Row>> {
    let who = [SUBJECT, DOCKER_NFT, DOCKER_LEGACY, NFT_MAPS, PLAIN];
    let path = Path {
        word: "published/1".to_owned(),
        title: "outside to the one published port".to_owned(),
        works: &[
            (Load::Crr, Family::V4),
            (Load::Crr, Family::V6),
            (Load::Rr, Family::V4),
            (Load::Stream(1), Family::V4),
            (Load::Stream(8), Family::V4),
            (Load::Latency, Family::V4),
        ],
        ends: &ends,
        notes: Vec::new(),
        targets: &targets_of_one,
    };
    path.measure(choice, || choice.common().choose(&who))
}

fn targets_of_one(load: Load, number: &Number) -> Vec<Target> {
    match load {
        Load::Crr => vec![
            Target::at_least(1.4, DOCKER_NFT),
            Target::at_least(1.4, DOCKER_LEGACY),
            Target::at_least(1.0, PLAIN),
        ],
        Load::Rr | Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
}

/// What stands for all numbers of ports.
struct Standing {
    /// dockerd takes long, so its rules are multiplied where they stand.
    dockers: Sites,
    /// What every number of ports is compared with.
    one_port: Sites,
}

impl Standing {
    fn set_up(choice: &Choice) -> Self {
        let docker = |name, backend| {
            Wanted::new(name, move || {
                docker::site(backend, Proxy::Process, choice.pace.by_dockerd)
            })
        };
        Self {
            dockers: Sites::set_up(vec![
                docker(DOCKER_NFT, Backend::Nft),
                docker(DOCKER_LEGACY, Backend::Legacy),
            ]),
            one_port: Sites::set_up(vec![Wanted::new(ONE_PORT, || {
                peers::netbpf::site(&choice.netbpf, 1)
            })]),
        }
    }

    fn grow(&mut self, ports: u16) {
        self.dockers.change(|name, site| {
            let backend = if name == DOCKER_LEGACY {
                Backend::Legacy
            } else {
                Backend::Nft
            };
            docker::multiply(site, backend, ports)
        });
    }
}

fn many(choice: &Choice, path: &Path, standing: &Standing, ports: u16) -> Result<Vec<Row>> {
    let sites = Sites::set_up(vec![
        Wanted::new(SUBJECT, || peers::netbpf::site(&choice.netbpf, ports)),
        Wanted::new(NFT_MAPS, || Ok(peers::nft_maps::site(ports))),
    ]);
    path.measure(choice, || {
        let dockers = standing.dockers.choose(&[DOCKER_NFT, DOCKER_LEGACY]);
        sites
            .choose(&[SUBJECT])
            .and(dockers)
            .and(sites.choose(&[NFT_MAPS]))
            .and(standing.one_port.choose(&[ONE_PORT]))
    })
}

/// Its own rate within 3 % of that with one port; at 5,000, ten times Docker's.
fn targets_of_many(ports: u16) -> Vec<Target> {
    let mut targets = vec![Target::at_least(0.97, ONE_PORT)];
    if ports == 5_000 {
        targets.extend([DOCKER_NFT, DOCKER_LEGACY].map(|peer| Target::at_least(10.0, peer)));
    }
    targets
}

/// From outside to ports that are spread over all that are published.
fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
    let (ports, asked) = (u32::from(site.ports), site.ports.min(ASKED));
    let offsets = (0..asked).map(move |at| (u32::from(at) * ports / u32::from(asked)) as u16);
    Ends {
        client: &site.client,
        servers: vec![&site.containers[0]],
        to: offsets
            .clone()
            .map(|offset| site.published(family.host(), offset))
            .collect(),
        ports: offsets.map(|offset| PORT + offset).collect(),
        cpus,
    }
}
