//! The steps of a change, in their order.
//!
//! [`todo()`] only compares what was seen with what is wanted; [`super::act`] does. The order never
//! leaves the host more open than the old and the new state together: what is known of interfaces
//! that are gone is forgotten first, an uplink is hooked before packets are sent out by it, what
//! comes is known to the programs and hooked before it is up, then ports lead there, then keys go,
//! then policy is asked again, then hooks and links go.

mod bridges;
mod ends;
mod hooks;

use std::{
    collections::HashMap,
    path::{Path, PathBuf},
};

use anyhow::Result;
use ipnet::IpNet;
use netbpf_common::{config::GlobalConfig, verdict::Hook};

pub(super) use self::ends::addresses_to_change;
use self::{
    bridges::{addresses_of_bridge, bring_up_bridge, links_of_bridge, sysctls},
    ends::{announcements, bring_up_end, lead_out, links_of_end, make_namespace},
    hooks::{attach_sockets, detach_sockets, detached, leftover_hooks, loopback, uplinks},
};
use super::{
    noted,
    report::{Action, Change},
    survey::{self, NamespaceSeen, Survey},
};
use crate::{
    dataplane::{
        self, Load,
        attach::{PinnedHook, Place},
    },
    host::{address::Preference, bpffs::PinDirs, link::Link, sysctl::Sysctl},
    model::Model,
    plan,
    state::{Change as Noted, Changes, Instance, Journal, Origin},
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
        let states = (&survey.contents, &survey.expected);
        super::words::maps(&mut todo.changes, states, model, load);
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
    let namespaces = survey.links.namespaces.iter().zip(&survey.namespaces);
    let namespaces: HashMap<&Path, &NamespaceSeen> = namespaces
        .map(|(namespace, seen)| (namespace.path.as_path(), seen))
        .collect();
    let is_void = |noted: &&Noted| match noted {
        Noted::AdoptedBridge(bridge) => !survey::stands(bridge, &survey.observed),
        Noted::Netns {
            path, id, origin, ..
        } => {
            let seen = namespaces.get(path.as_path());
            seen.is_some_and(|seen| match &seen.netns {
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

fn removals(todo: &mut Todo, journal: &Journal, survey: &Survey, wanted: &Changes) {
    // An interface that was renamed is looked for under its name of now: its filter is gone by then.
    let present = |change: &Noted| {
        let mut qdiscs = survey.qdiscs.iter();
        let renamed = qdiscs.find(|seen| seen.is_about_same(change));
        renamed.unwrap_or(change).clone()
    };
    let void: Changes = todo.void.iter().cloned().collect();
    let mut gone: Vec<Noted> = journal
        .changes()
        .iter()
        .rev()
        .filter(|change| wanted.same(change).is_none())
        .filter(|change| void.same(change) != Some(*change))
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
