//! What an instance made or changed, as its journal has it. Nothing is read or written here.

use std::path::PathBuf;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

use super::Changes;
use crate::{
    allocations::LastIds,
    host::{Mac, NetnsId, sysctl::Sysctl},
};

/// Who made a container's namespace.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    /// We did: `purge` removes it.
    Made,
    /// Somebody else: `purge` leaves it.
    Adopted,
}

/// A bridge of somebody else's as it was before we used it.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct AdoptedBridge {
    /// Its name.
    pub name: String,
    /// Its hardware address.
    pub mac: Mac,
    /// Its MTU.
    pub mtu: u32,
    /// Whether it was up.
    pub up: bool,
    /// Its own addresses.
    pub addresses: Vec<IpNet>,
    /// Its number, which another one of the same name has not; 0 where it was not noted.
    #[serde(default)]
    pub index: u32,
}

/// One thing that was created or changed.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Change {
    /// The directories of the instance in the bpffs, with all that is pinned there.
    Pins {
        /// The instance.
        instance: String,
    },
    /// A directory, to be removed if it is empty.
    Directory {
        /// Its path.
        path: PathBuf,
    },
    /// A section of a file.
    Section {
        /// The file.
        path: PathBuf,
    },
    /// A bridge that we made.
    Bridge {
        /// Its name.
        name: String,
        /// The alias that marks it.
        alias: String,
        /// Its fixed hardware address.
        mac: Mac,
    },
    /// A bridge that was there.
    AdoptedBridge(AdoptedBridge),
    /// A container's namespace.
    Netns {
        /// The container.
        container: String,
        /// Where it is mounted.
        path: PathBuf,
        /// Which it is; unknown until it has been made.
        id: Option<NetnsId>,
        /// Who made it.
        origin: Origin,
    },
    /// A veth pair that we made.
    Veth {
        /// Name of the host's side.
        name: String,
        /// The alias that marks it.
        alias: String,
        /// Hardware address of the host's side.
        mac: Mac,
        /// The container.
        container: String,
    },
    /// An address that we gave to an interface of the host.
    Address {
        /// The interface.
        interface: String,
        /// The address with its prefix length.
        net: IpNet,
    },
    /// A `clsact` qdisc that we made.
    Qdisc {
        /// The interface that has it, under its name of the last change.
        interface: String,
        /// The interface's number, which outlives a new name; 0 where it was not noted.
        #[serde(default)]
        index: u32,
    },
    /// A sysctl that we set.
    Sysctl {
        /// Which.
        sysctl: Sysctl,
        /// Its value before.
        old: String,
    },
}

impl Change {
    /// Whether both are about the same thing, whatever was noted of it.
    pub fn is_about_same(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Pins { instance: a }, Self::Pins { instance: b }) => a == b,
            (Self::Directory { path: a }, Self::Directory { path: b })
            | (Self::Section { path: a }, Self::Section { path: b })
            | (Self::Netns { path: a, .. }, Self::Netns { path: b, .. }) => a == b,
            (Self::Bridge { name: a, .. }, Self::Bridge { name: b, .. })
            | (Self::Veth { name: a, .. }, Self::Veth { name: b, .. }) => a == b,
            (Self::AdoptedBridge(a), Self::AdoptedBridge(b)) => a.name == b.name,
            (
                Self::Qdisc {
                    interface: a,
                    index: x,
                },
                Self::Qdisc {
                    interface: b,
                    index: y,
                },
            ) if *x == 0 || *y == 0 => a == b,
            (Self::Qdisc { index: x, .. }, Self::Qdisc { index: y, .. }) => x == y,
            (
                Self::Address {
                    interface: a,
                    net: x,
                },
                Self::Address {
                    interface: b,
                    net: y,
                },
            ) => a == b && x == y,
            (Self::Sysctl { sysctl: a, .. }, Self::Sysctl { sysctl: b, .. }) => a == b,
            _ => false,
        }
    }

    /// Whether it is gone with the namespace that it was in.
    pub(super) fn is_in_the_host_netns(&self) -> bool {
        !matches!(
            self,
            Self::Pins { .. } | Self::Directory { .. } | Self::Section { .. } | Self::Netns { .. }
        )
    }

    /// Whether it is still there after a reboot.
    pub(super) fn is_on_disk(&self) -> bool {
        matches!(self, Self::Directory { .. } | Self::Section { .. })
    }
}

/// The committed state before the change that is under way: what to go back to, until another
/// document has taken the place of the committed one.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Pending {
    /// The committed document, as [`fingerprint`] tells it from others; none when the change is the
    /// first one.
    pub document: Option<u64>,
    /// How many bytes of the automatic choices belong to it.
    pub allocations: u64,
    /// The ids that the change has handed out: they are not used again.
    pub last_ids: LastIds,
}

/// Tells a document from others: 64 bits that mix eight bytes at a time.
pub fn fingerprint(text: &str) -> u64 {
    const PRIME: u64 = 0x9e37_79b9_7f4a_7c15;
    let (words, rest) = text.as_bytes().as_chunks();
    let mut last = [0; 8];
    last[..rest.len()].copy_from_slice(rest);
    let last = (!rest.is_empty()).then_some(&last);
    let mix = |hash: u64, word: &[u8; 8]| {
        (hash.rotate_left(23) ^ u64::from_le_bytes(*word)).wrapping_mul(PRIME)
    };
    words.iter().chain(last).fold(text.len() as u64, mix)
}

/// Everything that an instance created or changed and has not taken back.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Inventory {
    /// Where and when.
    pub bounds: Bounds,
    /// What to go back to; none when no change is under way.
    pub pending: Option<Pending>,
    /// In the order they were made.
    pub changes: Changes,
}

/// What an inventory is about.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Bounds {
    /// Version of the journal's format.
    pub version: u32,
    /// Version of the netbpf that wrote it.
    pub written_by: String,
    /// The boot that it is about: what is in the kernel doesn't outlive it.
    pub boot: String,
    /// The namespace that the instance acts on.
    pub host: NetnsId,
}
