//! A container: a network namespace and how it hangs on its network.

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
};

use super::PortBinding;

/// One container.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// The path of its network namespace: absolute, and no other container's.
    pub netns: PathBuf,
    /// How it hangs on its network.
    pub attachment: Attachment,
    /// Its published ports; none on an internal network.
    pub publish: Vec<PortBinding>,
}

/// A container's end in a network.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Attachment {
    /// Its id: never 0, and another one as soon as the network, the namespace, an address or the
    /// MAC is another one.
    pub endpoint: u32,
    /// The network's name.
    pub network: String,
    /// Its IPv4 address, when the network has that family.
    pub ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address, when the network has that family.
    pub ipv6: Option<Ipv6Addr>,
    /// Its MAC: unicast, and no other's in this network.
    pub mac: [u8; 6],
    /// The interface's name inside the namespace; at most 15 bytes.
    pub interface: String,
}

impl Attachment {
    /// Its addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        self.ipv4
            .map(IpAddr::V4)
            .into_iter()
            .chain(self.ipv6.map(IpAddr::V6))
    }
}
