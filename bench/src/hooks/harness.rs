//! The harness around a timed program: gives it the packet as it first was, again and again within
//! one call of `BPF_PROG_TEST_RUN`.
//!
//! A program may translate its packet, and the kernel's `repeat` hands the translated one to the
//! next run. So what is repeated is a program that writes the packet's bytes, its mark and its type
//! anew and then calls the timed one as its tail. What the harness itself costs is measured with a
//! program that does nothing, and taken off.

use std::{
    fs::remove_file,
    os::fd::{AsRawFd as _, OwnedFd},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result};
use netbpf_tests::prog_run::{Action, Context, Program};

use super::bpf::{self, Instruction, Kind, Wide};

/// Helpers' numbers (`linux/bpf.h`).
mod helper {
    pub const SKB_STORE_BYTES: i32 = 9;
    pub const TAIL_CALL: i32 = 12;
    pub const SKB_CHANGE_TYPE: i32 = 32;
}

/// Where `struct __sk_buff` has the mark.
const MARK: i16 = 8;
/// `TC_ACT_SHOT`: what the harness returns where there was nothing to call.
const SHOT: i32 = 2;

/// What the timed program gets each time.
#[derive(Clone, Copy, Debug)]
pub struct Packet<'p> {
    /// The whole frame.
    pub bytes: &'p [u8],
    /// Where it is.
    pub context: Context,
    /// Whether the frame is addressed to another MAC than that of its interface.
    pub for_other_host: bool,
    /// Where a port stands that is counted up with each packet, in bytes: each one is of a new
    /// flow, beginning with the port after the one in `bytes`.
    pub counted_at: Option<i16>,
}

/// Times programs.
#[derive(Debug)]
pub struct Harness {
    callee: OwnedFd,
    pin: PathBuf,
}

impl Harness {
    /// A harness whose program is pinned in `directory`, while it runs.
    ///
    /// # Errors
    ///
    /// The kernel makes no map.
    pub fn new(directory: &Path) -> Result<Self> {
        Ok(Self {
            callee: bpf::map(Kind::Programs, 4).context("the kernel makes no program array")?,
            pin: directory.join("harness"),
        })
    }

    /// Runs `program` on a packet so many times; the mean time of one run, harness included, and
    /// what the last one returned.
    ///
    /// # Errors
    ///
    /// The kernel refuses the harness.
    pub fn time(
        &self,
        program: &Program,
        packet: Packet<'_>,
        times: u16,
    ) -> Result<(Duration, Action)> {
        let template = bpf::map(Kind::Array, packet.bytes.len())
            .and_then(|map| bpf::put(&map, packet.bytes).map(|()| map))
            .context("the kernel makes no array")?;
        let fd = program.fd().as_raw_fd().to_ne_bytes();
        bpf::put(&self.callee, &fd).context("the kernel calls no tail")?;
        let repeated = self.load(&template, packet)?;
        Ok(repeated.time(packet.context, packet.bytes, u32::from(times)))
    }

    fn load(&self, template: &OwnedFd, packet: Packet<'_>) -> Result<Program> {
        const WHAT: &str = "the kernel refuses the harness";
        let fd = bpf::load(&self.instructions(template, packet)).context(WHAT)?;
        bpf::pin(&fd, &self.pin).context(WHAT)?;
        let program = Program::pinned(&self.pin);
        remove_file(&self.pin).context("failed to unpin the harness")?;
        Ok(program)
    }

    fn instructions(&self, template: &OwnedFd, packet: Packet<'_>) -> Vec<Instruction> {
        let mut all = vec![Instruction::copy(6, 1)];
        all.extend(Instruction::wide(7, Wide::Value, template));
        if let Some(at) = packet.counted_at {
            all.extend([
                Instruction::load_half(1, 7, at),
                Instruction::swap_half(1),
                Instruction::add(1, 1),
                Instruction::swap_half(1),
                Instruction::store_half(7, at, 1),
            ]);
        }
        all.extend([
            Instruction::copy(1, 6),
            Instruction::set(2, 0),
            Instruction::copy(3, 7),
            Instruction::set(4, packet.bytes.len() as i32),
            Instruction::set(5, 0),
            Instruction::call(helper::SKB_STORE_BYTES),
            Instruction::set(1, packet.context.mark as i32),
            Instruction::store_word(6, MARK, 1),
            Instruction::copy(1, 6),
            Instruction::set(2, pkt_type(packet)),
            Instruction::call(helper::SKB_CHANGE_TYPE),
            Instruction::copy(1, 6),
        ]);
        all.extend(Instruction::wide(2, Wide::Map, &self.callee));
        all.extend([
            Instruction::set(3, 0),
            Instruction::call(helper::TAIL_CALL),
            Instruction::set(0, SHOT),
            Instruction::exit(),
        ]);
        all
    }
}

/// `PACKET_HOST` or `PACKET_OTHERHOST` (`linux/if_packet.h`).
const fn pkt_type(packet: Packet<'_>) -> i32 {
    if packet.for_other_host { 3 } else { 0 }
}
