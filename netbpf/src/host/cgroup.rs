//! The root of the unified cgroup hierarchy (cgroup2), which the sockets of all processes are below.
//! It is only looked for, never mounted.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::{
    error::{Doing, Result},
    kernel,
};

/// By which the environment rules it out.
pub(super) const WORD: &str = "cgroup2";

const MOUNTINFO: &str = "/proc/thread-self/mountinfo";

/// Where the root cgroup is; `None` on a host without cgroup2, or where only a part of the
/// hierarchy is mounted.
pub fn root() -> Result<Option<PathBuf>> {
    if kernel::is_ruled_out(WORD) {
        return Ok(None);
    }
    let mounts = fs::read_to_string(MOUNTINFO).doing(|| format!("read {MOUNTINFO}"))?;
    Ok(root_in(&mounts).filter(|path| path.is_dir()))
}

/// The last mount of a whole cgroup2 hierarchy: an earlier one may be covered by it.
fn root_in(mounts: &str) -> Option<PathBuf> {
    mounts.lines().rev().find_map(|line| {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut fields = mount.split(' ').skip(3);
        let (root, at) = (fields.next()?, fields.next()?);
        let is_whole = root == "/" && filesystem.split(' ').next() == Some("cgroup2");
        is_whole.then(|| Path::new(at).to_owned())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_root_is_found_alone_or_beside_older_hierarchies() {
        let unified = "33 24 0:28 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(unified), Some("/sys/fs/cgroup".into()));
        let hybrid = "31 23 0:28 / /sys/fs/cgroup rw - tmpfs tmpfs rw,mode=755\n\
                      32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n\
                      41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n\
                      42 31 0:39 / /sys/fs/cgroup/misc rw - cgroup cgroup rw,misc\n";
        assert_eq!(root_in(hybrid), Some("/sys/fs/cgroup/unified".into()));
    }

    #[test]
    fn a_part_of_the_hierarchy_or_none_is_not_taken_for_its_root() {
        let part = "33 24 0:28 /user.slice /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n";
        assert_eq!(root_in(part), None);
        let old = "32 31 0:29 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n";
        assert_eq!(root_in(old), None);
        assert_eq!(root_in(""), None);
    }
}
