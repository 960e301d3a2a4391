//! What was chosen automatically and must stay so until its owner goes: ids and addresses.
//!
//! Ids come from counters that never go back, also when everything is removed, so that a flow that
//! remembers an id can never mistake a newcomer for what it knew. Kept as `allocations.jsonl`
//! beside the desired state; read and written by nobody but [`crate::config::Document::resolve`]
//! and `state`.

mod change;

use std::{
    collections::BTreeMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

pub use self::change::AllocationsChange;
use crate::model::Proto;

/// Every automatic choice of one instance.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct Allocations {
    /// The ids that were handed out last; 0: none yet.
    pub last_ids: LastIds,
    /// The id of each network, by name.
    pub networks: BTreeMap<String, u32>,
    /// The subnets that were chosen for networks, by network.
    pub subnets: BTreeMap<String, Vec<IpNet>>,
    /// Container ends, by container and then by network.
    pub endpoints: BTreeMap<String, BTreeMap<String, EndpointAllocation>>,
    /// Published ports and service ports.
    pub mappings: Vec<MappingAllocation>,
    /// The automatic virtual addresses of services, by service.
    pub vips: BTreeMap<String, VipAllocation>,
    /// The ephemeral ports that were handed out last.
    pub last_ports: LastPorts,
}

/// The ephemeral ports that were handed out last; 0: none yet.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LastPorts {
    /// Of TCP.
    pub tcp: u16,
    /// Of UDP.
    pub udp: u16,
}

impl LastPorts {
    /// That of one protocol.
    pub const fn get(self, proto: Proto) -> u16 {
        match proto {
            Proto::Tcp => self.tcp,
            Proto::Udp => self.udp,
        }
    }

    /// Notes that of one protocol.
    pub const fn set(&mut self, proto: Proto, port: u16) {
        match proto {
            Proto::Tcp => self.tcp = port,
            Proto::Udp => self.udp = port,
        }
    }
}

/// The ids that were handed out last.
#[derive(Clone, Copy, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct LastIds {
    /// Of a network.
    pub network: u32,
    /// Of a container end.
    pub endpoint: u32,
    /// Of a mapping.
    pub mapping: u32,
}

/// A container end: its id, what the id stands for, and what of it was chosen.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EndpointAllocation {
    /// The id.
    pub id: u32,
    /// What the id stands for: when any of it changes, it is another end.
    pub identity: EndpointIdentity,
    /// Which addresses were chosen automatically and are kept.
    pub automatic: AutomaticChoices,
}

/// What makes a container end the one it is.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct EndpointIdentity {
    /// The network's id.
    pub network: u32,
    /// The namespace's path.
    pub netns: PathBuf,
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The MAC.
    pub mac: [u8; 6],
}

/// The choices that a container end keeps; what the document gives is not among them.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
#[serde(default)]
pub struct AutomaticChoices {
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The MAC, when it doesn't follow from the IPv4 address.
    pub mac: Option<[u8; 6]>,
    /// The interface's name.
    pub interface: Option<String>,
}

/// A mapping: its id and what it stands for.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(from = "WrittenMapping", into = "WrittenMapping")]
pub struct MappingAllocation {
    /// The id.
    pub id: u32,
    /// What it stands for.
    pub key: MappingKey,
    /// The addresses it stood for: a service's virtual addresses. When one of them goes, it is
    /// another mapping, for a flow remembers the mapping and not the address.
    pub vips: Vec<IpAddr>,
    /// What its host port was chosen from, if it was: then the port stays as long as this does.
    pub chosen_from: Option<ChosenFrom>,
}

/// A mapping as it is written, for there are many: id, owner, protocol, host address, host port,
/// container port, virtual addresses, and what the host port was chosen from.
#[derive(Deserialize, Serialize)]
struct WrittenMapping(
    u32,
    Owner,
    Proto,
    Option<IpAddr>,
    Option<u16>,
    u16,
    Vec<IpAddr>,
    Option<ChosenFrom>,
);

impl From<WrittenMapping> for MappingAllocation {
    fn from(written: WrittenMapping) -> Self {
        let WrittenMapping(id, owner, proto, host_ip, host_port, container_port, vips, chosen_from) =
            written;
        Self {
            id,
            key: MappingKey {
                owner,
                proto,
                host_ip,
                host_port,
                container_port,
            },
            vips,
            chosen_from,
        }
    }
}

impl From<MappingAllocation> for WrittenMapping {
    fn from(mapping: MappingAllocation) -> Self {
        let key = mapping.key;
        Self(
            mapping.id,
            key.owner,
            key.proto,
            key.host_ip,
            key.host_port,
            key.container_port,
            mapping.vips,
            mapping.chosen_from,
        )
    }
}

/// What a host port was chosen from.
#[derive(Clone, Copy, Debug, Deserialize, Eq, Hash, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ChosenFrom {
    /// The host's ephemeral ports.
    Ephemeral,
    /// These, first and last among them.
    Range(u16, u16),
}

/// What makes a mapping the one it is.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
pub struct MappingKey {
    /// Whose it is.
    pub owner: Owner,
    /// The protocol.
    pub proto: Proto,
    /// The host address; `None` for all of them and for a service.
    pub host_ip: Option<IpAddr>,
    /// The port on the host, or of the virtual address; `None` for one that needs none.
    pub host_port: Option<u16>,
    /// The port of the containers.
    pub container_port: u16,
}

/// What mappings of one container share that differ in the host's address alone.
pub type Published<'k> = (&'k Owner, Proto, Option<u16>, u16);

impl MappingKey {
    /// All but the host address.
    pub const fn published(&self) -> Published<'_> {
        (&self.owner, self.proto, self.host_port, self.container_port)
    }

    /// Whether it answers wherever a port of the host did that was published on `host_ip`.
    pub fn covers(&self, host_ip: Option<IpAddr>) -> bool {
        match (self.host_ip, host_ip) {
            (None, _) => true,
            (Some(own), Some(other)) => {
                own == other || own.is_unspecified() && own.is_ipv4() == other.is_ipv4()
            }
            (Some(_), None) => false,
        }
    }
}

/// Who has a mapping.
#[derive(Clone, Debug, Deserialize, Eq, Hash, Ord, PartialEq, PartialOrd, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Owner {
    /// A container, by name.
    Container(String),
    /// A service, by name.
    Service(String),
}

/// The automatic virtual addresses of a service.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct VipAllocation {
    /// The network they are from.
    pub network: u32,
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}
