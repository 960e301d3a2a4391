//! A host with very many networks: the document that asks for it, and what the maps hold for it. None
//! of it is made.

use std::fmt::Write as _;

use anyhow::Result;
use netbpf::{
    config,
    dataplane::maps::Contents,
    host::link::Link,
    plan::{self, Facts},
};

use super::CONTAINERS;

/// As many networks, each in both families.
pub fn document(networks: usize) -> String {
    let mut text = "[host]\nuplinks = []\n".to_owned();
    // Writing to a string never fails.
    for number in 0..networks {
        let (high, low) = (number >> 8, number & 255);
        let _ = write!(
            text,
            "[[network]]\nname = \"n{number}\"\nbridge = \"nbs{number}\"\n\
             subnets = [\"10.{high}.{low}.0/24\", \"fd10:{number:x}::/64\"]\n"
        );
    }
    for number in 0..networks {
        for container in 0..CONTAINERS {
            let _ = write!(
                text,
                "[[container]]\nname = \"c{number}-{container}\"\n\
                 networks = [{{ name = \"n{number}\" }}]\n"
            );
        }
    }
    text
}

/// What the maps must hold for them, with interfaces that are nowhere.
pub fn contents(networks: usize) -> Result<Contents> {
    /// No interface of this machine has such a number.
    const FIRST: u32 = 1_000_000;
    let document = config::load("scale.toml", &document(networks))?;
    let (model, _) = document.resolve(&netbpf::allocations::Allocations::default())?;
    let mut facts = Facts::default();
    let links = plan::links("scale", &model, &facts)?;
    facts.links = links
        .roles()
        .zip(FIRST..)
        .map(|((name, _), index)| link(name, index))
        .collect();
    facts.link_index = netbpf::model::Index::default();
    Ok(plan::contents(&model, &links, &facts)?)
}

fn link(name: &str, index: u32) -> Link {
    Link {
        index,
        name: name.to_owned(),
        kind: None,
        mac: None,
        mtu: 1500,
        master: None,
        up: true,
        running: true,
        loopback: false,
        alias: None,
        arp_type: 1,
        peer: None,
        peer_netns: None,
    }
}

/// Puts who is where beside a small world. Its networks have ids of their own.
pub fn extend(world: &mut Contents, more: Contents) {
    /// The bed's networks and endpoints count from 1.
    const SHIFT: u32 = 100_000;
    world
        .interfaces
        .extend(more.interfaces.into_iter().map(|(index, mut it)| {
            it.network += SHIFT;
            it.endpoint += SHIFT;
            it.container += SHIFT;
            (index, it)
        }));
    let networks = more.networks.into_iter();
    world
        .networks
        .extend(networks.map(|(id, it)| (id + SHIFT, it)));
    let subnets = more.subnets_v4.into_iter();
    world
        .subnets_v4
        .extend(subnets.map(|(key, id)| (key, id + SHIFT)));
    let subnets = more.subnets_v6.into_iter();
    world
        .subnets_v6
        .extend(subnets.map(|(key, id)| (key, id + SHIFT)));
    let shifted = |mut it: netbpf_common::endpoint::Endpoint| {
        it.id += SHIFT;
        it.network += SHIFT;
        it
    };
    let ends = more.endpoints_v4.into_iter();
    world
        .endpoints_v4
        .extend(ends.map(|(addr, it)| (addr, shifted(it))));
    let ends = more.endpoints_v6.into_iter();
    world
        .endpoints_v6
        .extend(ends.map(|(addr, it)| (addr, shifted(it))));
    let ends = more.endpoints_by_mac.into_iter();
    world.endpoints_by_mac.extend(ends.map(|(mut key, it)| {
        key.network += SHIFT;
        (key, shifted(it))
    }));
    world.host_addresses_v4.extend(more.host_addresses_v4);
    world.host_addresses_v6.extend(more.host_addresses_v6);
}
