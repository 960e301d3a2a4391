//! The loaded programs: object, pins, compatibility, replacement.
//!
//! Everything stands in the kernel and is found by its pins; nothing here needs a living process.
//! What the maps should hold is [`crate::plan`]'s to say, when it changes [`crate::reconcile`]'s.

pub mod attach;
mod clsact;
pub mod conntrack;
pub mod maps;
mod object;
mod pin;
pub mod socket;
mod syscall;
pub mod table;

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use aya::{
    Ebpf,
    pin::PinError,
    programs::{
        CgroupSockAddr, Program, ProgramError, ProgramInfo, SchedClassifier, TestRun as _,
        TestRunOptions,
    },
};
use netbpf_common::{
    config::ABI_VERSION,
    verdict::{Hook, Seat},
};

use self::maps::Sizes;
pub use self::pin::finish_links;
use crate::host::{bpffs::PinDirs, kernel::Features, link::Framing};

/// The object with all programs, as it was built with this binary; empty where the build was told
/// to leave it out.
static OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netbpf-ebpf"));

/// The object with the programs for interfaces whose packets have no Ethernet header.
static L3_OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/netbpf-ebpf-l3"));

/// Tells these objects from others. The build computes it, for they are some megabytes.
const OBJECT_HASH: u64 = match u64::from_str_radix(env!("NETBPF_OBJECT_HASH"), 16) {
    Ok(hash) => hash,
    Err(_) => panic!("the build script wrote no number"),
};

/// Which objects the interfaces of a host ask for.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Objects {
    /// The one for Ethernet.
    Ethernet,
    /// Also the one for interfaces without.
    All,
}

/// The program that arms the sweep. It is never attached.
const START_SWEEP: &str = "start_sweep";

/// What can go wrong with programs, maps and hooks.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A map can't be opened, read or written.
    #[error("map {map}: {source}")]
    Map {
        /// Its name.
        map: &'static str,
        /// What failed.
        source: aya::maps::MapError,
    },
    /// More keys than a map holds.
    #[error("map {map} is full: {wanted} entries are wanted, {max_entries} fit")]
    Full {
        /// Its name.
        map: &'static str,
        /// How many entries the old and the new state have together.
        wanted: usize,
        /// How many fit.
        max_entries: u32,
    },
    /// The pins are of a version that this loader can't read.
    #[error(
        "netbpf {own} can't take over the dataplane that netbpf {loaded} loaded: {what}; it goes \
         on as it is: purge it first, or use the version that loaded it"
    )]
    Incompatible {
        /// The version that loaded it.
        loaded: String,
        /// This version.
        own: String,
        /// What differs.
        what: String,
    },
    /// The loaded flow tables are smaller than the config wants them.
    #[error(
        "conntrack.max_entries = {wanted} does not fit the loaded tables, which were made for \
         {loaded}: purge first, then apply"
    )]
    TablesTooSmall {
        /// What the config says.
        wanted: u32,
        /// What was loaded.
        loaded: u32,
    },
    /// The object can't be loaded.
    #[error("failed to load the programs: {0}")]
    Object(String),
    /// One program can't be loaded, pinned or run.
    #[error("program {name}: {cause}")]
    Program {
        /// Its name.
        name: &'static str,
        /// What failed, in words.
        cause: String,
    },
    /// A hook can't be attached or looked for.
    #[error("failed to {what} {hook} on {interface}: {cause}")]
    Hook {
        /// What was tried.
        what: &'static str,
        /// The hook.
        hook: &'static str,
        /// The interface.
        interface: String,
        /// What failed, in words.
        cause: String,
    },
    /// A pin can't be made or removed.
    #[error("{}: {source}", path.display())]
    Pin {
        /// The path.
        path: PathBuf,
        /// What failed.
        source: io::Error,
    },
    /// The programs' clock can't be read.
    #[error("failed to read the monotonic clock: {0}")]
    Clock(#[source] nix::Error),
    /// The change was stopped on purpose.
    #[error("stopped before {0}")]
    Stopped(String),
}

