//! What the host says where something has to be chosen.

use std::{fmt, net::SocketAddr};

use ipnet::IpNet;

use crate::model::Proto;

/// What the host says where something has to be chosen.
#[derive(Clone, Copy)]
pub struct Surroundings<'h> {
    /// What the host reaches by interfaces that are not ours: no automatic subnet overlaps it.
    pub occupied: &'h [IpNet],
    /// The administrator's reserved ports, as first and last: never ephemeral ones.
    pub reserved_ports: &'h [(u16, u16)],
    /// Whether another process of the host listens there; asked only of what nobody has yet.
    pub is_taken: &'h dyn Fn(SocketAddr, Proto) -> bool,
}

impl Surroundings<'static> {
    /// Nothing is known of the host.
    pub const UNKNOWN: Self = Self {
        occupied: &[],
        reserved_ports: &[],
        is_taken: &|_, _| false,
    };
}

impl fmt::Debug for Surroundings<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Surroundings")
            .field("occupied", &self.occupied)
            .field("reserved_ports", &self.reserved_ports)
            .finish_non_exhaustive()
    }
}
