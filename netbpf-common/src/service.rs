//! Virtual IPs: which backend a new flow gets.

use crate::{
    family::{Family, V4, V6},
    wire::Be16,
};

/// How many backends a service port can have.
pub const MAX_BACKENDS: usize = 128;

/// One backend of a service port.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Backend<F: Family> {
    /// The container's address.
    pub addr: F::Addr,
    /// The container's port, wire order.
    pub port: Be16,
    /// Always zero.
    pub pad: u16,
    /// The container end's id.
    pub endpoint: u32,
}

/// One service port: its backends are one value, so that they change in one step.
/// Key: [`crate::nat::PortKey`] with the VIP as its address.
#[repr(C)]
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service<F: Family> {
    /// The mapping's id. Never used again for another one.
    pub mapping: u32,
    /// How many of `backends` count; at most [`MAX_BACKENDS`].
    pub count: u32,
    /// The backends, in the order of the config.
    pub backends: [Backend<F>; MAX_BACKENDS],
}

impl<F: Family> Default for Service<F> {
    fn default() -> Self {
        Self {
            mapping: 0,
            count: 0,
            backends: [Backend::default(); MAX_BACKENDS],
        }
    }
}

const _: () = assert!(size_of::<Service<V4>>() == 8 + 12 * MAX_BACKENDS);
const _: () = assert!(size_of::<Service<V6>>() == 8 + 24 * MAX_BACKENDS);

/// The backend of a new flow, uniformly for a uniform `random`; `None` when there is none.
#[inline(always)]
pub const fn pick_random(random: u32, count: u32) -> Option<u32> {
    if count == 0 {
        return None;
    }
    // Lemire's multiplication instead of a modulo: no division, and no bias worth counting.
    Some(((random as u64 * count as u64) >> 32) as u32)
}