/// A symbolic link that leads nowhere: its target says which object is loaded. It lives and dies
/// with the pins, and a bpffs holds no plain files.
fn mark_of(pins: &PinDirs) -> PathBuf {
    pins.base.join("object")
}

/// Which object is loaded, as its mark says.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ObjectMark {
    /// netbpf's version.
    pub version: String,
    /// The ABI of its maps.
    pub abi_version: u32,
    /// A hash of the object and its constants.
    pub hash: u64,
}

/// Tells apart what the object's constants are set to. Where nobody can say what the kernel has,
/// nothing is loaded.
fn constants() -> u64 {
    Features::detect().map_or(0, Features::constants)
}

impl ObjectMark {
    /// The mark of the object in this binary, with its constants set for this kernel.
    pub fn own() -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            abi_version: ABI_VERSION,
            hash: OBJECT_HASH ^ constants(),
        }
    }

    fn parse(target: &str) -> Option<Self> {
        let mut parts = target.strip_prefix(MARK)?.rsplitn(3, ',');
        let hash = u64::from_str_radix(parts.next()?, 16).ok()?;
        let abi_version = parts.next()?.strip_prefix("abi")?.parse().ok()?;
        Some(Self {
            version: parts.next()?.to_owned(),
            abi_version,
            hash,
        })
    }

    fn target(&self) -> String {
        format!(
            "{MARK}{},abi{},{:016x}",
            self.version, self.abi_version, self.hash
        )
    }
}

/// The beginning of a mark's target. It is absolute, for a bpffs takes no name with a dot, not even
/// to look it up.
const MARK: &str = "/netbpf,";

/// The mark of what is loaded; `None` when nothing is, or when its replacement was cut short.
pub fn loaded_mark(pins: &PinDirs) -> Option<ObjectMark> {
    ObjectMark::parse(fs::read_link(mark_of(pins)).ok()?.to_str()?)
}

/// Whether everything of the dataplane is pinned that every host needs.
pub fn is_loaded(pins: &PinDirs) -> bool {
    missing(pins, Objects::Ethernet).is_empty()
}

/// The programs of `objects`: hook and framing.
pub fn programs(objects: Objects) -> impl Iterator<Item = (Hook, Framing)> {
    let ethernet = Hook::ALL.into_iter().map(|hook| (hook, Framing::Ethernet));
    let bare = match objects {
        Objects::Ethernet => &[][..],
        Objects::All => &BARE,
    };
    ethernet.chain(bare.iter().map(|hook| (*hook, Framing::Bare)))
}

/// The hooks that [`L3_OBJECT`] has programs for.
const BARE: [Hook; 2] = [Hook::FromNetdev, Hook::ToNetdev];

/// What of `objects` is not pinned, in words: `map networks`, `program to_netdev`.
pub fn missing(pins: &PinDirs, objects: Objects) -> Vec<String> {
    let programs = programs(objects)
        .map(|(hook, framing)| attach::program_of(hook, framing))
        .filter(|name| !pins.progs.join(name).exists())
        .map(|name| format!("program {name}"));
    missing_maps(pins)
        .map(|name| format!("map {name}"))
        .chain(programs)
        .collect()
}

fn missing_maps(pins: &PinDirs) -> impl Iterator<Item = String> {
    maps::all()
        .map(maps::MapSpec::pin_name)
        .filter(|name| !pins.maps.join(name).exists())
}

/// Whether the pins can be taken over by this loader; none at all can.
///
/// # Errors
///
/// [`Error::Incompatible`], naming both versions, or [`Error::TablesTooSmall`].
pub fn check(pins: &PinDirs, sizes: Sizes) -> Result<(), Error> {
    let mark = loaded_mark(pins);
    let loaded_abi = match &mark {
        Some(mark) => Some(mark.abi_version),
        None => maps::loaded_abi_version(&pins.maps)?,
    };
    if let Some(loaded) = loaded_abi
        && loaded != ABI_VERSION
    {
        let what = format!("its maps are of version {loaded}, mine of version {ABI_VERSION}");
        return Err(incompatible(mark.as_ref(), what));
    }
    maps::check_pins(&pins.maps)?.map_or(Ok(()), |what| Err(incompatible(mark.as_ref(), what)))?;
    match maps::loaded_sizes(&pins.maps)? {
        Some(loaded)
            if sizes.max_flows > loaded.max_flows || sizes.max_half_open > loaded.max_half_open =>
        {
            Err(Error::TablesTooSmall {
                wanted: sizes.max_flows,
                loaded: loaded.max_flows,
            })
        }
        _ => Ok(()),
    }
}

