//! The bpffs and the directories of an instance in it. What is pinned there is somebody else's
//! affair, but for taking it away.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use nix::{
    mount::{MsFlags, mount},
    sys::statfs::{FsType, statfs},
};

use super::{
    error::{Doing, Error, Result},
    netns::Done,
};

/// Where the bpffs is.
pub const MOUNT_POINT: &str = "/sys/fs/bpf";

/// `BPF_FS_MAGIC` of `linux/magic.h`.
const BPF_FS_MAGIC: FsType = FsType(0xcafe_4a11);

/// The directories that an instance pins in.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PinDirs {
    /// `/sys/fs/bpf/netbpf/<instance>`.
    pub base: PathBuf,
    /// `maps` in it.
    pub maps: PathBuf,
    /// `progs` in it.
    pub progs: PathBuf,
    /// `links` in it.
    pub links: PathBuf,
}

impl PinDirs {
    /// The directories of `instance`; they need not exist.
    pub fn of(instance: &str) -> Self {
        let base = Path::new(MOUNT_POINT).join("netbpf").join(instance);
        Self {
            maps: base.join("maps"),
            progs: base.join("progs"),
            links: base.join("links"),
            base,
        }
    }

    /// Makes those that are missing.
    pub fn create(&self) -> Result<()> {
        for directory in [&self.maps, &self.progs, &self.links] {
            fs::create_dir_all(directory).doing(|| format!("create {}", directory.display()))?;
        }
        Ok(())
    }

    /// Whether any of them is there.
    pub fn exist(&self) -> bool {
        self.base.exists()
    }

    /// Takes every pin away and then the directories: links first, so that no packet meets a
    /// program whose maps are going, and the directory above when no other instance is in it.
    pub fn remove(&self) -> Result<()> {
        for directory in [&self.links, &self.progs, &self.maps] {
            remove_tree(directory)?;
        }
        remove_tree(&self.base)?;
        remove_if_empty(self.base.parent())
    }
}

/// Refuses a `/sys` that would take the pins with it: inside `ip netns exec`, without a bpffs.
pub fn require_lasting() -> Result<()> {
    if !is_mounted()? && is_sys_private()? {
        return Err(Error::PrivateSys);
    }
    Ok(())
}

/// Mounts a bpffs at [`MOUNT_POINT`] when there is none.
///
/// Inside `ip netns exec`, where `/sys` would take the pins with it, this is an error that names
/// `--netns`.
pub fn ensure_mounted() -> Result<Done> {
    require_lasting()?;
    if is_mounted()? {
        return Ok(Done::Already);
    }
    // Two first commands at once must not hide each other's pins under a second mount: whoever
    // holds the directory that is about to be covered looks again.
    let covered = fs::File::open(MOUNT_POINT).doing(|| format!("open {MOUNT_POINT}"))?;
    covered.lock().doing(|| format!("lock {MOUNT_POINT}"))?;
    if is_mounted()? {
        return Ok(Done::Already);
    }
    mount(
        Some("bpf"),
        MOUNT_POINT,
        Some("bpf"),
        MsFlags::empty(),
        Some("mode=700"),
    )
    .doing(|| format!("mount a bpffs at {MOUNT_POINT}"))?;
    Ok(Done::Changed)
}

/// Whether a bpffs is at [`MOUNT_POINT`].
pub fn is_mounted() -> Result<bool> {
    let filesystem = statfs(MOUNT_POINT).doing(|| format!("statfs {MOUNT_POINT}"))?;
    Ok(filesystem.filesystem_type() == BPF_FS_MAGIC)
}

/// Whether `/sys` was mounted for this mount namespace alone: it is another sysfs than the first
/// process's, or that one has the bpffs which we lack. Mounts are compared and not namespaces,
/// because not everywhere is root allowed to look at the first process's.
fn is_sys_private() -> Result<bool> {
    let Ok(first) = fs::read_to_string("/proc/1/mountinfo") else {
        return Ok(false);
    };
    let ours = fs::read_to_string("/proc/thread-self/mountinfo")
        .doing(|| "read /proc/thread-self/mountinfo".to_owned())?;
    let sysfs_differs = device_at(&ours, "/sys") != device_at(&first, "/sys");
    let bpffs_is_hidden = device_at(&first, MOUNT_POINT).is_some();
    Ok(sysfs_differs || bpffs_is_hidden)
}

/// `major:minor` of the uppermost mount at `path`: each network namespace has a sysfs of its own.
fn device_at<'a>(mountinfo: &'a str, path: &str) -> Option<&'a str> {
    mountinfo
        .lines()
        .rev()
        .map(|line| line.split(' ').collect::<Vec<_>>())
        .find(|fields| fields.get(4) == Some(&path))
        .and_then(|fields| fields.get(2).copied())
}

fn remove_tree(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => {
            Err(error).doing(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}

fn remove_if_empty(directory: Option<&Path>) -> Result<()> {
    let Some(directory) = directory else {
        return Ok(());
    };
    match fs::remove_dir(directory) {
        Ok(()) => Ok(()),
        Err(error) => match error.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty => Ok(()),
            _ => Err(error).doing(|| format!("remove {}", directory.display())),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_uppermost_sys_counts() {
        let mountinfo = "22 27 0:21 / /proc rw - proc proc rw\n\
                         23 27 0:22 / /sys rw - sysfs sysfs rw\n\
                         90 23 0:77 / /sys rw - sysfs web rw\n\
                         31 90 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw\n";
        assert_eq!(device_at(mountinfo, "/sys"), Some("0:77"));
        assert_eq!(device_at("", "/sys"), None);
    }
}
