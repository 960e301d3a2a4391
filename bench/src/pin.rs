//! Which CPU does what. Everything that is compared is pinned alike.

use anyhow::{Context as _, Result};
use nix::{
    sched::{CpuSet, sched_getaffinity, sched_setaffinity},
    unistd::Pid,
};

/// The CPUs of a load.
#[derive(Clone, Copy, Debug)]
pub struct Cpus {
    /// Of who asks or sends.
    pub client: usize,
    /// Of who answers or receives.
    pub server: usize,
}

impl Cpus {
    /// Both ends on one CPU: then the cost of the path is all there is to see, and no wake-up of
    /// another CPU hides it. The last CPU, for the first one has most of the machine's interrupts.
    ///
    /// # Errors
    ///
    /// When this process may run nowhere.
    pub fn one() -> Result<Self> {
        let last = *usable()?.last().context("no usable CPU")?;
        Ok(Self {
            client: last,
            server: last,
        })
    }

    /// A CPU for each end, where there are two.
    ///
    /// # Errors
    ///
    /// When this process may run nowhere.
    pub fn two() -> Result<Self> {
        let usable = usable()?;
        let one = Self::one()?;
        Ok(Self {
            client: usable.iter().rev().nth(1).copied().unwrap_or(one.client),
            server: one.server,
        })
    }
}

/// The CPUs that this process may use.
///
/// # Errors
///
/// What the kernel says.
pub fn usable() -> Result<Vec<usize>> {
    let set = sched_getaffinity(Pid::from_raw(0)).context("failed to ask for the usable CPUs")?;
    Ok((0..CpuSet::count())
        .filter(|cpu| set.is_set(*cpu).unwrap_or(false))
        .collect())
}

/// Keeps the calling thread, and those it starts, on one CPU.
///
/// # Errors
///
/// When the kernel refuses.
pub fn to(cpu: usize) -> Result<()> {
    let mut set = CpuSet::new();
    set.set(cpu)
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &set))
        .with_context(|| format!("failed to stay on CPU {cpu}"))
}
