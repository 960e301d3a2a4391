//! Hooks where the kernel has no TCX: filters of the `clsact` qdisc, at one priority and handle.
//!
//! A filter outlives this process by itself. Its program is pinned beside the links of TCX, under a
//! name that says which it is, so that what is attached is found in the same way.

use std::{fs, path::Path};

use aya::programs::{
    ProgramInfo, SchedClassifier, TcAttachType,
    tc::{NlOptions, SchedClassifierLink, TcAttachOptions, TcHandle, qdisc_add_clsact},
};
use nix::net::if_::if_indextoname;

use super::{attach::cause, pin};
use crate::host::tc::{self, HANDLE, PRIORITY, Side};

/// The side of the qdisc that TC calls so.
pub(super) const fn side(of: TcAttachType) -> Side {
    match of {
        TcAttachType::Ingress => Side::Ingress,
        _ => Side::Egress,
    }
}

/// The id of the program whose filter is at that place and whose pin is `pin`; `None` when either
/// is missing, or they differ.
pub(super) fn attached(pin: &Path, ifindex: u32, side: Side) -> Result<Option<u32>, String> {
    if !pin.exists() {
        return Ok(None);
    }
    let pinned = ProgramInfo::from_pin(pin)
        .map_err(|source| cause(&source))?
        .id();
    let running = tc::program(ifindex, side).map_err(|error| error.to_string())?;
    Ok(running.filter(|running| *running == pinned))
}

/// Puts the program at that place, in the place of the one that we may have there, in one step, and
/// pins it. The interface gets the qdisc if it has none.
pub(super) fn attach(
    program: &mut SchedClassifier,
    pin: &Path,
    ifindex: u32,
    of: TcAttachType,
) -> Result<(), String> {
    let name = if_indextoname(ifindex)
        .map_err(|errno| errno.to_string())?
        .to_string_lossy()
        .into_owned();
    if !tc::has_clsact(ifindex).map_err(|error| error.to_string())? {
        qdisc_add_clsact(&name).map_err(|source| cause(&source))?;
    }
    let handle = TcHandle::new(0, HANDLE);
    let there = tc::program(ifindex, side(of)).map_err(|error| error.to_string())?;
    let id = if there.is_some() {
        SchedClassifierLink::attached(&name, of, PRIORITY, handle, None)
            .map_err(|source| source.to_string())
            .and_then(|link| {
                program
                    .attach_to_link(link)
                    .map_err(|source| cause(&source))
            })?
    } else {
        let options = NlOptions {
            priority: PRIORITY,
            handle,
            classid: None,
        };
        program
            .attach_with_options(&name, of, TcAttachOptions::Netlink(options))
            .map_err(|source| cause(&source))?
    };
    let link = program.take_link(id).map_err(|source| cause(&source))?;
    // Dropped, it would take the filter with it.
    std::mem::forget(link);
    repin(program, pin)
}

fn repin(program: &mut SchedClassifier, pin: &Path) -> Result<(), String> {
    let fresh = pin::fresh(pin).map_err(|source| source.to_string())?;
    program.pin(&fresh).map_err(|source| cause(&source))?;
    fs::rename(&fresh, pin).map_err(|source| source.to_string())
}
