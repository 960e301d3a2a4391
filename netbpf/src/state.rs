//! What an instance remembers: the lock, the desired state, the allocations, the journal.
//! It never looks at the kernel's objects, and readers never wait for anybody.
//!
//! ```text
//! /var/lib/netbpf/<instance>/   survives a reboot
//!     desired.toml              the committed document, byte for byte as it was given
//!     allocations.json          automatic choices that belong to it
//!     journal.json              everything this instance created or changed, and whether a
//!                               change is under way
//! /run/netbpf/<instance>/
//!     lock                      held by the one who writes; its process id is inside
//! /sys/fs/bpf/netbpf/<instance>/{maps,progs,links}/
//!                               pins, see `host::bpffs`
//! ```

use std::{
    collections::HashSet,
    fs::{self, File, OpenOptions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use ipnet::IpNet;
use nix::{
    errno::Errno,
    fcntl::{Flock, FlockArg},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::{
    allocations::Allocations,
    host::{Mac, NetnsId, netns, sysctl::Sysctl},
};

/// How long a second writer waits for the first.
pub const LOCK_PATIENCE: Duration = Duration::from_secs(30);

const LOCK_PAUSE: Duration = Duration::from_millis(50);

/// Version of `journal.json`. A newer netbpf reads every older one, so that it can purge it.
const JOURNAL_VERSION: u32 = 1;

/// Result of everything here.
pub type Result<T> = std::result::Result<T, Error>;

/// Why the state could not be read or written. All of it is exit code 1.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file refused.
    #[error("failed to {action}: {source}")]
    Io {
        /// What was tried, as a verb and its object.
        action: String,
        /// What the kernel answered.
        source: io::Error,
    },
    /// A file of ours does not hold what we write.
    #[error("{}: {source}", path.display())]
    Malformed {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// Another process writes and does not end.
    #[error("instance {instance} is locked by {holder}")]
    Locked {
        /// The instance.
        instance: String,
        /// `process 4711`.
        holder: String,
    },
    /// The instance belongs to another namespace.
    #[error("instance {instance} belongs to the network namespace {owner}, and this is {here}")]
    ElsewhereBound {
        /// The instance.
        instance: String,
        /// Its namespace.
        owner: NetnsId,
        /// Ours.
        here: NetnsId,
    },
    /// Another instance holds the namespace of a container.
    #[error(
        "container {container:?}: the network namespace {} is held by instance {holder}",
        path.display()
    )]
    Held {
        /// The container.
        container: String,
        /// Its namespace.
        path: PathBuf,
        /// The other instance.
        holder: String,
    },
    /// A namespace could not be looked at.
    #[error(transparent)]
    Host(#[from] crate::host::Error),
}

trait Doing<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Doing<T> for io::Result<T> {
    fn doing(self, action: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|source| Error::Io {
            action: action(),
            source,
        })
    }
}

/// Where the state of one instance is.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Instance {
    name: String,
    state: PathBuf,
    run: PathBuf,
}

impl Instance {
    /// The instance of that name, which the caller has validated; nothing need exist yet.
    pub fn new(name: &str) -> Self {
        Self::under(Path::new("/"), name)
    }

