//! Reads a `[[service]]`.

use std::net::IpAddr;

use netbpf_common::service::MAX_BACKENDS;
use toml::{Spanned, de::DeValue};

use super::{
    findings::{At, Findings},
    keys,
    network::read_name,
    publish::{self, Ports},
    table::Table,
    values,
};

/// A `[[service]]`.
#[derive(Clone, Debug)]
pub(super) struct ServiceSpec {
    /// Its name; empty when it has none.
    pub name: At<String>,
    /// Its network; `None` when it can't be told.
    pub network: Option<At<String>>,
    /// The virtual addresses that it gives; none: the next free one of each family.
    pub vips: Vec<At<IpAddr>>,
    /// Its ports.
    pub ports: Vec<At<Ports>>,
    /// Its backends, by container.
    pub backends: Vec<At<String>>,
}

impl ServiceSpec {
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        table.expect_keys(keys::SERVICE, findings);
        let name = read_name(table, findings);
        let network = table.string("network", findings);
        let network = table.required("network", network, findings);
        read_scheduler(table, findings);
        table.enumeration("affinity", "none", &["client-ip"], findings);
        table.enumeration("endpoint_mode", "vip", &["dnsrr"], findings);
        Self {
            name,
            network: network.map(|network| network.map(str::to_owned)),
            vips: read_vips(table, findings),
            ports: read_ports(table, findings),
            backends: read_backends(table, findings),
        }
    }
}

fn read_scheduler(table: &Table<'_, '_>, findings: &mut Findings) {
    if table.get("scheduler").is_none() {
        let what = "the default scheduler, \"maglev\", is not supported yet; \
                    scheduler must be \"random\"";
        table.error(table.line, what, findings);
    }
    let later = ["maglev", "round-robin", "least-connections"];
    table.enumeration("scheduler", "random", &later, findings);
}

fn read_vips(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<IpAddr>> {
    let texts = match table.get("vip").map(Spanned::get_ref) {
        None => return Vec::new(),
        Some(DeValue::String(_)) => table.string("vip", findings).into_iter().collect(),
        Some(_) => table.strings("vip", findings).unwrap_or_default(),
    };
    let mut vips: Vec<At<IpAddr>> = Vec::with_capacity(texts.len());
    for At { line, value } in texts {
        let vip = match values::address(value) {
            Ok(vip) => vip,
            Err(why) => {
                table.error(line, format!("vip {value:?} {why}"), findings);
                continue;
            }
        };
        if let Some(other) = vips
            .iter()
            .find(|other| other.value.is_ipv4() == vip.is_ipv4())
        {
            let family = if vip.is_ipv4() { "IPv4" } else { "IPv6" };
            let what = format!(
                "vip {vip} is a second {family} address, beside {}",
                other.value
            );
            table.error(line, what, findings);
            continue;
        }
        vips.push(At { line, value: vip });
    }
    vips.sort_by_key(|vip| vip.value);
    vips
}

fn read_ports(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<Ports>> {
    let Some(texts) = table.strings("ports", findings) else {
        table.error(table.line, "ports is missing", findings);
        return Vec::new();
    };
    if table
        .get("ports")
        .and_then(|value| value.get_ref().as_array())
        .is_some_and(|l| l.is_empty())
    {
        table.error(table.line, "ports is empty", findings);
    }
    let mut ports: Vec<At<Ports>> = Vec::with_capacity(texts.len());
    for At { line, value } in texts {
        let parsed = match publish::parse_ports(value) {
            Ok(parsed) => parsed,
            Err(why) => {
                table.error(line, format!("port {value:?}: {why}"), findings);
                continue;
            }
        };
        let is_same = |other: &At<Ports>| {
            (other.value.port, other.value.proto) == (parsed.port, parsed.proto)
        };
        if ports.iter().any(is_same) {
            let what = format!(
                "port {value:?}: service port {} is there twice",
                parsed.port
            );
            table.error(line, what, findings);
            continue;
        }
        ports.push(At {
            line,
            value: parsed,
        });
    }
    ports
}

fn read_backends(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<String>> {
    let Some(values) = table.list("backends", findings) else {
        table.error(table.line, "backends is missing", findings);
        return Vec::new();
    };
    if values.len() > MAX_BACKENDS {
        let line = table
            .get("backends")
            .map_or(table.line, |value| findings.line(&value.span()));
        let what = format!("{} backends are more than {MAX_BACKENDS}", values.len());
        table.error(line, what, findings);
    }
    let mut backends: Vec<At<String>> = Vec::with_capacity(values.len());
    for value in values {
        let Some(backend) = read_backend(table, value, findings) else {
            continue;
        };
        if backends.iter().any(|other| other.value == backend.value) {
            let what = format!("backend {:?} is there twice", backend.value);
            table.error(backend.line, what, findings);
            continue;
        }
        backends.push(backend);
    }
    backends
}

fn read_backend(
    table: &Table<'_, '_>,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings,
) -> Option<At<String>> {
    let Some(entry) = Table::of(&format!("{}: backend", table.scope()), value, findings) else {
        let line = findings.line(&value.span());
        table.error(
            line,
            "each of backends must be a table with a container",
            findings,
        );
        return None;
    };
    let container = entry
        .get("container")
        .and_then(|container| container.get_ref().as_str());
    let entry = match container {
        Some(container) => entry.renamed(format!("{}: backend {container:?}", table.scope())),
        None => entry,
    };
    entry.expect_keys(keys::BACKEND, findings);
    let container = entry.string("container", findings);
    let container = entry.required("container", container, findings);
    container.map(|container| container.map(str::to_owned))
}
