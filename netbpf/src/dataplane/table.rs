//! A map as the loader handles it: everything in it read, and many keys written or deleted, in a
//! few system calls.
//!
//! aya goes from key to key with two system calls for each, which is most of the time that a change
//! takes where thousands of ports are published. What a key means is not known here.

use std::{
    collections::BTreeMap,
    marker::PhantomData,
    os::fd::{AsFd as _, AsRawFd as _},
    path::Path,
};

use aya::maps::{MapData, MapError};
use bytemuck::Pod;
use nix::libc;

use super::syscall::bpf;

/// `BPF_MAP_LOOKUP_BATCH`, `BPF_MAP_UPDATE_BATCH` and `BPF_MAP_DELETE_BATCH` of `linux/bpf.h`.
const LOOKUP_BATCH: libc::c_long = 24;
const UPDATE_BATCH: libc::c_long = 26;
const DELETE_BATCH: libc::c_long = 27;

/// How many keys one system call takes at most.
pub(super) const BATCH: usize = 4096;

/// How many bytes one system call reads at most, if they hold a pair: memory that was never used
/// costs more than the call.
const READ: usize = 128 << 10;

/// `struct { /* struct used by BPF_MAP_*_BATCH commands */ … } batch` of `union bpf_attr`.
#[repr(C, align(8))]
#[derive(Default)]
struct Batch {
    /// Where to go on: what the call before put at `out_batch`; 0 to begin.
    in_batch: u64,
    out_batch: u64,
    keys: u64,
    values: u64,
    /// How many there are room for, or to be done; then how many were.
    count: u32,
    map_fd: u32,
    elem_flags: u64,
    flags: u64,
}

/// Where a lookup goes on: at most a key, as the kernel has it.
type Cursor = [u64; 8];

/// How far a lookup came.
enum Reading {
    /// There is more, from there.
    GoesOn(Cursor),
    /// That was all.
    Over,
    /// A chain of the kernel's hash table is longer than there was room for.
    NoRoom,
}

/// What the loader does with a map.
pub(super) trait Store<K, V> {
    /// Everything in it.
    fn read(&self) -> Result<BTreeMap<K, V>, MapError>;
    /// Writes keys, each in one step, whether or not it is there. After an error those before the
    /// one that failed are written.
    fn put(&self, keys: &[K], values: &[V]) -> Result<(), MapError>;
    /// Removes keys; one that is not there is no error.
    fn delete(&self, keys: &[K]) -> Result<(), MapError>;
}

/// A map whose keys and values are plain bytes.
pub(super) struct Table<K, V> {
    map: MapData,
    plain: PhantomData<(K, V)>,
}

impl<K: Pod + Ord, V: Pod> Table<K, V> {
    /// Opens a pinned map.
    ///
    /// # Errors
    ///
    /// There is none, or its keys and values have other sizes.
    pub fn open(pin: &Path) -> Result<Self, MapError> {
        let map = MapData::from_pin(pin)?;
        let info = map.info()?;
        let sizes = (info.key_size() as usize, info.value_size() as usize);
        if sizes.0 != size_of::<K>() {
            return Err(MapError::InvalidKeySize {
                size: sizes.0,
                expected: size_of::<K>(),
            });
        }
        if sizes.1 != size_of::<V>() {
            return Err(MapError::InvalidValueSize {
                size: sizes.1,
                expected: size_of::<V>(),
            });
        }
        Ok(Self {
            map,
            plain: PhantomData,
        })
    }

    fn batch(&self, count: usize) -> Batch {
        Batch {
            count: count as u32,
            map_fd: self.map.fd().as_fd().as_raw_fd().unsigned_abs(),
            ..Batch::default()
        }
    }

    /// Reads at most `room` pairs from where the call before ended.
    fn read_from(
        &self,
        at: Option<&Cursor>,
        room: usize,
        found: &mut Vec<(K, V)>,
    ) -> Result<Reading, MapError> {
        let mut next = Cursor::default();
        let (mut keys, mut values) = (vec![K::zeroed(); room], vec![V::zeroed(); room]);
        let mut batch = Batch {
            in_batch: at.map_or(0, |at| at.as_ptr() as u64),
            out_batch: next.as_mut_ptr() as u64,
            keys: keys.as_mut_ptr() as u64,
            values: values.as_mut_ptr() as u64,
            ..self.batch(room)
        };
        let reading = match bpf(LOOKUP_BATCH, &mut batch) {
            Ok(_) => Reading::GoesOn(next),
            Err(error) => match error.raw_os_error() {
                Some(libc::ENOENT) => Reading::Over,
                Some(libc::ENOSPC) => return Ok(Reading::NoRoom),
                _ => return Err(error.into()),
            },
        };
        let pairs = keys.into_iter().zip(values);
        found.extend(pairs.take(batch.count as usize));
        Ok(reading)
    }
}

