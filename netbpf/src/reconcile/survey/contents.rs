//! What the maps will hold, and what they hold of interfaces that are gone.

use std::collections::BTreeSet;

use anyhow::Result;
use netbpf_common::endpoint::Interface;

use super::Survey;
use crate::{dataplane::maps::Contents, host::link::Link, model::Model, plan};

impl Survey {
    /// Whether the maps say anything that [`Self::without_stale`] leaves out.
    pub fn has_stale(&self, wanted: &Contents) -> bool {
        let stays = self.staying(wanted);
        let mut interfaces = self.contents.interfaces.iter();
        let mut trusted = self.contents.trusted_interfaces.keys();
        interfaces.any(|(index, known)| !stays(*index, known))
            || trusted.any(|key| !wanted.trusted_interfaces.contains_key(key))
    }

    /// What the maps hold, without what they say of interfaces that are gone while their numbers
    /// may be others' now, and without trust that nobody has in what is `wanted`. Taking that away
    /// closes, and touches nothing that stays.
    pub fn without_stale(&self, known: &Contents, wanted: &Contents) -> Contents {
        let stays = self.staying(wanted);
        let mut kept = known.clone();
        kept.interfaces.retain(|index, known| stays(*index, known));
        kept.trusted_interfaces
            .retain(|key, _| wanted.trusted_interfaces.contains_key(key));
        kept
    }

    /// Whether what the maps say of an interface is about the one that has its number.
    fn staying(&self, wanted: &Contents) -> impl Fn(u32, &Interface) -> bool {
        move |index, known| {
            let is_same =
                |wanted: &Interface| (wanted.role, wanted.endpoint) == (known.role, known.endpoint);
            let link = self.link_of(index);
            link.is_some_and(|link| {
                wanted.interfaces.get(&index).is_some_and(is_same) || self.is_own(link)
            })
        }
    }

    /// Whether a link is none that came from elsewhere under a number that was used before.
    fn is_own(&self, link: &Link) -> bool {
        let prefix = plan::alias_prefix(&self.instance);
        let alias = link.alias.as_deref();
        link.loopback
            || self.facts.adopted.contains_key(&link.name)
            || alias.is_some_and(|alias| alias.starts_with(&prefix))
    }

    pub(super) fn expected_contents(&self, model: &Model) -> Result<Contents> {
        let mut facts = self.facts.clone();
        let leaving: BTreeSet<&str> = self.leaving().collect();
        facts
            .links
            .retain(|link| !leaving.contains(link.name.as_str()));
        let there: BTreeSet<String> = facts.links.iter().map(|it| it.name.clone()).collect();
        let roles = self.links.roles();
        let missing = roles.filter(|(name, _)| !there.contains(*name));
        for (place, (name, _)) in missing.enumerate() {
            let index = u32::MAX - u32::try_from(place)?;
            facts.links.push(placeholder(name.to_owned(), index));
        }
        Ok(plan::contents(model, &self.links, &facts)?)
    }
}

fn placeholder(name: String, index: u32) -> Link {
    Link {
        index,
        name,
        kind: None,
        mac: None,
        mtu: 0,
        master: None,
        up: false,
        running: false,
        loopback: false,
        alias: None,
        arp_type: 1,
        peer: None,
        peer_netns: None,
    }
}
