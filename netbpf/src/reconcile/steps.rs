//! The steps of a change, in their order, and how each is done.
//!
//! [`todo()`] only compares what was seen with what is wanted. [`Doer`] acts, one step after the
//! other, each of which can be done again. The order never leaves the host more open than the old
//! and the new state together: an uplink is hooked before packets are sent out by it, what comes is
//! known to the programs and hooked before it is up, then ports lead there, then keys go, then
//! policy is asked again, then hooks and links go.

use std::{net::IpAddr, time::Duration};

use anyhow::{Context as _, Result};
use ipnet::IpNet;
use netbpf_common::{config::GlobalConfig, verdict::Hook};

use super::{
    Fault,
    report::{Action, Change},
    survey::{self, BridgeSeen, ContainerSeen, Inside, Survey},
};
use crate::{
    dataplane::{
        self, Load,
        attach::{self, PinnedHook, Place},
        maps::{Contents, Maps, Sizes},
    },
    host::{
        Host, Netns, Rtnl,
        address::{Preference, Scope},
        bpffs::{self, PinDirs},
        link::{BridgeSpec, Link, Mark, Running, VethSpec},
        neighbour::FdbEntry,
        netns,
        sysctl::Sysctl,
        undo,
    },
    model::Model,
    plan,
    state::{AdoptedBridge, Change as Noted, Instance, Journal, Origin},
};

/// How long to wait for links that were brought up.
const RUNNING_PATIENCE: Duration = Duration::from_secs(2);

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
    /// Makes a container's veth pair, both sides down.
    MakeVeth(usize),
    /// Writes to the maps who is where.
    WritePlaces,
    /// Attaches a hook.
    Attach(Place),
    /// Brings an interface of the host up.
    Up(String),
    /// Brings the container's side into line: MAC, MTU, addresses, up, default routes.
    Inside(usize),
    /// Makes the host's side a port of its bridge.
    Enslave(usize),
    /// Tells the bridge where the container's MAC is.
    Fdb(usize),
    /// Waits until what was brought up carries packets.
    AwaitRunning,
    /// Writes to the maps what leads where.
    WriteMappings,
    /// Ends hooks of interfaces that are no uplinks any more.
    Detach(PinnedHook),
    /// Deletes from the maps what is not wanted any more.
    DeleteKeys,
    /// Writes the programs' config, with another generation where policy must be asked again.
    WriteConfig,
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
    let mut todo = Todo::default();
    let wanted = wanted_in_journal(instance, survey);
    begin(&mut todo, instance, survey, load);
    for (index, bridge) in survey.links.bridges.iter().enumerate() {
        links_of_bridge(&mut todo, index, bridge, journal, survey);
    }
    sysctls(&mut todo, survey);
    for (bridge, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        addresses_of_bridge(&mut todo, bridge, seen, survey);
    }
    for (index, container) in survey.links.containers.iter().enumerate() {
        links_of_container(&mut todo, index, container, &survey.containers[index]);
    }
    // The programs send packets out by any interface that the maps call an uplink.
    uplinks(&mut todo, survey);
    let expected = survey.expected_contents(model)?;
    let writes = expected != survey.contents;
    if writes {
        todo.steps.push(Step::WritePlaces);
    }
    for (bridge, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        bring_up_bridge(&mut todo, bridge, seen, survey);
    }
    for (index, container) in survey.links.containers.iter().enumerate() {
        bring_up_container(
            &mut todo,
            index,
            container,
            &survey.containers[index],
            survey,
        );
    }
    if todo.steps.iter().any(|step| matches!(step, Step::Up(_))) {
        todo.steps.push(Step::AwaitRunning);
    }
    if writes {
        todo.steps.push(Step::WriteMappings);
    }
    let leftover = leftover_hooks(survey);
    let (uplink_hooks, other_hooks): (Vec<_>, Vec<_>) = leftover
        .into_iter()
        .partition(|pin| matches!(pin.hook, Hook::FromNetdev | Hook::ToNetdev));
    if writes {
        todo.steps.push(Step::DeleteKeys);
        super::words::maps(&mut todo.changes, &survey.contents, &expected, model, load);
    }
    config(&mut todo, model, survey, load, writes);
    todo.steps
        .extend(uplink_hooks.iter().copied().map(Step::Detach));
    removals(&mut todo, journal, &wanted);
    for pin in uplink_hooks {
        detached(&mut todo, pin, survey);
    }
    todo.steps.extend(other_hooks.into_iter().map(Step::Detach));
    Ok(todo)
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

