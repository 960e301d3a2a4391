//! The journal: the inventory on its way to the file, before anything is made.

use std::{collections::HashSet, path::Path};

use serde::{Deserialize, Serialize};

use super::{
    Bounds, Change, Changes, Error, Instance, Inventory, Lock, Pending, Result,
    files::{boot_id, create_dir},
    log::{Log, first_line, lines},
};
use crate::host::NetnsId;

/// Version of the journal. A newer netbpf reads every older one, so that it can purge it.
const JOURNAL_VERSION: u32 = 1;

/// How many things may have been forgotten, beside as many as are left, until the file is written
/// anew.
const FORGOTTEN_MAX: usize = 256;

/// A line of the journal.
#[derive(Debug, Deserialize, Serialize)]
#[serde(rename_all = "snake_case")]
enum Note {
    /// The first line.
    Bounds(Bounds),
    /// A change begins.
    Pending(Pending),
    /// It has been finished or taken back.
    Finished,
    /// These things are about to be made.
    Made(Vec<Change>),
    /// This one is known otherwise by now.
    Known(Change),
    /// These have been taken back.
    TakenBack(Vec<Change>),
}

/// The inventory that the journal at `path` comes to; none where there is no journal.
pub(super) fn read(path: &Path) -> Result<Option<Inventory>> {
    Ok(replay(lines(path)?).map(|(inventory, _)| inventory))
}

/// What the journal at `path` is about.
pub(super) fn read_bounds(path: &Path) -> Result<Option<Bounds>> {
    Ok(match first_line(path)? {
        Some(Note::Bounds(bounds)) => Some(bounds),
        _ => None,
    })
}

/// What notes come to, and how many things in them are not there any more.
fn replay(notes: Vec<Note>) -> Option<(Inventory, usize)> {
    let mut notes = notes.into_iter();
    let Some(Note::Bounds(bounds)) = notes.next() else {
        return None;
    };
    let mut inventory = Inventory {
        bounds,
        pending: None,
        changes: Changes::default(),
    };
    let mut forgotten = 0;
    for note in notes {
        match note {
            Note::Bounds(bounds) => inventory.bounds = bounds,
            Note::Pending(pending) => {
                inventory.pending.get_or_insert(pending);
            }
            Note::Finished => {
                inventory.pending = None;
                forgotten += 1;
            }
            Note::Made(changes) => inventory.changes.extend(changes),
            Note::Known(change) => {
                inventory.changes.renote(&change);
                forgotten += 1;
            }
            Note::TakenBack(changes) => {
                for change in &changes {
                    inventory.changes.forget(change);
                }
                forgotten += 2 * changes.len();
            }
        }
    }
    Some((inventory, forgotten))
}

