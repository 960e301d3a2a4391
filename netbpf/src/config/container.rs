//! Reads a `[[container]]`.

use std::path::{Component, Path, PathBuf};

use toml::de::DeValue;

use super::{
    attachment::{self, AttachmentSpec},
    findings::{At, Findings},
    keys, links, mode,
    network::read_name,
    publish::{self, Publish},
    table::Table,
};
use crate::model::{ContainerLink, Mode};

/// A `[[container]]`.
#[derive(Clone, Debug)]
pub(super) struct ContainerSpec {
    /// Its name; empty when it has none.
    pub name: At<String>,
    /// Its namespace.
    pub netns: At<PathBuf>,
    /// Where its network stack comes from.
    pub mode: At<Mode>,
    /// Its networks, as far as they can be told.
    pub attachments: Vec<AttachmentSpec>,
    /// The containers that it is linked to.
    pub links: Vec<At<ContainerLink>>,
    /// Its published ports, as written and as understood.
    pub publish: Vec<At<(String, Publish)>>,
}

impl ContainerSpec {
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        table.expect_keys(keys::CONTAINER, findings);
        let name = read_name(table, findings);
        let mode = mode::read(table, findings);
        read_source_check(table, findings);
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
            publish: read_publish(table, findings),
            mode,
            name,
        }
    }
}

fn read_source_check(table: &Table<'_, '_>, findings: &mut Findings) {
    let Some(check) = table.boolean("source_check", findings) else {
        return;
    };
    if !check.value {
        table.error(
            check.line,
            "source_check = false is not supported yet",
            findings,
        );
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

fn read_publish(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<(String, Publish)>> {
    let mut bindings = Vec::new();
    for value in table.list("publish", findings).unwrap_or_default() {
        let line = findings.line(&value.span());
        let text = match value.get_ref() {
            DeValue::String(text) => text,
            DeValue::Table(_) => {
                table.error(line, "publish as a table is not supported yet", findings);
                continue;
            }
            _ => {
                table.error(
                    line,
                    "each of publish must be a string or a table",
                    findings,
                );
                continue;
            }
        };
        match publish::parse_publish(text) {
            Ok(all) if all.iter().any(|it| it.exact_port().is_none()) => {
                let what = "publishing without one host port is not supported yet";
                table.error(line, format!("publish {text:?}: {what}"), findings);
            }
            Ok(all) => bindings.extend(all.into_iter().map(|publish| At {
                line,
                value: (text.to_string(), publish),
            })),
            Err(why) => table.error(line, format!("publish {text:?}: {why}"), findings),
        }
    }
    bindings
}
