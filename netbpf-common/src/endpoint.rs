//! Where things are: interfaces, networks, container ends, the host's own addresses.
//!
//! The loader writes all of these; programs only read them.

use bytemuck::{Pod, Zeroable};

use crate::wire::{Ipv4, Ipv6, Mac};

/// What an interface is to netbpf.
pub mod role {
    /// The host side of a container's veth.
    pub const CONTAINER: u8 = 1;
    /// One of our bridges.
    pub const BRIDGE: u8 = 2;
    /// An interface to the outside.
    pub const UPLINK: u8 = 3;
    /// The loopback interface.
    pub const LOOPBACK: u8 = 4;
}

/// One interface that carries a hook. Key: ifindex (`u32`, host order).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Interface {
    /// One of [`role`].
    pub role: u8,
    /// Of [`interface_flags`].
    pub flags: u8,
    /// The container's MAC; the interface's own for the other roles.
    pub mac: Mac,
    /// The network of a container or bridge; 0 for an uplink.
    pub network: u32,
    /// The container end's id; 0 for the other roles. Never used again for another one.
    pub endpoint: u32,
    /// An id that all ends of one container have, and those of no other; 0 for the other roles.
    pub container: u32,
    /// The container's address, or the one an uplink masquerades with where the kernel can't be
    /// asked. All zero: none.
    pub address_v4: Ipv4,
    /// As `address_v4`, for IPv6.
    pub address_v6: Ipv6,
}

/// Flags of an [`Interface`].
pub mod interface_flags {
    /// The container may send with other MACs and addresses than its own.
    pub const SOURCE_UNCHECKED: u8 = 1;
}

/// Flags of a [`Network`]. Programs look at them through [`crate::policy::flags`], which are one
/// family's.
pub mod network_flags {
    /// Its containers may talk to each other.
    pub const ICC: u32 = 1;
    /// No way in or out.
    pub const INTERNAL: u32 = 1 << 1;
    /// What leaves the host in IPv4 gets the host's address.
    pub const MASQUERADE_V4: u32 = 1 << 2;
    /// What leaves the host in IPv6 gets the host's address.
    pub const MASQUERADE_V6: u32 = 1 << 3;
    /// Every port of its containers is reached from everywhere in IPv4.
    pub const UNPROTECTED_V4: u32 = 1 << 4;
    /// Every port of its containers is reached from everywhere in IPv6.
    pub const UNPROTECTED_V6: u32 = 1 << 5;
    /// Its containers' published ports are reached by the containers' own IPv4 addresses.
    pub const ROUTED_V4: u32 = 1 << 6;
    /// Its containers' published ports are reached by the containers' own IPv6 addresses.
    pub const ROUTED_V6: u32 = 1 << 7;
    /// It has interfaces or sources that it trusts.
    pub const TRUSTED: u32 = 1 << 8;
}

/// One network. Key: its id (`u32`, host order, never 0).
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Network {
    /// Of [`network_flags`].
    pub flags: u32,
    /// The bridge.
    pub bridge_ifindex: u32,
    /// The bridge's MAC: a frame to it wants to be routed.
    pub bridge_mac: Mac,
    /// Always zero.
    pub pad: [u8; 2],
    /// The gateway address in IPv4; all zero: none.
    pub gateway_v4: Ipv4,
    /// The gateway address in IPv6; all zero: none.
    pub gateway_v6: Ipv6,
    /// The MTU of its containers, in bytes; 0: any.
    pub mtu: u32,
}

/// One container end. Keys: its address, and [`MacKey`].
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct Endpoint {
    /// Its id, as in [`Interface::endpoint`].
    pub id: u32,
    /// Its network.
    pub network: u32,
    /// The host side of its veth.
    pub ifindex: u32,
    /// The container's MAC.
    pub mac: Mac,
    /// Always zero.
    pub pad: [u8; 2],
}

/// Finds a container end on its bridge.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, Hash, Ord, PartialEq, PartialOrd, Pod, Zeroable)]
pub struct MacKey {
    /// The network.
    pub network: u32,
    /// The container's MAC.
    pub mac: Mac,
    /// Always zero.
    pub pad: [u8; 2],
}

/// Flags of a [`HostAddress`].
pub mod host_address_flags {
    /// A virtual IP: the kernel answers ARP, ND and ping for it, services answer the rest.
    pub const VIP: u32 = 1;
    /// A gateway address of one of our networks.
    pub const GATEWAY: u32 = 1 << 1;
}

/// One of the host's own addresses. Key: the address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq, Pod, Zeroable)]
pub struct HostAddress {
    /// Of [`host_address_flags`].
    pub flags: u32,
    /// The network whose gateway address or VIP it is; 0: none.
    pub network: u32,
}
