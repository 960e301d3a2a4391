//! Where in what was observed things stand, so that the whole is not gone through for each of them.

use std::collections::{HashMap, HashSet};

use super::Survey;
use crate::host::{Observed, address::Address, link::Link, neighbour::FdbEntry};

/// Places in the lists of an [`Observed`], by the number of a link.
#[derive(Debug)]
pub(super) struct Places {
    links: HashMap<u32, usize>,
    ports: HashMap<u32, Vec<usize>>,
    addresses: HashMap<u32, Vec<usize>>,
    fdb: HashSet<FdbEntry>,
}

impl Places {
    pub(super) fn of(observed: &Observed) -> Self {
        let links = observed.links.iter().enumerate();
        let mut ports: HashMap<u32, Vec<usize>> = HashMap::new();
        for (place, link) in links.clone() {
            if let Some(master) = link.master {
                ports.entry(master).or_default().push(place);
            }
        }
        let mut addresses: HashMap<u32, Vec<usize>> = HashMap::new();
        for (place, address) in observed.addresses.iter().enumerate() {
            addresses.entry(address.index).or_default().push(place);
        }
        Self {
            links: links.map(|(place, link)| (link.index, place)).collect(),
            ports,
            addresses,
            fdb: observed.fdb.iter().copied().collect(),
        }
    }
}

impl Survey {
    /// The host's link of that number.
    pub fn link_of(&self, index: u32) -> Option<&Link> {
        self.observed.links.get(*self.places.links.get(&index)?)
    }

    /// The host's links that are ports of the one of that number.
    pub fn ports_of(&self, index: u32) -> impl Iterator<Item = &Link> {
        let ports = self.places.ports.get(&index).into_iter().flatten();
        ports.filter_map(|place| self.observed.links.get(*place))
    }

    /// The addresses of the host's link of that number.
    pub fn addresses_of(&self, index: u32) -> impl Iterator<Item = &Address> {
        let addresses = self.places.addresses.get(&index).into_iter().flatten();
        addresses.filter_map(|place| self.observed.addresses.get(*place))
    }

    /// Whether a bridge was told where a MAC is.
    pub fn is_told(&self, entry: FdbEntry) -> bool {
        self.places.fdb.contains(&entry)
    }
}
