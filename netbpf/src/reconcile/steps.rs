//! The steps of a change, in their order.
//!
//! [`todo()`] only compares what was seen with what is wanted; [`super::act`] does. The order never
//! leaves the host more open than the old and the new state together: what is known of interfaces
//! that are gone is forgotten first, an uplink is hooked before packets are sent out by it, what
//! comes is known to the programs and hooked before it is up, then ports lead there, then keys go,
//! then policy is asked again, then hooks and links go.

use std::{
    collections::{BTreeSet, HashMap},
    net::IpAddr,
    path::PathBuf,
};

use anyhow::Result;
use ipnet::IpNet;
use netbpf_common::{config::GlobalConfig, verdict::Hook};

use super::{
    noted,
    report::{Action, Change},
    survey::{self, BridgeSeen, EndSeen, Inside, NamespaceSeen, Survey},
};
use crate::{
    dataplane::{
        self, Load,
        attach::{PinnedHook, Place},
    },
    host::{
        address::{Preference, Scope},
        bpffs::PinDirs,
        link::Link,
        neighbour::FdbEntry,
        sysctl::Sysctl,
    },
    model::Model,
    plan,
    state::{Change as Noted, Instance, Journal, Origin},
};

/// One step.
#[derive(Clone, Debug)]
pub enum Step {
    /// Loads the programs, or replaces them.
    Load,
    /// Sets a sysctl of the host.
    Sysctl(Sysctl, &'static str),
    /// Deletes a veth of ours that leads elsewhere than it must.
    DeleteVeth(Link),
    /// Takes back what the journal says we made.
    Undo(Noted),
    /// Makes a bridge, down.
    MakeBridge(usize),
    /// Gives a bridge its MAC and MTU.
    SettleBridge(usize),
    /// Gives an interface of the host an address.
    Address(String, IpNet, Preference),
    /// Makes a container's namespace.
    MakeNetns(usize),
    /// Brings the loopback interface of a container's namespace up.
    Loopback(usize),
    /// Makes the veth pair of a container's end, both sides down.
    MakeVeth(usize),
    /// Deletes from the maps what they say of interfaces that are gone: one that has the number of
    /// a predecessor must not be hooked with its trust.
    DeleteStale,
    /// Writes to the maps who is where.
    WritePlaces,
    /// Attaches a hook.
    Attach(Place),
    /// Brings an interface of the host up.
    Up(String),
    /// Brings the container's side of an end into line: MAC, MTU, addresses, up.
    Inside(usize),
    /// Makes the default routes of a container's namespace lead by the ends they must.
    Routes(usize),
    /// Makes the host's side a port of its bridge.
    Enslave(usize),
    /// Tells the bridge where the container's MAC is.
    Fdb(usize),
    /// Writes the section of a file.
    WriteFile(usize),
    /// Waits until what was brought up carries packets.
    AwaitRunning,
    /// Announces the addresses of a container's end to its link.
    Announce(usize),
    /// Writes to the maps what leads where.
    WriteMappings,
    /// Ends hooks of interfaces that are no uplinks any more.
    Detach(PinnedHook),
    /// Deletes from the maps what is not wanted any more.
    DeleteKeys,
    /// Attaches a hook at sockets to the root cgroup.
    AttachSocket(Hook, PathBuf),
    /// Ends a hook at sockets.
    DetachSocket(Hook),
    /// Writes the programs' config, with another generation where policy must be asked again.
    WriteConfig,
}

impl Step {
    /// Whether it leaves links and addresses alone, so that what was seen of them still holds.
    pub const fn leaves_links_alone(&self) -> bool {
        matches!(
            self,
            Self::WritePlaces
                | Self::WriteMappings
                | Self::DeleteKeys
                | Self::WriteConfig
                | Self::Attach(_)
                | Self::Detach(_)
                | Self::AttachSocket(..)
                | Self::DetachSocket(_)
        )
    }
}

/// A change as a whole.
#[derive(Debug, Default)]
pub struct Todo {
    /// In their order.
    pub steps: Vec<Step>,
    /// The same in words.
    pub changes: Vec<Change>,
    /// What the steps will make, for the journal.
    pub noted: Vec<Noted>,
    /// What the steps will take back.
    pub gone: Vec<Noted>,
    /// What was adopted and is not there any more, so that nothing can be put back.
    pub void: Vec<Noted>,
}

impl Todo {
    fn add(&mut self, kind: &'static str, name: &str, detail: impl Into<String>) {
        self.changes
            .push(Change::new(Action::Add, kind, name, detail));
    }

