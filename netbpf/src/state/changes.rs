//! What an instance made or changed, in the order in which it did, each thing once. A thing is found
//! without going through the others: a thousand networks are noted as fast, each, as one is.

use std::{
    collections::HashMap,
    net::IpAddr,
    path::{Path, PathBuf},
};

use ipnet::IpNet;

use super::Change;
use crate::host::sysctl::Sysctl;

/// What a change is about, whatever was noted of it.
#[derive(Clone, Debug, Eq, Hash, PartialEq)]
enum About {
    Pins(String),
    Directory(PathBuf),
    Section(PathBuf),
    Bridge(String),
    AdoptedBridge(String),
    Netns(PathBuf),
    Veth(String),
    Address(String, IpAddr, u8),
    /// An interface outlives its name, but not every note has its number.
    Qdisc(String, u32),
    Sysctl(Sysctl),
}

impl About {
    fn of(change: &Change) -> Self {
        match change {
            Change::Pins { instance } => Self::Pins(instance.clone()),
            Change::Directory { path } => Self::Directory(path.clone()),
            Change::Section { path } => Self::Section(path.clone()),
            Change::Bridge { name, .. } => Self::Bridge(name.clone()),
            Change::AdoptedBridge(bridge) => Self::AdoptedBridge(bridge.name.clone()),
            Change::Netns { path, .. } => Self::Netns(path.clone()),
            Change::Veth { name, .. } => Self::Veth(name.clone()),
            Change::Address { interface, net } => Self::address(interface, *net),
            Change::Qdisc { interface, index } => Self::Qdisc(interface.clone(), *index),
            Change::Sysctl { sysctl, .. } => Self::Sysctl(sysctl.clone()),
        }
    }

    fn address(interface: &str, net: IpNet) -> Self {
        Self::Address(interface.to_owned(), net.addr(), net.prefix_len())
    }
}

/// Changes, each thing once.
#[derive(Clone, Debug, Default)]
pub struct Changes {
    /// Those that were taken back leave an empty place.
    places: Vec<Option<Change>>,
    place_of: HashMap<About, usize>,
    /// The places of those that may be known under another name.
    qdiscs: Vec<usize>,
}

impl Changes {
    /// All of them, in the order in which they were made.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = &Change> + Clone {
        self.places.iter().flatten()
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.place_of.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.place_of.is_empty()
    }

    /// What was noted of the same thing.
    pub fn same(&self, change: &Change) -> Option<&Change> {
        self.places[self.place(change)?].as_ref()
    }

    /// What was noted of the namespace at that path.
    pub fn netns(&self, path: &Path) -> Option<&Change> {
        let place = self.place_of.get(&About::Netns(path.to_owned()))?;
        self.places[*place].as_ref()
    }

    /// Whether a bridge of that name was made or adopted.
    pub fn has_bridge(&self, name: &str) -> bool {
        let abouts = [About::Bridge, About::AdoptedBridge].map(|about| about(name.to_owned()));
        abouts.iter().any(|about| self.place_of.contains_key(about))
    }

    /// Whether that address was given to an interface.
    pub fn has_address(&self, interface: &str, net: IpNet) -> bool {
        self.place_of.contains_key(&About::address(interface, net))
    }

    /// Notes a change, unless the same thing is noted already. Says whether it did.
    pub fn note(&mut self, change: &Change) -> bool {
        if self.place(change).is_some() {
            return false;
        }
        let place = self.places.len();
        if matches!(change, Change::Qdisc { .. }) {
            self.qdiscs.push(place);
        }
        self.place_of.insert(About::of(change), place);
        self.places.push(Some(change.clone()));
        true
    }

    /// Notes something else of a thing that is noted. Says whether that was news.
    pub fn renote(&mut self, change: &Change) -> bool {
        let Some(place) = self.place(change) else {
            return false;
        };
        let known = &mut self.places[place];
        if known.as_ref() == Some(change) {
            return false;
        }
        let old = known.replace(change.clone());
        if let Some(old) = old {
            self.place_of.remove(&About::of(&old));
        }
        self.place_of.insert(About::of(change), place);
        true
    }

    /// Forgets a thing. Says whether it was noted.
    pub fn forget(&mut self, change: &Change) -> bool {
        let Some(place) = self.place(change) else {
            return false;
        };
        if let Some(old) = self.places[place].take() {
            self.place_of.remove(&About::of(&old));
        }
        self.qdiscs.retain(|other| *other != place);
        true
    }

    /// Forgets all that are not `kept`.
    pub fn retain(&mut self, kept: impl Fn(&Change) -> bool) {
        *self = self.iter().filter(|change| kept(change)).cloned().collect();
    }

    fn place(&self, change: &Change) -> Option<usize> {
        if matches!(change, Change::Qdisc { .. }) {
            let is_same = |place: &&usize| {
                let known = self.places.get(**place).and_then(Option::as_ref);
                known.is_some_and(|known| known.is_about_same(change))
            };
            return self.qdiscs.iter().find(is_same).copied();
        }
        self.place_of.get(&About::of(change)).copied()
    }
}