fn incompatible(mark: Option<&ObjectMark>, what: String) -> Error {
    Error::Incompatible {
        loaded: mark.map_or_else(|| "unknown".to_owned(), |mark| mark.version.clone()),
        own: ObjectMark::own().version,
        what,
    }
}

/// What [`load`] has to do.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Load {
    /// This very object is loaded.
    Nothing,
    /// Nothing is loaded yet.
    Fresh,
    /// Another object's programs run, and give way to this one's.
    Replace,
    /// The object for interfaces without Ethernet header is wanted beside what is loaded.
    Bare,
    /// Some pins were lost. Where one was a map's, all maps are made anew: they only fit each other
    /// as they grew together, and the flows are lost.
    Mend,
}

/// What [`load`] would do.
pub fn wanted_load(pins: &PinDirs, objects: Objects) -> Load {
    let mark = loaded_mark(pins);
    match (is_loaded(pins), mark) {
        (true, Some(mark)) if mark == ObjectMark::own() => {
            if missing(pins, objects).is_empty() {
                Load::Nothing
            } else {
                Load::Bare
            }
        }
        (true, _) => Load::Replace,
        // The mark is written when a load is complete.
        (false, Some(_)) => Load::Mend,
        (false, None) => Load::Fresh,
    }
}

/// Loads `objects` and pins their maps and programs; links that are pinned get the new programs,
/// each in one step, and flows stay. Arms the sweep. Says what was done.
///
/// The directories must be there, and [`check`] must have agreed. A load that is cut short is
/// done anew by the next one.
///
/// # Errors
///
/// The verifier's refusal, or a failed system call.
pub fn load(pins: &PinDirs, sizes: Sizes, objects: Objects) -> Result<Load, Error> {
    let todo = wanted_load(pins, objects);
    match todo {
        Load::Nothing => return Ok(todo),
        Load::Bare => {
            load_bare(pins, sizes)?;
            return Ok(todo);
        }
        Load::Fresh | Load::Replace | Load::Mend => {}
    }
    // While the mark is there, a load that is cut short here mends once more.
    if todo == Load::Mend && missing_maps(pins).next().is_some() {
        for spec in maps::all() {
            let path = pins.maps.join(spec.pin_name());
            pin::remove_if_there(&path).map_err(|source| Error::Pin { path, source })?;
        }
    }
    remove_mark(pins)?;
    let mut object = object::load(pins, sizes, OBJECT)?;
    // The verifier sees every program before the first one gives way.
    for hook in Hook::ALL {
        let name = hook.name();
        let loaded = match hook.seat() {
            Seat::Interface => program::<SchedClassifier>(&mut object, name)?.load(),
            Seat::Cgroup => program::<CgroupSockAddr>(&mut object, name)?.load(),
        };
        loaded.map_err(|source| refused(name, &source))?;
    }
    program::<SchedClassifier>(&mut object, START_SWEEP)?
        .load()
        .map_err(|source| refused(START_SWEEP, &source))?;
    for hook in Hook::ALL {
        let name = hook.name();
        match hook.seat() {
            Seat::Interface => {
                let program: &mut SchedClassifier = program(&mut object, name)?;
                attach::replace(pins, (hook, Framing::Ethernet), program)?;
                repin(pins, name, |at| program.pin(at))?;
            }
            Seat::Cgroup => {
                let program: &mut CgroupSockAddr = program(&mut object, name)?;
                socket::replace(pins, hook, program)?;
                repin(pins, name, |at| program.pin(at))?;
            }
        }
    }
    match objects {
        Objects::All => load_bare(pins, sizes)?,
        // Those of another version would be taken for this one's later.
        Objects::Ethernet => unpin_bare(pins)?,
    }
    let sweep: &mut SchedClassifier = program(&mut object, START_SWEEP)?;
    repin(pins, START_SWEEP, |at| sweep.pin(at))?;
    start_sweep(sweep)?;
    write_mark(pins)?;
    Ok(todo)
}

