//! Addresses of links: list, add, delete. It never decides which address a link should have.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    AddressMessageBuilder,
    packet_route::{
        AddressFamily,
        address::{
            AddressAttribute, AddressFlags, AddressHeaderFlags, AddressMessage, AddressScope,
            CacheInfo,
        },
    },
};

use super::{
    error::Result,
    rtnl::{Rtnl, Unless as _},
};

/// `INFINITY_LIFE_TIME` of `linux/if_addr.h`, in seconds.
const FOREVER: u32 = u32::MAX;

/// How far an address reaches.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Scope {
    /// Everywhere.
    Global,
    /// Only the link it is on: `fe80::/10`, `169.254.0.0/16` where it was given so.
    Link,
    /// Only this host: `127.0.0.1`, `::1` and what else was given so.
    Host,
}

/// An address of a link, as the kernel shows it.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Address {
    /// The link that holds it.
    pub index: u32,
    /// The address itself, with the prefix length of its subnet.
    pub net: IpNet,
    /// How far it reaches.
    pub scope: Scope,
    /// Whether it is never the source of a new connection (`preferred_lft 0`).
    pub deprecated: bool,
    /// Whether duplicate address detection has not passed it yet, or has refused it.
    pub tentative: bool,
}

impl Address {
    /// The address without its subnet.
    pub fn addr(&self) -> IpAddr {
        self.net.addr()
    }

    /// Whether packets to it never leave the host.
    pub fn is_loopback(&self) -> bool {
        self.addr().is_loopback()
    }
}

/// Whether the kernel may choose an address as a source.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Preference {
    /// As any other.
    Preferred,
    /// Never: `preferred_lft 0`, for addresses that only receive, like those of a service.
    Never,
}

impl Rtnl {
    /// Every address of every link in both families, loopback and link-local ones among them;
    /// multicast and anycast addresses are not.
    pub fn addresses(&self) -> Result<Vec<Address>> {
        let messages = self.wait(
            || "list the addresses".to_owned(),
            self.handle()
                .address()
                .get()
                .execute()
                .try_collect::<Vec<_>>(),
        )?;
        Ok(messages.iter().filter_map(address_of).collect())
    }

    /// Adds an address, at once usable: without duplicate address detection.
    pub fn add_address(&self, index: u32, net: IpNet, preference: Preference) -> Result<()> {
        let mut message = message_of(index, net);
        if net.addr().is_ipv6() {
            message.header.flags |= AddressHeaderFlags::Nodad;
        }
        if preference == Preference::Never {
            let mut lifetimes = CacheInfo::default();
            lifetimes.ifa_preferred = 0;
            lifetimes.ifa_valid = FOREVER;
            message
                .attributes
                .push(AddressAttribute::CacheInfo(lifetimes));
        }
        let mut request = self
            .handle()
            .address()
            .add(index, net.addr(), net.prefix_len());
        *request.message_mut() = message;
        self.wait(|| format!("add {net} to link {index}"), request.execute())
            .unless(&[Errno::EEXIST])
    }

    /// Deletes an address; a missing one, or a missing link, is as it should be.
    pub fn del_address(&self, index: u32, net: IpNet) -> Result<()> {
        let request = self.handle().address().del(message_of(index, net));
        self.wait(
            || format!("delete {net} from link {index}"),
            request.execute(),
        )
        .unless(&[Errno::EADDRNOTAVAIL, Errno::ENODEV])
    }
}

/// The kernel takes `127.0.0.1` and the like for its own affair: no broadcast address is given.
fn message_of(index: u32, net: IpNet) -> AddressMessage {
    let mut message = match net.addr() {
        IpAddr::V4(addr) => {
            AddressMessageBuilder::<Ipv4Addr>::new()
                .index(index)
                .address(addr, net.prefix_len())
        }
        .build(),
        IpAddr::V6(addr) => {
            AddressMessageBuilder::<Ipv6Addr>::new()
                .index(index)
                .address(addr, net.prefix_len())
        }
        .build(),
    };
    message
        .attributes
        .retain(|attribute| !matches!(attribute, AddressAttribute::Broadcast(_)));
    message
}

fn address_of(message: &AddressMessage) -> Option<Address> {
    if !matches!(
        message.header.family,
        AddressFamily::Inet | AddressFamily::Inet6
    ) {
        return None;
    }
    let mut local = None;
    let mut remote = None;
    let mut flags = AddressFlags::from_bits_retain(message.header.flags.bits().into());
    for attribute in &message.attributes {
        match attribute {
            AddressAttribute::Local(addr) => local = Some(*addr),
            AddressAttribute::Address(addr) => remote = Some(*addr),
            AddressAttribute::Flags(all) => flags = *all,
            _ => {}
        }
    }
    // Of a point-to-point link, `Address` is the other end's.
    let addr = local.or(remote)?;
    Some(Address {
        index: message.header.index,
        net: IpNet::new(addr, message.header.prefix_len).ok()?,
        scope: match message.header.scope {
            AddressScope::Host | AddressScope::Nowhere => Scope::Host,
            AddressScope::Link => Scope::Link,
            _ => Scope::Global,
        },
        deprecated: flags.contains(AddressFlags::Deprecated),
        tentative: flags.intersects(AddressFlags::Tentative | AddressFlags::Dadfailed),
    })
}
