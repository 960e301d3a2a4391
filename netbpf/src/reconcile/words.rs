//! Changes of maps and of the inventory, in words.

use std::{
    collections::{BTreeMap, HashMap},
    net::IpAddr,
};

use netbpf_common::{
    endpoint::network_flags::{ICC, INTERNAL, MASQUERADE_V4, MASQUERADE_V6},
    family::{V4, V6},
    nat::{PortKey, PublishTarget},
    service::Service,
};

use super::report::{Action, Change, ContainerPort};
use crate::{
    dataplane::{
        Load,
        conntrack::{Address, proto_name},
        maps::Contents,
        table::{Difference, differences},
    },
    model::Model,
    state::{Change as Noted, Origin},
};

/// The difference between what the maps hold and what they must hold.
pub fn maps(
    changes: &mut Vec<Change>,
    (before, after): (&Contents, &Contents),
    model: &Model,
    load: Load,
) {
    networks(changes, before, after, model);
    published::<V4>(changes, &before.published_v4, &after.published_v4, model);
    published::<V6>(changes, &before.published_v6, &after.published_v6, model);
    services::<V4>(changes, &before.services_v4, &after.services_v4, model);
    services::<V6>(changes, &before.services_v6, &after.services_v6, model);
    // What follows from the above needs no line of its own; what was found damaged does.
    if matches!(load, Load::Fresh | Load::Mend) || !changes.is_empty() {
        return;
    }
    for (map, change) in before.changes(after) {
        if !change.is_empty() {
            let detail = format!("+{} ~{} -{}", change.added, change.changed, change.removed);
            let name = map.to_ascii_lowercase();
            changes.push(Change::new(Action::Change, "map", name, detail));
        }
    }
}

fn networks(changes: &mut Vec<Change>, before: &Contents, after: &Contents, model: &Model) {
    for network in &model.networks {
        let (Some(old), Some(new)) = (
            before.networks.get(&network.id),
            after.networks.get(&network.id),
        ) else {
            continue;
        };
        let details: Vec<String> = [
            ("icc", ICC),
            ("internal", INTERNAL),
            ("masquerade", MASQUERADE_V4 | MASQUERADE_V6),
        ]
        .into_iter()
        .filter(|(_, flag)| (old.flags ^ new.flags) & flag != 0)
        .map(|(name, flag)| format!("{name} = {}", new.flags & flag != 0))
        .collect();
        if !details.is_empty() {
            let detail = details.join(", ");
            changes.push(Change::new(
                Action::Change,
                "network",
                &network.name,
                detail,
            ));
        }
    }
}

/// `8080/tcp`, `[2001:db8::1]:53/udp`; without the address when it is every one of a family.
fn shown<F: Address>(key: &PortKey<F>) -> String {
    let proto = proto_name(key.proto);
    let port = key.port.get();
    match F::address(key.addr) {
        IpAddr::V4(addr) => format!("{addr}:{port}/{proto}"),
        IpAddr::V6(addr) => format!("[{addr}]:{port}/{proto}"),
    }
}

fn compare<K: Ord, V: PartialEq>(
    before: &BTreeMap<K, V>,
    after: &BTreeMap<K, V>,
    mut tell: impl FnMut(Action, &K, &V),
) {
    let (removed, others): (Vec<_>, Vec<_>) = differences(before, after)
        .into_iter()
        .partition(|difference| matches!(difference, Difference::Removed(..)));
    for difference in others.into_iter().chain(removed) {
        match difference {
            Difference::Added(key, value) => tell(Action::Add, key, value),
            Difference::Changed(key, value) => tell(Action::Change, key, value),
            Difference::Removed(key, value) => tell(Action::Remove, key, value),
        }
    }
}

fn published<F: Address>(
    changes: &mut Vec<Change>,
    before: &BTreeMap<PortKey<F>, PublishTarget<F>>,
    after: &BTreeMap<PortKey<F>, PublishTarget<F>>,
    model: &Model,
) where
    PortKey<F>: Ord,
{
    let owners: HashMap<u32, &str> = model
        .ends()
        .map(|(container, end)| (end.endpoint, container.name.as_str()))
        .collect();
    compare(before, after, |action, key, target| {
        let to = PortKey::<F> {
            addr: target.addr,
            port: target.port,
            ..*key
        };
        let owner = owners.get(&target.endpoint);
        let container = owner.map_or_else(String::new, |name| format!(" (container {name})"));
        let detail = format!("to {}{container}", shown(&to));
        changes.push(Change {
            to: owner.map(|name| ContainerPort {
                container: (*name).to_owned(),
                address: F::address(target.addr),
                port: target.port.get(),
                mapping: target.mapping,
                is_new: false,
            }),
            ..Change::new(action, "port", shown(key), detail)
        });
    });
}

fn services<F: Address>(
    changes: &mut Vec<Change>,
    before: &BTreeMap<PortKey<F>, Service<F>>,
    after: &BTreeMap<PortKey<F>, Service<F>>,
    model: &Model,
) where
    PortKey<F>: Ord,
{
    compare(before, after, |action, key, service| {
        let name = model
            .services
            .iter()
            .find(|it| it.ports.iter().any(|port| port.mapping == service.mapping))
            .map_or_else(|| shown(key), |it| it.name.clone());
        let detail = format!("{} with {} backends", shown(key), service.count);
        changes.push(Change::new(action, "service", name, detail));
    });
}

/// What is taken back; `None` for what goes with something else.
pub fn removal(noted: &Noted) -> Option<Change> {
    let remove =
        |kind, name: &str, detail: String| Some(Change::new(Action::Remove, kind, name, detail));
    match noted {
        Noted::Pins { instance } => remove("dataplane", instance, String::new()),
        Noted::Directory { .. } => None,
        Noted::Section { path } => remove("file", &path.display().to_string(), String::new()),
        Noted::Bridge { name, alias, .. } => {
            let network = alias.rsplit(':').next().unwrap_or(name);
            remove("network", network, format!("bridge {name}"))
        }
        Noted::AdoptedBridge(bridge) => remove(
            "network",
            &bridge.name,
            "the bridge stays, as it was".to_owned(),
        ),
        Noted::Netns {
            path,
            origin: Origin::Made,
            ..
        } => remove("netns", &path.display().to_string(), String::new()),
        Noted::Netns { .. } => None,
        Noted::Veth {
            name, container, ..
        } => remove("container", container, format!("veth {name}")),
        Noted::Address { interface, net } => {
            remove("address", &net.to_string(), format!("from {interface}"))
        }
        Noted::Qdisc { interface, .. } => remove("qdisc", interface, "clsact".to_owned()),
        Noted::Sysctl { sysctl, old } => {
            remove("sysctl", &sysctl.to_string(), format!("back to {old}"))
        }
    }
}
