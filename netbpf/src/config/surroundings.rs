//! What the host says where something has to be chosen.

use ipnet::IpNet;

/// What the host says where something has to be chosen.
#[derive(Clone, Copy, Debug)]
pub struct Surroundings<'h> {
    /// What the host reaches by interfaces that are not ours: no automatic subnet overlaps it.
    pub occupied: &'h [IpNet],
}

impl Surroundings<'static> {
    /// Nothing is known of the host.
    pub const UNKNOWN: Self = Self { occupied: &[] };
}
