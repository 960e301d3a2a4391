//! Reads `[host]` and `[conntrack]`.

use std::{collections::BTreeSet, time::Duration};

use super::{
    findings::{At, Findings},
    keys, pools, publish,
    table::Table,
    values,
};
use crate::model::{AddressPool, Conntrack};

/// The largest flow table: 2²⁶ flows of each family.
const MAX_ENTRIES: i128 = 1 << 26;

/// `[host]`.
#[derive(Clone, Debug, Default)]
pub(super) struct HostSpec {
    /// The interfaces to the outside; `None`: every one that qualifies.
    pub uplinks: Option<Vec<At<String>>>,
    /// Where automatic subnets come from; `None`: the default pools.
    pub address_pools: Option<Vec<AddressPool>>,
    /// The first and the last port that publishing without a host port picks from.
    pub ephemeral_ports: Option<(u16, u16)>,
}

impl HostSpec {
    pub fn read(table: Option<Table<'_, '_>>, findings: &mut Findings) -> Self {
        let Some(table) = table else {
            return Self::default();
        };
        table.expect_keys(keys::HOST, findings);
        Self {
            uplinks: read_uplinks(&table, findings),
            address_pools: pools::read(&table, findings),
            ephemeral_ports: table
                .parsed("ephemeral_ports", findings, ephemeral_ports)
                .map(|ports| ports.value),
        }
    }
}

fn read_uplinks(table: &Table<'_, '_>, findings: &mut Findings) -> Option<Vec<At<String>>> {
    let names = table.strings("uplinks", findings)?;
    let mut seen = BTreeSet::new();
    let mut uplinks = Vec::with_capacity(names.len());
    for At { line, value } in names {
        match values::interface(value) {
            Err(why) => table.error(line, format!("uplink {value:?} {why}"), findings),
            Ok(_) if !seen.insert(value) => {
                table.error(line, format!("uplink {value:?} is named twice"), findings);
            }
            Ok(value) => uplinks.push(At { line, value }),
        }
    }
    Some(uplinks)
}

fn ephemeral_ports(text: &str) -> Result<(u16, u16), String> {
    let range = publish::port_range("port", text)
        .map_err(|why| format!("is not FIRST PORT-LAST PORT: {why}"))?;
    Ok((range.first, range.last))
}

/// Reads `[conntrack]`.
pub(super) fn read_conntrack(table: &Table<'_, '_>, findings: &mut Findings) -> Conntrack {
    table.expect_keys(keys::CONNTRACK, findings);
    let mut conntrack = Conntrack::default();
    if let Some(At { line, value }) = table.integer("max_entries", findings) {
        match u32::try_from(value) {
            Ok(entries) if (1..=MAX_ENTRIES).contains(&value) => conntrack.max_entries = entries,
            _ => {
                let what = format!("max_entries {value} is not in 1-{MAX_ENTRIES}");
                table.error(line, what, findings);
            }
        }
    }
    let Some(table) = table.table("timeouts", findings) else {
        return conntrack;
    };
    table.expect_keys(keys::TIMEOUTS, findings);
    let timeouts = &mut conntrack.timeouts;
    read_timeout(&table, "established", &mut timeouts.established, findings);
    read_timeout(&table, "half_open", &mut timeouts.half_open, findings);
    read_timeout(&table, "closing", &mut timeouts.closing, findings);
    read_timeout(&table, "udp", &mut timeouts.udp, findings);
    read_timeout(&table, "udp_stream", &mut timeouts.udp_stream, findings);
    read_timeout(&table, "icmp", &mut timeouts.icmp, findings);
    conntrack
}

fn read_timeout(table: &Table<'_, '_>, key: &str, timeout: &mut Duration, findings: &mut Findings) {
    if let Some(At { value, .. }) = table.parsed(key, findings, values::duration) {
        *timeout = value;
    }
}
