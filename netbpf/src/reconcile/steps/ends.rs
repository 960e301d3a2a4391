//! The steps for containers: their namespaces, the veth pairs of their ends, addresses and default
//! routes.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{Step, Todo, hooks::missing_hooks};
use crate::{
    host::{address::Scope, neighbour::FdbEntry},
    plan,
    reconcile::{
        noted,
        survey::{EndSeen, Inside, NamespaceSeen, Survey},
    },
};

pub(super) fn make_namespace(
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

pub(super) fn links_of_end(todo: &mut Todo, index: usize, end: &plan::End, seen: &EndSeen) {
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

pub(super) fn bring_up_end(
    todo: &mut Todo,
    index: usize,
    end: &plan::End,
    seen: &EndSeen,
    survey: &Survey,
) {
    let fit = seen.inside.as_ref().map(|inside| unfit(end, seen, inside));
    let missing = missing_hooks(&end.veth, survey);
    let standing = seen.veth.as_ref().filter(|_| seen.inside.is_some());
    let bridge = survey.facts.link(&end.bridge);
    let is_port = standing
        .is_some_and(|veth| veth.master.is_some() && veth.master == bridge.map(|it| it.index));
    // A port that changes its bridge is forgotten by both.
    let is_told = is_port
        && standing.is_some_and(|veth| {
            survey.is_told(FdbEntry {
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
pub(super) fn lead_out(
    todo: &mut Todo,
    index: usize,
    namespace: &plan::Namespace,
    survey: &Survey,
) {
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
pub(super) fn announcements(todo: &mut Todo, survey: &Survey) {
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
pub(in crate::reconcile) fn addresses_to_change(
    end: &plan::End,
    inside: &Inside,
) -> (Vec<IpNet>, Vec<IpNet>) {
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
