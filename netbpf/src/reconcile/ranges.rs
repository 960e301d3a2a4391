//! Which ranges the host itself uses, and whether a network may have its subnets beside them.

use std::{
    collections::{BTreeSet, HashSet},
    net::IpAddr,
};

use anyhow::Result;
use ipnet::IpNet;

use super::survey::Survey;
use crate::{
    error::Error,
    host::{Observed, route::Route},
    model::{Model, Network},
    state::Changes,
};

/// What the host reaches by interfaces that are not ours: no automatic subnet may overlap it.
pub fn occupied(observed: &Observed, noted: &Changes) -> Vec<IpNet> {
    let own = own_links(observed, noted, &HashSet::new());
    let is_foreign = |index: &u32| !own.contains(index);
    let addresses = observed
        .addresses
        .iter()
        .filter(|address| is_foreign(&address.index))
        .map(|address| address.net.trunc());
    let routes = observed
        .routes
        .iter()
        .filter(|route| !leads_everywhere(route))
        .filter(|route| route.links.is_empty() || route.links.iter().any(is_foreign))
        .map(|route| route.destination);
    addresses.chain(routes).collect()
}

/// A default route, or one of the two halves of one that a VPN puts above it.
fn leads_everywhere(route: &Route) -> bool {
    route.destination.prefix_len() <= 1
}

/// The numbers of the bridges that we made or adopted, or are about to.
fn own_links(observed: &Observed, noted: &Changes, wanted: &HashSet<&str>) -> BTreeSet<u32> {
    let is_own = |name: &str| wanted.contains(name) || noted.has_bridge(name);
    let links = observed.links.iter();
    links
        .filter(|link| is_own(&link.name))
        .map(|link| link.index)
        .collect()
}

/// A subnet that comes must not be one that the host reaches by interfaces that are not ours. One
/// inside a wider route is what somebody asked for: it takes precedence there, and is warned of. A
/// network that stands goes on standing.
///
/// # Errors
///
/// The first subnet that can't be had, and what it overlaps.
pub fn check(model: &Model, noted: &Changes, survey: &Survey) -> Result<()> {
    let bridges = survey.links.bridges.iter();
    let wanted: HashSet<&str> = bridges.map(|bridge| bridge.name.as_str()).collect();
    let own = own_links(&survey.observed, noted, &wanted);
    for network in &model.networks {
        let coming = network
            .subnets
            .iter()
            .filter(|subnet| !stands(network, **subnet, survey));
        for subnet in coming {
            let scope = format!("network {:?}: subnet {subnet}", network.name);
            if let Some(what) = conflict(*subnet, survey, &own) {
                return Err(Error::host(format!("{scope} overlaps {what}")).into());
            }
            if let Some(wider) = wider_route(*subnet, survey, &own) {
                tracing::warn!("{scope} takes precedence over the route to {wider}");
            }
        }
    }
    Ok(())
}

/// Whether the network's bridge is in this subnet already.
fn stands(network: &Network, subnet: IpNet, survey: &Survey) -> bool {
    let is_gateway = |address: IpAddr| network.gateways.contains(&address);
    let bridge = survey.facts.link(&network.bridge);
    bridge.is_some_and(|bridge| {
        let mut addresses = survey.addresses_of(bridge.index);
        addresses.any(|address| address.net.trunc() == subnet && is_gateway(address.addr()))
    })
}

fn conflict(subnet: IpNet, survey: &Survey, own: &BTreeSet<u32>) -> Option<String> {
    let observed = &survey.observed;
    let name = |index: u32| {
        let link = observed.links.iter().find(|link| link.index == index);
        link.map_or("", |link| link.name.as_str())
    };
    let address = survey
        .facts
        .addresses
        .iter()
        .find(|it| !own.contains(&it.index) && overlaps(subnet, it.net));
    if let Some(address) = address {
        return Some(format!(
            "address {} of {}",
            address.net,
            name(address.index)
        ));
    }
    let route = foreign_routes(survey, own).find(|route| subnet.contains(&route.destination))?;
    let by = route.links.first().map(|index| name(*index));
    let by = by.map_or_else(String::new, |name| format!(" by {name}"));
    Some(format!("the route to {}{by}", route.destination))
}

fn wider_route(subnet: IpNet, survey: &Survey, own: &BTreeSet<u32>) -> Option<IpNet> {
    foreign_routes(survey, own)
        .map(|route| route.destination)
        .find(|destination| destination.contains(&subnet))
}

fn foreign_routes<'s>(survey: &'s Survey, own: &BTreeSet<u32>) -> impl Iterator<Item = &'s Route> {
    survey.observed.routes.iter().filter(|route| {
        !leads_everywhere(route) && !route.links.iter().any(|index| own.contains(index))
    })
}

fn overlaps(one: IpNet, other: IpNet) -> bool {
    one.contains(&other.network()) || other.contains(&one.network())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn subnets_overlap_when_one_holds_the_other() -> Result<()> {
        let wide: IpNet = "172.16.0.0/12".parse()?;
        let narrow: IpNet = "172.28.0.1/24".parse()?;
        let other: IpNet = "10.0.0.0/8".parse()?;
        assert!(overlaps(wide, narrow) && overlaps(narrow, wide));
        assert!(!overlaps(wide, other));
        Ok(())
    }
}
