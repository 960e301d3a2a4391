//! What a map must look like: kind, sizes, and how many entries it gets.

use aya::maps::{MapInfo, MapType};

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
    pub(in crate::dataplane) const fn conntrack(self) -> u32 {
        self.max_flows
            .saturating_add(self.max_half_open)
            .saturating_mul(2)
    }
}

/// How many entries a map gets when it is made.
#[derive(Clone, Copy, Debug)]
pub(super) enum Capacity {
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
    pub(super) kind: MapType,
    pub(super) key_size: usize,
    /// `None`: a layout that only the programs know; [`netbpf_common::config::ABI_VERSION`]
    /// answers for it.
    pub(super) value_size: Option<usize>,
    pub(super) capacity: Capacity,
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
    pub(super) fn check(&self, info: &MapInfo) -> Result<(), String> {
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

pub(super) const fn spec<K, V>(name: &'static str, kind: MapType, capacity: Capacity) -> MapSpec {
    MapSpec {
        name,
        kind,
        key_size: size_of::<K>(),
        value_size: Some(size_of::<V>()),
        capacity,
    }
}
