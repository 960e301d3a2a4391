//! The steps for a network's bridge: made or adopted, settled, addressed, hooked and brought up.

use super::{Step, Todo, hooks::missing_hooks};
use crate::{
    host::link::Link,
    plan,
    reconcile::{
        noted,
        survey::{BridgeSeen, Survey},
    },
    state::{Change as Noted, Journal},
};

pub(super) fn links_of_bridge(
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
            let old = journal.changes().same(&note);
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
pub(super) fn addresses_of_bridge(
    todo: &mut Todo,
    bridge: &plan::Bridge,
    seen: &BridgeSeen,
    survey: &Survey,
) {
    let link = match seen {
        BridgeSeen::Missing | BridgeSeen::Outdated => None,
        BridgeSeen::Adoptable(link) | BridgeSeen::Ours(link) => Some(link),
    };
    for (net, preference) in &bridge.addresses {
        let has_it = |link: &Link| {
            let mut all = survey.addresses_of(link.index);
            all.any(|address| address.net == *net)
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

pub(super) fn sysctls(todo: &mut Todo, survey: &Survey) {
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

pub(super) fn bring_up_bridge(
    todo: &mut Todo,
    bridge: &plan::Bridge,
    seen: &BridgeSeen,
    survey: &Survey,
) {
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
