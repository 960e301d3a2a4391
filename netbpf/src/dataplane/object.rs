//! The object as this kernel and this machine take it: what the kernel knows, how large the maps are,
//! and whether the flow tables get their memory at once or as flows come.
//!
//! At once is faster for each new flow, for nothing is allocated or given back. It takes as much
//! memory as all flows that fit, also while there are few.

use aya::{Ebpf, EbpfError, EbpfLoader, maps::MapError};
use memchr::memmem;
use netbpf_common::{
    config::FLAGS_OF_FLOW_TABLES,
    conntrack::Entry,
    family::{V4, V6},
    tuple::Tuple,
};
use nix::{errno::Errno, sys::sysinfo::sysinfo};

use super::{
    Error, attach,
    maps::{self, Sizes},
};
use crate::host::{
    bpffs::PinDirs,
    kernel::{self, Features},
};

/// `BPF_FIB_LOOKUP_SKIP_NEIGH` (`linux/bpf.h`).
const FIB_LOOKUP_SKIP_NEIGH: u64 = 1 << 2;

/// What share of the machine's memory the flow tables of an instance may take at once: one in 60,
/// for a machine of 16 GiB, which never has quite as much, and tables of the default size.
const SHARE: u64 = 60;

/// How the flow tables get their memory: their flags.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Memory {
    /// All of it from the beginning.
    Whole = 0,
    /// As flows come: `BPF_F_NO_PREALLOC`.
    Sparse = 1,
}

/// Loads an object's maps, those that are pinned not anew.
///
/// # Errors
///
/// The kernel refuses, or netbpf was built without the object.
pub fn load(pins: &PinDirs, sizes: Sizes, object: &[u8]) -> Result<Ebpf, Error> {
    if object.is_empty() {
        return Err(Error::Object(
            "this netbpf was built without them".to_owned(),
        ));
    }
    let memory = affordable(sizes)?;
    let loaded = match load_with(pins, sizes, &patched(object, memory)?) {
        Err(Refusal::Load(error)) if memory == Memory::Whole && is_out_of_memory(&error) => {
            load_with(pins, sizes, &patched(object, Memory::Sparse)?)
        }
        other => other,
    };
    loaded.map_err(|refusal| match refusal {
        Refusal::Load(error) => Error::Object(attach::cause(&error)),
        Refusal::Own(error) => error,
    })
}

enum Refusal {
    Load(EbpfError),
    Own(Error),
}

fn load_with(pins: &PinDirs, sizes: Sizes, object: &[u8]) -> Result<Ebpf, Refusal> {
    let features =
        Features::detect().map_err(|error| Refusal::Own(Error::Object(error.to_string())))?;
    let ipv6_flag = u64::from(features.bpf_f_ipv6);
    let fib_flags = if features.fib_skip_neigh {
        FIB_LOOKUP_SKIP_NEIGH
    } else {
        0
    };
    let fib_source = u64::from(features.fib_lookup_src);
    let peer_scrubs = u64::from(features.redirect_peer_scrub);
    let mut loader = EbpfLoader::new();
    loader
        .override_global("BPF_F_IPV6_SUPPORTED", &ipv6_flag, false)
        .override_global("FIB_FLAGS", &fib_flags, false)
        .override_global("FIB_SOURCE", &fib_source, false)
        .override_global("REDIRECT_PEER_SCRUBS", &peer_scrubs, false);
    for spec in maps::all() {
        loader.map_pin_path(spec.name, pins.maps.join(spec.pin_name()));
        loader.map_max_entries(spec.name, spec.max_entries(sizes));
    }
    loader.load(object).map_err(Refusal::Load)
}

fn is_out_of_memory(error: &EbpfError) -> bool {
    matches!(
        error,
        EbpfError::MapError(MapError::CreateError { io_error, .. })
            if io_error.raw_os_error() == Some(Errno::ENOMEM as i32)
    )
}

/// What this machine can give, unless the environment wants less.
fn affordable(sizes: Sizes) -> Result<Memory, Error> {
    let machine = sysinfo().map_err(|error| Error::Object(error.to_string()))?;
    let is_enough = fits(whole(sizes), machine.ram_total());
    Ok(
        if is_enough && !kernel::is_ruled_out(kernel::PREALLOCATION) {
            Memory::Whole
        } else {
            Memory::Sparse
        },
    )
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

/// The object with these flags for the flow tables.
///
/// # Errors
///
/// It has no place for them.
fn patched(object: &[u8], memory: Memory) -> Result<Vec<u8>, Error> {
    let word = FLAGS_OF_FLOW_TABLES.to_le_bytes();
    let places: Vec<usize> = memmem::find_iter(object, &word).collect();
    if places.is_empty() {
        return Err(Error::Object(
            "they have no place for the flags of the flow tables".to_owned(),
        ));
    }
    let mut object = object.to_owned();
    for at in places {
        object[at..at + word.len()].copy_from_slice(&(memory as u32).to_le_bytes());
    }
    Ok(object)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    #[test]
    fn the_default_tables_are_whole_on_a_machine_of_sixteen_gibibytes() {
        let tables = whole(Sizes::of(262_144));
        assert_eq!(tables / MIB, 262);
        // What is left of 16 GiB when the kernel has taken its part.
        assert!(fits(tables, 15_800 * MIB));
        assert!(!fits(tables, 12 * 1024 * MIB));
        assert!(fits(whole(Sizes::of(65_536)), 4_000 * MIB));
    }

    #[test]
    fn flags_are_put_in_where_their_place_is_and_nowhere_else() {
        let [a, b, c, d] = FLAGS_OF_FLOW_TABLES.to_le_bytes();
        let object = [7, a, b, c, d, 9, a, b];
        let sparse = patched(&object, Memory::Sparse).expect("it has the place");
        assert_eq!(sparse, [7, 1, 0, 0, 0, 9, a, b]);
        assert!(patched(&object[1..4], Memory::Whole).is_err());
    }
}
