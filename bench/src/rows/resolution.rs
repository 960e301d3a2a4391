//! How fine the bench sees: two plain hosts that are made alike, beside each other among other
//! contenders, as a row has them. Whatever differs between them is the bench's own, and a ratio to a
//! peer means no more than that. No row is about it, for netbpf has no part in it.

use anyhow::Result;
use netbpf_tests::topology::Family;
use serde::{Deserialize, Serialize};

use super::{Choice, containers, path::about};
use crate::{
    peers::{DOCKER_NFT, PLAIN, PLAIN_AGAIN},
    row::SUBJECT,
    statistics::Spread,
    work::Load,
};

/// What is measured on them.
const LOADS: [Load; 4] = [Load::Rr, Load::Crr, Load::Stream(1), Load::Latency];

/// One number of a load on both hosts.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Resolution {
    /// The work, for people.
    pub title: String,
    /// The ratios of one host's figures to the other's; `None`: one of them was not measured.
    pub spread: Option<Spread>,
}

/// Measures both.
///
/// # Errors
///
/// When the user ends the run.
pub fn check(choice: &Choice) -> Result<Vec<Resolution>> {
    let mut found = Vec::new();
    for load in LOADS {
        let about = about("resolution", "two plain hosts", load, Family::V4, |_| {
            Vec::new()
        });
        if !about.iter().any(|about| choice.has(&about.id)) {
            continue;
        }
        let cpus = load.cpus()?;
        let who = [PLAIN, SUBJECT, PLAIN_AGAIN, DOCKER_NFT];
        let chosen = choice.common().choose(&who);
        let plan = chosen.plan(about, load, move |site| {
            Ok(containers::ends(site, Family::V4, cpus))
        });
        let rows = choice.measure(plan)?;
        found.extend(rows.iter().map(|row| Resolution {
            title: row.about.title.clone(),
            spread: row.between(PLAIN, PLAIN_AGAIN),
        }));
    }
    Ok(found)
}