impl FromIterator<Change> for Changes {
    fn from_iter<I: IntoIterator<Item = Change>>(changes: I) -> Self {
        let mut all = Self::default();
        all.extend(changes);
        all
    }
}

impl Extend<Change> for Changes {
    fn extend<I: IntoIterator<Item = Change>>(&mut self, changes: I) {
        for change in changes {
            self.note(&change);
        }
    }
}

impl PartialEq for Changes {
    fn eq(&self, other: &Self) -> bool {
        self.iter().eq(other.iter())
    }
}

impl Eq for Changes {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::sysctl::Knob;

    fn veth(number: usize) -> Change {
        Change::Veth {
            name: format!("nbv{number}"),
            alias: String::new(),
            mac: [0; 6],
            container: String::new(),
        }
    }

    fn qdisc(interface: &str, index: u32) -> Change {
        Change::Qdisc {
            interface: interface.to_owned(),
            index,
        }
    }

    fn forwarding(old: &str) -> Change {
        Change::Sysctl {
            sysctl: Sysctl::new(Knob::Ipv4Forwarding, "nb-front"),
            old: old.to_owned(),
        }
    }

    #[test]
    fn a_thing_is_noted_once_and_keeps_its_place() {
        let mut changes = Changes::default();
        assert!(changes.note(&forwarding("0")) && changes.note(&veth(1)));
        assert!(!changes.note(&forwarding("1")));
        assert_eq!(changes.same(&forwarding("7")), Some(&forwarding("0")));
        assert!(changes.renote(&forwarding("2")) && !changes.renote(&forwarding("2")));
        assert!(!changes.renote(&veth(2)));
        let all: Vec<_> = changes.iter().cloned().collect();
        assert_eq!(all, [forwarding("2"), veth(1)]);
        assert!(changes.forget(&forwarding("9")) && !changes.forget(&forwarding("9")));
        assert_eq!(changes, [veth(1)].into_iter().collect());
        assert_eq!(changes.len(), 1);
    }

    #[test]
    fn a_qdisc_is_known_by_its_interfaces_number_and_before_that_by_the_name() {
        let mut changes: Changes = [qdisc("eth0", 7), qdisc("eth1", 0)].into_iter().collect();
        assert!(!changes.note(&qdisc("renamed0", 7)));
        assert!(changes.note(&qdisc("eth0", 8)));
        assert!(changes.renote(&qdisc("eth1", 9)));
        assert!(changes.renote(&qdisc("renamed0", 7)));
        let all: Vec<_> = changes.iter().cloned().collect();
        assert_eq!(
            all,
            [qdisc("renamed0", 7), qdisc("eth1", 9), qdisc("eth0", 8)]
        );
        assert!(changes.forget(&qdisc("anything", 9)));
        assert_eq!(changes.len(), 2);
    }

    /// Pair by pair these would be ten thousand million comparisons.
    #[test]
    fn a_hundred_thousand_things_come_and_go_without_being_compared_in_pairs() {
        const MANY: usize = 100_000;
        let mut changes = Changes::default();
        for round in 0..2 {
            for number in 0..MANY {
                assert_eq!(changes.note(&veth(number)), round == 0);
            }
        }
        assert_eq!(changes.len(), MANY);
        for number in (0..MANY).rev() {
            assert!(changes.forget(&veth(number)));
        }
        assert!(changes.is_empty() && changes.iter().next().is_none());
    }
}
