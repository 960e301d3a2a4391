//! Warns of published ports that do nothing.

use super::{
    Document,
    container::ContainerSpec,
    findings::{At, Findings},
    network::NetworkSpec,
    published::PublishSpec,
};

/// Warns of ports that are published on internal networks only (row P19).
pub(super) fn check(document: &Document, findings: &mut Findings) {
    for container in &document.containers {
        let networks = networks_of(document, container);
        if networks.is_empty() || networks.iter().any(|network| !network.internal) {
            continue;
        }
        for publish in &container.publish {
            warn_of_internal(container, &networks, publish, findings);
        }
    }
}

fn networks_of<'d>(document: &'d Document, container: &ContainerSpec) -> Vec<&'d NetworkSpec> {
    let attachments = container.attachments.iter();
    attachments
        .filter_map(|attachment| document.network(&attachment.network.value))
        .collect()
}

fn warn_of_internal(
    container: &ContainerSpec,
    networks: &[&NetworkSpec],
    publish: &At<PublishSpec>,
    findings: &mut Findings,
) {
    let why = match networks {
        [network] => format!("network {:?} is internal", network.name.value),
        _ => "all its networks are internal".to_owned(),
    };
    let what = format!(
        "container {:?}: publish {:?} has no effect: {why}",
        container.name.value, publish.value.text
    );
    findings.warn(publish.line, what);
}