/// As [`load`], for [`L3_OBJECT`] alone.
fn load_bare(pins: &PinDirs, sizes: Sizes) -> Result<(), Error> {
    let mut object = object::load(pins, sizes, L3_OBJECT)?;
    for hook in BARE {
        let name = attach::program_of(hook, Framing::Bare);
        let program: &mut SchedClassifier = program(&mut object, name)?;
        program.load().map_err(|source| refused(name, &source))?;
        attach::replace(pins, (hook, Framing::Bare), program)?;
        repin(pins, name, |at| program.pin(at))?;
    }
    Ok(())
}

fn unpin_bare(pins: &PinDirs) -> Result<(), Error> {
    for hook in BARE {
        let path = pins.progs.join(attach::program_of(hook, Framing::Bare));
        pin::remove_if_there(&path).map_err(|source| Error::Pin { path, source })?;
    }
    Ok(())
}

fn refused(name: &'static str, error: &ProgramError) -> Error {
    Error::Program {
        name,
        cause: attach::cause(error),
    }
}

fn program<'a, T>(object: &'a mut Ebpf, name: &'static str) -> Result<&'a mut T, Error>
where
    &'a mut T: TryFrom<&'a mut Program, Error = ProgramError>,
{
    object
        .program_mut(name)
        .ok_or_else(|| Error::Program {
            name,
            cause: "not in the object".to_owned(),
        })?
        .try_into()
        .map_err(|source| refused(name, &source))
}

/// Pins a program in the place of the one before it, in one step.
fn repin(
    pins: &PinDirs,
    name: &'static str,
    pin: impl FnOnce(&Path) -> Result<(), PinError>,
) -> Result<(), Error> {
    let path = pins.progs.join(name);
    let error = |source| Error::Pin {
        path: path.clone(),
        source,
    };
    let fresh = pin::fresh(&path).map_err(error)?;
    pin(&fresh).map_err(|source| Error::Program {
        name,
        cause: attach::cause(&source),
    })?;
    fs::rename(&fresh, &path).map_err(error)
}

/// A test run is the one way to run a program that hangs on no hook; the kernel wants a whole
/// Ethernet header for it.
fn start_sweep(program: &SchedClassifier) -> Result<(), Error> {
    const FRAME: [u8; 64] = [0; 64];
    let error = |cause: String| Error::Program {
        name: START_SWEEP,
        cause,
    };
    let result = program
        .test_run(TestRunOptions {
            data_in: Some(&FRAME),
            ..TestRunOptions::new()
        })
        .map_err(|source| error(attach::cause(&source)))?;
    match result.return_value {
        0 => Ok(()),
        code => Err(error(format!("the timer was not armed (code {code})"))),
    }
}

fn remove_mark(pins: &PinDirs) -> Result<(), Error> {
    let path = mark_of(pins);
    pin::remove_if_there(&path).map_err(|source| Error::Pin { path, source })
}

fn write_mark(pins: &PinDirs) -> Result<(), Error> {
    let path = mark_of(pins);
    std::os::unix::fs::symlink(ObjectMark::own().target(), &path)
        .map_err(|source| Error::Pin { path, source })
}

/// The programs that are pinned and the id that the kernel gave each.
pub fn program_ids(pins: &PinDirs) -> Vec<(&'static str, u32)> {
    programs(Objects::All)
        .map(|(hook, framing)| attach::program_of(hook, framing))
        .filter_map(|name| {
            Some((
                name,
                ProgramInfo::from_pin(pins.progs.join(name)).ok()?.id(),
            ))
        })
        .collect()
}

#[cfg(test)]
mod stacks;
#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mark_reads_back_as_written() {
        let mark = ObjectMark {
            version: "1.2.3-rc,1".to_owned(),
            abi_version: 7,
            hash: 0xdead_beef,
        };
        assert_eq!(ObjectMark::parse(&mark.target()), Some(mark));
        assert_eq!(ObjectMark::parse("nonsense"), None);
    }
}
