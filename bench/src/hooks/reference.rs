//! Programs that are none of netbpf's: one that does nothing, to know what taking the time costs,
//! and one of fixed work, to compare costs of one machine with those of another.
#![expect(
    unsafe_code,
    reason = "bpf(2) has no other door for a program of a few numbers"
)]

use std::{
    ffi::CString,
    io,
    os::{
        fd::{AsRawFd as _, FromRawFd as _, OwnedFd},
        unix::ffi::OsStrExt as _,
    },
    path::Path,
};

use anyhow::{Context as _, Result};
use netbpf_tests::prog_run::Program;
use nix::libc;

/// `struct bpf_insn`: the code, the registers, an offset, a number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

const fn instruction(code: u8, to: u8, from: u8, number: i32) -> Instruction {
    Instruction {
        code,
        registers: to | from << 4,
        offset: 0,
        number,
    }
}

/// A program of a few instructions.
#[derive(Debug)]
pub struct Source {
    name: &'static str,
    instructions: fn() -> Vec<Instruction>,
}

/// Returns `TCX_NEXT`.
pub const EMPTY: Source = Source {
    name: "empty",
    instructions: || Vec::from(NEXT),
};

/// Reads the packet's first 16 bytes 16 times by a helper, and returns `TCX_NEXT`.
pub const REFERENCE: Source = Source {
    name: "reference",
    instructions: || {
        let mut all = vec![instruction(MOVE, 6, 1, 0)];
        for _ in 0..16 {
            all.extend([
                instruction(MOVE, 1, 6, 0),
                instruction(SET, 2, 0, 0),
                instruction(MOVE, 3, 10, 0),
                instruction(ADD, 3, 0, -16),
                instruction(SET, 4, 0, 16),
                instruction(CALL, 0, 0, SKB_LOAD_BYTES),
            ]);
        }
        all.extend(NEXT);
        all
    },
};

/// Operation codes and a helper's number (`linux/bpf.h`).
const MOVE: u8 = 0xbf;
const SET: u8 = 0xb7;
const ADD: u8 = 0x07;
const CALL: u8 = 0x85;
const EXIT: u8 = 0x95;
const SKB_LOAD_BYTES: i32 = 26;

const NEXT: [Instruction; 2] = [instruction(SET, 0, 0, -1), instruction(EXIT, 0, 0, 0)];

/// A program that is loaded and pinned among those of a bed, with which its pin goes.
#[derive(Debug)]
pub struct Reference(Program);

impl Reference {
    /// Loads and pins it.
    ///
    /// # Errors
    ///
    /// The kernel refuses.
    pub fn load(directory: &Path, source: &Source) -> Result<Self> {
        let path = directory.join(source.name);
        let what = || format!("the kernel refuses the {} program", source.name);
        let fd = load(&(source.instructions)()).with_context(what)?;
        pin(&fd, &path).with_context(what)?;
        Ok(Self(Program::pinned(&path)))
    }

    /// It.
    pub const fn program(&self) -> &Program {
        &self.0
    }
}

/// The part of `union bpf_attr` that `BPF_PROG_LOAD` reads.
#[repr(C, align(8))]
struct Load {
    kind: u32,
    count: u32,
    instructions: u64,
    licence: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
}

/// The part of `union bpf_attr` that `BPF_OBJ_PIN` reads.
#[repr(C, align(8))]
struct Pin {
    path: u64,
    fd: i32,
    flags: u32,
}

fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
    const PROG_LOAD: libc::c_long = 5;
    const SCHED_CLS: u32 = 3;
    let attributes = Load {
        kind: SCHED_CLS,
        count: instructions.len() as u32,
        instructions: instructions.as_ptr() as u64,
        licence: c"GPL".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log: 0,
    };
    let fd = bpf(PROG_LOAD, &attributes)?;
    // SAFETY: the call above made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pin(program: &OwnedFd, path: &Path) -> io::Result<()> {
    const OBJ_PIN: libc::c_long = 6;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Pin {
        path: path.as_ptr() as u64,
        fd: program.as_raw_fd(),
        flags: 0,
    };
    bpf(OBJ_PIN, &attributes).map(drop)
}

fn bpf<T>(command: libc::c_long, attributes: &T) -> io::Result<i32> {
    let attributes: *const T = attributes;
    // SAFETY: the kernel reads `attributes` for their whole length, and what they point to lives.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, attributes, size_of::<T>()) };
    i32::try_from(result)
        .ok()
        .filter(|result| *result >= 0)
        .ok_or_else(io::Error::last_os_error)
}
