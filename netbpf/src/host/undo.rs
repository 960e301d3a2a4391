//! Takes back what an inventory says was created or changed. It never touches what is not in it,
//! and never stops at an error: what can be put back is.

use std::{fs, io};

use super::{
    Host, Rtnl,
    bpffs::PinDirs,
    error::{Doing, Result},
    link::Mark,
    netns, section,
    tc::{self, Side},
};
use crate::state::{AdoptedBridge, Change, Origin};

/// What [`undo_all`] could not take back, and why.
#[derive(Debug)]
pub struct Failure {
    /// It is still there.
    pub change: Change,
    /// Why.
    pub error: super::Error,
}

/// Takes back every change: links that we made before the programs that guard them, so that the
/// host is never more open than it was. The caller's thread is inside the host's namespace.
pub fn undo_all(host: &Host, changes: &[Change]) -> Vec<Failure> {
    let mut ordered: Vec<&Change> = changes.iter().rev().collect();
    ordered.sort_by_key(|change| order(change));
    ordered
        .into_iter()
        .filter_map(|change| {
            let error = undo(host, change).err()?;
            Some(Failure {
                change: change.clone(),
                error,
            })
        })
        .collect()
}

/// Takes back one change. What is gone already is as it should be.
pub fn undo(host: &Host, change: &Change) -> Result<()> {
    let rtnl = host.rtnl();
    match change {
        Change::Veth {
            name, alias, mac, ..
        }
        | Change::Bridge { name, alias, mac } => rtnl.delete_link(name, &Mark { alias, mac: *mac }),
        Change::Address { interface, net } => match rtnl.link(interface)? {
            Some(link) => rtnl.del_address(link.index, *net),
            None => Ok(()),
        },
        Change::Qdisc { interface, index } => match tc::owner(rtnl, interface, *index)? {
            Some(link) => {
                // A kill can come between a filter and its pin.
                tc::delete(link.index, Side::Ingress)?;
                tc::delete(link.index, Side::Egress)?;
                tc::delete_clsact_if_unused(link.index)
            }
            None => Ok(()),
        },
        Change::AdoptedBridge(bridge) => put_back(rtnl, bridge),
        Change::Sysctl { sysctl, old } => match sysctl.read()? {
            Some(value) if value != *old => sysctl.write(old),
            _ => Ok(()),
        },
        Change::Netns {
            path,
            id,
            origin: Origin::Made,
            ..
        } => match netns::Netns::open(path)? {
            // Somebody else's namespace stands there now.
            Some(found) if id.is_some_and(|id| id != found.id()) => Ok(()),
            _ => netns::delete(path).map(|_| ()),
        },
        Change::Netns {
            origin: Origin::Adopted,
            ..
        } => Ok(()),
        Change::Section { path } => section::remove(path),
        Change::Pins { instance } => {
            let pins = PinDirs::of(instance);
            remove_filters(&pins)?;
            pins.remove()
        }
        Change::Directory { path } => match fs::remove_dir(path) {
            // Somebody put something into it.
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(()),
            Err(error) if path.exists() => {
                Err(error).doing(|| format!("remove {}", path.display()))
            }
            _ => Ok(()),
        },
    }
}

/// Deletes the filters whose programs are pinned: they would outlive their pins.
fn remove_filters(pins: &PinDirs) -> Result<()> {
    let Ok(entries) = fs::read_dir(&pins.links) else {
        return Ok(());
    };
    for name in entries.flatten().map(|entry| entry.file_name()) {
        let ifindex = name
            .to_str()
            .and_then(|name| name.strip_suffix("_clsact"))
            .and_then(|name| name.rsplit_once('-'))
            .and_then(|(_, ifindex)| ifindex.parse().ok());
        let Some(ifindex) = ifindex else { continue };
        tc::delete(ifindex, Side::Ingress)?;
        tc::delete(ifindex, Side::Egress)?;
    }
    Ok(())
}

/// Lower goes first.
fn order(change: &Change) -> u8 {
    match change {
        Change::Veth { .. } => 0,
        Change::Netns { .. } => 1,
        Change::Bridge { .. } => 2,
        Change::Address { .. } => 3,
        Change::AdoptedBridge(_) => 4,
        Change::Sysctl { .. } => 5,
        // By our filters a renamed interface is known, and those go with the pins.
        Change::Qdisc { .. } => 6,
        Change::Pins { .. } => 7,
        Change::Section { .. } => 8,
        Change::Directory { .. } => 9,
    }
}

fn put_back(rtnl: &Rtnl, was: &AdoptedBridge) -> Result<()> {
    let Some(now) = rtnl.link(&was.name)? else {
        return Ok(());
    };
    // Another one of the same name was never ours.
    if ![0, now.index].contains(&was.index) {
        return Ok(());
    }
    // None at all can't be set.
    if now.mac != Some(was.mac) && was.mac != [0; 6] {
        rtnl.set_mac(now.index, was.mac)?;
    }
    if now.mtu != was.mtu {
        rtnl.set_mtu(now.index, was.mtu)?;
    }
    if now.up && !was.up {
        rtnl.down(now.index)?;
    }
    if !now.up && was.up {
        rtnl.up(now.index)?;
    }
    Ok(())
}