    /// The same below another root directory.
    pub fn under(root: &Path, name: &str) -> Self {
        Self {
            name: name.to_owned(),
            state: root.join("var/lib/netbpf").join(name),
            run: root.join("run/netbpf").join(name),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// `/var/lib/netbpf/<instance>`.
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// `/run/netbpf/<instance>`.
    pub fn run_dir(&self) -> &Path {
        &self.run
    }

    /// Whether it ever wrote anything that is still there.
    pub fn exists(&self) -> bool {
        self.journal_path().exists() || self.desired_path().exists()
    }

    fn desired_path(&self) -> PathBuf {
        self.state.join("desired.toml")
    }

    fn allocations_path(&self) -> PathBuf {
        self.state.join("allocations.json")
    }

    fn journal_path(&self) -> PathBuf {
        self.state.join("journal.json")
    }

    /// The committed document; none before the first `apply`.
    pub fn desired(&self) -> Result<Option<String>> {
        read(&self.desired_path())
    }

    /// Commits a document: after a crash at any point the file holds the old one or the new one.
    pub fn write_desired(&self, _lock: &Lock, text: &str) -> Result<()> {
        write_durably(&self.desired_path(), text.as_bytes())
    }

    /// Takes the committed document away.
    pub fn remove_desired(&self, _lock: &Lock) -> Result<()> {
        remove_file(&self.desired_path())
    }

    /// The automatic choices; `T::default()` when there are none.
    pub fn allocations<T: DeserializeOwned + Default>(&self) -> Result<T> {
        Ok(read_json(&self.allocations_path())?.unwrap_or_default())
    }

    /// Commits the automatic choices, as [`Self::write_desired`] does.
    pub fn write_allocations<T: Serialize>(&self, _lock: &Lock, allocations: &T) -> Result<()> {
        let path = self.allocations_path();
        write_durably(&path, &to_json(&path, allocations)?)
    }

    /// The inventory, for readers; none before the first `apply`.
    pub fn inventory(&self) -> Result<Option<Inventory>> {
        read_json(&self.journal_path())
    }

    /// Checks that the instance, if there is one, belongs to the namespace `here`.
    ///
    /// # Errors
    ///
    /// [`Error::ElsewhereBound`].
    pub fn check_namespace(&self, here: NetnsId) -> Result<()> {
        let Some(inventory) = self.inventory()? else {
            return Ok(());
        };
        let is_bound = inventory.boot == boot_id()?
            && inventory.host != here
            && netns::is_alive(inventory.host)?;
        if is_bound {
            return Err(Error::ElsewhereBound {
                instance: self.name.clone(),
                owner: inventory.host,
                here,
            });
        }
        Ok(())
    }

    /// Takes the lock that every writer holds, waiting for [`LOCK_PATIENCE`] and saying so.
    pub fn lock(&self) -> Result<Lock> {
        self.lock_within(LOCK_PATIENCE)
    }

    /// Takes the lock, waiting for `patience` and saying so.
    pub fn lock_within(&self, patience: Duration) -> Result<Lock> {
        let deadline = Instant::now() + patience;
        let mut said = false;
        loop {
            let holder = match self.try_lock()? {
                Ok(lock) => return Ok(lock),
                Err(holder) => holder,
            };
            if Instant::now() >= deadline {
                return Err(Error::Locked {
                    instance: self.name.clone(),
                    holder,
                });
            }
            if !said {
                said = true;
                let seconds = patience.as_secs();
                eprintln!(
                    "instance {} is locked by {holder}, waiting for at most {seconds} s",
                    self.name
                );
            }
            thread::sleep(LOCK_PAUSE);
        }
    }

    /// The lock, or who holds it.
    fn try_lock(&self) -> Result<std::result::Result<Lock, String>> {
        let path = self.run.join("lock");
        create_dir(&self.run)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .mode(0o600)
            .open(&path);
        let mut file = match file {
            Ok(file) => file,
            // A purge took the directory away in between.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Ok(Err("a purge".to_owned()));
            }
            Err(error) => return Err(error).doing(|| format!("open {}", path.display())),
        };
        let mut text = String::new();
        // Only to name the holder in a message.
        let _ = file.read_to_string(&mut text);
        let mut lock = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => lock,
            Err((_, Errno::EWOULDBLOCK)) => {
                let pid = text.trim();
                let holder = if pid.is_empty() {
                    "another process".into()
                } else {
                    format!("process {pid}")
                };
                return Ok(Err(holder));
            }
            Err((_, errno)) => {
                return Err(io::Error::from(errno)).doing(|| format!("lock {}", path.display()));
            }
        };
        // A purge that ended while we waited has removed the file that we hold now.
        let ours = lock
            .metadata()
            .doing(|| format!("stat {}", path.display()))?;
        if fs::metadata(&path)
            .ok()
            .is_none_or(|there| there.ino() != ours.ino())
        {
            return Ok(Err("a purge".to_owned()));
        }
        let written = lock.set_len(0).and_then(|()| lock.rewind());
        written
            .and_then(|()| write!(*lock, "{}", std::process::id()))
            .doing(|| format!("write {}", path.display()))?;
        Ok(Ok(Lock { _file: lock }))
    }

