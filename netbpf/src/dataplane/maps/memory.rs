//! Whether the flow tables get their memory at once, or as flows come.
//!
//! At once is faster for each new flow: by a quarter, for nothing is allocated or given back. It
//! takes as much memory as all flows that fit, also while there are few. So the object asks for that,
//! and where a machine is too small for it, the tables are made here, before the object is loaded.

use std::path::Path;

use aya::maps::{HashMap, MapData};
use netbpf_common::{
    conntrack::Entry,
    family::{V4, V6},
    tuple::Tuple,
};
use nix::sys::sysinfo::sysinfo;

use super::{FlowTable, Sizes, pin};
use crate::{dataplane::Error, host::kernel};

/// What share of the machine's memory the tables of both families may take at once: one in 64.
const SHARE: u64 = 64;

/// `BPF_F_NO_PREALLOC`.
const SPARSE: u32 = 1;

/// Makes the flow tables that are not there yet, if they are to grow as flows come.
///
/// # Errors
///
/// The kernel makes no map, or it can't be pinned.
pub fn make_sparse(dir: &Path, sizes: Sizes) -> Result<(), Error> {
    if fits(whole(sizes), memory()?) && !kernel::is_ruled_out(kernel::PREALLOCATION) {
        return Ok(());
    }
    make::<V4>(dir, sizes)?;
    make::<V6>(dir, sizes)
}

fn make<F: FlowTable>(dir: &Path, sizes: Sizes) -> Result<(), Error>
where
    Tuple<F>: aya::Pod,
    Entry<F>: aya::Pod,
{
    let path = pin(dir, F::CONNTRACK);
    if path.exists() {
        return Ok(());
    }
    let table: HashMap<MapData, Tuple<F>, Entry<F>> = HashMap::create(sizes.conntrack(), SPARSE)
        .map_err(|source| Error::Map {
            map: F::CONNTRACK,
            source,
        })?;
    table
        .pin(&path)
        .map_err(|error| Error::Object(format!("failed to pin {}: {error}", path.display())))
}

/// The machine's memory in bytes.
fn memory() -> Result<u64, Error> {
    let info = sysinfo().map_err(|error| Error::Object(error.to_string()))?;
    Ok(info.ram_total())
}

const fn fits(tables: u64, memory: u64) -> bool {
    tables <= memory / SHARE
}

/// What both tables take as a whole, in bytes: a list head for each bucket, and for each entry its
/// links beside key and value (`kernel/bpf/hashtab.c`).
const fn whole(sizes: Sizes) -> u64 {
    const BUCKET: u64 = 16;
    const LINKS: u64 = 48;
    let entries = sizes.conntrack() as u64;
    let halves = size_of::<(Tuple<V4>, Entry<V4>)>() + size_of::<(Tuple<V6>, Entry<V6>)>();
    2 * BUCKET * entries.next_power_of_two() + entries * (2 * LINKS + halves as u64)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_default_tables_are_whole_from_sixteen_gibibytes_on() {
        let tables = whole(Sizes::of(262_144));
        assert_eq!(tables / MIB, 262);
        assert!(!fits(tables, 16 * 1024 * MIB));
        assert!(fits(tables, 17 * 1024 * MIB));
        assert!(fits(whole(Sizes::of(65_536)), 4400 * MIB));
    }
}
