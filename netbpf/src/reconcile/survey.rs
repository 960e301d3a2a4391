//! Looks at everything that a change could touch, and says whether the host allows it.
//!
//! Reads only. What it finds wrong is found before the first step.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    fs,
    net::IpAddr,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use netbpf_common::{config::GlobalConfig, endpoint::Interface, verdict::Hook};

use super::{noted, ranges};
use crate::{
    dataplane::{
        self,
        attach::{self, PinnedHook, Place},
        maps::{Contents, Maps, Sizes},
        socket,
    },
    error::Error,
    host::{
        Host, Netns, Observed, Rtnl,
        address::Address,
        bpffs::PinDirs,
        cgroup,
        kernel::Features,
        link::{BridgeFound, Link, Mark},
        netns,
        route::Route,
        section, tc, xfrm,
    },
    model::{Index, Model},
    naming,
    plan::{self, Facts},
    state::{AdoptedBridge, Change as Noted, Instance, Journal, Origin},
};

const RESERVED_PORTS: &str = "/proc/sys/net/ipv4/ip_local_reserved_ports";

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
        let seen = bridge_seen(host, instance, bridge)
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

/// What the plan needs to know of the host. Addresses that this instance gave are left out: the
/// plan itself says which there are to be.
pub fn facts(host: &Host, noted: &[Noted], observed: &Observed) -> Result<Facts> {
    let names: BTreeMap<u32, &str> = observed
        .links
        .iter()
        .map(|link| (link.index, link.name.as_str()))
        .collect();
    let given: BTreeSet<(&str, IpAddr)> = noted
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

/// The qdiscs that we made and that are still there.
fn qdiscs(host: &Host, noted: &[Noted]) -> Result<Vec<Noted>> {
    let mut found = Vec::new();
    for change in noted {
        let Noted::Qdisc { interface, index } = change else {
            continue;
        };
        let link = tc::owner(host.rtnl(), interface, *index)?;
        found.extend(link.map(|link| noted::qdisc(&link.name, link.index)));
    }
    Ok(found)
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

fn bridge_seen(host: &Host, instance: &Instance, bridge: &plan::Bridge) -> Result<BridgeSeen> {
    let prefix = plan::alias_prefix(instance.name());
    // An adopted bridge has another MAC than the one that marks ours.
    let mac = naming::bridge_mac(instance.name(), &bridge.network);
    let mark = Mark {
        alias: &bridge.alias,
        mac,
    };
    Ok(
        match host.rtnl().find_bridge(&mark, &bridge.name, &prefix)? {
            BridgeFound::Missing => BridgeSeen::Missing,
            BridgeFound::Ours(link) => BridgeSeen::Ours(link),
            BridgeFound::Adoptable(link) => match link.alias.as_deref() {
                Some(alias) if alias.starts_with(&prefix) => BridgeSeen::Outdated,
                Some(alias) if alias.starts_with("netbpf:") => {
                    return Err(Error::host(format!(
                        "bridge {} belongs to another instance ({alias})",
                        bridge.name
                    ))
                    .into());
                }
                _ => BridgeSeen::Adoptable(link),
            },
        },
    )
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

/// A bridge of somebody else's keeps its MAC, if it has one. The plan knows those that were adopted
/// before.
fn adopt_macs(instance: &Instance, survey: &mut Survey) {
    for (bridge, seen) in survey.links.bridges.iter_mut().zip(&survey.bridges) {
        let BridgeSeen::Adoptable(link) = seen else {
            continue;
        };
        if survey.facts.adopted.contains_key(&bridge.name) {
            continue;
        }
        bridge.mac = link
            .mac
            .filter(|mac| *mac != [0; 6])
            .unwrap_or_else(|| naming::adopted_bridge_mac(instance.name(), &bridge.network));
    }
}

/// A namespace is made only where nothing is, or where the journal says that one of ours was: what
/// stands there otherwise is somebody's file, and would go with the namespace.
fn check_netns_path(journal: &Journal, path: &Path) -> Result<()> {
    if Netns::open(path)?.is_some() {
        return Ok(());
    }
    let is_ours = journal.changes().iter().any(|change| {
        matches!(change, Noted::Netns { path: noted, origin: Origin::Made, .. } if noted == path)
    });
    let shown = path.display();
    if path.symlink_metadata().is_ok() && !is_ours {
        return Err(Error::host(format!("{shown} exists and is not a network namespace")).into());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory != Path::new(netns::NAMED) && !directory.is_dir() {
        let directory = directory.display();
        return Err(Error::host(format!("{directory} is no directory to make {shown} in")).into());
    }
    Ok(())
}

fn namespace_seen(host: &Host, path: &Path) -> Result<NamespaceSeen> {
    if Netns::open(path)?.is_none() {
        return Ok(NamespaceSeen::default());
    }
    let netns = host.container(path)?;
    let links = Rtnl::open(&netns)?.links()?;
    Ok(NamespaceSeen {
        netns: Some(netns),
        is_loopback_up: links.iter().any(|link| link.loopback && link.up),
    })
}

fn end_seen(host: &Host, survey: &Survey, end: &plan::End) -> Result<EndSeen> {
    let observed = &survey.observed;
    let veth = survey.facts.link(&end.veth);
    if let Some(link) = veth.filter(|link| !is_marked(link, end)) {
        return Err(Error::host(format!("{} exists and is not ours", link.name)).into());
    }
    let mut seen = EndSeen {
        veth: veth.cloned(),
        ..EndSeen::default()
    };
    let Some(netns) = survey.netns(&end.container) else {
        return Ok(seen);
    };
    let rtnl = Rtnl::open(netns)?;
    let Some(link) = rtnl.link(&end.interface)? else {
        return Ok(seen);
    };
    let leads_here = match &seen.veth {
        Some(veth) => host.rtnl().has_peer_in(veth, netns)?,
        None => false,
    };
    if leads_here && is_pair(seen.veth.as_ref(), &link) {
        seen.inside = Some(inside(&rtnl, link)?);
    } else {
        seen.squatter = Some(own_peer(&link, observed, end)?);
    }
    Ok(seen)
}

fn is_marked(link: &Link, end: &plan::End) -> bool {
    match &link.alias {
        Some(alias) => *alias == end.alias,
        None => link.mac == Some(end.veth_mac),
    }
}

/// Whether two links in two namespaces are the ends of one pair: each knows the other's number.
pub fn is_pair(veth: Option<&Link>, inside: &Link) -> bool {
    veth.is_some_and(|veth| {
        veth.peer == Some(inside.index)
            && inside.peer == Some(veth.index)
            && veth.peer_netns.is_some()
    })
}

/// The veth of ours that has `inside` as its other end.
///
/// # Errors
///
/// When there is none: the interface is somebody else's.
fn own_peer(inside: &Link, observed: &Observed, end: &plan::End) -> Result<Link> {
    let prefix = end
        .alias
        .strip_suffix(&format!("container:{}:{}", end.container, end.network));
    let is_own = |link: &&Link| {
        is_pair(Some(link), inside)
            && link
                .alias
                .as_deref()
                .zip(prefix)
                .is_some_and(|(alias, own)| alias.starts_with(own))
    };
    observed.links.iter().find(is_own).cloned().ok_or_else(|| {
        let netns = end.netns.display();
        Error::host(format!(
            "interface {} already exists in {netns} and is not ours",
            inside.name
        ))
        .into()
    })
}

pub fn inside(rtnl: &Rtnl, link: Link) -> Result<Inside> {
    let index = link.index;
    let addresses = rtnl
        .addresses()?
        .into_iter()
        .filter(|it| it.index == index)
        .collect();
    let default_routes = rtnl
        .routes()?
        .into_iter()
        .filter(|route| route.is_default() && route.links.contains(&index))
        .collect();
    Ok(Inside {
        link,
        addresses,
        default_routes,
    })
}

/// No other instance may hold a container's namespace, and no other container of this one.
fn check_holders(instance: &Instance, journal: &Journal, links: &plan::Links) -> Result<()> {
    let mut wanted = Vec::new();
    for namespace in &links.namespaces {
        if let Some(netns) = Netns::open(&namespace.path)? {
            wanted.push((
                namespace.container.as_str(),
                namespace.path.as_path(),
                netns.id(),
            ));
        }
    }
    for (index, (container, path, id)) in wanted.iter().enumerate() {
        if let Some((other, ..)) = wanted[..index].iter().find(|(.., earlier)| earlier == id) {
            return Err(Error::host(format!(
                "container {container:?}: {} is the network namespace of container {other:?} \
                 under another name; one that shares it has mode = \"container:{other}\"",
                path.display()
            ))
            .into());
        }
    }
    Ok(journal.check_containers(instance, &wanted)?)
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
        let mut links = self.observed.links.iter();
        let link = links.find(|link| link.name == interface);
        link.map_or(0, |link| link.index)
    }

    /// Whether the maps say anything that [`Self::without_stale`] leaves out.
    pub fn has_stale(&self, wanted: &Contents) -> bool {
        let known = &self.contents;
        let mut interfaces = known.interfaces.iter();
        let mut trusted = known.trusted_interfaces.keys();
        interfaces.any(|(index, known)| self.is_stale(*index, known, wanted))
            || trusted.any(|key| !wanted.trusted_interfaces.contains_key(key))
    }

    /// What the maps hold, without what they say of interfaces that are gone while their numbers
    /// may be others' now, and without trust that nobody has in what is `wanted`. Taking that away
    /// closes, and touches nothing that stays.
    pub fn without_stale(&self, known: &Contents, wanted: &Contents) -> Contents {
        let mut kept = known.clone();
        kept.interfaces
            .retain(|index, known| !self.is_stale(*index, known, wanted));
        kept.trusted_interfaces
            .retain(|key, _| wanted.trusted_interfaces.contains_key(key));
        kept
    }

    fn is_stale(&self, index: u32, known: &Interface, wanted: &Contents) -> bool {
        let mut links = self.observed.links.iter();
        let Some(link) = links.find(|link| link.index == index) else {
            return true;
        };
        let wanted = wanted.interfaces.get(&index);
        let is_same = wanted
            .is_some_and(|wanted| (wanted.role, wanted.endpoint) == (known.role, known.endpoint));
        !is_same && !self.is_own(link)
    }

    /// Whether a link is none that came from elsewhere under a number that was used before.
    fn is_own(&self, link: &Link) -> bool {
        let prefix = plan::alias_prefix(&self.instance);
        let alias = link.alias.as_deref();
        link.loopback
            || self.facts.adopted.contains_key(&link.name)
            || alias.is_some_and(|alias| alias.starts_with(&prefix))
    }

    /// The namespace of a container, if it is there.
    fn netns(&self, container: &str) -> Option<&Netns> {
        let place = self.namespace_of.get(container)?;
        self.namespaces.get(*place)?.netns.as_ref()
    }

    fn expected_contents(&self, model: &Model) -> Result<Contents> {
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