impl<K: Pod + Ord, V: Pod> Store<K, V> for Table<K, V> {
    fn read(&self) -> Result<BTreeMap<K, V>, MapError> {
        let mut found = Vec::new();
        let mut at = None;
        let mut room = (READ / (size_of::<K>() + size_of::<V>())).clamp(1, BATCH);
        loop {
            match self.read_from(at.as_ref(), room, &mut found)? {
                Reading::Over => return Ok(found.into_iter().collect()),
                Reading::GoesOn(next) => at = Some(next),
                Reading::NoRoom => room *= 2,
            }
        }
    }

    fn put(&self, keys: &[K], values: &[V]) -> Result<(), MapError> {
        for (keys, values) in keys.chunks(BATCH).zip(values.chunks(BATCH)) {
            let mut batch = Batch {
                keys: keys.as_ptr() as u64,
                values: values.as_ptr() as u64,
                ..self.batch(keys.len())
            };
            bpf(UPDATE_BATCH, &mut batch)?;
        }
        Ok(())
    }

    fn delete(&self, mut keys: &[K]) -> Result<(), MapError> {
        while !keys.is_empty() {
            let mut batch = Batch {
                keys: keys.as_ptr() as u64,
                ..self.batch(keys.len().min(BATCH))
            };
            let done = bpf(DELETE_BATCH, &mut batch);
            let mut count = batch.count as usize;
            match done {
                Ok(_) => {}
                // The key after those that were done is gone already.
                Err(error) if error.raw_os_error() == Some(libc::ENOENT) => count += 1,
                Err(error) => return Err(error.into()),
            }
            keys = keys.get(count..).unwrap_or_default();
        }
        Ok(())
    }
}

/// An array, in which a zero is what a missing key is elsewhere.
pub(super) struct Words<K, V>(Table<K, V>);

impl Words<u32, u64> {
    /// As [`Table::open`].
    pub fn open(pin: &Path) -> Result<Self, MapError> {
        Table::open(pin).map(Self)
    }
}

impl Store<u32, u64> for Words<u32, u64> {
    fn read(&self) -> Result<BTreeMap<u32, u64>, MapError> {
        let mut words = self.0.read()?;
        words.retain(|_, word| *word != 0);
        Ok(words)
    }

    fn put(&self, keys: &[u32], values: &[u64]) -> Result<(), MapError> {
        self.0.put(keys, values)
    }

    fn delete(&self, keys: &[u32]) -> Result<(), MapError> {
        self.0.put(keys, &vec![0; keys.len()])
    }
}

/// How a key stands in two states of a map.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Difference<'a, K, V> {
    /// It comes, with this value.
    Added(&'a K, &'a V),
    /// It gets another value, this one.
    Changed(&'a K, &'a V),
    /// It goes, with the value that it had.
    Removed(&'a K, &'a V),
}

/// The keys in which two states differ, in their order.
pub fn differences<'a, K: Ord, V: PartialEq>(
    old: &'a BTreeMap<K, V>,
    new: &'a BTreeMap<K, V>,
) -> Vec<Difference<'a, K, V>> {
    let mut differences = Vec::new();
    let mut old = old.iter().peekable();
    for (key, value) in new {
        while let Some((gone, value)) = old.next_if(|(other, _)| *other < key) {
            differences.push(Difference::Removed(gone, value));
        }
        match old.next_if(|(other, _)| *other == key) {
            None => differences.push(Difference::Added(key, value)),
            Some((_, before)) if before != value => {
                differences.push(Difference::Changed(key, value));
            }
            Some(_) => {}
        }
    }
    differences.extend(old.map(|(key, value)| Difference::Removed(key, value)));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_states_differ_in_what_comes_changes_and_goes() {
        let old = BTreeMap::from([(1, 'a'), (2, 'b'), (4, 'd'), (9, 'z')]);
        let new = BTreeMap::from([(0, 'n'), (2, 'b'), (4, 'e'), (5, 'f')]);
        assert_eq!(
            differences(&old, &new),
            [
                Difference::Added(&0, &'n'),
                Difference::Removed(&1, &'a'),
                Difference::Changed(&4, &'e'),
                Difference::Added(&5, &'f'),
                Difference::Removed(&9, &'z'),
            ]
        );
        assert_eq!(differences(&new, &new), []);
    }
}
