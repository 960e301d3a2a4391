//! A service: virtual addresses in front of containers of one network.

use std::net::IpAddr;

use super::Proto;

/// One service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// The network whose containers reach it and which its backends are in.
    pub network: String,
    /// Its virtual addresses: at least one, at most one a family, IPv4 first.
    pub vips: Vec<IpAddr>,
    /// Its ports.
    pub ports: Vec<ServicePort>,
    /// Its backends, by container name, in the order of the document; at most
    /// [`netbpf_common::service::MAX_BACKENDS`]. Each has an address of every family of `vips`.
    pub backends: Vec<String>,
}

/// One port of a service.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ServicePort {
    /// The mapping's id: never 0, and never used again for another mapping.
    pub mapping: u32,
    /// The port of the virtual address; never 0.
    pub port: u16,
    /// The port of the backends; never 0.
    pub target_port: u16,
    /// The protocol.
    pub proto: Proto,
}