    /// Takes away every file and directory of this instance, at the end of a purge: the lock goes
    /// last, and the directories above only when no other instance is in them.
    pub fn remove(&self, lock: Lock) -> Result<()> {
        for directory in [&self.state, &self.run] {
            match fs::remove_dir_all(directory) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(error).doing(|| format!("remove {}", directory.display()));
                }
                _ => {}
            }
            if let Some(parent) = directory.parent() {
                // Another instance may be in it: then it stays.
                let _ = fs::remove_dir(parent);
            }
        }
        drop(lock);
        Ok(())
    }

    /// Takes the files and directories away if they hold nothing: no committed document and nothing
    /// that was made. What a first change that failed leaves is nothing.
    pub fn remove_if_unused(&self, lock: Lock) -> Result<()> {
        let holds_something =
            |found: Inventory| !found.changes.is_empty() || found.pending.is_some();
        if self.desired()?.is_some() || self.inventory()?.is_some_and(holds_something) {
            return Ok(());
        }
        self.remove(lock)
    }

    /// The other instances that have state, by their journals. One that can't be read is left out.
    fn others(&self) -> Vec<(String, Inventory)> {
        let Some(Ok(entries)) = self.state.parent().map(fs::read_dir) else {
            return Vec::new();
        };
        entries
            .filter_map(io::Result::ok)
            .filter_map(|entry| entry.file_name().into_string().ok())
            .filter(|name| *name != self.name)
            .filter_map(|name| {
                let path = self.state.with_file_name(&name).join("journal.json");
                match read_json::<Inventory>(&path) {
                    Ok(inventory) => Some((name, inventory?)),
                    Err(error) => {
                        tracing::warn!(%error, "skipping the journal of another instance");
                        None
                    }
                }
            })
            .collect()
    }
}

/// Proof of being the only writer of an instance.
#[derive(Debug)]
pub struct Lock {
    _file: Flock<File>,
}

/// Who made a container's namespace.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// We did: `purge` removes it.
    Made,
    /// Somebody else: `purge` leaves it.
    Adopted,
}

/// A bridge of somebody else's as it was before we used it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AdoptedBridge {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Its own addresses.
    pub addresses: Vec<IpNet>,
    /// Its number, which another one of the same name has not; 0 where it was not noted.
    #[serde(default)]
    pub index: u32,
}

/// One thing that was created or changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// The directories of the instance in the bpffs, with all that is pinned there.
    Pins {
        /// The instance.
        instance: String,
    },
    /// A directory, to be removed if it is empty.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// A section of a file.
    Section {
        /// The file.
        path: PathBuf,
    },
    /// A bridge that we made.
    Bridge {
        /// Its name.
        name: String,
        /// The alias that marks it.
        alias: String,
        /// Its fixed hardware address.
        mac: Mac,
    },
    /// A bridge that was there.
    AdoptedBridge(AdoptedBridge),
    /// A container's namespace.
    Netns {
        /// The container.
        container: String,
        /// Where it is mounted.
        path: PathBuf,
        /// Which it is; unknown until it has been made.
        id: Option<NetnsId>,
        /// Who made it.
        origin: Origin,
    },
    /// A veth pair that we made.
    Veth {
        /// Name of the host's side.
        name: String,
        /// The alias that marks it.
        alias: String,
        /// Hardware address of the host's side.
        mac: Mac,
        /// The container.
        container: String,
    },
    /// An address that we gave to an interface of the host.
    Address {
        /// The interface.
        interface: String,
        /// The address with its prefix length.
        net: IpNet,
    },
    /// A `clsact` qdisc that we made.
    Qdisc {
        /// The interface that has it, under its name of the last change.
        interface: String,
        /// The interface's number, which outlives a new name; 0 where it was not noted.
        #[serde(default)]
        index: u32,
    },
    /// A sysctl that we set.
    Sysctl {
        /// Which.
        sysctl: Sysctl,
        /// Its value before.
        old: String,
    },
}

