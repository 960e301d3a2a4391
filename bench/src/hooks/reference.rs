//! Programs that are none of netbpf's: one that does nothing, to know what the harness costs, and
//! one of fixed work, to compare costs of one machine with those of another.

use std::path::Path;

use anyhow::{Context as _, Result};
use netbpf_tests::prog_run::Program;

use super::bpf::{self, Instruction};

/// A program of a few instructions.
#[derive(Debug)]
pub struct Source {
    name: &'static str,
    instructions: fn() -> Vec<Instruction>,
}

impl Source {
    /// Its name, and that of its pin.
    pub const fn name(&self) -> &'static str {
        self.name
    }
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
        let mut all = vec![Instruction::copy(6, 1)];
        for _ in 0..16 {
            all.extend([
                Instruction::copy(1, 6),
                Instruction::set(2, 0),
                Instruction::copy(3, 10),
                Instruction::add(3, -16),
                Instruction::set(4, 16),
                Instruction::call(SKB_LOAD_BYTES),
            ]);
        }
        all.extend(NEXT);
        all
    },
};

/// A helper's number (`linux/bpf.h`).
const SKB_LOAD_BYTES: i32 = 26;

const NEXT: [Instruction; 2] = [Instruction::set(0, -1), Instruction::exit()];

/// Loads a program and pins it among those of a bed, with which its pin goes.
///
/// # Errors
///
/// The kernel refuses.
pub fn load(directory: &Path, source: &Source) -> Result<Program> {
    let path = directory.join(source.name);
    let what = || format!("the kernel refuses the {} program", source.name);
    let fd = bpf::load(&(source.instructions)()).with_context(what)?;
    bpf::pin(&fd, &path).with_context(what)?;
    Ok(Program::pinned(&path))
}
