//! Warns of published ports that do nothing.

use super::{Document, container::ContainerSpec, findings::Findings, network::NetworkSpec};
use crate::model::Mode;

/// Warns of ports that are published on internal networks only (row P19), or without a network of
/// the container's own.
pub(super) fn check(document: &Document, findings: &mut Findings) {
    for container in &document.containers {
        if let Some(why) = why_idle(document, container) {
            warn(container, &why, findings);
        }
    }
}

/// Why what a container publishes does nothing.
fn why_idle(document: &Document, container: &ContainerSpec) -> Option<String> {
    if container.mode.value == Mode::Host {
        return Some("published ports are discarded when using host network mode".to_owned());
    }
    let networks = networks_of(document, container);
    if !networks.iter().all(|network| network.internal) {
        return None;
    }
    match networks[..] {
        [] => None,
        [network] => Some(format!("network {:?} is internal", network.name.value)),
        _ => Some("all its networks are internal".to_owned()),
    }
}

fn networks_of<'d>(document: &'d Document, container: &ContainerSpec) -> Vec<&'d NetworkSpec> {
    let attachments = container.attachments.iter();
    attachments
        .filter_map(|attachment| document.network(&attachment.network.value))
        .collect()
}

/// Once for whatever was written once: a range stands for many ports.
fn warn(container: &ContainerSpec, why: &str, findings: &mut Findings) {
    let publish = container.publish.iter();
    let mut written: Vec<(usize, &str)> = publish
        .map(|it| (it.line, it.value.text.as_str()))
        .collect();
    written.dedup();
    for (line, text) in written {
        let name = &container.name.value;
        let what = format!("container {name:?}: publish {text:?} has no effect: {why}");
        findings.warn(line, what);
    }
}
