//! What an instance remembers: the lock, the desired state, the allocations, the journal.
//! It never looks at the kernel's objects, and readers never wait for anybody.
//!
//! ```text
//! /var/lib/netbpf/<instance>/   survives a reboot
//!     desired.toml              the committed document, byte for byte as it was given
//!     allocations.jsonl         automatic choices that belong to it: all of them, then a change a
//!                               line
//!     journal.jsonl             everything this instance created or changed, and whether a
//!                               change is under way: a note a line
//! /run/netbpf/<instance>/
//!     lock                      held by the one who writes; its process id is inside
//! /sys/fs/bpf/netbpf/<instance>/{maps,progs,links}/
//!                               pins, see `host::bpffs`
//! ```

mod allocated;
mod changes;
mod files;
mod inventory;
mod journal;
mod lock;
mod log;

use std::{
    fs, io,
    path::{Path, PathBuf},
    thread,
};

use self::files::{Doing as _, boot_id, read, remove_file, write_durably};
pub use self::{
    allocated::Allocated,
    changes::Changes,
    inventory::{AdoptedBridge, Bounds, Change, Inventory, Origin, Pending, fingerprint},
    journal::Journal,
    lock::{LOCK_PATIENCE, Lock},
};
use crate::host::{NetnsId, netns};

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
    /// As `Malformed`, for a line of one of lines.
    #[error("{}:{line}: {source}", path.display())]
    MalformedLine {
        /// The file.
        path: PathBuf,
        /// Which line, from 1.
        line: usize,
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

/// A document that was replaced. Its blocks are given back when this goes, for which some
/// filesystems take longer than for writing the new one.
#[derive(Debug)]
pub struct Replaced {
    _old: Option<fs::File>,
}

impl Replaced {
    /// Gives the blocks of several back where nobody waits for it.
    pub fn give_back(all: Vec<Self>) {
        // Without a thread they are given back at once.
        let _ = thread::Builder::new().spawn(move || drop(all));
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
    /// The name of the one that is meant where none is named.
    pub const DEFAULT: &str = "default";

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

    /// Where the committed document is.
    pub fn desired_path(&self) -> PathBuf {
        self.state.join("desired.toml")
    }

    fn allocations_path(&self) -> PathBuf {
        self.state.join("allocations.jsonl")
    }

    fn journal_path(&self) -> PathBuf {
        self.state.join("journal.jsonl")
    }

    /// The committed document; none before the first `apply`.
    pub fn desired(&self) -> Result<Option<String>> {
        read(&self.desired_path())
    }

    /// Commits a document: after a crash at any point the file holds the old one or the new one.
    pub fn write_desired(&self, _lock: &Lock, text: &str) -> Result<Replaced> {
        let path = self.desired_path();
        let old = fs::File::open(&path).ok();
        write_durably(&path, text.as_bytes())?;
        Ok(Replaced { _old: old })
    }

    /// The document, the automatic choices, the journal.
    pub fn files(&self) -> [PathBuf; 3] {
        [
            self.desired_path(),
            self.allocations_path(),
            self.journal_path(),
        ]
    }

    /// Takes the committed document away.
    pub fn remove_desired(&self, _lock: &Lock) -> Result<()> {
        remove_file(&self.desired_path())
    }

    /// The inventory, for readers; none before the first `apply`.
    pub fn inventory(&self) -> Result<Option<Inventory>> {
        journal::read(&self.journal_path())
    }

    /// Checks that the instance, if there is one, belongs to the namespace `here`.
    ///
    /// # Errors
    ///
    /// [`Error::ElsewhereBound`].
    pub fn check_namespace(&self, here: NetnsId) -> Result<()> {
        let Some(bounds) = journal::read_bounds(&self.journal_path())? else {
            return Ok(());
        };
        let is_bound =
            bounds.boot == boot_id()? && bounds.host != here && netns::is_alive(bounds.host)?;
        if is_bound {
            return Err(Error::ElsewhereBound {
                instance: self.name.clone(),
                owner: bounds.host,
                here,
            });
        }
        Ok(())
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
        if self.desired_path().exists() || self.inventory()?.is_some_and(holds_something) {
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
                let path = self.state.with_file_name(&name).join("journal.jsonl");
                match journal::read(&path) {
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
