//! Outside to published ports: one of them, and one of very many.

use anyhow::Result;
use netbpf_tests::topology::Family;

use super::{
    Choice,
    path::{Path, in_both_families, no_worse_than, with_loopback_beside_streams},
};
use crate::{
    peers::{Chosen, DOCKER_LEGACY, DOCKER_NFT, NFT_MAPS, PLAIN, PLAIN_AGAIN, PORT, Site},
    pin::Cpus,
    report::markdown,
    row::{Row, SUBJECT, Target},
    work::{Ends, Load, Number},
};

/// How many ports are published, beside one.
const MANY: [u16; 4] = [100, 1_000, 5_000, 10_000];

/// How many of them are asked, in turn.
pub const ASKED: u16 = 128;

/// The subject with one published port, beside itself with many.
const ONE_PORT: &str = "netbpf, 1 port";

/// Two plain hosts, of which one is asked at one port and the other one at as many as the others:
/// what is between them is what the sockets of so many ports cost, whoever leads there.
const PLAIN_ONE: &str = "plain, 1 port";
/// As above.
const PLAIN_MANY: &str = "plain, 128 ports";

/// The rows of this path.
///
/// # Errors
///
/// When the user ends the run.
pub fn measure(choice: &Choice) -> Result<Vec<Row>> {
    let mut rows = one(choice)?;
    let by_dockerd = choice.pace.by_dockerd;
    for ports in MANY {
        let path = Path {
            word: format!("published/{ports}"),
            title: format!("outside to one of {ports} published ports"),
            works: in_both_families(&[Load::Crr]),
            ends,
            notes: vec![format!(
                "dockerd published {by_dockerd} ports; the rest, and what dockerd left out of these, \
                 was multiplied in the same form by iptables-restore; {} ports, spread over all, \
                 are asked in turn",
                ports.min(ASKED)
            )],
            targets: &|_, _, _| targets_of_many(ports),
        };
        if path.is_chosen(choice) {
            if choice.with_budget(|budget| budget.is_over()) {
                rows.extend(path.measure(choice, |_, _| Chosen::default())?);
                continue;
            }
            let mut measured = choice.with_ports(ports, |sites| {
                path.measure(choice, |_, _| {
                    let common = choice.common().choose(&[SUBJECT, PLAIN, PLAIN_AGAIN]);
                    sites
                        .choose(&[SUBJECT, DOCKER_NFT, DOCKER_LEGACY, NFT_MAPS])
                        .and(common.renamed(SUBJECT, ONE_PORT))
                        .renamed(PLAIN, PLAIN_ONE)
                        .renamed(PLAIN_AGAIN, PLAIN_MANY)
                })
            })?;
            measured.iter_mut().for_each(note_sockets);
            rows.extend(measured);
        }
    }
    Ok(rows)
}

/// Says of a row of many ports what is no dataplane's doing.
fn note_sockets(row: &mut Row) {
    if let Some(spread) = row.between(PLAIN_MANY, PLAIN_ONE) {
        row.notes.push(format!(
            "what the sockets of so many ports cost by themselves: {PLAIN_MANY} ÷ {PLAIN_ONE} is {}",
            markdown::ratio_and_interval(&spread)
        ));
    }
}

fn one(choice: &Choice) -> Result<Vec<Row>> {
    let who = [SUBJECT, DOCKER_NFT, DOCKER_LEGACY, NFT_MAPS, PLAIN];
    let path = Path {
        word: "published/1".to_owned(),
        title: "outside to the one published port".to_owned(),
        works: in_both_families(&Load::ALL),
        ends,
        notes: Vec::new(),
        targets: &targets_of_one,
    };
    path.measure(choice, |load, _| {
        choice
            .common()
            .choose(&with_loopback_beside_streams(&who, load))
    })
}

fn targets_of_one(load: Load, _: Family, number: &Number) -> Vec<Target> {
    match load {
        Load::Crr => vec![
            Target::at_least(1.4, DOCKER_NFT),
            Target::at_least(1.4, DOCKER_LEGACY),
            Target::at_least(1.0, PLAIN),
        ],
        Load::Rr | Load::Stream(_) | Load::Latency => vec![no_worse_than(number, PLAIN)],
    }
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
pub fn ends(site: &Site, family: Family, cpus: Cpus) -> Ends<'_> {
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        row::{About, Direction, Series},
        work::Load,
    };

    #[test]
    fn what_sockets_cost_is_the_median_of_what_they_cost_within_a_round() {
        let series = |name: &str, samples: [f64; 3]| Series {
            name: name.to_owned(),
            samples: samples.to_vec(),
        };
        let mut row = Row {
            about: About {
                id: Load::Crr.id(),
                title: String::new(),
                unit: String::new(),
                direction: Direction::HigherIsBetter,
                targets: Vec::new(),
            },
            // The medians alone would come to 1.
            series: vec![
                series(PLAIN_ONE, [10.0, 20.0, 40.0]),
                series(PLAIN_MANY, [9.0, 36.0, 20.0]),
            ],
            absent: Vec::new(),
            notes: Vec::new(),
        };
        note_sockets(&mut row);
        assert_eq!(row.notes.len(), 1);
        assert!(
            row.notes[0].ends_with("is 0.900 [too few rounds]"),
            "{row:?}"
        );
    }
}
