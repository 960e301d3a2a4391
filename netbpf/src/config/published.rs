//! Reads `publish`, `expose` and `publish_all` of a `[[container]]`.

use std::collections::BTreeSet;

use ipnet::IpNet;
use toml::{Spanned, de::DeValue};

use super::{
    findings::{At, Findings},
    keys,
    publish::{self, HostPort, Publish},
    table::Table,
    values,
};
use crate::model::ExposedPort;

/// One port that a container publishes.
#[derive(Clone, Debug)]
pub(super) struct PublishSpec {
    /// As it is written.
    pub text: String,
    /// As it is understood.
    pub publish: Publish,
    /// Who may use it; none: everybody whom `deny` doesn't name.
    pub allow: Vec<IpNet>,
    /// Who may not.
    pub deny: Vec<IpNet>,
}

/// Reads `expose`: each port once, in the order of the document.
pub(super) fn read_expose(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<ExposedPort> {
    let mut exposed = Vec::new();
    for At { line, value } in table.strings("expose", findings).unwrap_or_default() {
        match publish::parse_expose(value) {
            Ok(ports) => exposed.extend(ports),
            Err(why) => table.error(line, format!("expose {value:?}: {why}"), findings),
        }
    }
    let mut seen = BTreeSet::new();
    exposed.retain(|port| seen.insert(*port));
    exposed
}

/// Reads `publish`; `publish_all` publishes what is exposed and not published by itself.
pub(super) fn read_publish(
    table: &Table<'_, '_>,
    exposed: &[ExposedPort],
    publish_all: Option<&At<bool>>,
    findings: &mut Findings,
) -> Vec<At<PublishSpec>> {
    let mut all = Vec::new();
    for value in table.list("publish", findings).unwrap_or_default() {
        all.extend(read_entry(table, value, findings));
    }
    let Some(&At { line, value: true }) = publish_all else {
        return all;
    };
    let published: BTreeSet<ExposedPort> = all
        .iter()
        .map(|spec| ExposedPort {
            port: spec.value.publish.container_port,
            proto: spec.value.publish.proto,
        })
        .collect();
    let rest = exposed.iter().filter(|port| !published.contains(port));
    all.extend(rest.map(|port| At {
        line,
        value: exposed_spec(*port),
    }));
    all
}

fn exposed_spec(ExposedPort { port, proto }: ExposedPort) -> PublishSpec {
    PublishSpec {
        text: format!("{port}/{proto}"),
        publish: Publish {
            host_ip: None,
            host_port: HostPort::Ephemeral,
            container_port: port,
            proto,
        },
        allow: Vec::new(),
        deny: Vec::new(),
    }
}

/// One of `publish`: a string, or a table with the string as its `port`.
fn read_entry(
    table: &Table<'_, '_>,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings,
) -> Vec<At<PublishSpec>> {
    let line = findings.line(&value.span());
    if let DeValue::String(text) = value.get_ref() {
        let at = At {
            line,
            value: text.as_ref(),
        };
        return specs(table, at, &Lists::default(), findings);
    }
    let Some(entry) = Table::of(&format!("{}: publish", table.scope()), value, findings) else {
        let what = "each of publish must be a string or a table";
        table.error(line, what, findings);
        return Vec::new();
    };
    entry.expect_keys(keys::PUBLISH, findings);
    let port = entry.string("port", findings);
    let Some(port) = entry.required("port", port, findings) else {
        return Vec::new();
    };
    let lists = Lists::read(&entry, findings);
    specs(table, port, &lists, findings)
}

fn specs(
    table: &Table<'_, '_>,
    At { line, value: text }: At<&str>,
    lists: &Lists,
    findings: &mut Findings,
) -> Vec<At<PublishSpec>> {
    let all = match publish::parse_publish(text) {
        Ok(all) => all,
        Err(why) => {
            table.error(line, format!("publish {text:?}: {why}"), findings);
            return Vec::new();
        }
    };
    let spec = |publish| At {
        line,
        value: PublishSpec {
            text: text.to_owned(),
            publish,
            allow: lists.allow.clone(),
            deny: lists.deny.clone(),
        },
    };
    all.into_iter().map(spec).collect()
}

/// Whose packets a published port takes.
#[derive(Default)]
struct Lists {
    allow: Vec<IpNet>,
    deny: Vec<IpNet>,
}

impl Lists {
    fn read(entry: &Table<'_, '_>, findings: &mut Findings) -> Self {
        let mut seen = BTreeSet::new();
        Self {
            allow: read_sources(entry, "allow", &mut seen, findings),
            deny: read_sources(entry, "deny", &mut seen, findings),
        }
    }
}

/// A list of subnets and addresses, none of which is `seen`.
fn read_sources(
    entry: &Table<'_, '_>,
    key: &str,
    seen: &mut BTreeSet<IpNet>,
    findings: &mut Findings,
) -> Vec<IpNet> {
    let mut sources = Vec::new();
    for At { line, value } in entry.strings(key, findings).unwrap_or_default() {
        match values::source(value) {
            Ok(source) if seen.insert(source) => sources.push(source),
            Ok(_) => {
                let what = format!("{key} {value:?} is already there, or in the other list");
                entry.error(line, what, findings);
            }
            Err(why) => entry.error(line, format!("{key} {value:?} {why}"), findings),
        }
    }
    sources
}
