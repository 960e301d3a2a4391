//! Before whom an end of a load gets the CPU: it is measured with, not against.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use nix::{
    errno::Errno,
    libc,
    sys::resource::{Resource, setrlimit},
    unistd::setsid,
};

use super::Part;

/// The least that a real-time process can have: there is nobody else among them.
const PRIORITY: i32 = 1;

/// How long a real-time process may keep the CPU without a pause, in microseconds: then the kernel
/// ends it.
const AT_ONCE: u64 = 1_000_000;

/// Lets this process come when its part has to.
///
/// # Errors
///
/// The kernel allows no real-time process.
pub fn of(part: &Part) -> Result<()> {
    match part {
        Part::LatencyServer(_) | Part::LatencyClient(..) => at_once(),
        _ => {
            first();
            Ok(())
        }
    }
}

/// Before all ordinary processes. Niceness counts within a session alone where sessions are
/// scheduled as groups, so that the process gets a session of its own, and the session the
/// niceness. A kernel without such groups needs no more than what the process was started with.
fn first() {
    let _ = setsid();
    let _ = fs::write("/proc/self/autogroup", "-20");
}

/// As soon as there is something to do.
fn at_once() -> Result<()> {
    setrlimit(Resource::RLIMIT_RTTIME, AT_ONCE, AT_ONCE).context("no limit of real time")?;
    let priority = libc::sched_param {
        sched_priority: PRIORITY,
    };
    #[expect(unsafe_code, reason = "nix knows no scheduling policies")]
    // SAFETY: the kernel reads the priority and keeps no pointer to it.
    let refused = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const priority) };
    ensure!(
        refused == 0,
        "the kernel allows no real-time process: {}",
        Errno::last()
    );
    Ok(())
}
