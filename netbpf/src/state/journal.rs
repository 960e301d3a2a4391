//! The journal: the inventory on its way to the file, before anything is made.

use std::{
    collections::HashSet,
    path::{Path, PathBuf},
};

use super::{
    Change, Error, Instance, Inventory, Lock, Pending, Result,
    files::{boot_id, create_dir, read_json, to_json, write_at_once},
};
use crate::host::NetnsId;

/// Version of `journal.json`. A newer netbpf reads every older one, so that it can purge it.
const JOURNAL_VERSION: u32 = 1;

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