    fn change(&mut self, kind: &'static str, name: &str, detail: impl Into<String>) {
        self.changes
            .push(Change::new(Action::Change, kind, name, detail));
    }

    fn remove(&mut self, kind: &'static str, name: &str, detail: impl Into<String>) {
        self.changes
            .push(Change::new(Action::Remove, kind, name, detail));
    }
}

/// Compares what was seen with what is wanted.
pub fn todo(
    instance: &Instance,
    journal: &Journal,
    model: &Model,
    survey: &Survey,
    load: Load,
) -> Result<Todo> {
    let mut todo = Todo {
        void: void(journal, survey),
        ..Todo::default()
    };
    let wanted = noted::wanted(instance, survey);
    begin(&mut todo, instance, survey, load);
    for (index, bridge) in survey.links.bridges.iter().enumerate() {
        links_of_bridge(&mut todo, index, bridge, journal, survey);
    }
    sysctls(&mut todo, survey);
    for (bridge, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        addresses_of_bridge(&mut todo, bridge, seen, survey);
    }
    for (index, namespace) in survey.links.namespaces.iter().enumerate() {
        make_namespace(&mut todo, index, namespace, &survey.namespaces[index]);
    }
    for (index, end) in survey.links.ends.iter().enumerate() {
        links_of_end(&mut todo, index, end, &survey.ends[index]);
    }
    let writes = survey.expected != survey.contents;
    if survey.has_stale(&survey.expected) {
        todo.steps.push(Step::DeleteStale);
    }
    // The programs send packets out by any interface that the maps call an uplink.
    uplinks(&mut todo, survey);
    if writes {
        todo.steps.push(Step::WritePlaces);
    }
    for (bridge, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        bring_up_bridge(&mut todo, bridge, seen, survey);
    }
    for (index, end) in survey.links.ends.iter().enumerate() {
        bring_up_end(&mut todo, index, end, &survey.ends[index], survey);
    }
    for (index, namespace) in survey.links.namespaces.iter().enumerate() {
        lead_out(&mut todo, index, namespace, survey);
    }
    names(&mut todo, survey);
    if todo.steps.iter().any(|step| matches!(step, Step::Up(_))) {
        todo.steps.push(Step::AwaitRunning);
    }
    announcements(&mut todo, survey);
    if writes {
        todo.steps.push(Step::WriteMappings);
    }
    // A socket is led only to where something leads already.
    loopback(&mut todo, survey);
    attach_sockets(&mut todo, survey);
    let leftover = leftover_hooks(survey);
    let (uplink_hooks, other_hooks): (Vec<_>, Vec<_>) = leftover
        .into_iter()
        .partition(|pin| matches!(pin.hook, Hook::FromNetdev | Hook::ToNetdev));
    detach_sockets(&mut todo, survey);
    if writes {
        todo.steps.push(Step::DeleteKeys);
        super::words::maps(&mut todo.changes, survey, model, load);
    }
    config(&mut todo, model, survey, load, writes);
    todo.steps
        .extend(uplink_hooks.iter().copied().map(Step::Detach));
    removals(&mut todo, journal, survey, &wanted);
    for pin in uplink_hooks {
        detached(&mut todo, pin, survey);
    }
    todo.steps.extend(other_hooks.into_iter().map(Step::Detach));
    Ok(todo)
}

/// What the journal says of bridges, namespaces and interfaces that gave way to others or to
/// nothing.
fn void(journal: &Journal, survey: &Survey) -> Vec<Noted> {
    let is_void = |noted: &&Noted| match noted {
        Noted::AdoptedBridge(bridge) => !survey::stands(bridge, &survey.observed),
        Noted::Netns {
            path, id, origin, ..
        } => {
            let namespaces = survey.links.namespaces.iter().zip(&survey.namespaces);
            let mut seen = namespaces.filter(|(namespace, _)| namespace.path == *path);
            seen.any(|(_, seen)| match &seen.netns {
                Some(netns) => id.is_some_and(|id| id != netns.id()),
                None => *origin == Origin::Adopted,
            })
        }
        Noted::Qdisc { .. } => !survey.qdiscs.iter().any(|seen| seen.is_about_same(noted)),
        _ => false,
    };
    journal.changes().iter().filter(is_void).cloned().collect()
}

fn begin(todo: &mut Todo, instance: &Instance, survey: &Survey, load: Load) {
    let version = env!("CARGO_PKG_VERSION");
    match load {
        Load::Nothing => return,
        Load::Fresh => todo.add("dataplane", instance.name(), format!("netbpf {version}")),
        Load::Replace => {
            todo.change(
                "dataplane",
                instance.name(),
                format!("programs of netbpf {version}"),
            );
        }
        Load::Bare => {
            let what = "programs for interfaces without Ethernet header";
            todo.add("dataplane", instance.name(), what);
        }
        Load::Mend => {
            let pins = PinDirs::of(instance.name());
            let lost = dataplane::missing(&pins, survey.links.objects()).join(", ");
            let what = if lost.contains("map ") {
                "programs and maps loaded anew, without the flows"
            } else {
                "programs loaded anew"
            };
            todo.change("dataplane", instance.name(), format!("{what}: lost {lost}"));
        }
    }
    todo.noted.push(Noted::Pins {
        instance: instance.name().to_owned(),
    });
    todo.steps.push(Step::Load);
}

fn links_of_bridge(
    todo: &mut Todo,
    index: usize,
    bridge: &plan::Bridge,
    journal: &Journal,
    survey: &Survey,
) {
    let seen = &survey.bridges[index];
    let nets: Vec<String> = bridge
        .addresses
        .iter()
        .map(|(net, _)| net.to_string())
        .collect();
    let described = format!("bridge {} with {}", bridge.name, nets.join(", "));
    let note = noted::bridge(bridge, seen, survey);
    let link = match seen {
        BridgeSeen::Missing => {
            if todo.void.iter().any(|noted| is_bridge(noted, &bridge.name)) {
                let detail = format!("{described}, for the adopted one is gone");
                todo.change("network", &bridge.network, detail);
            } else {
                todo.add("network", &bridge.network, described);
            }
            todo.steps.push(Step::MakeBridge(index));
            None
        }
        BridgeSeen::Outdated => {
            let old = journal
                .changes()
                .iter()
                .find(|change| change.is_about_same(&note));
            todo.steps.extend(old.cloned().map(Step::Undo));
            todo.add("network", &bridge.network, described);
            todo.steps.push(Step::MakeBridge(index));
            None
        }
        BridgeSeen::Adoptable(link) => {
            if !survey.facts.adopted.contains_key(&bridge.name) {
                todo.add("network", &bridge.network, format!("adopted {described}"));
            }
            Some(link)
        }
        BridgeSeen::Ours(link) => Some(link),
    };
    todo.noted.push(note);
    if let Some(link) = link {
        settle(todo, index, bridge, link, survey);
    }
}

/// The addresses come after the forwarding of their bridge: where it is switched on while the
/// kernel still sets up an IPv6 address, it joins the subnet's anycast address twice, and one of
/// the two stays on an adopted bridge for good.
fn addresses_of_bridge(todo: &mut Todo, bridge: &plan::Bridge, seen: &BridgeSeen, survey: &Survey) {
    let link = match seen {
        BridgeSeen::Missing | BridgeSeen::Outdated => None,
        BridgeSeen::Adoptable(link) | BridgeSeen::Ours(link) => Some(link),
    };
    for (net, preference) in &bridge.addresses {
        let has_it = |link: &Link| {
            let mut all = survey.observed.addresses.iter();
            all.any(|address| address.index == link.index && address.net == *net)
        };
        if link.is_some_and(has_it) {
            continue;
        }
        if link.is_some() {
            todo.add("address", &net.to_string(), format!("on {}", bridge.name));
        }
        todo.noted.push(noted::address(&bridge.name, *net));
        todo.steps
            .push(Step::Address(bridge.name.clone(), *net, *preference));
    }
}

fn settle(todo: &mut Todo, index: usize, bridge: &plan::Bridge, link: &Link, survey: &Survey) {
    let is_newly_adopted = matches!(survey.bridges[index], BridgeSeen::Adoptable(_))
        && !survey.facts.adopted.contains_key(&bridge.name);
    let mut details = Vec::new();
    if link.mac != Some(bridge.mac) && !is_newly_adopted {
        details.push("MAC".to_owned());
    }
    if link.mtu != bridge.mtu {
        details.push(format!("mtu {} → {}", link.mtu, bridge.mtu));
    }
    if is_newly_adopted || !details.is_empty() {
        todo.steps.push(Step::SettleBridge(index));
    }
    if !details.is_empty() {
        let detail = format!("bridge {}: {}", bridge.name, details.join(", "));
        todo.change("network", &bridge.network, detail);
    }
}

fn sysctls(todo: &mut Todo, survey: &Survey) {
    for ((sysctl, value), now) in survey.links.sysctls.iter().zip(&survey.sysctls) {
        if now.as_deref() == Some(*value) {
            continue;
        }
        // That of a bridge that is still to be made goes with the bridge.
        if let Some(old) = now {
            todo.change("sysctl", &sysctl.to_string(), format!("{old} → {value}"));
            todo.noted.push(noted::sysctl(sysctl, old.clone()));
        }
        todo.steps.push(Step::Sysctl(sysctl.clone(), value));
    }
}

fn is_bridge(noted: &Noted, name: &str) -> bool {
    matches!(noted, Noted::AdoptedBridge(bridge) if bridge.name == name)
}

fn make_namespace(
    todo: &mut Todo,
    index: usize,
    namespace: &plan::Namespace,
    seen: &NamespaceSeen,
) {
    todo.noted
        .push(noted::netns(namespace, seen.netns.as_ref()));
    if seen.netns.is_none() {
        let name = namespace.path.display().to_string();
        let note = noted::netns(namespace, None);
        if todo.void.iter().any(|void| void.is_about_same(&note)) {
            todo.change("netns", &name, "made, for the adopted one is gone");
        } else {
            todo.add("netns", &name, "");
        }
        todo.steps.push(Step::MakeNetns(index));
    } else if !seen.is_loopback_up {
        todo.change("container", &namespace.container, "lo up");
    }
    if !seen.is_loopback_up {
        todo.steps.push(Step::Loopback(index));
    }
}

fn links_of_end(todo: &mut Todo, index: usize, end: &plan::End, seen: &EndSeen) {
    let misled = seen.veth.as_ref().filter(|_| seen.inside.is_none());
    for link in misled.into_iter().chain(&seen.squatter) {
        todo.steps.push(Step::DeleteVeth(link.clone()));
    }
    todo.noted.push(noted::veth(end));
    if seen.inside.is_some() {
        return;
    }
    let nets: Vec<String> = end.addresses.iter().map(IpNet::to_string).collect();
    let detail = format!(
        "{} in {} with {}, by {} on {}",
        end.interface,
        end.netns.display(),
        nets.join(", "),
        end.veth,
        end.bridge
    );
    match misled {
        None => todo.add("container", &end.container, detail),
        Some(_) => todo.change("container", &end.container, detail),
    }
    todo.steps.push(Step::MakeVeth(index));
}

/// The files that name linked containers.
fn names(todo: &mut Todo, survey: &Survey) {
    let files = survey.links.files.iter().zip(&survey.files);
    for (index, (file, seen)) in files.enumerate() {
        todo.noted.push(noted::section(file));
        if seen.as_ref() == Some(&file.section) {
            continue;
        }
        let name = file.path.display().to_string();
        let detail = format!("the links of container {}", file.container);
        match seen {
            None => todo.add("file", &name, detail),
            Some(_) => todo.change("file", &name, detail),
        }
        todo.steps.push(Step::WriteFile(index));
    }
}

fn uplinks(todo: &mut Todo, survey: &Survey) {
    for name in &survey.links.uplinks {
        let missing = missing_hooks(name, survey);
        if !missing.is_empty() {
            let hooks: Vec<&str> = missing.iter().map(|place| place.hook.name()).collect();
            todo.add("uplink", name, format!("hooks {}", hooks.join(", ")));
        }
        todo.steps.extend(missing.into_iter().map(Step::Attach));
    }
}

fn loopback(todo: &mut Todo, survey: &Survey) {
    let Some(name) = &survey.links.loopback else {
        return;
    };
    let missing = missing_hooks(name, survey);
    if !missing.is_empty() {
        let hooks: Vec<&str> = missing.iter().map(|place| place.hook.name()).collect();
        todo.add("loopback", name, format!("hooks {}", hooks.join(", ")));
    }
    todo.steps.extend(missing.into_iter().map(Step::Attach));
}

fn attach_sockets(todo: &mut Todo, survey: &Survey) {
    let Some(cgroup) = &survey.sockets.cgroup else {
        return;
    };
    let wanted = survey.links.sockets.iter();
    let missing: Vec<Hook> = wanted
        .filter(|hook| !survey.sockets.hooked.contains(hook))
        .copied()
        .collect();
    if missing.is_empty() {
        return;
    }
    let names: Vec<&str> = missing.iter().map(|hook| hook.name()).collect();
    let detail = format!("hooks {}", names.join(", "));
    todo.add("sockets", &cgroup.display().to_string(), detail);
    let steps = missing.into_iter();
    todo.steps
        .extend(steps.map(|hook| Step::AttachSocket(hook, cgroup.clone())));
}

/// Where there is no cgroup2 any more, nothing hangs on it.
fn detach_sockets(todo: &mut Todo, survey: &Survey) {
    let is_wanted =
        |hook: &Hook| survey.sockets.cgroup.is_some() && survey.links.sockets.contains(hook);
    let pinned = survey.sockets.pinned.iter();
    let leftover: Vec<Hook> = pinned.filter(|hook| !is_wanted(hook)).copied().collect();
    if !leftover.is_empty() {
        todo.remove("sockets", "cgroup2", "");
    }
    todo.steps
        .extend(leftover.into_iter().map(Step::DetachSocket));
}

fn missing_hooks(interface: &str, survey: &Survey) -> Vec<Place> {
    survey.unhooked.get(interface).cloned().unwrap_or_default()
}

fn bring_up_bridge(todo: &mut Todo, bridge: &plan::Bridge, seen: &BridgeSeen, survey: &Survey) {
    let missing = missing_hooks(&bridge.name, survey);
    let link = match seen {
        BridgeSeen::Missing | BridgeSeen::Outdated => None,
        BridgeSeen::Ours(link) | BridgeSeen::Adoptable(link) => Some(link),
    };
    let is_new = link.is_none() || matches!(seen, BridgeSeen::Adoptable(_));
    if !missing.is_empty() && !is_new {
        todo.change(
            "network",
            &bridge.network,
            format!("bridge {} hooked", bridge.name),
        );
    }
    todo.steps.extend(missing.into_iter().map(Step::Attach));
    if !link.is_some_and(|link| link.up) {
        if !is_new {
            todo.change(
                "network",
                &bridge.network,
                format!("bridge {} up", bridge.name),
            );
        }
        todo.steps.push(Step::Up(bridge.name.clone()));
    }
}

fn bring_up_end(todo: &mut Todo, index: usize, end: &plan::End, seen: &EndSeen, survey: &Survey) {
    let fit = seen.inside.as_ref().map(|inside| unfit(end, seen, inside));
    let missing = missing_hooks(&end.veth, survey);
    let standing = seen.veth.as_ref().filter(|_| seen.inside.is_some());
    let bridge = survey.facts.link(&end.bridge);
    let is_port = standing
        .is_some_and(|veth| veth.master.is_some() && veth.master == bridge.map(|it| it.index));
    // A port that changes its bridge is forgotten by both.
    let is_told = is_port
        && standing.is_some_and(|veth| {
            survey.observed.fdb.contains(&FdbEntry {
                mac: end.mac,
                port: veth.index,
            })
        });
    let is_up = standing.is_some_and(|veth| veth.up);
    let mut details = fit.clone().unwrap_or_default();
    if standing.is_some() {
        if !missing.is_empty() {
            details.push("hooked".to_owned());
        }
        if !is_port || !is_told || !is_up {
            details.push(format!("{} on {}", end.veth, end.bridge));
        }
    }
    if !details.is_empty() {
        let detail = format!("{}: {}", end.interface, details.join(", "));
        todo.change("container", &end.container, detail);
    }
    todo.steps.extend(missing.into_iter().map(Step::Attach));
    if fit.is_none_or(|details| !details.is_empty()) {
        todo.steps.push(Step::Inside(index));
    }
    if !is_port {
        todo.steps.push(Step::Enslave(index));
    }
    if !is_told {
        todo.steps.push(Step::Fdb(index));
    }
    if !is_up {
        todo.steps.push(Step::Up(end.veth.clone()));
    }
}

/// The default routes, after every end of the container has its addresses and is up.
fn lead_out(todo: &mut Todo, index: usize, namespace: &plan::Namespace, survey: &Survey) {
    let own = survey.ends_of.get(&namespace.container);
    let own = own.into_iter().flatten().filter_map(|place| {
        let end = survey.links.ends.get(*place)?;
        Some((end, survey.ends.get(*place)?))
    });
    let mut is_unfit = false;
    let mut details = Vec::new();
    for (end, seen) in own {
        let Some(inside) = &seen.inside else {
            is_unfit |= !end.gateways.is_empty();
            continue;
        };
        // An interface that gets other addresses, or comes up, may lose or lack its routes.
        is_unfit |= !end.gateways.is_empty() && !unfit(end, seen, inside).is_empty();
        let (missing, extra) = routes_to_change(end, inside);
        details.extend(missing.iter().map(|it| format!("default route by {it}")));
        details.extend(extra.iter().map(|it| format!("no default route by {it}")));
    }
    if is_unfit || !details.is_empty() {
        todo.steps.push(Step::Routes(index));
    }
    if !details.is_empty() {
        todo.change("container", &namespace.container, details.join(", "));
    }
}

/// The ends that have another MAC or other addresses than before: neighbours may still know the old.
fn announcements(todo: &mut Todo, survey: &Survey) {
    let ends = survey.links.ends.iter().zip(&survey.ends);
    let is_news = |end: &plan::End, seen: &EndSeen| match &seen.inside {
        None => true,
        Some(inside) => {
            let (missing, _) = addresses_to_change(end, inside);
            inside.link.mac != Some(end.mac) || !missing.is_empty()
        }
    };
    for (index, (end, seen)) in ends.enumerate() {
        if is_news(end, seen) {
            todo.steps.push(Step::Announce(index));
        }
    }
}

/// What the container's side lacks, in words.
fn unfit(end: &plan::End, seen: &EndSeen, inside: &Inside) -> Vec<String> {
    let mut details = Vec::new();
    if inside.link.mac != Some(end.mac) {
        details.push("MAC".to_owned());
    }
    let veth_mtu = seen.veth.as_ref().map(|veth| veth.mtu);
    if inside.link.mtu != end.mtu || veth_mtu != Some(end.mtu) {
        details.push(format!("mtu {}", end.mtu));
    }
    if !inside.link.up {
        details.push("up".to_owned());
    }
    let (missing, extra) = addresses_to_change(end, inside);
    details.extend(missing.iter().map(|net| format!("address {net}")));
    details.extend(extra.iter().map(|net| format!("no address {net}")));
    details
}

/// Addresses that the container's side lacks, and global ones that it must not have.
pub(super) fn addresses_to_change(end: &plan::End, inside: &Inside) -> (Vec<IpNet>, Vec<IpNet>) {
    let has = |net: &IpNet| inside.addresses.iter().any(|address| address.net == *net);
    let missing = end
        .addresses
        .iter()
        .filter(|net| !has(net))
        .copied()
        .collect();
    let extra = inside
        .addresses
        .iter()
        .filter(|address| address.scope == Scope::Global)
        .map(|address| address.net)
        .filter(|net| !end.addresses.contains(net))
        .collect();
    (missing, extra)
}

/// Gateways that no default route leads to, and those that none must lead to.
fn routes_to_change(end: &plan::End, inside: &Inside) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let there: Vec<IpAddr> = inside
        .default_routes
        .iter()
        .filter_map(|route| route.gateway)
        .collect();
    let missing = end
        .gateways
        .iter()
        .filter(|gateway| !there.contains(gateway))
        .copied()
        .collect();
    let extra = there
        .into_iter()
        .filter(|gateway| !end.gateways.contains(gateway))
        .collect();
    (missing, extra)
}

