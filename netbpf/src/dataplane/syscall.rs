//! `bpf(2)` itself, for what aya has no call for. Nothing here knows what a map or a link is for.

use std::io;

use nix::{errno::Errno, libc};

/// The system call; `attributes` is the part of `union bpf_attr` that `command` reads and writes.
///
/// # Errors
///
/// What the kernel answered.
pub(super) fn bpf<T>(command: libc::c_long, attributes: &mut T) -> io::Result<i32> {
    let attributes: *mut T = attributes;
    #[expect(unsafe_code, reason = "bpf(2) has no other door")]
    // SAFETY: the kernel reads and writes `attributes` for their whole length and no further, and
    // what they point to lives as long as the callers' borrows.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    let result = Errno::result(result)?;
    Ok(i32::try_from(result).unwrap_or(-1))
}
