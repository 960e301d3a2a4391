//! How full the maps are.

use std::{
    collections::BTreeSet,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, Map, MapData, MapInfo};
use netbpf_common::{
    conntrack::Rooms,
    family::{V4, V6},
};

use super::{FRAGMENTS_MAX, Tables, all, halves, open, pin};
use crate::dataplane::{
    Error,
    table::{Store as _, Words},
};

/// How full a map is.
#[derive(Clone, Debug, Eq, PartialEq, serde::Serialize)]
pub struct MapFill {
    /// The name of the pin.
    pub name: String,
    /// How many entries it has; `null` where the kernel can't be asked (a queue).
    pub entries: Option<u64>,
    /// How many fit.
    pub max_entries: u32,
    /// The pin.
    pub path: PathBuf,
}

/// How full each pinned map is, in the order of [`all`].
///
/// # Errors
///
/// A failed system call, or a pin that is missing.
pub fn fill(dir: &Path) -> Result<Vec<MapFill>, Error> {
    let counts = Tables::open(dir)?.count()?;
    all()
        .map(|spec| {
            let path = dir.join(spec.pin_name());
            let info = MapInfo::from_pin(&path).map_err(|source| Error::Map {
                map: spec.name,
                source,
            })?;
            let max_entries = info.max_entries();
            let entries = match counts.get(spec.name) {
                Some(entries) => Some(*entries),
                None => count_program_map(dir, spec.name, max_entries)?,
            };
            Ok(MapFill {
                name: spec.pin_name(),
                entries,
                max_entries,
                path,
            })
        })
        .collect()
}

fn count_program_map(
    dir: &Path,
    name: &'static str,
    max_entries: u32,
) -> Result<Option<u64>, Error> {
    Ok(match name {
        "CONNTRACK_V4" => Some(halves::<V4>(dir)?.len() as u64),
        "CONNTRACK_V6" => Some(halves::<V6>(dir)?.len() as u64),
        "FLOWS_V4" => Some(rooms(dir, "ROOMS_V4")?.flows),
        "FLOWS_V6" => Some(rooms(dir, "ROOMS_V6")?.flows),
        // The ring is full once its cursor has gone round.
        "HALF_OPEN_V4" => Some(
            rooms(dir, "ROOMS_V4")?
                .half_open_next
                .min(max_entries.into()),
        ),
        "HALF_OPEN_V6" => Some(
            rooms(dir, "ROOMS_V6")?
                .half_open_next
                .min(max_entries.into()),
        ),
        // Places that were used once and are free again.
        "FREE_SLOTS_V4" => Some(free_slots(rooms(dir, "ROOMS_V4")?)),
        "FREE_SLOTS_V6" => Some(free_slots(rooms(dir, "ROOMS_V6")?)),
        "FRAGMENTS_V4" => count_as_bytes::<20>(dir, name)?,
        "FRAGMENTS_V6" => count_as_bytes::<44>(dir, name)?,
        "HELD_PORTS" => Some(held_ports(dir)?),
        "CONFIG" | "ROOMS_V4" | "ROOMS_V6" | "COUNTERS" | "SWEEP" => Some(max_entries.into()),
        _ => None,
    })
}

fn free_slots(rooms: Rooms) -> u64 {
    rooms.flows_high_water.saturating_sub(rooms.flows)
}

/// Counts the keys of a map whose layout only the programs know; `None` if it has another size.
fn count_as_bytes<const KEY: usize>(dir: &Path, name: &'static str) -> Result<Option<u64>, Error> {
    let error = |source| Error::Map { map: name, source };
    let path = dir.join(name.to_ascii_lowercase());
    let map = Map::LruHashMap(MapData::from_pin(path).map_err(error)?);
    let Ok(map) = HashMap::<MapData, [u8; KEY], [u8; 4]>::try_from(map) else {
        return Ok(None);
    };
    let keys: BTreeSet<[u8; KEY]> = map
        .keys()
        .take(2 * FRAGMENTS_MAX as usize)
        .collect::<Result<_, _>>()
        .map_err(error)?;
    Ok(Some(keys.len() as u64))
}

fn held_ports(dir: &Path) -> Result<u64, Error> {
    let name = "HELD_PORTS";
    let held = Words::open(&pin(dir, name))
        .and_then(|words| words.read())
        .map_err(|source| Error::Map { map: name, source })?;
    Ok(held.len() as u64)
}

fn rooms(dir: &Path, name: &'static str) -> Result<Rooms, Error> {
    let map: Array<MapData, Rooms> = open(dir, name, Map::Array)?;
    map.get(&0, 0)
        .map_err(|source| Error::Map { map: name, source })
}
