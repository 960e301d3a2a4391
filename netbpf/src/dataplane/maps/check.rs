//! What the pinned maps say of who loaded them, and whether this loader can work with them.

use std::path::Path;

use aya::maps::{Array, Map, MapData, MapInfo};
use netbpf_common::config::GlobalConfig;

use super::{CONFIG, Sizes, all, open};
use crate::dataplane::Error;

/// The programs' config, for readers; `None` when nothing is loaded.
///
/// # Errors
///
/// A failed system call.
pub fn read_config(dir: &Path) -> Result<Option<GlobalConfig>, Error> {
    if !dir.join(CONFIG.pin_name()).exists() {
        return Ok(None);
    }
    let config: Array<MapData, GlobalConfig> = open(dir, CONFIG.name, Map::Array)?;
    config.get(&0, 0).map(Some).map_err(|source| Error::Map {
        map: CONFIG.name,
        source,
    })
}

/// The version that the loader of the pinned maps wrote into them; `None` when nothing is loaded,
/// nothing was written yet, or the config's size alone shows another version.
///
/// # Errors
///
/// A failed system call.
pub fn loaded_abi_version(dir: &Path) -> Result<Option<u32>, Error> {
    let path = dir.join(CONFIG.pin_name());
    if !path.exists() {
        return Ok(None);
    }
    let info = MapInfo::from_pin(path).map_err(|source| Error::Map {
        map: CONFIG.name,
        source,
    })?;
    if CONFIG.check(&info).is_err() {
        return Ok(None);
    }
    Ok(read_config(dir)?
        .map(|config| config.abi_version)
        .filter(|version| *version != 0))
}

/// Compares each pin in `dir` with what this loader expects; a pin that is missing is fine.
/// Gives the first difference in words.
///
/// # Errors
///
/// A failed system call.
pub fn check_pins(dir: &Path) -> Result<Option<String>, Error> {
    for spec in all() {
        let path = dir.join(spec.pin_name());
        if !path.exists() {
            continue;
        }
        let info = MapInfo::from_pin(&path).map_err(|source| Error::Map {
            map: spec.name,
            source,
        })?;
        if let Err(what) = spec.check(&info) {
            return Ok(Some(format!("map {} {what}", spec.name)));
        }
    }
    Ok(None)
}

/// The sizes that the pinned flow tables have; `None` when nothing is loaded.
///
/// # Errors
///
/// A failed system call.
pub fn loaded_sizes(dir: &Path) -> Result<Option<Sizes>, Error> {
    let entries = |name: &'static str| {
        let path = dir.join(name.to_ascii_lowercase());
        if !path.exists() {
            return Ok(None);
        }
        MapInfo::from_pin(path)
            .map(|info| Some(info.max_entries()))
            .map_err(|source| Error::Map { map: name, source })
    };
    let (Some(max_flows), Some(max_half_open)) = (entries("FLOWS_V4")?, entries("HALF_OPEN_V4")?)
    else {
        return Ok(None);
    };
    Ok(Some(Sizes {
        max_flows,
        max_half_open,
    }))
}
