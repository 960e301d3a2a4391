//! What must hold between the parts of a document: names, references, and nothing had by two.

use std::{
    collections::{BTreeMap, HashMap},
    hash::Hash,
};

use super::{
    Document, addresses, attachment::AttachmentSpec, findings::Findings, gateway_mode, links, mode,
    ports,
};
use crate::model::Mode;

/// Notes everything that doesn't fit together.
pub(super) fn document(document: &Document, findings: &mut Findings) {
    names(document, findings);
    bridges(document, findings);
    references(document, findings);
    namespaces(document, findings);
    macs(document, findings);
    mode::check_joined(document, findings);
    links::check(document, findings);
    addresses::check(document, findings);
    gateway_mode::check(document, findings);
    ports::check(document, findings);
}

/// What is had by whom, to say so to the second who wants it.
struct Owners<K>(HashMap<K, String>);

impl<K: Eq + Hash> Owners<K> {
    fn new() -> Self {
        Self(HashMap::new())
    }

    /// Gives `key` to `owner`, or says who has it.
    fn claim(&mut self, key: K, owner: &str) -> Result<(), &str> {
        use std::collections::hash_map::Entry;
        match self.0.entry(key) {
            Entry::Occupied(taken) => Err(taken.into_mut()),
            Entry::Vacant(free) => {
                free.insert(owner.to_owned());
                Ok(())
            }
        }
    }
}

fn names(document: &Document, findings: &mut Findings) {
    let networks = document
        .networks
        .iter()
        .map(|network| ("network", &network.name));
    let containers = document
        .containers
        .iter()
        .map(|container| ("container", &container.name));
    let services = document
        .services
        .iter()
        .map(|service| ("service", &service.name));
    let mut first_lines = BTreeMap::new();
    for (kind, name) in networks.chain(containers).chain(services) {
        if name.value.is_empty() {
            continue;
        }
        if let Some(first) = first_lines.get(&(kind, &name.value)) {
            let what = format!(
                "{kind} {:?}: name is already used on line {first}",
                name.value
            );
            findings.error(name.line, what);
            continue;
        }
        first_lines.insert((kind, &name.value), name.line);
    }
}

fn bridges(document: &Document, findings: &mut Findings) {
    let mut owners = Owners::new();
    for uplink in document.host.uplinks.iter().flatten() {
        // Names are there once, so that the claim can't fail.
        let _ = owners.claim(uplink.value.as_str(), "an uplink");
    }
    for network in &document.networks {
        let owner = format!("the bridge of network {:?}", network.name.value);
        if let Err(other) = owners.claim(network.bridge.value.as_str(), &owner) {
            let what = format!(
                "network {:?}: bridge {:?} is already {other}",
                network.name.value, network.bridge.value
            );
            findings.error(network.bridge.line, what);
        }
    }
}

fn references(document: &Document, findings: &mut Findings) {
    for (container, attachment) in document.attachments() {
        let network = &attachment.network;
        if document.network(&network.value).is_none() {
            let what = format!(
                "container {:?}: there is no network {:?}",
                container.name.value, network.value
            );
            findings.error(network.line, what);
        }
    }
    for service in &document.services {
        let Some(network) = &service.network else {
            continue;
        };
        let name = &service.name.value;
        if document.network(&network.value).is_none() {
            let what = format!("service {name:?}: there is no network {:?}", network.value);
            findings.error(network.line, what);
            continue;
        }
        for backend in &service.backends {
            let Some(container) = document.container(&backend.value) else {
                let what = format!(
                    "service {name:?}: backend {:?}: there is no such container",
                    backend.value
                );
                findings.error(backend.line, what);
                continue;
            };
            let is_there = |it: &AttachmentSpec| it.network.value == network.value;
            let is_told = container.mode.value != Mode::Bridge || !container.attachments.is_empty();
            if is_told && !container.attachments.iter().any(is_there) {
                let what = format!(
                    "service {name:?}: backend {:?} is not in network {:?}",
                    backend.value, network.value
                );
                findings.error(backend.line, what);
            }
        }
    }
}

fn namespaces(document: &Document, findings: &mut Findings) {
    let mut owners = Owners::new();
    for container in &document.containers {
        let has_own = matches!(container.mode.value, Mode::Bridge | Mode::None);
        if container.name.value.is_empty() || !has_own {
            continue;
        }
        let owner = format!("container {:?}", container.name.value);
        if let Err(other) = owners.claim(&container.netns.value, &owner)
            && *other != owner
        {
            let what = format!(
                "{owner}: netns {:?} is already that of {other}; one that shares it has \
                 mode = \"container:NAME\"",
                container.netns.value
            );
            findings.error(container.netns.line, what);
        }
    }
}

fn macs(document: &Document, findings: &mut Findings) {
    let mut owners = Owners::new();
    for (container, attachment) in document.attachments() {
        let Some(mac) = &attachment.mac else {
            continue;
        };
        let owner = format!("container {:?}", container.name.value);
        let network = &attachment.network.value;
        if let Err(other) = owners.claim((network, mac.value), &owner) {
            let what = format!("{owner}: network {network:?}: mac is already taken by {other}");
            findings.error(mac.line, what);
        }
    }
}
