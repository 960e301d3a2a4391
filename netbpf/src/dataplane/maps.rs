//! Typed handles on the pinned maps: what the loader writes, what the programs count.
//!
//! No other file names a map. Nothing here decides what a map should hold, and nothing loads a
//! program: readers open the pins of a dataplane that somebody else loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::{Path, PathBuf},
};

use aya::maps::{Array, HashMap, Map, MapData, MapError, MapInfo, MapType, PerCpuArray};
use netbpf_common::{
    config::GlobalConfig,
    conntrack::{Entry, Rooms},
    endpoint::{Endpoint, HostAddress, Interface, MacKey, Network},
    family::{Family, V4, V6},
    nat::{HELD_PORTS_LEN, MappingKey, PortKey, PublishTarget, RESERVED_WORDS},
    senders::{LinkKey, ScopedAddr, TrustedInterface},
    service::Service,
    socket::{Asked, SocketKey},
    tuple::Tuple,
    verdict::{COUNTERS, Counter},
    wire::{Ipv4, Ipv6},
};

use super::{
    Error,
    table::{Difference, Store, Table, Words, differences},
};

/// The sizes that follow from the config's `conntrack.max_entries`.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Sizes {
    /// How many flows of each family there can be beside half-open ones.
    pub max_flows: u32,
    /// How many half-open flows of each family there can be.
    pub max_half_open: u32,
}

impl Sizes {
    /// The sizes of a table that holds `max_entries` flows of each family.
    pub fn of(max_entries: u32) -> Self {
        Self {
            max_flows: max_entries,
            max_half_open: (max_entries / 4).max(256),
        }
    }

    /// Entries of a flow table: each flow has two halves.
    fn conntrack(self) -> u32 {
        self.max_flows
            .saturating_add(self.max_half_open)
            .saturating_mul(2)
    }
}

/// How many entries a map gets when it is made.
#[derive(Clone, Copy, Debug)]
enum Capacity {
    /// As the object declares it.
    Fixed(u32),
    /// [`Sizes::conntrack`].
    Conntrack,
    /// [`Sizes::max_half_open`].
    HalfOpen,
    /// [`Sizes::max_flows`].
    Flows,
}

/// What a map must look like for this loader to work with it.
#[derive(Clone, Copy, Debug)]
pub struct MapSpec {
    /// The name in the object.
    pub name: &'static str,
    kind: MapType,
    key_size: usize,
    /// `None`: a layout that only the programs know; [`netbpf_common::config::ABI_VERSION`]
    /// answers for it.
    value_size: Option<usize>,
    capacity: Capacity,
}

impl MapSpec {
    /// The name of the pin.
    pub fn pin_name(&self) -> String {
        self.name.to_ascii_lowercase()
    }

    /// How many entries the map gets when it is made.
    pub fn max_entries(&self, sizes: Sizes) -> u32 {
        match self.capacity {
            Capacity::Fixed(entries) => entries,
            Capacity::Conntrack => sizes.conntrack(),
            Capacity::HalfOpen => sizes.max_half_open,
            Capacity::Flows => sizes.max_flows,
        }
    }

    /// Compares a pinned map with what this loader expects; its size may differ where the config
    /// decides it.
    ///
    /// # Errors
    ///
    /// What differs, in words.
    fn check(&self, info: &MapInfo) -> Result<(), String> {
        let kind = info.map_type().map_err(|error| error.to_string())?;
        if kind != self.kind {
            return Err(format!("is a {kind:?} map, not a {:?} map", self.kind));
        }
        // LRU maps hold what the programs alone know of.
        if self.kind == MapType::LruHash {
            return Ok(());
        }
        if info.key_size() as usize != self.key_size {
            return Err(format!(
                "has keys of {} bytes, not {}",
                info.key_size(),
                self.key_size
            ));
        }
        match self.value_size {
            Some(size) if info.value_size() as usize != size => Err(format!(
                "has values of {} bytes, not {size}",
                info.value_size()
            )),
            _ => Ok(()),
        }
    }
}

const fn spec<K, V>(name: &'static str, kind: MapType, capacity: Capacity) -> MapSpec {
    MapSpec {
        name,
        kind,
        key_size: size_of::<K>(),
        value_size: Some(size_of::<V>()),
        capacity,
    }
}

/// How many datagrams in fragments a family remembers.
const FRAGMENTS_MAX: u32 = 8192;

/// The maps that only programs write, and whose contents outlive a program. What a program only
/// thinks with is not pinned.
const PROGRAM_MAPS: &[MapSpec] = &[
    spec::<Tuple<V4>, Entry<V4>>("CONNTRACK_V4", MapType::Hash, Capacity::Conntrack),
    spec::<Tuple<V6>, Entry<V6>>("CONNTRACK_V6", MapType::Hash, Capacity::Conntrack),
    spec::<u32, Tuple<V4>>("HALF_OPEN_V4", MapType::Array, Capacity::HalfOpen),
    spec::<u32, Tuple<V6>>("HALF_OPEN_V6", MapType::Array, Capacity::HalfOpen),
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

/// Told before each single step on a map; an error stops there.
pub type Step<'a> = dyn FnMut(&str) -> Result<(), Error> + 'a;

/// How many keys of one map a change touches.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct TableChange {
    /// Keys that come.
    pub added: usize,
    /// Keys that get another value.
    pub changed: usize,
    /// Keys that go.
    pub removed: usize,
}

