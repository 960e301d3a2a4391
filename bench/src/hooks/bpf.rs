//! The little of bpf(2) that hand-written programs of a few instructions need: to load, to pin,
//! and the maps that they read. Nothing here knows what they are for.
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

use nix::libc;

/// `struct bpf_insn`: the code, the registers, an offset, a number.
#[repr(C)]
#[derive(Clone, Copy, Debug)]
pub struct Instruction {
    code: u8,
    registers: u8,
    offset: i16,
    number: i32,
}

/// Operation codes (`linux/bpf.h`, `linux/bpf_common.h`).
mod code {
    pub const MOVE: u8 = 0xbf;
    pub const SET: u8 = 0xb7;
    pub const ADD: u8 = 0x07;
    pub const CALL: u8 = 0x85;
    pub const EXIT: u8 = 0x95;
    pub const LOAD_WIDE: u8 = 0x18;
    pub const LOAD_HALF: u8 = 0x69;
    pub const STORE_HALF: u8 = 0x6b;
    pub const STORE_WORD: u8 = 0x63;
    pub const TO_BIG_ENDIAN: u8 = 0xdc;
}

/// What [`Instruction::wide`] loads the address of (`BPF_PSEUDO_*`).
#[derive(Clone, Copy, Debug)]
pub enum Wide {
    /// A map.
    Map = 1,
    /// The first value of an array.
    Value = 2,
}

impl Instruction {
    const fn new(code: u8, to: u8, from: u8, offset: i16, number: i32) -> Self {
        Self {
            code,
            registers: to | from << 4,
            offset,
            number,
        }
    }

    /// `to = from`.
    pub const fn copy(to: u8, from: u8) -> Self {
        Self::new(code::MOVE, to, from, 0, 0)
    }

    /// `to = number`.
    pub const fn set(to: u8, number: i32) -> Self {
        Self::new(code::SET, to, 0, 0, number)
    }

    /// `to += number`.
    pub const fn add(to: u8, number: i32) -> Self {
        Self::new(code::ADD, to, 0, 0, number)
    }

    /// `to = *(u16 *)(from + offset)`.
    pub const fn load_half(to: u8, from: u8, offset: i16) -> Self {
        Self::new(code::LOAD_HALF, to, from, offset, 0)
    }

    /// `*(u16 *)(to + offset) = from`.
    pub const fn store_half(to: u8, offset: i16, from: u8) -> Self {
        Self::new(code::STORE_HALF, to, from, offset, 0)
    }

    /// `*(u32 *)(to + offset) = from`.
    pub const fn store_word(to: u8, offset: i16, from: u8) -> Self {
        Self::new(code::STORE_WORD, to, from, offset, 0)
    }

    /// Turns the low half-word of `to` from wire order into the host's, or back.
    pub const fn swap_half(to: u8) -> Self {
        Self::new(code::TO_BIG_ENDIAN, to, 0, 0, 16)
    }

    /// Calls a helper by its number.
    pub const fn call(helper: i32) -> Self {
        Self::new(code::CALL, 0, 0, 0, helper)
    }

    /// Returns register 0.
    pub const fn exit() -> Self {
        Self::new(code::EXIT, 0, 0, 0, 0)
    }

    /// `to` = the address of a map or of what is in it.
    pub fn wide(to: u8, what: Wide, map: &OwnedFd) -> [Self; 2] {
        [
            Self::new(code::LOAD_WIDE, to, what as u8, 0, map.as_raw_fd()),
            Self::new(0, 0, 0, 0, 0),
        ]
    }
}

/// The part of `union bpf_attr` that `BPF_MAP_CREATE` reads.
#[repr(C, align(8))]
struct Create {
    kind: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
}

/// The part of it that `BPF_MAP_UPDATE_ELEM` reads.
#[repr(C, align(8))]
struct Update {
    map: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

/// The part of it that `BPF_PROG_LOAD` reads.
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

/// The part of it that `BPF_OBJ_PIN` reads.
#[repr(C, align(8))]
struct Pin {
    path: u64,
    fd: i32,
    flags: u32,
}

/// A kind of map.
#[derive(Clone, Copy, Debug)]
pub enum Kind {
    /// `BPF_MAP_TYPE_ARRAY`.
    Array = 2,
    /// `BPF_MAP_TYPE_PROG_ARRAY`.
    Programs = 3,
}

/// Makes a map with one value of `value_size` bytes.
pub fn map(kind: Kind, value_size: usize) -> io::Result<OwnedFd> {
    const MAP_CREATE: libc::c_long = 0;
    let attributes = Create {
        kind: kind as u32,
        key_size: 4,
        value_size: value_size as u32,
        max_entries: 1,
    };
    own(bpf(MAP_CREATE, &attributes)?)
}

/// Replaces the one value of a map.
pub fn put(map: &OwnedFd, value: &[u8]) -> io::Result<()> {
    const MAP_UPDATE_ELEM: libc::c_long = 2;
    let key = 0_u32;
    let attributes = Update {
        map: map.as_raw_fd() as u32,
        pad: 0,
        key: (&raw const key) as u64,
        value: value.as_ptr() as u64,
        flags: 0,
    };
    bpf(MAP_UPDATE_ELEM, &attributes).map(drop)
}

/// Loads a classifier.
pub fn load(instructions: &[Instruction]) -> io::Result<OwnedFd> {
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
    own(bpf(PROG_LOAD, &attributes)?)
}

/// Pins a program.
pub fn pin(program: &OwnedFd, path: &Path) -> io::Result<()> {
    const OBJ_PIN: libc::c_long = 6;
    let path = CString::new(path.as_os_str().as_bytes())?;
    let attributes = Pin {
        path: path.as_ptr() as u64,
        fd: program.as_raw_fd(),
        flags: 0,
    };
    bpf(OBJ_PIN, &attributes).map(drop)
}

fn own(fd: i32) -> io::Result<OwnedFd> {
    // SAFETY: a call to the kernel has just made it, and nobody else knows of it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
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
