//! Maps that are written from a state that is wanted: what differs is put, then deleted, each key in
//! one step.

use std::collections::BTreeMap;

use crate::dataplane::{
    Error,
    table::{Difference, Store, differences},
};

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
    pub(super) fn of<K: Ord, V: PartialEq>(old: &BTreeMap<K, V>, new: &BTreeMap<K, V>) -> Self {
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
pub(super) fn put_all<K: Copy + Ord, V: Copy + PartialEq>(
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
pub(super) fn delete_all<K: Copy + Ord, V: PartialEq>(
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

/// How many keys a map holds between the puts and the deletes of a change, where that is more than
/// `room`.
pub(super) fn over<K: Ord, V>(
    old: &BTreeMap<K, V>,
    new: &BTreeMap<K, V>,
    room: usize,
) -> Option<usize> {
    if old.len() + new.len() <= room {
        return None;
    }
    let peak = old.len() + new.keys().filter(|key| !old.contains_key(key)).count();
    (peak > room).then_some(peak)
}

/// What a table is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Part {
    /// Who is where.
    Places,
    /// What leads to whom, and whom it takes.
    Mappings,
}

/// Declares the maps that the loader writes: `Contents`, which holds what is in them, and `Tables`,
/// the handles on them.
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

            /// Whether every key of `part` stands here with its value, but for the words of reserved
            /// ports.
            pub fn has_all(&self, part: &Self) -> bool {
                $($name == "RESERVED_PORTS"
                    || part.$field.iter().all(|(key, value)| self.$field.get(key) == Some(value)))&&+
            }

            /// Whether a key of `part` stands here, but for the words of reserved ports.
            pub fn has_any(&self, part: &Self) -> bool {
                $(($name != "RESERVED_PORTS"
                    && part.$field.keys().any(|key| self.$field.contains_key(key))))||+
            }

            /// Whether the keys of `part`, none of which stands here, fit as well.
            pub fn has_room(&self, part: &Self) -> bool {
                $(part.$field.is_empty()
                    || self.$field.len() + part.$field.len() <= $entries as usize)&&+
            }

            /// Takes the keys of `old` away and puts those of `new`.
            pub fn turn(&mut self, old: &Self, new: &Self) {
                $(
                    for key in old.$field.keys() {
                        self.$field.remove(key);
                    }
                    self.$field.extend(new.$field.iter().map(|(key, value)| (*key, *value)));
                )+
            }

            /// Whether a change to `new` fits while old and new stand together.
            ///
            /// # Errors
            ///
            /// The first map that is too small.
            pub fn check_room(&self, new: &Self) -> Result<(), Error> {
                $(if let Some(wanted) = over(&self.$field, &new.$field, $entries as usize) {
                    return Err(Error::Full {
                        map: $name,
                        wanted,
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

pub(super) use tables;
