//! Reads `gateway_mode` and whom a network trusts, and says whether they can be.

use std::net::IpAddr;

use ipnet::IpNet;
use toml::de::DeValue;

use super::{
    Document,
    findings::{At, Findings},
    network::NetworkSpec,
    table::Table,
    values,
};
use crate::model::{Family, GatewayMode};

const KEY: &str = "gateway_mode";

/// How each family of a network crosses the host.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(super) struct GatewayModes {
    pub v4: GatewayMode,
    pub v6: GatewayMode,
}

impl GatewayModes {
    /// Reads `gateway_mode`: one word for both families, or a table of one for each.
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        let is_table = table
            .get(KEY)
            .is_some_and(|value| matches!(value.get_ref(), DeValue::Table(_)));
        if !is_table {
            let both = read_word(table, KEY, findings);
            return Self { v4: both, v6: both };
        }
        let Some(by_family) = table.table(KEY, findings) else {
            return Self::default();
        };
        by_family.expect_keys(super::keys::GATEWAY_MODE, findings);
        Self {
            v4: read_word(&by_family, "ipv4", findings),
            v6: read_word(&by_family, "ipv6", findings),
        }
    }

    /// That of one family.
    pub const fn of(self, family: Family) -> GatewayMode {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }
}

fn read_word(table: &Table<'_, '_>, key: &str, findings: &mut Findings) -> GatewayMode {
    let Some(At { line, value }) = table.string(key, findings) else {
        return GatewayMode::default();
    };
    let known = GatewayMode::ALL.iter().find(|mode| mode.name() == value);
    if known.is_none() {
        let words: Vec<_> = GatewayMode::ALL.map(GatewayMode::name).to_vec();
        let what = format!("{key} {value:?} is none of {}", words.join(", "));
        table.error(line, what, findings);
    }
    known.copied().unwrap_or_default()
}

/// Reads `trusted_interfaces`: they need not be there yet.
pub(super) fn read_interfaces(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<String> {
    let mut names = Vec::new();
    let given = table.strings("trusted_interfaces", findings);
    for At { line, value } in given.unwrap_or_default() {
        match values::interface(value) {
            Ok(name) => names.push(name),
            Err(why) => {
                table.error(line, format!("trusted interface {value:?} {why}"), findings);
            }
        }
    }
    names
}

/// Reads `trusted_sources`: prefixes, or addresses alone.
pub(super) fn read_sources(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<IpNet> {
    let mut sources = Vec::new();
    for At { line, value } in table
        .strings("trusted_sources", findings)
        .unwrap_or_default()
    {
        match source(value) {
            Ok(net) => sources.push(net),
            Err(why) => table.error(line, format!("trusted source {value:?} {why}"), findings),
        }
    }
    sources
}

fn source(text: &str) -> Result<IpNet, String> {
    let net = text
        .parse::<IpNet>()
        .or_else(|_| text.parse::<IpAddr>().map(IpNet::from))
        .map_err(|_| "is not an address or a prefix".to_owned())?;
    if net.trunc() == net {
        Ok(net)
    } else {
        Err(format!("has host bits; the prefix is {}", net.trunc()))
    }
}

/// Notes modes that a network can't have.
pub(super) fn check(document: &Document, findings: &mut Findings) {
    for network in &document.networks {
        for family in Family::BOTH {
            if network.gateway_modes.of(family) == GatewayMode::Isolated {
                isolated(document, network, family, findings);
            }
        }
    }
}

fn isolated(document: &Document, network: &NetworkSpec, family: Family, findings: &mut Findings) {
    let name = &network.name.value;
    if !network.internal {
        let what = format!("network {name:?}: gateway_mode isolated needs internal = true");
        findings.error(network.name.line, what);
    }
    let is_of = |address: IpAddr| Family::of(address) == family;
    for gateway in network.gateways.iter().filter(|it| is_of(it.value)) {
        let what = format!(
            "network {name:?}: gateway {} can't be: in {} the network is isolated",
            gateway.value,
            family.name()
        );
        findings.error(gateway.line, what);
    }
    let has_family = network
        .subnets()
        .iter()
        .any(|subnet| Family::of_net(subnet.value) == family);
    for service in &document.services {
        let is_here = service
            .network
            .as_ref()
            .is_some_and(|network| network.value == *name);
        if is_here && has_family {
            let what = format!(
                "service {:?}: network {name:?} is isolated in {}: its bridge can't have a vip",
                service.name.value,
                family.name()
            );
            findings.error(service.name.line, what);
        }
    }
}
