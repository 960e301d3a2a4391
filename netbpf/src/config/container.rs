//! Reads a `[[container]]`.

use std::path::{Component, Path, PathBuf};

use super::{
    attachment::{self, AttachmentSpec},
    findings::{At, Findings},
    keys, links, mode,
    network::read_name,
    published::{self, PublishSpec},
    table::Table,
};
use crate::model::{ContainerLink, ExposedPort, Mode};

/// A `[[container]]`.
#[derive(Clone, Debug)]
pub(super) struct ContainerSpec {
    /// Its name; empty when it has none.
    pub name: At<String>,
    /// Its namespace.
    pub netns: At<PathBuf>,
    /// Where its network stack comes from.
    pub mode: At<Mode>,
    /// Whether it may send from its own MACs and addresses only.
    pub source_check: bool,
    /// Its networks, as far as they can be told.
    pub attachments: Vec<AttachmentSpec>,
    /// The containers that it is linked to.
    pub links: Vec<At<ContainerLink>>,
    /// The ports that it exposes, each once.
    pub expose: Vec<ExposedPort>,
    /// Whether it publishes what it exposes.
    pub publish_all: bool,
    /// Its published ports, one by one.
    pub publish: Vec<At<PublishSpec>>,
}

impl ContainerSpec {
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        table.expect_keys(keys::CONTAINER, findings);
        let name = read_name(table, findings);
        let mode = mode::read(table, findings);
        let expose = published::read_expose(table, findings);
        let publish_all = table.boolean("publish_all", findings);
        let default_netns = At {
            line: name.line,
            value: Path::new("/run/netns").join(&name.value),
        };
        Self {
            netns: table
                .parsed("netns", findings, netns_path)
                .unwrap_or(default_netns),
            attachments: attachment::read(table, findings),
            links: links::read(table, findings),
            publish: published::read_publish(table, &expose, publish_all.as_ref(), findings),
            publish_all: publish_all.is_some_and(|all| all.value),
            expose,
            source_check: table
                .boolean("source_check", findings)
                .is_none_or(|check| check.value),
            mode,
            name,
        }
    }
}

fn netns_path(text: &str) -> Result<PathBuf, String> {
    let path = Path::new(text);
    if !path.is_absolute() || text.contains('\0') {
        return Err("is not an absolute path".to_owned());
    }
    if path
        .components()
        .any(|component| component == Component::ParentDir)
    {
        return Err("must not contain \"..\"".to_owned());
    }
    // Doubled slashes and dots go, so that one namespace has one spelling.
    Ok(path.components().collect())
}
