//! Reads `links` of a `[[container]]`, and says whether they can be.

use std::collections::BTreeSet;

use super::{
    Document,
    container::ContainerSpec,
    findings::{At, Findings},
    table::Table,
    values,
};
use crate::model::ContainerLink;

/// Reads `links`: `container[:alias]`, the alias being the container's name by default.
pub(super) fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<ContainerLink>> {
    let mut links: Vec<At<ContainerLink>> = Vec::new();
    for At { line, value } in table.strings("links", findings).unwrap_or_default() {
        let link = match parse(value) {
            Ok(link) => link,
            Err(why) => {
                table.error(line, format!("link {value:?}: {why}"), findings);
                continue;
            }
        };
        if links.iter().any(|other| other.value.alias == link.alias) {
            let what = format!("link {value:?}: alias {:?} is there twice", link.alias);
            table.error(line, what, findings);
            continue;
        }
        links.push(At { line, value: link });
    }
    links
}

fn parse(text: &str) -> Result<ContainerLink, String> {
    let (container, alias) = text.split_once(':').unwrap_or((text, text));
    let part =
        |what: &str, text: &str| values::name(text).map_err(|why| format!("{what} {text:?} {why}"));
    Ok(ContainerLink {
        container: part("container", container)?,
        alias: part("alias", alias)?,
    })
}

/// Notes links to containers that are not there, or that can't be reached by a common network.
pub(super) fn check(document: &Document, findings: &mut Findings) {
    for container in &document.containers {
        let own = networks_of(container);
        for At { line, value: link } in &container.links {
            let scope = format!("container {:?}: link", container.name.value);
            let name = &link.container;
            let what = match document.container(name) {
                None => format!("{scope}: there is no container {name:?}"),
                Some(_) if *name == container.name.value => {
                    format!("{scope}: a container can't be linked to itself")
                }
                Some(other) if own.is_disjoint(&networks_of(other)) => {
                    format!("{scope}: it shares no network with container {name:?}")
                }
                Some(_) => continue,
            };
            findings.error(*line, what);
        }
    }
}

fn networks_of(container: &ContainerSpec) -> BTreeSet<&str> {
    let attachments = container.attachments.iter();
    attachments.map(|it| it.network.value.as_str()).collect()
}
