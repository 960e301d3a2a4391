//! Reads `address_pools` of `[host]`.

use toml::{Spanned, de::DeValue};

use super::{findings::Findings, keys, table::Table, values};
use crate::model::AddressPool;

/// Reads the pools; `None` when the document names none.
pub(super) fn read(table: &Table<'_, '_>, findings: &mut Findings) -> Option<Vec<AddressPool>> {
    let pools = table.list("address_pools", findings)?;
    let pools = pools
        .into_iter()
        .filter_map(|value| read_one(table, value, findings));
    Some(pools.collect())
}

fn read_one(
    table: &Table<'_, '_>,
    value: &Spanned<DeValue<'_>>,
    findings: &mut Findings,
) -> Option<AddressPool> {
    let Some(pool) = Table::of("host: address pool", value, findings) else {
        let line = findings.line(&value.span());
        let what = "each of address_pools must be a table with base and size";
        table.error(line, what, findings);
        return None;
    };
    pool.expect_keys(keys::ADDRESS_POOL, findings);
    let base = pool.parsed("base", findings, values::subnet);
    let base = pool.required("base", base, findings);
    let size = pool.integer("size", findings);
    let size = pool.required("size", size, findings)?;
    let base = base?.value;
    let least = base.prefix_len();
    // A subnet has room for a gateway and a container.
    let most = base.max_prefix_len() - 1;
    match u8::try_from(size.value) {
        Ok(size) if (least..=most).contains(&size) => Some(AddressPool { base, size }),
        _ => {
            let what = format!("size {} is not in {least}-{most}", size.value);
            pool.error(size.line, what, findings);
            None
        }
    }
}
