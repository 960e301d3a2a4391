//! The bpffs.

use std::thread;

use netbpf::host::{Error, bpffs};
use nix::{
    mount::{MntFlags, MsFlags, mount, umount2},
    sched::{CloneFlags, unshare},
};

use crate::bed::Bed;

/// As `ip netns exec` does: a mount namespace with the sysfs of the network namespace.
fn hide_sys() {
    unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
    let private = MsFlags::MS_REC | MsFlags::MS_SLAVE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
    let _ = umount2("/sys", MntFlags::MNT_DETACH);
    mount(
        Some("web"),
        "/sys",
        Some("sysfs"),
        MsFlags::empty(),
        None::<&str>,
    )
    .unwrap();
}

#[test]
fn a_private_sys_is_refused_and_netns_is_named() {
    Bed::with(|_| {
        hide_sys();
        let error = bpffs::ensure_mounted().unwrap_err();
        assert!(matches!(error, Error::PrivateSys), "{error}");
        assert!(error.to_string().contains("--netns"));
        assert_eq!(error.exit_code(), 3);
        assert!(!bpffs::is_mounted().unwrap());
    });
}

#[test]
fn pin_directories_are_made_and_removed_twice_over() {
    let instance = format!("nbhost{}", std::process::id());
    // In a mount namespace of its own, so that the machine's bpffs is left alone.
    let check = move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
        mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
        mount(
            Some("bpf"),
            "/sys/fs/bpf",
            Some("bpf"),
            MsFlags::empty(),
            None::<&str>,
        )
        .unwrap();
        let dirs = bpffs::PinDirs::of(&instance);
        dirs.create().unwrap();
        dirs.create().unwrap();
        assert!(dirs.exist() && dirs.links.is_dir());
        dirs.remove().unwrap();
        dirs.remove().unwrap();
        assert!(!dirs.exist());
        assert!(!dirs.base.parent().unwrap().exists());
        assert!(bpffs::is_mounted().unwrap());
    };
    thread::spawn(check).join().unwrap();
}
