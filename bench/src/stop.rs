//! The user's wish to end: a signal is noted, and the run ends between two samples, so that every
//! namespace it made goes.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use nix::sys::signal::{SigSet, Signal};

static ASKED: AtomicBool = AtomicBool::new(false);

/// Begins to listen. Call it before any other thread is there: threads inherit what is blocked.
///
/// # Errors
///
/// What the kernel says about the signals.
pub fn listen() -> Result<()> {
    let signals = signals();
    signals.thread_block()?;
    thread::spawn(move || {
        while signals.wait().is_ok() {
            ASKED.store(true, Ordering::Relaxed);
        }
    });
    Ok(())
}

/// Lets the signals end this process again, as a process that was started with them blocked must.
///
/// # Errors
///
/// What the kernel says about the signals.
pub fn unblock() -> Result<()> {
    Ok(signals().thread_unblock()?)
}

/// Fails once the user wants the run to end.
///
/// # Errors
///
/// That the user ended the run.
pub fn check() -> Result<()> {
    ensure!(!ASKED.load(Ordering::Relaxed), "ended by a signal");
    Ok(())
}

fn signals() -> SigSet {
    [Signal::SIGINT, Signal::SIGTERM, Signal::SIGHUP]
        .into_iter()
        .collect()
}
