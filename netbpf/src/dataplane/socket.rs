//! The hooks at sockets: links on the root cgroup, pinned one by one as `links/<hook>-cgroup`.
//!
//! Several programs can hang there, of other instances and of others, and each sees what the one
//! before it made of an address. Nothing here knows why sockets are hooked.

use std::{
    ffi::CString,
    fs::{self, File},
    io,
    os::{
        fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::{Path, PathBuf},
};

use aya::programs::{
    CgroupAttachMode, CgroupSockAddr, CgroupSockAddrAttachType, ProgramInfo,
    links::{FdLink, PinnedLink},
};
use netbpf_common::verdict::Hook;
use nix::libc;

use super::{Error, attach::cause, pin, syscall::bpf};
use crate::host::bpffs::PinDirs;

fn error(what: &'static str, hook: Hook) -> impl Fn(String) -> Error {
    move |cause| Error::Hook {
        what,
        hook: hook.name(),
        interface: "the root cgroup".to_owned(),
        cause,
    }
}

fn pin_of(pins: &PinDirs, hook: Hook) -> PathBuf {
    pins.links.join(format!("{}-cgroup", hook.name()))
}

/// The hooks at sockets that have a pinned link, whatever it runs.
pub fn pinned(pins: &PinDirs) -> Vec<Hook> {
    let hooks = Hook::AT_SOCKETS.into_iter();
    hooks.filter(|hook| pin_of(pins, *hook).exists()).collect()
}

/// The hooks at sockets that are in place: their pinned link runs the program that is pinned now.
///
/// # Errors
///
/// A failed system call.
pub fn hooked(pins: &PinDirs) -> Result<Vec<Hook>, Error> {
    let mut hooked = Vec::new();
    for hook in pinned(pins) {
        if is_hooked(pins, hook)? {
            hooked.push(hook);
        }
    }
    Ok(hooked)
}

fn is_hooked(pins: &PinDirs, hook: Hook) -> Result<bool, Error> {
    let error = error("look for", hook);
    let program = pins.progs.join(hook.name());
    if !program.exists() {
        return Ok(false);
    }
    let current = ProgramInfo::from_pin(program).map_err(|source| error(cause(&source)))?;
    let link = PinnedLink::from_pin(pin_of(pins, hook)).map_err(|source| error(cause(&source)))?;
    let info = FdLink::from(link)
        .info()
        .map_err(|source| error(cause(&source)))?;
    Ok(info.program_id() == current.id())
}

/// Attaches the loaded program to the root cgroup, behind whatever hangs there, and pins the link.
///
/// # Errors
///
/// A failed system call.
pub fn attach(pins: &PinDirs, hook: Hook, cgroup: &Path) -> Result<(), Error> {
    let error = error("attach", hook);
    let pin = pin_of(pins, hook);
    let fresh = pin::fresh(&pin).map_err(|source| error(cause(&source)))?;
    let root = File::open(cgroup).map_err(|source| error(cause(&source)))?;
    let path = pins.progs.join(hook.name());
    let mut program = CgroupSockAddr::from_pin(path, attach_type(hook))
        .map_err(|source| error(cause(&source)))?;
    // A link is always one of several, and the kernel takes no flag that says so
    // (af6eea57437a, `cgroup_bpf_link_attach`).
    let link = program
        .attach(root, CgroupAttachMode::Single)
        .and_then(|id| program.take_link(id))
        .map_err(|source| error(cause(&source)))?;
    FdLink::try_from(link)
        .map_err(|source| error(cause(&source)))?
        .pin(&fresh)
        .map_err(|source| error(cause(&source)))?;
    fs::rename(&fresh, &pin).map_err(|source| error(cause(&source)))
}

const fn attach_type(hook: Hook) -> CgroupSockAddrAttachType {
    match hook {
        Hook::Connect6 => CgroupSockAddrAttachType::Connect6,
        Hook::Sendmsg4 => CgroupSockAddrAttachType::UDPSendMsg4,
        Hook::Sendmsg6 => CgroupSockAddrAttachType::UDPSendMsg6,
        Hook::Recvmsg4 => CgroupSockAddrAttachType::UDPRecvMsg4,
        Hook::Recvmsg6 => CgroupSockAddrAttachType::UDPRecvMsg6,
        Hook::Getpeername4 => CgroupSockAddrAttachType::GetPeerName4,
        Hook::Getpeername6 => CgroupSockAddrAttachType::GetPeerName6,
        _ => CgroupSockAddrAttachType::Connect4,
    }
}

/// Ends a link: the program no longer sees sockets.
///
/// # Errors
///
/// A failed system call; a pin that is gone is no error.
pub fn detach(pins: &PinDirs, hook: Hook) -> Result<(), Error> {
    let pin = pin_of(pins, hook);
    pin::remove_if_there(&pin).map_err(|source| Error::Pin { path: pin, source })
}

/// Gives the pinned link of `hook`, if there is one, the loaded `program` in one step.
///
/// # Errors
///
/// A failed system call.
pub(super) fn replace(pins: &PinDirs, hook: Hook, program: &CgroupSockAddr) -> Result<(), Error> {
    let pin = pin_of(pins, hook);
    if !pin.exists() {
        return Ok(());
    }
    let error = |cause: String| Error::Program {
        name: hook.name(),
        cause,
    };
    let program = program.fd().map_err(|source| error(cause(&source)))?;
    open_link(&pin)
        .and_then(|link| update_link(link.as_fd(), program.as_fd()))
        .map_err(|source| error(format!("bpf_link_update: {source}")))
}

/// `BPF_OBJ_GET` and `BPF_LINK_UPDATE` of `linux/bpf.h`.
const BPF_OBJ_GET: libc::c_long = 7;
const BPF_LINK_UPDATE: libc::c_long = 29;

/// The part of `union bpf_attr` that `BPF_OBJ_GET` reads.
#[repr(C, align(8))]
struct ObjGet {
    path: u64,
    fd: u32,
    flags: u32,
}

/// The part of `union bpf_attr` that `BPF_LINK_UPDATE` reads.
#[repr(C, align(8))]
struct LinkUpdate {
    link: i32,
    program: i32,
    flags: u32,
    old_program: u32,
}

fn open_link(pin: &Path) -> io::Result<OwnedFd> {
    let path = CString::new(pin.as_os_str().as_bytes())?;
    let mut attributes = ObjGet {
        path: path.as_ptr() as u64,
        fd: 0,
        flags: 0,
    };
    let fd = bpf(BPF_OBJ_GET, &mut attributes)?;
    #[expect(unsafe_code, reason = "the kernel hands a new descriptor over")]
    // SAFETY: the call above made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn update_link(link: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    let mut attributes = LinkUpdate {
        link: link.as_raw_fd(),
        program: program.as_raw_fd(),
        flags: 0,
        old_program: 0,
    };
    bpf(BPF_LINK_UPDATE, &mut attributes).map(drop)
}
