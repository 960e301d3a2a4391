//! What the programs write and count: flows, and drops.

use std::{collections::BTreeMap, path::Path};

use aya::maps::{HashMap, Map, MapData, MapError, PerCpuArray};
use netbpf_common::{
    conntrack::Entry,
    family::{Family, V4, V6},
    tuple::Tuple,
    verdict::Counter,
};

use super::open;
use crate::dataplane::Error;

/// The families' own flow tables.
pub trait FlowTable: Family {
    /// The map of this family's flows.
    const CONNTRACK: &'static str;
}

impl FlowTable for V4 {
    const CONNTRACK: &'static str = "CONNTRACK_V4";
}

impl FlowTable for V6 {
    const CONNTRACK: &'static str = "CONNTRACK_V6";
}

/// Every half of every flow of a family, as the table has them, expired ones among them.
///
/// The programs go on while this reads. A key that goes away under the iteration makes the kernel
/// begin anew, so that one key may come twice, and the map's own size bounds the reading.
///
/// # Errors
///
/// A failed system call.
pub fn halves<F: FlowTable>(dir: &Path) -> Result<BTreeMap<Tuple<F>, Entry<F>>, Error>
where
    Tuple<F>: aya::Pod + Ord,
    Entry<F>: aya::Pod,
{
    let name = F::CONNTRACK;
    let error = |source| Error::Map { map: name, source };
    let data = MapData::from_pin(dir.join(name.to_ascii_lowercase())).map_err(error)?;
    let limit = data.info().map_err(error)?.max_entries() as usize;
    let map: HashMap<MapData, Tuple<F>, Entry<F>> =
        HashMap::try_from(Map::HashMap(data)).map_err(error)?;
    let mut halves = BTreeMap::new();
    for key in map.keys().take(limit.saturating_mul(2)) {
        let key = key.map_err(error)?;
        match map.get(&key, 0) {
            Ok(entry) => drop(halves.insert(key, entry)),
            Err(MapError::KeyNotFound) => {}
            Err(source) => return Err(error(source)),
        }
    }
    Ok(halves)
}

/// The counters of drops and of ways through the stack, summed over all CPUs, by index.
///
/// # Errors
///
/// A failed system call.
pub fn counters(dir: &Path) -> Result<Vec<Counter>, Error> {
    let map: PerCpuArray<MapData, Counter> = open(dir, "COUNTERS", Map::PerCpuArray)?;
    map.iter()
        .map(|values| {
            values
                .map(|values| {
                    values.iter().fold(Counter::default(), |sum, one| Counter {
                        packets: sum.packets.wrapping_add(one.packets),
                        bytes: sum.bytes.wrapping_add(one.bytes),
                    })
                })
                .map_err(|source| Error::Map {
                    map: "COUNTERS",
                    source,
                })
        })
        .collect()
}
