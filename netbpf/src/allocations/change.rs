//! What changes in the automatic choices: what is written of them is what came and what went.

use std::collections::{BTreeMap, HashMap};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::{
    Allocations, EndpointAllocation, LastIds, LastPorts, MappingAllocation, VipAllocation,
};

/// The ends of one container, by network.
type Ends = BTreeMap<String, EndpointAllocation>;

/// What a map of choices gets: another value, or none any more.
type News<V> = BTreeMap<String, Option<V>>;

/// The difference between two states of the choices.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct AllocationsChange {
    last_ids: LastIds,
    last_ports: LastPorts,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    networks: News<u32>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    subnets: News<Vec<IpNet>>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    endpoints: News<Ends>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    vips: News<VipAllocation>,
    /// Where the mappings stood that go, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    gone: Vec<usize>,
    /// Those that come, and where they stand then, lowest first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    come: Vec<(usize, MappingAllocation)>,
}

impl AllocationsChange {
    /// Mappings that go, by their places, and that come, with the places that they then have; all
    /// lowest first.
    pub fn of_mappings(
        (last_ids, last_ports): (LastIds, LastPorts),
        gone: Vec<usize>,
        come: Vec<(usize, MappingAllocation)>,
    ) -> Self {
        Self {
            last_ids,
            last_ports,
            gone,
            come,
            ..Self::default()
        }
    }

    /// How `new` differs from `old`.
    pub fn between(old: &Allocations, new: &Allocations) -> Self {
        let (gone, come) = mappings(&old.mappings, &new.mappings);
        Self {
            last_ids: new.last_ids,
            last_ports: new.last_ports,
            networks: news(&old.networks, &new.networks),
            subnets: news(&old.subnets, &new.subnets),
            endpoints: news(&old.endpoints, &new.endpoints),
            vips: news(&old.vips, &new.vips),
            gone,
            come,
        }
    }

    /// Whether anything of it was chosen and has to be kept whatever happens. Ids are not: flows
    /// remember them, and no flow outlives a power cut.
    pub fn has_choices(&self, old: &Allocations) -> bool {
        let is_chosen = |(_, mapping): &(usize, MappingAllocation)| mapping.chosen_from.is_some();
        !self.subnets.is_empty()
            || !self.endpoints.is_empty()
            || !self.vips.is_empty()
            || self.last_ports != old.last_ports
            || self.come.iter().any(is_chosen)
    }
}

impl Allocations {
    /// Makes a change that was made to the same choices before.
    pub fn change(&mut self, change: AllocationsChange) {
        self.last_ids = change.last_ids;
        self.last_ports = change.last_ports;
        tell(&mut self.networks, change.networks);
        tell(&mut self.subnets, change.subnets);
        tell(&mut self.endpoints, change.endpoints);
        tell(&mut self.vips, change.vips);
        self.remove(change.gone);
        self.insert(change.come);
    }

    /// Takes the mappings of those places away, the lowest first.
    fn remove(&mut self, gone: Vec<usize>) {
        let Some(first) = gone.first().copied() else {
            return;
        };
        // One of many: the others move up where they lie.
        if gone.len() == 1 && first < self.mappings.len() {
            self.mappings.remove(first);
            return;
        }
        let mut gone = gone.into_iter().peekable();
        let behind = self.mappings.split_off(first.min(self.mappings.len()));
        let left = (first..)
            .zip(behind)
            .filter(|(place, _)| gone.next_if_eq(place).is_none());
        self.mappings.extend(left.map(|(_, mapping)| mapping));
    }

    /// Puts mappings where they are to stand, the lowest first.
    fn insert(&mut self, come: Vec<(usize, MappingAllocation)>) {
        let come = match <[_; 1]>::try_from(come) {
            Ok([(place, mapping)]) => {
                let place = place.min(self.mappings.len());
                return self.mappings.insert(place, mapping);
            }
            Err(come) => come,
        };
        let Some((first, _)) = come.first() else {
            return;
        };
        let behind = self.mappings.split_off(*first.min(&self.mappings.len()));
        let mut come = come.into_iter().peekable();
        let mut kept = behind.into_iter();
        loop {
            let place = self.mappings.len();
            let next = come.next_if(|(at, _)| *at == place);
            let next = next.map(|(_, mapping)| mapping).or_else(|| kept.next());
            let Some(mapping) = next else { break };
            self.mappings.push(mapping);
        }
        self.mappings.extend(come.map(|(_, mapping)| mapping));
    }
}