/// Pinned links of interfaces that must not have such a hook, or that give way to new ones.
fn leftover_hooks(survey: &Survey) -> Vec<PinnedHook> {
    let leaving: BTreeSet<&str> = survey.leaving().collect();
    let mut wanted: HashMap<u32, Vec<PinnedHook>> = HashMap::new();
    for place in survey.links.places() {
        let interface = place.interface.as_str();
        if let Some(link) = survey.facts.link(interface)
            && !leaving.contains(interface)
        {
            let here = wanted.entry(link.index).or_default();
            here.push(place.pinned(link.index));
        }
    }
    let stays = |pin: &PinnedHook| {
        let here = wanted.get(&pin.ifindex);
        here.is_some_and(|here| here.contains(pin))
    };
    let pinned = survey.pinned.iter();
    pinned.filter(|pin| !stays(pin)).copied().collect()
}

fn detached(todo: &mut Todo, pin: PinnedHook, survey: &Survey) {
    // The other hook of the same interface needs no second line.
    if pin.hook != Hook::FromNetdev {
        return;
    }
    let link = survey
        .observed
        .links
        .iter()
        .find(|link| link.index == pin.ifindex);
    let name = link.map_or_else(|| format!("#{}", pin.ifindex), |link| link.name.clone());
    todo.remove("uplink", &name, "");
}