/// The inventory while it is being changed. Every verb has written it before it returns, so that
/// whoever comes after a kill finds each thing that may have been made. It is written without
/// waiting for the disk: a power cut voids what is in the kernel as well.
#[derive(Debug)]
pub struct Journal {
    log: Log,
    inventory: Inventory,
    /// Whether the file is this inventory's: else it is written anew.
    has_file: bool,
    /// How much of what the file says does not hold any more.
    forgotten: usize,
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
        let (notes, log) = Log::open(&instance.journal_path())?;
        Self::of(instance, notes, log, fresh(host)?)
    }

    /// As [`Self::open`], without the lines that can't be read, of another version perhaps; what is
    /// wrong with each. If the first is among them, the others are taken for this boot's and this
    /// namespace's.
    ///
    /// # Errors
    ///
    /// As [`Self::open`].
    pub fn open_readable(
        instance: &Instance,
        _lock: &Lock,
        host: NetnsId,
    ) -> Result<(Self, Vec<Error>)> {
        create_dir(&instance.state)?;
        let (mut notes, unreadable, log) = Log::open_readable(&instance.journal_path())?;
        let fresh = fresh(host)?;
        if !unreadable.is_empty() && !matches!(notes.first(), Some(Note::Bounds(_))) {
            notes.insert(0, Note::Bounds(fresh.clone()));
        }
        Ok((Self::of(instance, notes, log, fresh)?, unreadable))
    }

    fn of(instance: &Instance, notes: Vec<Note>, log: Log, fresh: Bounds) -> Result<Self> {
        let host = fresh.host;
        let Some((mut inventory, forgotten)) = replay(notes) else {
            return Ok(Self::anew(log, fresh, None, Changes::default()));
        };
        let found = &inventory.bounds;
        if found.boot == fresh.boot && found.host == host {
            return Ok(Self {
                log,
                has_file: *found == fresh && forgotten < FORGOTTEN_MAX + inventory.changes.len(),
                forgotten,
                inventory: Inventory {
                    bounds: fresh,
                    ..inventory
                },
            });
        }
        if found.boot != fresh.boot {
            inventory.changes.retain(Change::is_on_disk);
        } else {
            instance.check_namespace(host)?;
            let outlives = |change: &Change| !change.is_in_the_host_netns();
            inventory.changes.retain(outlives);
        }
        Ok(Self::anew(log, fresh, inventory.pending, inventory.changes))
    }

    fn anew(log: Log, bounds: Bounds, pending: Option<Pending>, changes: Changes) -> Self {
        Self {
            log,
            inventory: Inventory {
                bounds,
                pending,
                changes,
            },
            has_file: false,
            forgotten: 0,
        }
    }

    /// What it holds.
    pub fn inventory(&self) -> &Inventory {
        &self.inventory
    }

    /// Every change that has not been taken back.
    pub fn changes(&self) -> &Changes {
        &self.inventory.changes
    }

    /// What to go back to, when a change is under way.
    pub fn pending(&self) -> Option<&Pending> {
        self.inventory.pending.as_ref()
    }

    /// Notes that a change begins. What an unfinished one would go back to is kept.
    pub fn begin(&mut self, before: Pending) -> Result<()> {
        self.inventory.pending.get_or_insert(before);
        self.write(&Note::Pending(before))
    }

    /// Notes that the change has been finished or taken back.
    pub fn finish(&mut self) -> Result<()> {
        if self.inventory.pending.take().is_none() {
            return Ok(());
        }
        self.write(&Note::Finished)?;
        // A process that stays opens the file once and changes much.
        self.forgotten += 1;
        self.has_file &= self.forgotten < FORGOTTEN_MAX + self.inventory.changes.len();
        Ok(())
    }

    /// Notes what is about to be made. What is noted already stays as it is: the first old value
    /// of a sysctl is the one to go back to.
    pub fn extend(&mut self, changes: &[Change]) -> Result<()> {
        let own = &mut self.inventory.changes;
        let new = changes.iter().filter(|change| own.note(change));
        let new: Vec<Change> = new.cloned().collect();
        if new.is_empty() {
            return Ok(());
        }
        self.write(&Note::Made(new))
    }

    /// Notes what has been taken back.
    pub fn forget(&mut self, changes: &[Change]) -> Result<()> {
        let own = &mut self.inventory.changes;
        let gone = changes.iter().filter(|change| own.forget(change));
        let gone: Vec<Change> = gone.cloned().collect();
        if gone.is_empty() {
            return Ok(());
        }
        self.write(&Note::TakenBack(gone))
    }

    /// Notes which namespace it is that was made, or is again, at `path`.
    pub fn identify_netns(&mut self, path: &Path, found: NetnsId) -> Result<()> {
        let Some(mut change) = self.changes().netns(path).cloned() else {
            return Ok(());
        };
        if let Change::Netns { id, .. } = &mut change {
            *id = Some(found);
        }
        self.renote(&change)
    }

    /// Notes under which name an interface with a qdisc of ours is known by now.
    pub fn rename_qdisc(&mut self, to: &Change) -> Result<()> {
        self.renote(to)
    }

    fn renote(&mut self, change: &Change) -> Result<()> {
        if self.inventory.changes.renote(change) {
            return self.write(&Note::Known(change.clone()));
        }
        Ok(())
    }

    /// Looks whether another instance holds one of the containers' namespaces, given as name, path
    /// and identity.
    pub fn check_containers(
        &self,
        instance: &Instance,
        containers: &[(&str, &Path, NetnsId)],
    ) -> Result<()> {
        for (holder, theirs) in instance.others() {
            if theirs.bounds.boot != self.inventory.bounds.boot {
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

    /// Writes one note, which the inventory has in it already.
    fn write(&mut self, note: &Note) -> Result<()> {
        if self.has_file {
            // What could not be appended comes with the next one.
            let appended = self.log.append(note);
            self.has_file = appended.is_ok();
            return appended;
        }
        let changes: Vec<Change> = self.changes().iter().cloned().collect();
        let pending = self.inventory.pending;
        let mut notes = vec![Note::Bounds(self.inventory.bounds.clone())];
        notes.extend(pending.map(Note::Pending));
        notes.push(Note::Made(changes));
        self.log.replace(&notes)?;
        (self.has_file, self.forgotten) = (true, 0);
        Ok(())
    }
}

/// What a journal that is begun now is about.
fn fresh(host: NetnsId) -> Result<Bounds> {
    Ok(Bounds {
        version: JOURNAL_VERSION,
        written_by: env!("CARGO_PKG_VERSION").to_owned(),
        boot: boot_id()?,
        host,
    })
}

fn netns_of(change: &Change) -> Option<NetnsId> {
    let Change::Netns { id, .. } = change else {
        return None;
    };
    *id
}