impl Change {
    /// Whether both are about the same thing, whatever was noted of it.
    pub fn is_about_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pins { instance: a }, Self::Pins { instance: b }) => a == b,
            (Self::Directory { path: a }, Self::Directory { path: b })
            | (Self::Section { path: a }, Self::Section { path: b })
            | (Self::Netns { path: a, .. }, Self::Netns { path: b, .. }) => a == b,
            (Self::Bridge { name: a, .. }, Self::Bridge { name: b, .. })
            | (Self::Veth { name: a, .. }, Self::Veth { name: b, .. }) => a == b,
            (Self::AdoptedBridge(a), Self::AdoptedBridge(b)) => a.name == b.name,
            (
                Self::Qdisc {
                    interface: a,
                    index: x,
                },
                Self::Qdisc {
                    interface: b,
                    index: y,
                },
            ) if *x == 0 || *y == 0 => a == b,
            (Self::Qdisc { index: x, .. }, Self::Qdisc { index: y, .. }) => x == y,
            (
                Self::Address {
                    interface: a,
                    net: x,
                },
                Self::Address {
                    interface: b,
                    net: y,
                },
            ) => a == b && x == y,
            (Self::Sysctl { sysctl: a, .. }, Self::Sysctl { sysctl: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Whether it is gone with the namespace that it was in.
    fn is_in_the_host_netns(&self) -> bool {
        !matches!(
            self,
            Self::Pins { .. } | Self::Directory { .. } | Self::Section { .. } | Self::Netns { .. }
        )
    }

    /// Whether it is still there after a reboot.
    fn is_on_disk(&self) -> bool {
        matches!(self, Self::Directory { .. } | Self::Section { .. })
    }
}

/// The committed state before the change that is under way: what to go back to.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pending {
    /// The document; none when the change is the first one.
    pub desired: Option<String>,
    /// The automatic choices that belonged to it.
    pub allocations: Option<Allocations>,
}

/// Everything that an instance created or changed and has not taken back.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Inventory {
    /// Version of this format.
    pub version: u32,
    /// Version of the netbpf that wrote it.
    pub written_by: String,
    /// The boot that it is about: what is in the kernel doesn't outlive it.
    pub boot: String,
    /// The namespace that the instance acts on.
    pub host: NetnsId,
    /// What to go back to; none when no change is under way.
    pub pending: Option<Pending>,
    /// In the order they were made.
    pub changes: Vec<Change>,
}

/// The inventory while it is being changed. Every verb has written it before it returns, so that
/// whoever comes after a kill finds each thing that may have been made. It is written without
/// waiting for the disk: a power cut voids what is in the kernel as well.
#[derive(Debug)]
pub struct Journal {
    path: PathBuf,
    inventory: Inventory,
}

impl Journal {
    /// Opens the journal of `instance` for the namespace `host`, or begins one.
    ///
    /// After a reboot it holds what is on disk, and when the namespace that the instance belonged to
    /// is gone, what outlives that.
    ///
    /// # Errors
    ///
    /// When the instance belongs to another namespace.
    pub fn open(instance: &Instance, _lock: &Lock, host: NetnsId) -> Result<Self> {
        create_dir(&instance.state)?;
        let path = instance.journal_path();
        let boot = boot_id()?;
        let fresh = Inventory {
            version: JOURNAL_VERSION,
            written_by: env!("CARGO_PKG_VERSION").to_owned(),
            boot,
            host,
            pending: None,
            changes: Vec::new(),
        };
        let Some(found) = read_json::<Inventory>(&path)? else {
            return Ok(Self {
                path,
                inventory: fresh,
            });
        };
        if found.boot != fresh.boot {
            let mut changes = found.changes;
            changes.retain(Change::is_on_disk);
            return Ok(Self {
                path,
                inventory: Inventory {
                    pending: found.pending,
                    changes,
                    ..fresh
                },
            });
        }
        if found.host == host {
            let written_by = fresh.written_by;
            return Ok(Self {
                path,
                inventory: Inventory {
                    written_by,
                    ..found
                },
            });
        }
        instance.check_namespace(host)?;
        let mut changes = found.changes;
        changes.retain(|change| !change.is_in_the_host_netns());
        Ok(Self {
            path,
            inventory: Inventory {
                pending: found.pending,
                changes,
                ..fresh
            },
        })
    }

    /// What it holds.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Every change that has not been taken back.
    pub fn changes(&self) -> &[Change] {
        &self.inventory.changes
    }

    /// What to go back to, when a change is under way.
    pub fn pending(&self) -> Option<&Pending> {
        self.inventory.pending.as_ref()
    }

    /// Notes that a change begins. What an unfinished one would go back to is kept.
    pub fn begin(&mut self, before: Pending) -> Result<()> {
        self.inventory.pending.get_or_insert(before);
        self.write()
    }

    /// Notes that the change has been finished or taken back.
    pub fn finish(&mut self) -> Result<()> {
        self.inventory.pending = None;
        self.write()
    }

    /// Notes what is about to be made. What is noted already stays as it is: the first old value
    /// of a sysctl is the one to go back to.
    pub fn extend(&mut self, changes: &[Change]) -> Result<()> {
        let before = self.inventory.changes.len();
        for change in changes {
            if !self
                .inventory
                .changes
                .iter()
                .any(|known| known.is_about_same(change))
            {
                self.inventory.changes.push(change.clone());
            }
        }
        if self.inventory.changes.len() == before {
            return Ok(());
        }
        self.write()
    }

