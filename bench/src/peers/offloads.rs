//! What the interfaces of a contender offload. All have to offload the same, for it is worth more
//! than most of what is compared.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, ensure};
use netbpf_tests::netns::{Netns, unique};

use super::rules::output;

/// The features of an interface, each `on` or `off`.
type Features = BTreeMap<String, String>;

/// Demands that every veth interface in these namespaces has the features that a new one has.
///
/// # Errors
///
/// Which one differs, and in what.
///
/// # Panics
///
/// When there can be no veth pair to compare with.
pub fn demand_defaults<'p>(places: impl IntoIterator<Item = &'p Path>) -> Result<()> {
    let defaults = defaults()?;
    for place in places {
        let netns = Netns::existing(place);
        for interface in veths(&netns)? {
            let other = differing(&defaults, &features(&netns, &interface)?);
            ensure!(
                other.is_empty(),
                "its {interface} offloads otherwise than a new veth: {}",
                other.join(", ")
            );
        }
    }
    Ok(())
}

fn defaults() -> Result<Features> {
    let netns = Netns::create(&unique());
    netns.ip("link add new0 type veth peer name new1");
    features(&netns, "new0")
}

fn veths(netns: &Netns) -> Result<Vec<String>> {
    let mut ip = netns.command("ip");
    ip.args(["-oneline", "link", "show", "type", "veth"]);
    let shown = output(&mut ip)?;
    let name = |line: &str| {
        let name = line.split(": ").nth(1)?;
        Some(name.split('@').next()?.to_owned())
    };
    Ok(shown.lines().filter_map(name).collect())
}

fn features(netns: &Netns, interface: &str) -> Result<Features> {
    let mut ethtool = netns.command("ethtool");
    let shown = output(ethtool.args(["--show-features", interface]))?;
    let features = read(&shown);
    ensure!(
        !features.is_empty(),
        "ethtool shows no feature of {interface}"
    );
    Ok(features)
}

fn read(shown: &str) -> Features {
    let feature = |line: &str| {
        let (name, state) = line.split_once(": ")?;
        let state = state.split_whitespace().next().context("no state").ok()?;
        Some((name.trim().to_owned(), state.to_owned()))
    };
    shown.lines().filter_map(feature).collect()
}

fn differing(of: &Features, to: &Features) -> Vec<String> {
    let differs = |(name, state): &(&String, &String)| of.get(*name) != Some(state);
    to.iter()
        .filter(differs)
        .map(|(name, state)| format!("{name} {state}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHOWN: &str = "Features for eth0:\nrx-checksumming: on\n\ttx-checksum-ipv4: off [fixed]\n\
                         generic-receive-offload: on\n";

    #[test]
    fn a_feature_that_is_switched_is_found_by_its_name() {
        let defaults = read(SHOWN);
        assert_eq!(defaults.len(), 3);
        assert_eq!(differing(&defaults, &defaults), Vec::<String>::new());
        let other = read(&SHOWN.replace("offload: on", "offload: off"));
        assert_eq!(
            differing(&defaults, &other),
            ["generic-receive-offload off"]
        );
    }
}