/// What the journal may keep.
fn wanted_in_journal(instance: &Instance, survey: &Survey) -> Vec<Noted> {
    let mut wanted = vec![Noted::Pins {
        instance: instance.name().to_owned(),
    }];
    for (bridge, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        wanted.push(noted_bridge(bridge, seen, survey));
        wanted.extend(
            bridge
                .addresses
                .iter()
                .map(|(net, _)| noted_address(&bridge.name, *net)),
        );
    }
    for container in &survey.links.containers {
        wanted.push(noted_netns(container, None));
        wanted.push(noted_veth(container));
    }
    let sysctls = survey.links.sysctls.iter();
    wanted.extend(sysctls.map(|(sysctl, _)| noted_sysctl(sysctl, String::new())));
    wanted
}

fn noted_bridge(bridge: &plan::Bridge, seen: &BridgeSeen, survey: &Survey) -> Noted {
    let BridgeSeen::Adoptable(link) = seen else {
        return Noted::Bridge {
            name: bridge.name.clone(),
            alias: bridge.alias.clone(),
            mac: bridge.mac,
        };
    };
    let own = survey
        .facts
        .addresses
        .iter()
        .filter(|address| address.index == link.index);
    Noted::AdoptedBridge(AdoptedBridge {
        name: bridge.name.clone(),
        mac: link.mac.unwrap_or_default(),
        mtu: link.mtu,
        up: link.up,
        addresses: own.map(|address| address.net).collect(),
    })
}

fn noted_address(interface: &str, net: IpNet) -> Noted {
    Noted::Address {
        interface: interface.to_owned(),
        net,
    }
}

fn noted_netns(container: &plan::Container, found: Option<&Netns>) -> Noted {
    Noted::Netns {
        container: container.name.clone(),
        path: container.netns.clone(),
        id: found.map(Netns::id),
        origin: if found.is_some() {
            Origin::Adopted
        } else {
            Origin::Made
        },
    }
}

fn noted_veth(container: &plan::Container) -> Noted {
    Noted::Veth {
        name: container.veth.clone(),
        alias: container.alias.clone(),
        mac: container.veth_mac,
        container: container.name.clone(),
    }
}

fn noted_sysctl(sysctl: &Sysctl, old: String) -> Noted {
    Noted::Sysctl {
        sysctl: sysctl.clone(),
        old,
    }
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
    let noted = noted_bridge(bridge, seen, survey);
    let link = match seen {
        BridgeSeen::Missing => {
            todo.add("network", &bridge.network, described);
            todo.steps.push(Step::MakeBridge(index));
            None
        }
        BridgeSeen::Outdated => {
            let old = journal
                .changes()
                .iter()
                .find(|change| change.is_about_same(&noted));
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
    todo.noted.push(noted);
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
        todo.noted.push(noted_address(&bridge.name, *net));
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
            todo.noted.push(noted_sysctl(sysctl, old.clone()));
        }
        todo.steps.push(Step::Sysctl(sysctl.clone(), value));
    }
}

