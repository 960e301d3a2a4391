//! Looks at everything that a change could touch, and says whether the host allows it.
//!
//! Reads only. What it finds wrong is found before the first step.

mod contents;
mod facts;
mod links;
mod places;

use std::{
    collections::{BTreeSet, HashMap},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use netbpf_common::{config::GlobalConfig, verdict::Hook};

pub use self::{
    facts::{facts, reserved_ports, stands},
    links::{inside, is_pair},
};
use self::{
    links::{adopt_macs, bridge_seen, check_holders, check_netns_path, end_seen, namespace_seen},
    places::Places,
};
use super::{noted, ranges};
use crate::{
    dataplane::{
        self,
        attach::{self, PinnedHook, Place},
        maps::{Contents, Maps, Sizes},
        socket,
    },
    host::{
        Host, Netns, Observed, address::Address, bpffs::PinDirs, cgroup, link::Link, route::Route,
        section, tc,
    },
    model::Model,
    plan::{self, Facts},
    state::{Change as Noted, Changes, Instance, Journal},
};

/// What stands under the name of a wanted bridge.
#[derive(Clone, Debug)]
pub enum BridgeSeen {
    /// Nothing.
    Missing,
    /// Ours, as it was made.
    Ours(Link),
    /// Ours, made for a network that had another name: it gives way.
    Outdated,
    /// Somebody else's, with no ports but ours.
    Adoptable(Link),
}

/// What is there of a wanted namespace.
#[derive(Debug, Default)]
pub struct NamespaceSeen {
    /// It.
    pub netns: Option<Netns>,
    /// Whether its own loopback interface is up.
    pub is_loopback_up: bool,
}

/// What is there of a container's wanted end in a network.
#[derive(Debug, Default)]
pub struct EndSeen {
    /// The host's side of its veth pair, also one that leads elsewhere.
    pub veth: Option<Link>,
    /// The container's side, when it is the other end of `veth`.
    pub inside: Option<Inside>,
    /// Another veth of ours that has the container's interface, and gives way.
    pub squatter: Option<Link>,
}

/// The container's side of a veth pair.
#[derive(Debug)]
pub struct Inside {
    /// The link.
    pub link: Link,
    /// Its addresses.
    pub addresses: Vec<Address>,
    /// The default routes by it.
    pub default_routes: Vec<Route>,
}

/// Everything that was seen, and what the model makes of it.
#[derive(Debug)]
pub struct Survey {
    /// The instance's name.
    instance: String,
    /// The host's namespace.
    pub observed: Observed,
    /// Where in it things stand.
    places: Places,
    /// What the plan was made from.
    pub facts: Facts,
    /// What must be there.
    pub links: plan::Links,
    /// What stands under the name of each wanted bridge, in the plan's order.
    pub bridges: Vec<BridgeSeen>,
    /// What is there of each wanted namespace, in the plan's order.
    pub namespaces: Vec<NamespaceSeen>,
    /// Where in the plan's order the ends of each container stand.
    pub ends_of: HashMap<String, Vec<usize>>,
    /// Where in it its namespace stands.
    pub namespace_of: HashMap<String, usize>,
    /// What is there of each wanted end, in the plan's order.
    pub ends: Vec<EndSeen>,
    /// The values of the plan's sysctls; none where the interface is still to be made.
    pub sysctls: Vec<Option<String>>,
    /// The sections of the plan's files; none where there is none.
    pub files: Vec<Option<String>>,
    /// The hooks of wanted interfaces that are not in place, by interface.
    pub unhooked: HashMap<String, Vec<Place>>,
    /// The pinned links, wanted or not.
    pub pinned: Vec<PinnedHook>,
    /// The qdiscs of the journal whose interfaces are still there, under their names of now.
    pub qdiscs: Vec<Noted>,
    /// What is there of the hooks at sockets.
    pub sockets: SocketsSeen,
    /// What the maps hold; empty when nothing is loaded.
    pub contents: Contents,
    /// What they must hold, as far as it can be told before every link exists: one that is still to
    /// be made counts under a number that no interface has.
    pub expected: Contents,
    /// What the programs read as their config; none when nothing is loaded.
    pub config: Option<GlobalConfig>,
}

/// The hooks at sockets.
#[derive(Debug)]
pub struct SocketsSeen {
    /// The root cgroup; none on a host without cgroup2.
    pub cgroup: Option<PathBuf>,
    /// Those in place.
    pub hooked: Vec<Hook>,
    /// Those with a pinned link.
    pub pinned: Vec<Hook>,
}

impl SocketsSeen {
    fn look(pins: &PinDirs) -> Result<Self> {
        Ok(Self {
            cgroup: cgroup::root()?,
            hooked: socket::hooked(pins)?,
            pinned: socket::pinned(pins),
        })
    }
}

/// Why the host is looked at.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Purpose {
    /// To go on to a state that somebody asked for: the host must allow all of it.
    GoOn,
    /// To go back to a state that once was: what the host no longer has is left out.
    GoBack,
}

