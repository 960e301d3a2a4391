//! Typed handles on the pinned maps: what the loader writes, what the programs count.
//!
//! No other file names a map. Nothing here decides what a map should hold, and nothing loads a
//! program: readers open the pins of a dataplane that somebody else loaded.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Debug,
    path::{Path, PathBuf},
};

use aya::maps::{
    Array, HashMap, LpmTrie, Map, MapData, MapError, MapInfo, MapType, PerCpuArray,
    lpm_trie::Key as LpmKey,
};
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

use super::Error;

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

/// A map that the loader writes, key by key.
trait Store<K, V> {
    /// Everything in it.
    fn read(&self) -> Result<BTreeMap<K, V>, MapError>;
    /// Writes one key in one step, whether or not it is there.
    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError>;
    /// Removes one key; one that is not there is no error.
    fn delete(&mut self, key: &K) -> Result<(), MapError>;
}

fn missing_is_fine(result: Result<(), MapError>) -> Result<(), MapError> {
    match result {
        Err(MapError::KeyNotFound | MapError::ElementNotFound) => Ok(()),
        Err(MapError::SyscallError(error))
            if error.io_error.kind() == std::io::ErrorKind::NotFound =>
        {
            Ok(())
        }
        other => other,
    }
}

impl<K: aya::Pod + Ord, V: aya::Pod> Store<K, V> for HashMap<MapData, K, V> {
    fn read(&self) -> Result<BTreeMap<K, V>, MapError> {
        self.iter().collect()
    }

    fn put(&mut self, key: &K, value: &V) -> Result<(), MapError> {
        self.insert(key, value, 0)
    }

    fn delete(&mut self, key: &K) -> Result<(), MapError> {
        missing_is_fine(self.remove(key))
    }
}

impl<A: aya::Pod + Ord, V: aya::Pod> Store<SubnetKey<A>, V> for LpmTrie<MapData, A, V> {
    fn read(&self) -> Result<BTreeMap<SubnetKey<A>, V>, MapError> {
        self.iter()
            .map(|item| {
                let (key, value) = item?;
                Ok((
                    SubnetKey {
                        prefix_len: key.prefix_len(),
                        addr: key.data(),
                    },
                    value,
                ))
            })
            .collect()
    }

    fn put(&mut self, key: &SubnetKey<A>, value: &V) -> Result<(), MapError> {
        self.insert(&LpmKey::new(key.prefix_len, key.addr), value, 0)
    }

    fn delete(&mut self, key: &SubnetKey<A>) -> Result<(), MapError> {
        missing_is_fine(self.remove(&LpmKey::new(key.prefix_len, key.addr)))
    }
}

/// In an array a zero is what a missing key is elsewhere.
impl Store<u32, u64> for Array<MapData, u64> {
    fn read(&self) -> Result<BTreeMap<u32, u64>, MapError> {
        (0..self.len())
            .filter_map(|index| match self.get(&index, 0) {
                Ok(0) => None,
                Ok(word) => Some(Ok((index, word))),
                Err(error) => Some(Err(error)),
            })
            .collect()
    }

    fn put(&mut self, key: &u32, value: &u64) -> Result<(), MapError> {
        self.set(*key, value, 0)
    }

    fn delete(&mut self, key: &u32) -> Result<(), MapError> {
        self.set(*key, 0, 0)
    }
}

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
        for (key, value) in new {
            match old.get(key) {
                None => change.added += 1,
                Some(old) if old != value => change.changed += 1,
                Some(_) => {}
            }
        }
        change.removed = old.keys().filter(|key| !new.contains_key(key)).count();
        change
    }

    /// Whether nothing changes.
    pub fn is_empty(self) -> bool {
        self == Self::default()
    }
}

fn put_all<K: Ord, V: PartialEq>(
    store: &mut impl Store<K, V>,
    name: &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    step: &mut Step<'_>,
) -> Result<(), Error> {
    for (key, value) in new {
        if old.get(key) == Some(value) {
            continue;
        }
        step(name)?;
        store
            .put(key, value)
            .map_err(|source| Error::Map { map: name, source })?;
    }
    Ok(())
}

fn delete_all<K: Ord, V>(
    store: &mut impl Store<K, V>,
    name: &'static str,
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    step: &mut Step<'_>,
) -> Result<(), Error> {
    for key in old.keys().filter(|key| !new.contains_key(key)) {
        step(name)?;
        store
            .delete(key)
            .map_err(|source| Error::Map { map: name, source })?;
    }
    Ok(())
}