fn links_of_container(
    todo: &mut Todo,
    index: usize,
    container: &plan::Container,
    seen: &ContainerSeen,
) {
    let misled = seen.veth.as_ref().filter(|_| seen.inside.is_none());
    for link in misled.into_iter().chain(&seen.squatter) {
        todo.steps.push(Step::DeleteVeth(link.clone()));
    }
    todo.noted.push(noted_netns(container, seen.netns.as_ref()));
    todo.noted.push(noted_veth(container));
    if seen.netns.is_none() {
        todo.add("netns", &container.netns.display().to_string(), "");
        todo.steps.push(Step::MakeNetns(index));
    }
    if seen.inside.is_some() {
        return;
    }
    let nets: Vec<String> = container.addresses.iter().map(IpNet::to_string).collect();
    let detail = format!(
        "{} in {} with {}, by {} on {}",
        container.interface,
        container.netns.display(),
        nets.join(", "),
        container.veth,
        container.bridge
    );
    match misled {
        None => todo.add("container", &container.name, detail),
        Some(_) => todo.change("container", &container.name, detail),
    }
    todo.steps.push(Step::MakeVeth(index));
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

fn missing_hooks(interface: &str, survey: &Survey) -> Vec<Place> {
    let mut places = survey.links.places();
    places.retain(|place| place.interface == interface && !survey.hooked.contains(place));
    places
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

fn bring_up_container(
    todo: &mut Todo,
    index: usize,
    container: &plan::Container,
    seen: &ContainerSeen,
    survey: &Survey,
) {
    let fit = seen
        .inside
        .as_ref()
        .map(|inside| unfit(container, seen, inside));
    let missing = missing_hooks(&container.veth, survey);
    let standing = seen.veth.as_ref().filter(|_| seen.inside.is_some());
    let bridge = survey
        .observed
        .links
        .iter()
        .find(|link| link.name == container.bridge);
    let is_port = standing
        .is_some_and(|veth| veth.master.is_some() && veth.master == bridge.map(|it| it.index));
    // A port that changes its bridge is forgotten by both.
    let is_told = is_port
        && standing.is_some_and(|veth| {
            survey.observed.fdb.contains(&FdbEntry {
                mac: container.mac,
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
            details.push(format!("{} on {}", container.veth, container.bridge));
        }
    }
    if !details.is_empty() {
        todo.change("container", &container.name, details.join(", "));
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
        todo.steps.push(Step::Up(container.veth.clone()));
    }
}

/// What the container's side lacks, in words.
fn unfit(container: &plan::Container, seen: &ContainerSeen, inside: &Inside) -> Vec<String> {
    let mut details = Vec::new();
    if inside.link.mac != Some(container.mac) {
        details.push("MAC".to_owned());
    }
    let veth_mtu = seen.veth.as_ref().map(|veth| veth.mtu);
    if inside.link.mtu != container.mtu || veth_mtu != Some(container.mtu) {
        details.push(format!("mtu {}", container.mtu));
    }
    if !inside.link.up || !seen.is_loopback_up {
        details.push("up".to_owned());
    }
    let (missing, extra) = addresses_to_change(container, inside);
    details.extend(missing.iter().map(|net| format!("address {net}")));
    details.extend(extra.iter().map(|net| format!("no address {net}")));
    let (missing, extra) = routes_to_change(container, inside);
    details.extend(
        missing
            .iter()
            .map(|gateway| format!("default route by {gateway}")),
    );
    details.extend(
        extra
            .iter()
            .map(|gateway| format!("no default route by {gateway}")),
    );
    details
}

/// Addresses that the container's side lacks, and global ones that it must not have.
fn addresses_to_change(container: &plan::Container, inside: &Inside) -> (Vec<IpNet>, Vec<IpNet>) {
    let has = |net: &IpNet| inside.addresses.iter().any(|address| address.net == *net);
    let missing = container
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
        .filter(|net| !container.addresses.contains(net))
        .collect();
    (missing, extra)
}

/// Gateways that no default route leads to, and those that none must lead to.
fn routes_to_change(container: &plan::Container, inside: &Inside) -> (Vec<IpAddr>, Vec<IpAddr>) {
    let there: Vec<IpAddr> = inside
        .default_routes
        .iter()
        .filter_map(|route| route.gateway)
        .collect();
    let missing = container
        .gateways
        .iter()
        .filter(|gateway| !there.contains(gateway))
        .copied()
        .collect();
    let extra = there
        .into_iter()
        .filter(|gateway| !container.gateways.contains(gateway))
        .collect();
    (missing, extra)
}

/// Pinned links of interfaces that must not have such a hook, or that give way to new ones.
fn leftover_hooks(survey: &Survey) -> Vec<PinnedHook> {
    let stays = |pin: &PinnedHook| {
        survey.links.places().iter().any(|place| {
            place.hook == pin.hook
                && place.framing == pin.framing
                && !survey.leaving().any(|name| name == place.interface)
                && survey
                    .observed
                    .links
                    .iter()
                    .any(|link| link.name == place.interface && link.index == pin.ifindex)
        })
    };
    survey
        .pinned
        .iter()
        .filter(|pin| !stays(pin))
        .copied()
        .collect()
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
    let wanted = plan::config(model, now.generation);
    if now != wanted && !matches!(load, Load::Fresh | Load::Mend) {
        todo.change("conntrack", "limits", "timeouts or sizes");
    }
    if now != wanted || writes {
        todo.steps.push(Step::WriteConfig);
    }
}

fn removals(todo: &mut Todo, journal: &Journal, wanted: &[Noted]) {
    let mut gone: Vec<Noted> = journal
        .changes()
        .iter()
        .rev()
        .filter(|change| !wanted.iter().any(|wanted| wanted.is_about_same(change)))
        .cloned()
        .collect();
    // Ends before what they hang on, as `undo` has it.
    gone.sort_by_key(|change| match change {
        Noted::Veth { .. } => 0,
        Noted::Netns { .. } => 1,
        Noted::Address { .. } => 2,
        Noted::Sysctl { .. } => 3,
        Noted::Bridge { .. } | Noted::AdoptedBridge(_) => 4,
        Noted::Pins { .. } | Noted::Directory { .. } => 5,
    });
    for change in &gone {
        if let Some(change) = super::words::removal(change) {
            todo.changes.push(change);
        }
    }
    todo.steps.extend(gone.iter().cloned().map(Step::Undo));
    todo.gone = gone;
}

/// Does the steps.
#[derive(Debug)]
pub struct Doer<'a> {
    /// The host.
    pub host: &'a Host,
    /// The instance.
    pub instance: &'a Instance,
    /// Where each thing is noted before it is made.
    pub journal: &'a mut Journal,
    /// What is wanted.
    pub model: &'a Model,
    /// What was seen.
    pub survey: &'a Survey,
    /// Stops on purpose.
    pub fault: &'a mut Fault,
    /// The maps before and after, once every link is there.
    pub written: Option<Written>,
}

/// The maps of a change under way.
#[derive(Debug)]
pub struct Written {
    maps: Maps,
    before: Contents,
    after: Contents,
}

impl Doer<'_> {
    /// Does all of it, up to the first error.
    ///
    /// # Errors
    ///
    /// What failed; what was done stays done.
    pub fn run(&mut self, todo: &Todo) -> Result<()> {
        self.journal.extend(&todo.noted)?;
        for step in &todo.steps {
            self.fault.before(&format!("{step:?}"))?;
            tracing::debug!(?step, "step");
            self.step(step)?;
        }
        Ok(())
    }

    fn step(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Load => self.load(),
            Step::Sysctl(sysctl, value) => Ok(sysctl.write(value)?),
            Step::DeleteVeth(link) => self.delete_veth(link),
            Step::Undo(noted) => self.undo(noted),
            Step::MakeBridge(index) => self.make_bridge(*index),
            Step::SettleBridge(index) => self.settle_bridge(*index),
            Step::Address(interface, net, preference) => self.address(interface, *net, *preference),
            Step::MakeNetns(index) => self.make_netns(*index),
            Step::MakeVeth(index) => self.make_veth(*index),
            Step::WritePlaces => self.write_places(),
            Step::Attach(place) => self.attach(place),
            Step::Up(interface) => Ok(self.host.rtnl().up(self.index(interface)?)?),
            Step::Inside(index) => self.inside(*index),
            Step::Enslave(index) => self.enslave(*index),
            Step::Fdb(index) => self.fdb(*index),
            Step::AwaitRunning => self.await_running(),
            Step::WriteMappings => self.write_mappings(),
            Step::Detach(pin) => Ok(attach::detach(&self.pins(), *pin)?),
            Step::DeleteKeys => self.delete_keys(),
            Step::WriteConfig => self.write_config(),
        }
    }

    fn pins(&self) -> PinDirs {
        PinDirs::of(self.instance.name())
    }

    fn index(&self, interface: &str) -> Result<u32> {
        Ok(self.host.rtnl().existing_link(interface)?.index)
    }

    fn load(&mut self) -> Result<()> {
        bpffs::ensure_mounted()?;
        let pins = self.pins();
        pins.create()?;
        let sizes = Sizes::of(self.model.conntrack.max_entries);
        dataplane::load(&pins, sizes, self.survey.links.objects())?;
        let mut maps = Maps::open(&pins.maps)?;
        // Programs that meet a packet must find a config, so it is written before the first hook.
        if maps.config()? == GlobalConfig::default() {
            maps.set_config(&plan::config(self.model, 1))?;
        }
        Ok(())
    }

    fn delete_veth(&self, link: &Link) -> Result<()> {
        let alias = link.alias.as_deref().unwrap_or_default();
        let mac = link.mac.unwrap_or_default();
        Ok(self
            .host
            .rtnl()
            .delete_link(&link.name, &Mark { alias, mac })?)
    }

    fn undo(&mut self, noted: &Noted) -> Result<()> {
        undo::undo(self.host, noted)?;
        Ok(self.journal.forget(std::slice::from_ref(noted))?)
    }

    fn make_bridge(&mut self, index: usize) -> Result<()> {
        let bridge = &self.survey.links.bridges[index];
        let mark = Mark {
            alias: &bridge.alias,
            mac: bridge.mac,
        };
        self.journal
            .extend(&[noted_bridge(bridge, &BridgeSeen::Missing, self.survey)])?;
        self.host.rtnl().ensure_bridge(&BridgeSpec {
            name: &bridge.name,
            mark,
            mtu: bridge.mtu,
        })?;
        Ok(())
    }

    fn settle_bridge(&self, index: usize) -> Result<()> {
        let bridge = &self.survey.links.bridges[index];
        let rtnl = self.host.rtnl();
        let link = rtnl.existing_link(&bridge.name)?;
        // Also where it has this MAC: one that was never set follows the bridge's ports.
        rtnl.set_mac(link.index, bridge.mac)?;
        if link.mtu != bridge.mtu {
            rtnl.set_mtu(link.index, bridge.mtu)?;
        }
        Ok(())
    }

    fn address(&mut self, interface: &str, net: IpNet, preference: Preference) -> Result<()> {
        self.journal.extend(&[noted_address(interface, net)])?;
        Ok(self
            .host
            .rtnl()
            .add_address(self.index(interface)?, net, preference)?)
    }

    fn make_netns(&mut self, index: usize) -> Result<()> {
        let container = &self.survey.links.containers[index];
        netns::create(&container.netns)?;
        let made = self.host.container(&container.netns)?;
        Ok(self.journal.identify_netns(&container.netns, made.id())?)
    }

    fn make_veth(&mut self, index: usize) -> Result<()> {
        let container = &self.survey.links.containers[index];
        self.journal.extend(&[noted_veth(container)])?;
        let netns = self.host.container(&container.netns)?;
        self.host
            .rtnl()
            .ensure_veth(&VethSpec {
                name: &container.veth,
                mark: Mark {
                    alias: &container.alias,
                    mac: container.veth_mac,
                },
                mtu: container.mtu,
                peer_netns: &netns,
                peer_name: &container.interface,
                peer_mac: container.mac,
            })
            .with_context(|| format!("container {:?}", container.name))?;
        Ok(())
    }

    fn attach(&self, place: &Place) -> Result<()> {
        let ifindex = self.index(&place.interface)?;
        let pins = self.pins();
        if place.is_hooked(&pins, ifindex)? {
            return Ok(());
        }
        Ok(place.attach(&pins, ifindex)?)
    }

    fn inside(&self, index: usize) -> Result<()> {
        let container = &self.survey.links.containers[index];
        fit_inside(self.host, container).with_context(|| format!("container {:?}", container.name))
    }

    fn enslave(&self, index: usize) -> Result<()> {
        let container = &self.survey.links.containers[index];
        let port = self.index(&container.veth)?;
        Ok(self
            .host
            .rtnl()
            .enslave(port, self.index(&container.bridge)?)?)
    }

    fn fdb(&self, index: usize) -> Result<()> {
        let container = &self.survey.links.containers[index];
        let port = self.index(&container.veth)?;
        Ok(self.host.rtnl().set_fdb(FdbEntry {
            mac: container.mac,
            port,
        })?)
    }

    /// Until then a bridge drops what is for its new ports. A container that took its own side down
    /// must not hold up the others.
    fn await_running(&self) -> Result<()> {
        let indices = self
            .survey
            .links
            .containers
            .iter()
            .map(|container| self.index(&container.veth))
            .collect::<Result<Vec<u32>>>()?;
        if self.host.rtnl().until_running(&indices, RUNNING_PATIENCE)? == Running::NotAll {
            tracing::warn!("not every container's link carries packets");
        }
        Ok(())
    }

    /// Puts who is where; what leads there stays as it was until everybody is up.
    fn write_places(&mut self) -> Result<()> {
        let written = self.open()?;
        let between = written.after.with_mappings_of(&written.before);
        self.put(&between)
    }

    fn write_mappings(&mut self) -> Result<()> {
        let after = self.open()?.after.clone();
        self.put(&after)
    }

    fn put(&mut self, contents: &Contents) -> Result<()> {
        self.open()?;
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        let now = written.maps.read()?;
        let fault = &mut *self.fault;
        Ok(written
            .maps
            .put(&now, contents, &mut |map| fault.before(map))?)
    }

    fn delete_keys(&mut self) -> Result<()> {
        self.open()?;
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        let now = written.maps.read()?;
        let fault = &mut *self.fault;
        Ok(written
            .maps
            .delete(&now, &written.after, &mut |map| fault.before(map))?)
    }

    fn write_config(&mut self) -> Result<()> {
        let written = self.open()?;
        let now = written.maps.config()?;
        let generation = if written.before.policy_changes(&written.after) {
            now.generation.wrapping_add(1).max(1)
        } else {
            now.generation.max(1)
        };
        let wanted = plan::config(self.model, generation);
        if now == wanted {
            return Ok(());
        }
        let Some(written) = &mut self.written else {
            return Ok(());
        };
        Ok(written.maps.set_config(&wanted)?)
    }

    /// The maps, opened when every link is there, so that the plan can be made with its ifindex.
    fn open(&mut self) -> Result<&Written> {
        let written = match self.written.take() {
            Some(written) => written,
            None => self.written_now()?,
        };
        Ok(self.written.insert(written))
    }

    fn written_now(&self) -> Result<Written> {
        let maps = Maps::open(&self.pins().maps)?;
        let observed = self.host.rtnl().observe()?;
        let facts = survey::facts(self.host, self.journal.changes(), &observed)?;
        let after = plan::contents(self.model, &self.survey.links, &facts)?;
        let before = maps.read()?;
        before.check_room(&after)?;
        Ok(Written {
            maps,
            before,
            after,
        })
    }
}

fn fit_inside(host: &Host, container: &plan::Container) -> Result<()> {
    let netns = host.container(&container.netns)?;
    let rtnl = Rtnl::open(&netns)?;
    let links = rtnl.links()?;
    if let Some(loopback) = links.iter().find(|link| link.loopback && !link.up) {
        rtnl.up(loopback.index)?;
    }
    let link = rtnl.existing_link(&container.interface)?;
    let index = link.index;
    if link.mac != Some(container.mac) {
        rtnl.set_mac(index, container.mac)?;
    }
    let veth = host.rtnl().existing_link(&container.veth)?;
    if veth.mtu != container.mtu {
        host.rtnl().set_mtu(veth.index, container.mtu)?;
    }
    if link.mtu != container.mtu {
        rtnl.set_mtu(index, container.mtu)?;
    }
    let inside = survey::inside(&rtnl, link)?;
    let (missing, extra) = addresses_to_change(container, &inside);
    for net in extra {
        rtnl.del_address(index, net)?;
    }
    for net in missing {
        rtnl.add_address(index, net, Preference::Preferred)?;
    }
    rtnl.up(index)?;
    let inside = survey::inside(&rtnl, rtnl.existing_link(&container.interface)?)?;
    let (missing, extra) = routes_to_change(container, &inside);
    for gateway in extra {
        rtnl.del_default_route(gateway, index)?;
    }
    for gateway in missing {
        rtnl.add_default_route(gateway, index)?;
    }
    Ok(())
}
