//! netbpf's user space: intent → plan → maps.

pub mod allocations;
pub mod cli;
pub mod commands;
pub mod config;
pub mod dataplane;
pub mod display;
pub mod edit;
pub mod error;
pub mod host;
pub mod ipam;
pub mod model;
pub mod naming;
pub mod plan;
pub mod reconcile;
pub mod reserved;
pub mod run;
pub mod state;
pub mod status;