fn news<V: Clone + PartialEq>(old: &BTreeMap<String, V>, new: &BTreeMap<String, V>) -> News<V> {
    let gone = old.keys().filter(|name| !new.contains_key(*name));
    let gone = gone.map(|name| (name.clone(), None));
    let come = new
        .iter()
        .filter(|(name, value)| old.get(*name) != Some(*value))
        .map(|(name, value)| (name.clone(), Some(value.clone())));
    gone.chain(come).collect()
}

fn tell<V>(known: &mut BTreeMap<String, V>, news: News<V>) {
    for (name, value) in news {
        match value {
            Some(value) => known.insert(name, value),
            None => known.remove(&name),
        };
    }
}

/// The places of the mappings that go, and those that come. One that stands elsewhere among the
/// others than before goes and comes.
fn mappings(
    old: &[MappingAllocation],
    new: &[MappingAllocation],
) -> (Vec<usize>, Vec<(usize, MappingAllocation)>) {
    let begin = old
        .iter()
        .zip(new)
        .take_while(|(old, new)| old == new)
        .count();
    let places: HashMap<u32, usize> = (begin..)
        .zip(&old[begin..])
        .map(|(place, mapping)| (mapping.id, place))
        .collect();
    let (mut gone, mut come, mut next) = (Vec::new(), Vec::new(), begin);
    for (at, mapping) in (begin..).zip(&new[begin..]) {
        let place = places.get(&mapping.id).copied();
        match place.filter(|place| *place >= next && old[*place] == *mapping) {
            Some(place) => {
                gone.extend(next..place);
                next = place + 1;
            }
            None => come.push((at, mapping.clone())),
        }
    }
    gone.extend(next..old.len());
    (gone, come)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::{
        allocations::{ChosenFrom, MappingKey, Owner},
        model::Proto,
    };

    fn mapping(id: u32, port: u16) -> MappingAllocation {
        MappingAllocation {
            id,
            key: MappingKey {
                owner: Owner::Container("web".to_owned()),
                proto: Proto::Tcp,
                host_ip: None,
                host_port: Some(port),
                container_port: 80,
            },
            vips: Vec::new(),
            chosen_from: None,
        }
    }

    /// Some ids, each at most once, in any order.
    fn state() -> impl Strategy<Value = Allocations> {
        let ids = vec((1..40_u32, 1..3_u16), 0..30);
        let names = vec(("[a-d]", 1..4_u32), 0..4);
        (ids, names).prop_map(|(ids, names)| {
            let mut state = Allocations::default();
            for (id, port) in ids {
                if state.mappings.iter().all(|other| other.id != id) {
                    state.mappings.push(mapping(id, port));
                }
            }
            state.networks = names.into_iter().collect();
            state.last_ids.mapping = 40;
            state
        })
    }

    proptest! {
        #[test]
        fn a_change_leads_from_one_state_to_the_other(old in state(), new in state()) {
            let change = AllocationsChange::between(&old, &new);
            let written = serde_json::to_string(&change).unwrap();
            let mut made = old.clone();
            made.change(serde_json::from_str(&written).unwrap());
            prop_assert_eq!(made, new);
        }
    }

    #[test]
    fn one_mapping_among_many_is_a_short_line() {
        let old = Allocations {
            mappings: (1..=10_000).map(|id| mapping(id, id as u16)).collect(),
            ..Allocations::default()
        };
        let mut new = old.clone();
        new.mappings.insert(2500, mapping(10_001, 60_000));
        let change = AllocationsChange::between(&old, &new);
        assert!(serde_json::to_vec(&change).unwrap().len() < 300);
        assert!(!change.has_choices(&old));
        new.mappings[2500].chosen_from = Some(ChosenFrom::Ephemeral);
        let change = AllocationsChange::between(&old, &new);
        assert!(change.has_choices(&old));
        let mut made = old.clone();
        made.change(change);
        assert_eq!(made, new);
        let back = AllocationsChange::between(&new, &old);
        assert_eq!((&back.gone, &back.come), (&vec![2500], &vec![]));
        made.change(back);
        assert_eq!(made, old);
    }
}
