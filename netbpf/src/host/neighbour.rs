//! Static entries of a bridge's forwarding table. Redirected frames never pass the bridge's
//! learning, so that every container's hardware address has to be told to it.

use futures_util::TryStreamExt as _;
use nix::errno::Errno;
use rtnetlink::packet_route::{
    AddressFamily,
    neighbour::{NeighbourAttribute, NeighbourFlags, NeighbourMessage, NeighbourState},
};

use super::{
    Mac,
    error::Result,
    rtnl::{Rtnl, Unless as _},
};

/// A static forwarding entry: frames to `mac` leave by `port`.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct FdbEntry {
    /// The address.
    pub mac: Mac,
    /// Index of the bridge port.
    pub port: u32,
}

impl Rtnl {
    /// Static entries of all bridge ports, in the VLAN-less part of the tables.
    pub fn fdb(&self) -> Result<Vec<FdbEntry>> {
        let request = self
            .handle()
            .neighbours()
            .get()
            .set_address_family(AddressFamily::Bridge);
        let messages = self.wait(
            || "list the forwarding entries of the bridges".to_owned(),
            request.execute().try_collect::<Vec<_>>(),
        )?;
        Ok(messages.iter().filter_map(entry_of).collect())
    }

    /// Tells the bridge that `entry.mac` is behind `entry.port`, in place of what it knew.
    pub fn set_fdb(&self, entry: FdbEntry) -> Result<()> {
        // `NUD_NOARP` is what `bridge fdb add … static` asks for: it never ages and never moves.
        let request = self
            .handle()
            .neighbours()
            .add_bridge(entry.port, &entry.mac)
            .state(NeighbourState::Noarp)
            .flags(NeighbourFlags::Controller)
            .replace();
        self.wait(
            || {
                format!(
                    "tell the bridge of {} on link {}",
                    shown(entry.mac),
                    entry.port
                )
            },
            request.execute(),
        )
    }

    /// Makes the bridge forget `entry`; a missing one is as it should be.
    pub fn del_fdb(&self, entry: FdbEntry) -> Result<()> {
        let mut message = NeighbourMessage::default();
        message.header.family = AddressFamily::Bridge;
        message.header.ifindex = entry.port;
        message.header.flags = NeighbourFlags::Controller;
        message
            .attributes
            .push(NeighbourAttribute::LinkLayerAddress(entry.mac.to_vec()));
        let request = self.handle().neighbours().del(message);
        self.wait(
            || {
                format!(
                    "make the bridge forget {} on link {}",
                    shown(entry.mac),
                    entry.port
                )
            },
            request.execute(),
        )
        .unless(&[Errno::ENOENT, Errno::ENODEV])
    }
}

fn entry_of(message: &NeighbourMessage) -> Option<FdbEntry> {
    if message.header.state != NeighbourState::Noarp {
        return None;
    }
    let mut mac = None;
    let mut is_bridge_entry = false;
    for attribute in &message.attributes {
        match attribute {
            NeighbourAttribute::LinkLayerAddress(bytes) => mac = bytes.as_slice().try_into().ok(),
            NeighbourAttribute::Controller(_) => is_bridge_entry = true,
            NeighbourAttribute::Vlan(_) => return None,
            _ => {}
        }
    }
    if !is_bridge_entry {
        return None;
    }
    Some(FdbEntry {
        mac: mac?,
        port: message.header.ifindex,
    })
}

fn shown(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
