//! Typed handles on the pinned maps: what the loader writes, what the programs count.
//!
//! No other file names a map. Nothing here decides what a map should hold, and nothing loads a
//! program: readers open the pins of a dataplane that somebody else loaded.

mod check;
mod fill;
mod flows;
mod spec;
mod tables;

use std::{
    collections::BTreeMap,
    fmt::Debug,
    path::{Path, PathBuf},
};

use aya::maps::{Array, Map, MapData, MapError, MapType};
use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Entry, HalfOpenPlace, Rooms},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
    family::{V4, V6},
    nat::{HELD_PORTS_LEN, MappingKey, PortKey, PublishTarget, RESERVED_WORDS},
    senders::{LinkKey, ScopedAddr, TrustedInterface},
    service::Service,
    socket::{Asked, SocketKey},
    tuple::Tuple,
    verdict::{COUNTERS, Counter},
    wire::{Ipv4, Ipv6},
};

pub use self::{
    check::{check_pins, loaded_abi_version, loaded_sizes, read_config},
    fill::{MapFill, fill},
    flows::{FlowTable, counters, halves},
    spec::{MapSpec, Sizes},
    tables::{Part, Step, TableChange},
};
use self::{
    spec::{Capacity, spec},
    tables::{delete_all, over, put_all, tables},
};
use super::{
    Error,
    table::{Store, Table, Words},
};

/// How many datagrams in fragments a family remembers.
const FRAGMENTS_MAX: u32 = 8192;

/// The maps that only programs write, and whose contents outlive a program. What a program only
/// thinks with is not pinned.
const PROGRAM_MAPS: &[MapSpec] = &[
    spec::<Tuple<V4>, Entry<V4>>("CONNTRACK_V4", MapType::Hash, Capacity::Conntrack),
    spec::<Tuple<V6>, Entry<V6>>("CONNTRACK_V6", MapType::Hash, Capacity::Conntrack),
    spec::<u32, HalfOpenPlace<V4>>("HALF_OPEN_V4", MapType::Array, Capacity::HalfOpen),
    spec::<u32, HalfOpenPlace<V6>>("HALF_OPEN_V6", MapType::Array, Capacity::HalfOpen),
    spec::<u32, Tuple<V4>>("FLOWS_V4", MapType::Array, Capacity::Flows),
    spec::<u32, Tuple<V6>>("FLOWS_V6", MapType::Array, Capacity::Flows),
    spec::<(), u32>("FREE_SLOTS_V4", MapType::Queue, Capacity::Flows),
    spec::<(), u32>("FREE_SLOTS_V6", MapType::Queue, Capacity::Flows),
    spec::<u32, u64>(
        "HELD_PORTS",
        MapType::Array,
        Capacity::Fixed(HELD_PORTS_LEN),
    ),
    spec::<u32, Rooms>("ROOMS_V4", MapType::Array, Capacity::Fixed(1)),
    spec::<u32, Rooms>("ROOMS_V6", MapType::Array, Capacity::Fixed(1)),
    MapSpec {
        name: "FRAGMENTS_V4",
        kind: MapType::LruHash,
        key_size: 0,
        value_size: None,
        capacity: Capacity::Fixed(FRAGMENTS_MAX),
    },
    MapSpec {
        name: "FRAGMENTS_V6",
        kind: MapType::LruHash,
        key_size: 0,
        value_size: None,
        capacity: Capacity::Fixed(FRAGMENTS_MAX),
    },
    spec::<i32, Asked>("SOCKETS", MapType::SkStorage, Capacity::Fixed(0)),
    spec::<SocketKey, Asked>("ASKED", MapType::LruHash, Capacity::Fixed(65536)),
    spec::<u32, Counter>("COUNTERS", MapType::PerCpuArray, Capacity::Fixed(COUNTERS)),
    MapSpec {
        name: "SWEEP",
        kind: MapType::Array,
        key_size: 4,
        value_size: None,
        capacity: Capacity::Fixed(1),
    },
];

/// A container subnet, or a prefix of sources, as a longest-prefix trie has it.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct SubnetKey<A> {
    /// Length of the prefix in bits, host order; with the bits of a scope.
    pub prefix_len: u32,
    /// The prefix, wire order; after its scope, if it has one.
    pub addr: A,
}

/// What proves a prefix to be plain bytes: as many as its parts have.
macro_rules! plain_subnet_keys {
    ($($addr:ty)+) => {$(
        const _: () = assert!(
            size_of::<SubnetKey<$addr>>() == size_of::<u32>() + size_of::<$addr>(),
            "padding"
        );
        #[expect(unsafe_code, reason = "Zeroable is an unsafe trait")]
        // SAFETY: repr(C), both fields are plain bytes, and their sizes add up: no padding.
        unsafe impl bytemuck::Zeroable for SubnetKey<$addr> {}
        #[expect(unsafe_code, reason = "Pod is an unsafe trait")]
        // SAFETY: as above; any bit pattern is a valid value of each field.
        unsafe impl bytemuck::Pod for SubnetKey<$addr> {}
    )+};
}

