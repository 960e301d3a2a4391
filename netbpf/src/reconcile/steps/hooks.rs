//! The steps for hooks: which come, which go.

use std::collections::{BTreeSet, HashMap};

use netbpf_common::verdict::Hook;

use super::{Step, Todo};
use crate::{
    dataplane::attach::{PinnedHook, Place},
    reconcile::survey::Survey,
};

pub(super) fn uplinks(todo: &mut Todo, survey: &Survey) {
    for name in &survey.links.uplinks {
        let missing = missing_hooks(name, survey);
        if !missing.is_empty() {
            let hooks: Vec<&str> = missing.iter().map(|place| place.hook.name()).collect();
            todo.add("uplink", name, format!("hooks {}", hooks.join(", ")));
        }
        todo.steps.extend(missing.into_iter().map(Step::Attach));
    }
}

pub(super) fn loopback(todo: &mut Todo, survey: &Survey) {
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

pub(super) fn attach_sockets(todo: &mut Todo, survey: &Survey) {
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
pub(super) fn detach_sockets(todo: &mut Todo, survey: &Survey) {
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

pub(super) fn missing_hooks(interface: &str, survey: &Survey) -> Vec<Place> {
    survey.unhooked.get(interface).cloned().unwrap_or_default()
}

/// Pinned links of interfaces that must not have such a hook, or that give way to new ones.
pub(super) fn leftover_hooks(survey: &Survey) -> Vec<PinnedHook> {
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

pub(super) fn detached(todo: &mut Todo, pin: PinnedHook, survey: &Survey) {
    // The other hook of the same interface needs no second line.
    if pin.hook != Hook::FromNetdev {
        return;
    }
    let link = survey.link_of(pin.ifindex);
    let name = link.map_or_else(|| format!("#{}", pin.ifindex), |link| link.name.clone());
    todo.remove("uplink", &name, "");
}