fn config(todo: &mut Todo, model: &Model, survey: &Survey, load: Load, writes: bool) {
    let now = survey.config.unwrap_or_default();
    let wanted = plan::config(model, &survey.facts, now.generation);
    let is_told = !matches!(load, Load::Fresh | Load::Mend);
    if now.flags != wanted.flags && is_told {
        let way = if survey.facts.has_ipsec {
            "by the host's stack, for there are IPsec policies"
        } else {
            "no longer by the host's stack: the IPsec policies are gone"
        };
        todo.change("egress", "host", way);
    }
    let limits = GlobalConfig {
        flags: now.flags,
        ..wanted
    };
    if now != limits && is_told {
        todo.change("conntrack", "limits", "timeouts or sizes");
    }
    if now != wanted || writes {
        todo.steps.push(Step::WriteConfig);
    }
}

fn removals(todo: &mut Todo, journal: &Journal, survey: &Survey, wanted: &[Noted]) {
    // An interface that was renamed is looked for under its name of now: its filter is gone by then.
    let present = |change: &Noted| {
        let mut qdiscs = survey.qdiscs.iter();
        let renamed = qdiscs.find(|seen| seen.is_about_same(change));
        renamed.unwrap_or(change).clone()
    };
    let mut gone: Vec<Noted> = journal
        .changes()
        .iter()
        .rev()
        .filter(|change| !wanted.iter().any(|wanted| wanted.is_about_same(change)))
        .filter(|change| !todo.void.contains(change))
        .map(present)
        .collect();
    // Ends before what they hang on, as `undo` has it.
    gone.sort_by_key(|change| match change {
        Noted::Veth { .. } => 0,
        Noted::Netns { .. } => 1,
        Noted::Address { .. } => 2,
        Noted::Sysctl { .. } | Noted::Qdisc { .. } => 3,
        Noted::Bridge { .. } | Noted::AdoptedBridge(_) => 4,
        Noted::Section { .. } => 5,
        Noted::Pins { .. } | Noted::Directory { .. } => 6,
    });
    for change in &gone {
        if let Some(change) = super::words::removal(change) {
            todo.changes.push(change);
        }
    }
    todo.steps.extend(gone.iter().cloned().map(Step::Undo));
    todo.gone = gone;
}
