//! Reads a `[[container]]`.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    path::{Component, Path, PathBuf},
};

use toml::{Spanned, de::DeValue};

use super::{
    findings::{At, Findings},
    keys,
    network::read_name,
    publish::{self, Publish},
    table::Table,
    values,
};

/// A `[[container]]`.
#[derive(Clone, Debug)]
pub(super) struct ContainerSpec {
    /// Its name; empty when it has none.
    pub name: At<String>,
    /// Its namespace.
    pub netns: At<PathBuf>,
    /// Its networks, as far as they can be told.
    pub attachments: Vec<AttachmentSpec>,
    /// Its published ports, as written and as understood.
    pub publish: Vec<At<(String, Publish)>>,
}

/// One of `networks` of a `[[container]]`.
#[derive(Clone, Debug)]
pub(super) struct AttachmentSpec {
    /// The network's name.
    pub network: At<String>,
    pub ipv4: Option<At<Ipv4Addr>>,
    pub ipv6: Option<At<Ipv6Addr>>,
    pub mac: Option<At<[u8; 6]>>,
    pub interface: String,
}

impl ContainerSpec {
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        table.expect_keys(keys::CONTAINER, findings);
        let name = read_name(table, findings);
        read_mode(table, findings);
        read_source_check(table, findings);
        let default_netns = At {
            line: name.line,
            value: Path::new("/run/netns").join(&name.value),
        };
        Self {
            netns: table
                .parsed("netns", findings, netns_path)
                .unwrap_or(default_netns),
            attachments: read_attachment(table, findings).into_iter().collect(),
            publish: read_publish(table, findings),
            name,
        }
    }
}

fn read_mode(table: &Table<'_, '_>, findings: &mut Findings) {
    let Some(mode) = table.get("mode") else {
        return;
    };
    if mode
        .get_ref()
        .as_str()
        .is_some_and(|mode| mode.starts_with("container:"))
    {
        let line = findings.line(&mode.span());
        table.error(
            line,
            "mode \"container:NAME\" is not supported yet",
            findings,
        );
        return;
    }
    table.enumeration("mode", "bridge", &["none", "host"], findings);
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

fn read_attachment(table: &Table<'_, '_>, findings: &mut Findings) -> Option<AttachmentSpec> {
    let Some(networks) = table.list("networks", findings) else {
        table.error(table.line, "networks is missing", findings);
        return None;
    };
    let line = table
        .get("networks")
        .map_or(table.line, |value| findings.line(&value.span()));
    match networks[..] {
        [] => {
            if table
                .get("networks")
                .is_some_and(|value| value.get_ref().is_array())
            {
                table.error(line, "networks is empty", findings);
            }
            None
        }
        [network] => read_network(table, network, findings),
        [_, second, ..] => {
            let line = findings.line(&second.span());
            table.error(line, "more than one network is not supported yet", findings);
            None
        }
    }
}

fn read_network(
    table: &Table<'_, '_>,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings,
) -> Option<AttachmentSpec> {
    let Some(entry) = Table::of(&format!("{}: network", table.scope()), value, findings) else {
        let line = findings.line(&value.span());
        table.error(
            line,
            "each of networks must be a table with a name",
            findings,
        );
        return None;
    };
    let name = entry.get("name").and_then(|name| name.get_ref().as_str());
    let entry = match name {
        Some(name) => entry.renamed(format!("{}: network {name:?}", table.scope())),
        None => entry,
    };
    entry.expect_keys(keys::ATTACHMENT, findings);
    let network = entry.string("name", findings);
    let network = entry.required("name", network, findings);
    let ipv4 = entry.parsed("ipv4", findings, |text| {
        text.parse()
            .map_err(|_| "is not an IPv4 address".to_owned())
    });
    let ipv6 = entry.parsed("ipv6", findings, |text| {
        text.parse()
            .map_err(|_| "is not an IPv6 address".to_owned())
    });
    let mac = entry.parsed("mac", findings, values::mac);
    let interface = entry.parsed("interface", findings, values::interface);
    Some(AttachmentSpec {
        network: network?.map(str::to_owned),
        ipv4,
        ipv6,
        mac,
        interface: interface.map_or_else(|| "eth0".to_owned(), |interface| interface.value),
    })
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
