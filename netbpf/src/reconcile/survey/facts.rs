//! What the plan needs to know of the host.

use std::{
    collections::{BTreeMap, HashSet},
    fs,
    net::IpAddr,
};

use anyhow::{Context as _, Result};

use crate::{
    host::{Host, Netns, Observed, address::Address, kernel::Features, xfrm},
    model::Index,
    plan::Facts,
    state::{AdoptedBridge, Change as Noted, Changes},
};

const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

/// What the plan needs to know of the host. Addresses that this instance gave are left out: the
/// plan itself says which there are to be.
pub fn facts(host: &Host, noted: &Changes, observed: &Observed) -> Result<Facts> {
    let names: BTreeMap<u32, &str> = observed
        .links
        .iter()
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let given: HashSet<(&str, IpAddr)> = noted
        .iter()
        .filter_map(|change| match change {
            Noted::Address { interface, net } => Some((interface.as_str(), net.addr())),
            _ => None,
        })
        .collect();
    let is_given = |address: &Address| {
        names
            .get(&address.index)
            .is_some_and(|name| given.contains(&(name, address.addr())))
    };
    let routers = host.rtnl().links_with_advertised_default()?;
    let features = Features::detect()?;
    Ok(Facts {
        has_ipsec: xfrm::has_policies()?,
        lacks_fib_source: !features.fib_lookup_src,
        links: observed.links.clone(),
        link_index: Index::default(),
        addresses: observed
            .addresses
            .iter()
            .filter(|it| !is_given(it))
            .copied()
            .collect(),
        adopted: noted
            .iter()
            .filter_map(|change| match change {
                Noted::AdoptedBridge(bridge) if stands(bridge, observed) => {
                    Some((bridge.name.clone(), bridge.mac))
                }
                _ => None,
            })
            .collect(),
        reserved_ports: reserved_ports()?,
        netns_cookie: Netns::current_cookie(),
        advertised_routers: routers
            .iter()
            .filter_map(|index| names.get(index).map(|name| (*name).to_owned()))
            .collect(),
    })
}

/// Whether a bridge that was adopted is still the one that it was.
pub fn stands(bridge: &AdoptedBridge, observed: &Observed) -> bool {
    let mut links = observed.links.iter();
    links.any(|link| link.name == bridge.name && [0, link.index].contains(&bridge.index))
}

/// The administrator's reserved ports, as ranges.
pub fn reserved_ports() -> Result<Vec<(u16, u16)>> {
    let text = fs::read_to_string(RESERVED_PORTS)
        .with_context(|| format!("failed to read {RESERVED_PORTS}"))?;
    Ok(parse_reserved_ports(&text))
}

/// Reads `8080,9148-9150`; what is no port is left out.
fn parse_reserved_ports(text: &str) -> Vec<(u16, u16)> {
    text.trim()
        .split(',')
        .filter_map(|range| {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            Some((first.parse().ok()?, last.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reserved_ports_are_single_or_ranges() {
        assert_eq!(
            parse_reserved_ports("8080,9148-9150\n"),
            [(8080, 8080), (9148, 9150)]
        );
        assert_eq!(parse_reserved_ports("\n"), []);
    }
}