    /// Notes what has been taken back.
    pub fn forget(&mut self, changes: &[Change]) -> Result<()> {
        let before = self.inventory.changes.len();
        self.inventory
            .changes
            .retain(|known| !changes.iter().any(|change| change.is_about_same(known)));
        if self.inventory.changes.len() == before {
            return Ok(());
        }
        self.write()
    }

    /// Notes which namespace it is that was made, or is again, at `path`.
    pub fn identify_netns(&mut self, at: &Path, found: NetnsId) -> Result<()> {
        let known = self
            .inventory
            .changes
            .iter_mut()
            .find_map(|change| match change {
                Change::Netns { path, id, .. } if path == at => Some(id),
                _ => None,
            });
        match known {
            Some(id) if *id != Some(found) => *id = Some(found),
            _ => return Ok(()),
        }
        self.write()
    }

    /// Notes under which name an interface with a qdisc of ours is known by now.
    pub fn rename_qdisc(&mut self, to: &Change) -> Result<()> {
        let mut changes = self.inventory.changes.iter_mut();
        match changes.find(|known| known.is_about_same(to)) {
            Some(known) if known != to => *known = to.clone(),
            _ => return Ok(()),
        }
        self.write()
    }

    /// Looks whether another instance holds one of the containers' namespaces, given as name, path
    /// and identity.
    pub fn check_containers(
        &self,
        instance: &Instance,
        containers: &[(&str, &Path, NetnsId)],
    ) -> Result<()> {
        for (holder, theirs) in instance.others() {
            if theirs.boot != self.inventory.boot {
                continue;
            }
            let held: HashSet<NetnsId> = theirs.changes.iter().filter_map(netns_of).collect();
            let Some((container, path, _)) = containers.iter().find(|(.., id)| held.contains(id))
            else {
                continue;
            };
            return Err(Error::Held {
                container: (*container).to_owned(),
                path: path.to_path_buf(),
                holder,
            });
        }
        Ok(())
    }

    fn write(&self) -> Result<()> {
        write_at_once(&self.path, &to_json(&self.path, &self.inventory)?)
    }
}

fn netns_of(change: &Change) -> Option<NetnsId> {
    let Change::Netns { id, .. } = change else {
        return None;
    };
    *id
}

fn boot_id() -> Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = fs::read_to_string(path).doing(|| format!("read {path}"))?;
    Ok(text.trim().to_owned())
}

fn create_dir(path: &Path) -> Result<()> {
    fs::create_dir_all(path).doing(|| format!("create {}", path.display()))
}

fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).doing(|| format!("read {}", path.display())),
    }
}

/// A file that a power cut left without its bytes, which reads as empty or as zeros, counts as
/// missing: such a file was about what the power cut has voided anyway.
fn read_json<T: DeserializeOwned>(path: &Path) -> Result<Option<T>> {
    let Some(text) = read(path)? else {
        return Ok(None);
    };
    if text.trim_matches('\0').is_empty() {
        return Ok(None);
    }
    let value = serde_json::from_str(&text).map_err(|source| Error::Malformed {
        path: path.to_owned(),
        source,
    })?;
    Ok(Some(value))
}

fn to_json<T: Serialize>(path: &Path, value: &T) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|source| Error::Malformed {
        path: path.to_owned(),
        source,
    })
}

fn remove_file(path: &Path) -> Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

/// Replaces a file in one step; a power cut may lose it.
fn write_at_once(path: &Path, bytes: &[u8]) -> Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, bytes).doing(|| format!("write {}", new.display()))?;
    fs::rename(&new, path).doing(|| format!("replace {}", path.display()))
}

/// Replaces a file in one step that a power cut can't undo.
fn write_durably(path: &Path, bytes: &[u8]) -> Result<()> {
    let directory = path.parent().unwrap_or(Path::new("/"));
    create_dir(directory)?;
    let new = path.with_extension("new");
    let write = || -> io::Result<()> {
        let mut file = File::create(&new)?;
        file.write_all(bytes)?;
        file.sync_all()?;
        fs::rename(&new, path)?;
        File::open(directory)?.sync_all()
    };
    write().doing(|| format!("write {}", path.display()))
}