impl TableChange {
    fn of<K: Ord, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
        let mut change = Self::default();
        for difference in differences(old, new) {
            match difference {
                Difference::Added(..) => change.added += 1,
                Difference::Changed(..) => change.changed += 1,
                Difference::Removed(..) => change.removed += 1,
            }
        }
        change
    }

    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

/// Writes what comes and what changes. What stands before an error of `step` is written.
fn put_all<K: Copy + Ord, V: Copy + PartialEq>(
    table: &impl Store<K, V>,
    name: &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    step: &mut Step<'_>,
) -> Result<(), Error> {
    let (mut keys, mut values) = (Vec::new(), Vec::new());
    let mut stopped = Ok(());
    for difference in differences(old, new) {
        let (Difference::Added(key, value) | Difference::Changed(key, value)) = difference else {
            continue;
        };
        stopped = step(name);
        if stopped.is_err() {
            break;
        }
        keys.push(*key);
        values.push(*value);
    }
    table
        .put(&keys, &values)
        .map_err(|source| Error::Map { map: name, source })?;
    stopped
}

/// Deletes what goes. What stands before an error of `step` is deleted.
fn delete_all<K: Copy + Ord, V: PartialEq>(
    table: &impl Store<K, V>,
    name: &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    step: &mut Step<'_>,
) -> Result<(), Error> {
    let mut keys = Vec::new();
    let mut stopped = Ok(());
    for difference in differences(old, new) {
        let Difference::Removed(key, _) = difference else {
            continue;
        };
        stopped = step(name);
        if stopped.is_err() {
            break;
        }
        keys.push(*key);
    }
    table
        .delete(&keys)
        .map_err(|source| Error::Map { map: name, source })?;
    stopped
}

/// How many keys a map holds between the puts and the deletes of a change.
fn peak<K: Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> usize {
    old.len() + new.keys().filter(|key| !old.contains_key(key)).count()
}

/// What a table is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Who is where.
    Places,
    /// What leads to whom, and whom it takes.
    Mappings,
}

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

macro_rules! tables {
    ($($(#[$doc:meta])* $part:ident $field:ident: $name:literal, $kind:ident $store:ident,
        $key:ty => $value:ty, $entries:expr;)+) => {
        /// The exact contents of the maps that the loader writes, but for `CONFIG`.
        #[derive(Clone, Debug, Default, PartialEq)]
        pub struct Contents {
            $($(#[$doc])* pub $field: BTreeMap<$key, $value>,)+
        }

        /// The maps that the loader writes.
        const LOADER_MAPS: &[MapSpec] =
            &[$(spec::<$key, $value>($name, MapType::$kind, Capacity::Fixed($entries)),)+];

        impl Contents {
            /// How each map differs from `new`, in the order in which they are written.
            pub fn changes(&self, new: &Self) -> Vec<(&'static str, TableChange)> {
                vec![$(($name, TableChange::of(&self.$field, &new.$field)),)+]
            }

            /// Whether a change to `new` fits while old and new stand together.
            ///
            /// # Errors
            ///
            /// The first map that is too small.
            pub fn check_room(&self, new: &Self) -> Result<(), Error> {
                $(if peak(&self.$field, &new.$field) > $entries as usize {
                    return Err(Error::Full {
                        map: $name,
                        wanted: peak(&self.$field, &new.$field),
                        max_entries: $entries,
                    });
                })+
                Ok(())
            }
        }

        /// Handles on the maps that the loader writes, but for `CONFIG`.
        struct Tables {
            $($field: $store<$key, $value>,)+
        }

        impl Tables {
            fn open(dir: &Path) -> Result<Self, Error> {
                Ok(Self {
                    $($field: $store::open(&pin(dir, $name))
                        .map_err(|source| Error::Map { map: $name, source })?,)+
                })
            }

            fn read(&self) -> Result<Contents, Error> {
                Ok(Contents {
                    $($field: self.$field.read()
                        .map_err(|source| Error::Map { map: $name, source })?,)+
                })
            }

            fn count(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
                let mut counts = BTreeMap::new();
                $(
                    let entries = self.$field.read()
                        .map_err(|source| Error::Map { map: $name, source })?;
                    counts.insert($name, entries.len() as u64);
                )+
                Ok(counts)
            }

            fn put(
                &self,
                part: Part,
                (old, new): (&Contents, &Contents),
                step: &mut Step<'_>,
            ) -> Result<(), Error> {
                $(if part == Part::$part {
                    put_all(&self.$field, $name, &old.$field, &new.$field, step)?;
                })+
                Ok(())
            }

            fn delete(
                &self,
                old: &Contents,
                new: &Contents,
                step: &mut Step<'_>,
            ) -> Result<(), Error> {
                tables!(@reversed self old new step; $($field $name)+);
                Ok(())
            }
        }
    };
    (@reversed $self:ident $old:ident $new:ident $step:ident;) => {};
    (@reversed $self:ident $old:ident $new:ident $step:ident;
        $field:ident $name:literal $($rest:tt)*) => {
        tables!(@reversed $self $old $new $step; $($rest)*);
        delete_all(&$self.$field, $name, &$old.$field, &$new.$field, $step)?;
    };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_map_stands_in_the_list_twice() {
        let names: BTreeSet<_> = all().map(|spec| spec.name).collect();
        assert_eq!(names.len(), all().count());
    }

    /// A map that is not pinned begins empty again with every new version of the programs.
    #[test]
    fn every_map_that_outlives_a_packet_is_pinned() {
        let source = include_str!("../../../netbpf-ebpf/src/maps.rs");
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