/// Looks at the host and validates the change to `model` against it.
///
/// # Errors
///
/// Whatever on the host doesn't allow the change; nothing was touched.
pub fn survey(
    host: &Host,
    instance: &Instance,
    journal: &Journal,
    model: &mut Model,
    purpose: Purpose,
) -> Result<Survey> {
    let pins = PinDirs::of(instance.name());
    dataplane::check(&pins, Sizes::of(model.conntrack.max_entries))?;
    let observed = host.rtnl().observe()?;
    let facts = facts(host, journal.changes(), &observed)?;
    if purpose == Purpose::GoBack
        && let Some(uplinks) = &mut model.host.uplinks
    {
        uplinks.retain(|name| observed.links.iter().any(|link| link.name == *name));
    }
    let mut survey = Survey {
        instance: instance.name().to_owned(),
        links: plan::links(instance.name(), model, &facts)?,
        places: Places::of(&observed),
        observed,
        facts,
        bridges: Vec::new(),
        namespaces: Vec::new(),
        ends_of: HashMap::new(),
        namespace_of: HashMap::new(),
        ends: Vec::new(),
        sysctls: Vec::new(),
        files: Vec::new(),
        unhooked: HashMap::new(),
        pinned: attach::pinned(&pins)?,
        qdiscs: qdiscs(host, journal.changes())?,
        sockets: SocketsSeen::look(&pins)?,
        contents: Contents::default(),
        expected: Contents::default(),
        config: None,
    };
    for (place, end) in survey.links.ends.iter().enumerate() {
        let own = survey.ends_of.entry(end.container.clone()).or_default();
        own.push(place);
    }
    let namespaces = survey.links.namespaces.iter().enumerate();
    survey.namespace_of = namespaces
        .map(|(place, namespace)| (namespace.container.clone(), place))
        .collect();
    for bridge in &survey.links.bridges {
        let seen = bridge_seen(&survey, instance, bridge)
            .with_context(|| format!("network {:?}", bridge.network))?;
        survey.bridges.push(seen);
    }
    adopt_macs(instance, &mut survey);
    if purpose == Purpose::GoOn {
        ranges::check(model, journal.changes(), &survey)?;
    }
    check_holders(instance, journal, &survey.links)?;
    for namespace in &survey.links.namespaces {
        let seen = check_netns_path(journal, &namespace.path)
            .and_then(|()| namespace_seen(host, &namespace.path))
            .with_context(|| format!("container {:?}", namespace.container))?;
        survey.namespaces.push(seen);
    }
    for end in &survey.links.ends {
        let seen = end_seen(host, &survey, end)
            .with_context(|| format!("container {:?}", end.container))?;
        survey.ends.push(seen);
    }
    let leaving: BTreeSet<String> = survey.leaving().map(str::to_owned).collect();
    for (sysctl, _) in &survey.links.sysctls {
        let is_leaving = leaving.contains(&sysctl.interface);
        survey
            .sysctls
            .push(if is_leaving { None } else { sysctl.read()? });
    }
    for file in &survey.links.files {
        survey.files.push(section::read(&file.path)?);
    }
    survey.unhooked = unhooked(&pins, &survey)?;
    if dataplane::is_loaded(&pins) {
        let maps = Maps::open(&pins.maps)?;
        survey.contents = maps.read()?;
        survey.config = Some(maps.config()?);
    }
    survey.expected = survey.expected_contents(model)?;
    survey.contents.check_room(&survey.expected)?;
    Ok(survey)
}

/// The qdiscs that we made and that are still there.
fn qdiscs(host: &Host, noted: &Changes) -> Result<Vec<Noted>> {
    let mut found = Vec::new();
    for change in noted.iter() {
        let Noted::Qdisc { interface, index } = change else {
            continue;
        };
        let link = tc::owner(host.rtnl(), interface, *index)?;
        found.extend(link.map(|link| noted::qdisc(&link.name, link.index)));
    }
    Ok(found)
}

/// The hooks of wanted interfaces that are not in place.
fn unhooked(pins: &PinDirs, survey: &Survey) -> Result<HashMap<String, Vec<Place>>> {
    let leaving: BTreeSet<&str> = survey.leaving().collect();
    let mut unhooked: HashMap<String, Vec<Place>> = HashMap::new();
    for place in survey.links.places() {
        let interface = place.interface.as_str();
        let link = survey.facts.link(interface);
        let link = link.filter(|_| !leaving.contains(interface));
        let is_hooked = match link {
            Some(link) => place.is_hooked(pins, link.index)?,
            None => false,
        };
        if !is_hooked {
            let missing = unhooked.entry(place.interface.clone()).or_default();
            missing.push(place);
        }
    }
    Ok(unhooked)
}

impl Survey {
    /// The interfaces of ours that give way to new ones of the same name.
    pub fn leaving(&self) -> impl Iterator<Item = &str> {
        let bridges = self.links.bridges.iter().zip(&self.bridges);
        let outdated = bridges
            .filter(|(_, seen)| matches!(seen, BridgeSeen::Outdated))
            .map(|(bridge, _)| bridge.name.as_str());
        let ends = self.links.ends.iter().zip(&self.ends);
        let misled = ends
            .filter(|(_, seen)| seen.veth.is_some() && seen.inside.is_none())
            .map(|(end, _)| end.veth.as_str());
        outdated.chain(misled)
    }

    /// The number of an interface of the host; 0 where it is still to be made.
    pub fn index(&self, interface: &str) -> u32 {
        self.facts.link(interface).map_or(0, |link| link.index)
    }

    /// The namespace of a container, if it is there.
    fn netns(&self, container: &str) -> Option<&Netns> {
        let place = self.namespace_of.get(container)?;
        self.namespaces.get(*place)?.netns.as_ref()
    }
}
