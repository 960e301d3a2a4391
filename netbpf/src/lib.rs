//! netbpf's user space: intent → plan → maps.

pub mod allocations;
pub mod config;
pub mod dataplane;
pub mod error;
pub mod host;
pub mod ipam;
pub mod model;
pub mod naming;
pub mod state;