plain_subnet_keys! { Ipv4 Ipv6 ScopedAddr<V4> ScopedAddr<V6> }

fn pin(dir: &Path, name: &str) -> PathBuf {
    dir.join(name.to_ascii_lowercase())
}

fn open<T>(dir: &Path, name: &'static str, kind: fn(MapData) -> Map) -> Result<T, Error>
where
    T: TryFrom<Map, Error = MapError>,
{
    MapData::from_pin(pin(dir, name))
        .and_then(|data| T::try_from(kind(data)))
        .map_err(|source| Error::Map { map: name, source })
}

// The order is the order of writing: who is where, then what leads there. Keys go in the reversed
// order, so that nothing leads to somebody unknown.
tables! {
    /// ifindex → what the interface is.
    Places interfaces: "INTERFACES", Hash Table,
        u32 => Interface, 16384;
    /// Network id → network.
    Places networks: "NETWORKS", Hash Table,
        u32 => Network, 4096;
    /// Container subnets → network id.
    Places subnets_v4: "SUBNETS_V4", LpmTrie Table,
        SubnetKey<Ipv4> => u32, 4096;
    /// As `subnets_v4`.
    Places subnets_v6: "SUBNETS_V6", LpmTrie Table,
        SubnetKey<Ipv6> => u32, 4096;
    /// Container address → container end.
    Places endpoints_v4: "ENDPOINTS_V4", Hash Table,
        Ipv4 => Endpoint, 16384;
    /// As `endpoints_v4`.
    Places endpoints_v6: "ENDPOINTS_V6", Hash Table,
        Ipv6 => Endpoint, 16384;
    /// Network and MAC → container end.
    Places endpoints_by_mac: "ENDPOINTS_BY_MAC", Hash Table,
        MacKey => Endpoint, 16384;
    /// The host's own addresses, gateway addresses and VIPs among them.
    Places host_addresses_v4: "HOST_ADDRESSES_V4", Hash Table,
        Ipv4 => HostAddress, 16384;
    /// As `host_addresses_v4`.
    Places host_addresses_v6: "HOST_ADDRESSES_V6", Hash Table,
        Ipv6 => HostAddress, 16384;
    /// Mapping and prefix → whether these sources may come: `senders::listed`.
    Mappings sources_v4: "SOURCES_V4", LpmTrie Table,
        SubnetKey<ScopedAddr<V4>> => u32, 65536;
    /// As `sources_v4`.
    Mappings sources_v6: "SOURCES_V6", LpmTrie Table,
        SubnetKey<ScopedAddr<V6>> => u32, 65536;
    /// Network and interface by which trusted senders come → 1.
    Mappings trusted_interfaces: "TRUSTED_INTERFACES", Hash Table,
        TrustedInterface => u32, 16384;
    /// Network and prefix of trusted senders → 1.
    Mappings trusted_sources_v4: "TRUSTED_SOURCES_V4", LpmTrie Table,
        SubnetKey<ScopedAddr<V4>> => u32, 4096;
    /// As `trusted_sources_v4`.
    Mappings trusted_sources_v6: "TRUSTED_SOURCES_V6", LpmTrie Table,
        SubnetKey<ScopedAddr<V6>> => u32, 4096;
    /// Which container reaches which port of another one though they can't talk otherwise → 1.
    Mappings links: "LINKS", Hash Table,
        LinkKey => u32, 65536;
    /// Which mapping leads to which endpoint → `nat::mapping_flags`.
    Mappings mappings: "MAPPINGS", Hash Table,
        MappingKey => u32, 262_144;
    /// The host's ports that masquerade must not take: `nat::reserved_bit`. No zero words.
    Places reserved_ports: "RESERVED_PORTS", Array Words,
        u32 => u64, RESERVED_WORDS;
    /// Host address and port → container.
    Mappings published_v4: "PUBLISHED_V4", Hash Table,
        PortKey<V4> => PublishTarget<V4>, 131_072;
    /// As `published_v4`.
    Mappings published_v6: "PUBLISHED_V6", Hash Table,
        PortKey<V6> => PublishTarget<V6>, 131_072;
    /// VIP and port → backends.
    Mappings services_v4: "SERVICES_V4", Hash Table,
        PortKey<V4> => Service<V4>, 4096;
    /// As `services_v4`.
    Mappings services_v6: "SERVICES_V6", Hash Table,
        PortKey<V6> => Service<V6>, 4096;
}

impl Contents {
    /// Whether a change to `new` takes something away from living flows, or changes what policy
    /// said of them: then they must ask again. What only comes can't have been asked about, but
    /// for a prefix of sources, which can close.
    pub fn policy_changes(&self, new: &Self) -> bool {
        self.changes(new)
            .into_iter()
            .any(|(name, change)| match name {
                "RESERVED_PORTS" => false,
                "SOURCES_V4" | "SOURCES_V6" => !change.is_empty(),
                _ => change.changed > 0 || change.removed > 0,
            })
    }
}

const CONFIG: MapSpec = spec::<u32, GlobalConfig>("CONFIG", MapType::Array, Capacity::Fixed(1));

/// Every map of the object.
pub fn all() -> impl Iterator<Item = &'static MapSpec> {
    std::iter::once(&CONFIG)
        .chain(LOADER_MAPS)
        .chain(PROGRAM_MAPS)
}

