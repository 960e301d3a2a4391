//! Reads `networks` of a `[[container]]`.

use std::net::{Ipv4Addr, Ipv6Addr};

use toml::{Spanned, de::DeValue};

use super::{
    findings::{At, Findings},
    keys,
    table::Table,
    values,
};

/// One of `networks` of a `[[container]]`.
#[derive(Clone, Debug)]
pub(super) struct AttachmentSpec {
    /// The network's name.
    pub network: At<String>,
    pub ipv4: Option<At<Ipv4Addr>>,
    pub ipv6: Option<At<Ipv6Addr>>,
    pub mac: Option<At<[u8; 6]>>,
    /// The interface's name; `None`: the first `eth<N>` that is free.
    pub interface: Option<At<String>>,
    /// Other names that the container has in this network.
    pub aliases: Vec<String>,
    pub gw_priority: i32,
}

/// Reads them all, as far as they can be told; none where the key is missing.
pub(super) fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<AttachmentSpec> {
    let mut attachments: Vec<AttachmentSpec> = Vec::new();
    for value in table.list("networks", findings).unwrap_or_default() {
        let Some(attachment) = read_one(table, value, findings) else {
            continue;
        };
        let network = &attachment.network;
        if attachments
            .iter()
            .any(|other| other.network.value == network.value)
        {
            let what = format!("network {:?} is there twice", network.value);
            table.error(network.line, what, findings);
            continue;
        }
        if let Some(interface) = &attachment.interface
            && attachments
                .iter()
                .filter_map(|other| other.interface.as_ref())
                .any(|other| other.value == interface.value)
        {
            let what = format!("interface {:?} is there twice", interface.value);
            table.error(interface.line, what, findings);
        }
        attachments.push(attachment);
    }
    attachments
}

fn read_one(
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
    let aliases = read_aliases(&entry, findings);
    let gw_priority = read_priority(&entry, findings);
    Some(AttachmentSpec {
        network: network?.map(str::to_owned),
        ipv4,
        ipv6,
        mac,
        interface,
        aliases,
        gw_priority,
    })
}

fn read_aliases(entry: &Table<'_, '_>, findings: &mut Findings) -> Vec<String> {
    let mut aliases: Vec<String> = Vec::new();
    for At { line, value } in entry.strings("aliases", findings).unwrap_or_default() {
        match values::name(value) {
            Err(why) => entry.error(line, format!("alias {value:?} {why}"), findings),
            Ok(alias) if aliases.contains(&alias) => {
                entry.error(line, format!("alias {value:?} is there twice"), findings);
            }
            Ok(alias) => aliases.push(alias),
        }
    }
    aliases
}

fn read_priority(entry: &Table<'_, '_>, findings: &mut Findings) -> i32 {
    let Some(At { line, value }) = entry.integer("gw_priority", findings) else {
        return 0;
    };
    i32::try_from(value).unwrap_or_else(|_| {
        let what = format!("gw_priority {value} is not in {}-{}", i32::MIN, i32::MAX);
        entry.error(line, what, findings);
        0
    })
}