/// How many keys a map holds between the puts and the deletes of a change.
fn peak<K: Ord, V>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> usize {
    old.len() + new.keys().filter(|key| !old.contains_key(key)).count()
}

fn open<T>(dir: &Path, name: &'static str, kind: fn(MapData) -> Map) -> Result<T, Error>
where
    T: TryFrom<Map, Error = MapError>,
{
    let path = dir.join(name.to_ascii_lowercase());
    MapData::from_pin(path)
        .and_then(|data| T::try_from(kind(data)))
        .map_err(|source| Error::Map { map: name, source })
}

macro_rules! tables {
    ($($(#[$doc:meta])* $field:ident: $name:literal, $kind:ident($map:ident) $store:ty,
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
            $($field: $store,)+
        }

        impl Tables {
            fn open(dir: &Path) -> Result<Self, Error> {
                Ok(Self { $($field: open(dir, $name, Map::$map)?,)+ })
            }

            fn read(&self) -> Result<Contents, Error> {
                Ok(Contents {
                    $($field: Store::read(&self.$field)
                        .map_err(|source| Error::Map { map: $name, source })?,)+
                })
            }

            fn count(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
                let mut counts = BTreeMap::new();
                $(
                    let entries = Store::read(&self.$field)
                        .map_err(|source| Error::Map { map: $name, source })?;
                    counts.insert($name, entries.len() as u64);
                )+
                Ok(counts)
            }

            fn put(
                &mut self,
                old: &Contents,
                new: &Contents,
                step: &mut Step<'_>,
            ) -> Result<(), Error> {
                $(put_all(&mut self.$field, $name, &old.$field, &new.$field, step)?;)+
                Ok(())
            }

            fn delete(
                &mut self,
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
        delete_all(&mut $self.$field, $name, &$old.$field, &$new.$field, $step)?;
    };
}

// The order is the order of writing: who is where, then what leads there. Keys go in the reversed
// order, so that nothing leads to somebody unknown.
tables! {
    /// ifindex → what the interface is.
    interfaces: "INTERFACES", Hash(HashMap) HashMap<MapData, u32, Interface>,
        u32 => Interface, 16384;
    /// Network id → network.
    networks: "NETWORKS", Hash(HashMap) HashMap<MapData, u32, Network>, u32 => Network, 4096;
    /// Container subnets → network id.
    subnets_v4: "SUBNETS_V4", LpmTrie(LpmTrie) LpmTrie<MapData, Ipv4, u32>,
        SubnetKey<Ipv4> => u32, 4096;
    /// As `subnets_v4`.
    subnets_v6: "SUBNETS_V6", LpmTrie(LpmTrie) LpmTrie<MapData, Ipv6, u32>,
        SubnetKey<Ipv6> => u32, 4096;
    /// Container address → container end.
    endpoints_v4: "ENDPOINTS_V4", Hash(HashMap) HashMap<MapData, Ipv4, Endpoint>,
        Ipv4 => Endpoint, 16384;
    /// As `endpoints_v4`.
    endpoints_v6: "ENDPOINTS_V6", Hash(HashMap) HashMap<MapData, Ipv6, Endpoint>,
        Ipv6 => Endpoint, 16384;
    /// Network and MAC → container end.
    endpoints_by_mac: "ENDPOINTS_BY_MAC", Hash(HashMap) HashMap<MapData, MacKey, Endpoint>,
        MacKey => Endpoint, 16384;
    /// The host's own addresses, gateway addresses and VIPs among them.
    host_addresses_v4: "HOST_ADDRESSES_V4", Hash(HashMap) HashMap<MapData, Ipv4, HostAddress>,
        Ipv4 => HostAddress, 16384;
    /// As `host_addresses_v4`.
    host_addresses_v6: "HOST_ADDRESSES_V6", Hash(HashMap) HashMap<MapData, Ipv6, HostAddress>,
        Ipv6 => HostAddress, 16384;
    /// Mapping and prefix → whether these sources may come: `senders::listed`.
    sources_v4: "SOURCES_V4", LpmTrie(LpmTrie) LpmTrie<MapData, ScopedAddr<V4>, u32>,
        SubnetKey<ScopedAddr<V4>> => u32, 65536;
    /// As `sources_v4`.
    sources_v6: "SOURCES_V6", LpmTrie(LpmTrie) LpmTrie<MapData, ScopedAddr<V6>, u32>,
        SubnetKey<ScopedAddr<V6>> => u32, 65536;
    /// Network and interface by which trusted senders come → 1.
    trusted_interfaces: "TRUSTED_INTERFACES", Hash(HashMap) HashMap<MapData, TrustedInterface, u32>,
        TrustedInterface => u32, 16384;
    /// Network and prefix of trusted senders → 1.
    trusted_sources_v4: "TRUSTED_SOURCES_V4", LpmTrie(LpmTrie)
        LpmTrie<MapData, ScopedAddr<V4>, u32>, SubnetKey<ScopedAddr<V4>> => u32, 4096;
    /// As `trusted_sources_v4`.
    trusted_sources_v6: "TRUSTED_SOURCES_V6", LpmTrie(LpmTrie)
        LpmTrie<MapData, ScopedAddr<V6>, u32>, SubnetKey<ScopedAddr<V6>> => u32, 4096;
    /// Which container reaches which port of another one though they can't talk otherwise → 1.
    links: "LINKS", Hash(HashMap) HashMap<MapData, LinkKey, u32>, LinkKey => u32, 65536;
    /// Which mapping leads to which endpoint → `nat::mapping_flags`.
    mappings: "MAPPINGS", Hash(HashMap) HashMap<MapData, MappingKey, u32>,
        MappingKey => u32, 262_144;
    /// The host's ports that masquerade must not take: `nat::reserved_bit`. No zero words.
    reserved_ports: "RESERVED_PORTS", Array(Array) Array<MapData, u64>, u32 => u64, RESERVED_WORDS;
    /// Host address and port → container.
    published_v4: "PUBLISHED_V4", Hash(HashMap) HashMap<MapData, PortKey<V4>, PublishTarget<V4>>,
        PortKey<V4> => PublishTarget<V4>, 131_072;
    /// As `published_v4`.
    published_v6: "PUBLISHED_V6", Hash(HashMap) HashMap<MapData, PortKey<V6>, PublishTarget<V6>>,
        PortKey<V6> => PublishTarget<V6>, 131_072;
    /// VIP and port → backends.
    services_v4: "SERVICES_V4", Hash(HashMap) HashMap<MapData, PortKey<V4>, Service<V4>>,
        PortKey<V4> => Service<V4>, 4096;
    /// As `services_v4`.
    services_v6: "SERVICES_V6", Hash(HashMap) HashMap<MapData, PortKey<V6>, Service<V6>>,
        PortKey<V6> => Service<V6>, 4096;
}

impl Contents {
    /// The same, but with what leads to containers as `other` has it.
    pub fn with_mappings_of(&self, other: &Self) -> Self {
        Self {
            sources_v4: other.sources_v4.clone(),
            sources_v6: other.sources_v6.clone(),
            trusted_interfaces: other.trusted_interfaces.clone(),
            trusted_sources_v4: other.trusted_sources_v4.clone(),
            trusted_sources_v6: other.trusted_sources_v6.clone(),
            links: other.links.clone(),
            mappings: other.mappings.clone(),
            published_v4: other.published_v4.clone(),
            published_v6: other.published_v6.clone(),
            services_v4: other.services_v4.clone(),
            services_v6: other.services_v6.clone(),
            ..self.clone()
        }
    }

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

    /// Writes the keys that are new or differ, one by one.
    ///
    /// # Errors
    ///
    /// The first failure, of a system call or of `step`; what was written stays.
    pub fn put(
        &mut self,
        old: &Contents,
        new: &Contents,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
        self.tables.put(old, new, step)
    }

    /// Deletes the keys of `old` that `new` lacks, one by one.
    ///
    /// # Errors
    ///
    /// As [`Maps::put`].
    pub fn delete(
        &mut self,
        old: &Contents,
        new: &Contents,
        step: &mut Step<'_>,
    ) -> Result<(), Error> {
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
    let map: Array<MapData, u64> = open(dir, "HELD_PORTS", Map::Array)?;
    let held = Store::read(&map).map_err(|source| Error::Map {
        map: "HELD_PORTS",
        source,
    })?;
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