/// The maps of a loaded dataplane, for the loader.
pub struct Maps {
    dir: PathBuf,
    tables: Tables,
    config: Array<MapData, GlobalConfig>,
}

impl Debug for Maps {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Maps")
            .field("dir", &self.dir)
            .finish_non_exhaustive()
    }
}

impl Maps {
    /// Opens the maps pinned in `dir`.
    ///
    /// # Errors
    ///
    /// A pin that is missing or can't be what its name says.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.to_owned(),
            tables: Tables::open(dir)?,
            config: open(dir, CONFIG.name, Map::Array)?,
        })
    }

    /// Everything in the maps that the loader writes.
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn read(&self) -> Result<Contents, Error> {
        self.tables.read()
    }

    /// Writes the keys of one part that are new or differ, each in one step. `old` is what the
    /// maps hold.
    ///
    /// # Errors
    ///
    /// The first failure, of a system call or of `step`; what was written stays.
    pub fn put(
        &self,
        part: Part,
        old: &Contents,
        new: &Contents,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        self.tables.put(part, (old, new), step)
    }

    /// Deletes the keys of `old` that `new` lacks, each in one step.
    ///
    /// # Errors
    ///
    /// As [`Maps::put`].
    pub fn delete(&self, old: &Contents, new: &Contents, step: &mut Step<'_>) -> Result<(), Error> {
        self.tables.delete(old, new, step)
    }

    /// What the programs read as their config; all zero before the first apply.
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn config(&self) -> Result<GlobalConfig, Error> {
        self.config.get(&0, 0).map_err(|source| Error::Map {
            map: CONFIG.name,
            source,
        })
    }

    /// Replaces the programs' config in one step.
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn set_config(&mut self, config: &GlobalConfig) -> Result<(), Error> {
        self.config.set(0, config, 0).map_err(|source| Error::Map {
            map: CONFIG.name,
            source,
        })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn no_map_stands_in_the_list_twice() {
        let names: BTreeSet<_> = all().map(|spec| spec.name).collect();
        assert_eq!(names.len(), all().count());
    }

    /// A map that is not pinned begins empty again with every new version of the programs.
    #[test]
    fn every_map_that_outlives_a_packet_is_pinned() {
        let source = include_str!("../../../netbpf-ebpf/src/maps/declared.rs");
        let declared: Vec<(&str, &str)> = source
            .lines()
            .filter_map(|line| line.strip_prefix("pub static ")?.split_once(": "))
            .collect();
        assert!(declared.len() > 30, "{declared:?}");
        for (name, kind) in declared {
            let is_pinned = all().any(|spec| spec.name == name);
            let is_scratch = kind.starts_with("PerCpuArray") && name != "COUNTERS";
            assert_ne!(is_pinned, is_scratch, "{name}: {kind}");
        }
    }

    #[test]
    fn the_flow_table_holds_both_halves_of_every_flow() {
        let sizes = Sizes::of(1024);
        assert_eq!(
            sizes,
            Sizes {
                max_flows: 1024,
                max_half_open: 256
            }
        );
        let conntrack = all().find(|spec| spec.name == "CONNTRACK_V4");
        assert_eq!(conntrack.map(|spec| spec.max_entries(sizes)), Some(2560));
    }

    #[test]
    fn old_and_new_keys_must_fit_together() {
        let network = |id| (id, Network::default());
        let old = Contents {
            networks: (1..=4000).map(network).collect(),
            ..Contents::default()
        };
        let new = Contents {
            networks: (101..=4096).map(network).collect(),
            ..Contents::default()
        };
        assert!(old.check_room(&new).is_ok());
        let new = Contents {
            networks: (101..=4097).map(network).collect(),
            ..Contents::default()
        };
        let error = old.check_room(&new).expect_err("4097 keys must not fit");
        assert!(error.to_string().contains("NETWORKS"), "{error}");
    }
}
