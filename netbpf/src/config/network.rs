//! Reads a `[[network]]`.

use std::net::IpAddr;

use ipnet::IpNet;

use super::{
    findings::{At, Findings},
    gateway_mode::{self, GatewayModes},
    keys, publish, subnets,
    table::Table,
    values,
};
use crate::{
    ipam,
    model::{Family, GatewayMode},
    naming,
};

/// The least MTU of a link that carries IPv6 (RFC 8200, 5).
const IPV6_MTU_MIN: u16 = 1280;

/// The least MTU of a link that carries IPv4 (RFC 791, 3.2).
const IPV4_MTU_MIN: u16 = 68;

/// A `[[network]]`.
#[derive(Clone, Debug)]
pub(super) struct NetworkSpec {
    /// Its name; empty when it has none.
    pub name: At<String>,
    /// Its bridge.
    pub bridge: At<String>,
    /// Its subnets; `None` when they can't be told, so that nothing is said about addresses.
    pub subnets: Option<Vec<At<IpNet>>>,
    /// Whether they are to be chosen; then they can't be told.
    pub are_subnets_chosen: bool,
    /// Where automatic addresses come from: at most one a family.
    pub ip_range: Vec<At<IpNet>>,
    /// The gateway addresses that it gives.
    pub gateways: Vec<At<IpAddr>>,
    pub icc: bool,
    pub internal: bool,
    /// How each family crosses the host.
    pub gateway_modes: GatewayModes,
    pub masquerade: bool,
    pub trusted_interfaces: Vec<String>,
    pub trusted_sources: Vec<IpNet>,
    pub mtu: u16,
    /// Where its ports are published when they don't say.
    pub host_binding: Option<IpAddr>,
}

impl NetworkSpec {
    pub fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Self {
        table.expect_keys(keys::NETWORK, findings);
        let name = read_name(table, findings);
        table.enumeration("driver", "bridge", &[], findings);
        let bridge = table
            .parsed("bridge", findings, values::interface)
            .unwrap_or_else(|| At {
                line: name.line,
                value: naming::default_bridge(&name.value),
            });
        let subnets = subnets::read(table, findings);
        let are_subnets_chosen = subnets::are_chosen(table);
        let mut flag = |key, default| {
            table
                .boolean(key, findings)
                .map_or(default, |flag: At<bool>| flag.value)
        };
        let icc = flag("icc", true);
        let internal = flag("internal", false);
        let masquerade = flag("masquerade", true);
        Self {
            bridge,
            gateways: read_gateways(table, findings),
            gateway_modes: GatewayModes::read(table, findings),
            icc,
            internal,
            masquerade,
            trusted_interfaces: gateway_mode::read_interfaces(table, findings),
            trusted_sources: gateway_mode::read_sources(table, findings),
            mtu: read_mtu(table, carries_ipv6(subnets.as_deref()), findings),
            ip_range: subnets::read_ranges(table, subnets.as_deref(), findings),
            are_subnets_chosen,
            host_binding: table
                .parsed("host_binding", findings, publish::binding_address)
                .map(|address| address.value),
            name,
            subnets,
        }
    }

    /// The subnets, as far as they can be told.
    pub fn subnets(&self) -> &[At<IpNet>] {
        self.subnets.as_deref().unwrap_or_default()
    }

    /// The gateway address of one of its subnets; `None` where it is isolated.
    pub fn gateway(&self, subnet: IpNet) -> Option<IpAddr> {
        if self.gateway_modes.of(Family::of_net(subnet)) == GatewayMode::Isolated {
            return None;
        }
        let mut given = self.gateways.iter().map(|gateway| gateway.value);
        let given = given.find(|gateway| subnet.contains(gateway));
        Some(given.unwrap_or_else(|| ipam::first_address(subnet)))
    }
}

/// Reads the name of a network, container or service.
pub(super) fn read_name(table: &Table<'_, '_>, findings: &mut Findings) -> At<String> {
    let text = table.string("name", findings);
    let text = table.required("name", text, findings);
    let Some(At { line, value }) = text else {
        return At {
            line: table.line,
            value: String::new(),
        };
    };
    if let Err(why) = values::name(value) {
        table.error(line, format!("name {value:?} {why}"), findings);
    }
    // A bad name still stands, so that what refers to it isn't wrong as well.
    At {
        line,
        value: value.to_owned(),
    }
}

fn read_gateways(table: &Table<'_, '_>, findings: &mut Findings) -> Vec<At<IpAddr>> {
    let mut gateways = Vec::new();
    for At { line, value } in table.strings("gateways", findings).unwrap_or_default() {
        match values::address(value) {
            Ok(value) => gateways.push(At { line, value }),
            Err(why) => table.error(line, format!("gateway {value:?} {why}"), findings),
        }
    }
    gateways
}

/// What can't be told is taken for the default, both families.
fn carries_ipv6(subnets: Option<&[At<IpNet>]>) -> bool {
    subnets.is_none_or(|subnets| subnets.iter().any(|subnet| subnet.value.addr().is_ipv6()))
}

fn read_mtu(table: &Table<'_, '_>, carries_ipv6: bool, findings: &mut Findings) -> u16 {
    const DEFAULT: u16 = 1500;
    let Some(At { line, value }) = table.integer("mtu", findings) else {
        return DEFAULT;
    };
    let Some(mtu) = u16::try_from(value).ok().filter(|mtu| *mtu >= IPV4_MTU_MIN) else {
        let what = format!("mtu {value} is not in {IPV4_MTU_MIN}-{}", u16::MAX);
        table.error(line, what, findings);
        return DEFAULT;
    };
    if mtu < IPV6_MTU_MIN && carries_ipv6 {
        let what = format!("mtu {mtu} is below {IPV6_MTU_MIN}, the least that IPv6 needs");
        table.error(line, what, findings);
    }
    mtu
}
