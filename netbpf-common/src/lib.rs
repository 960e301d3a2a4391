//! The ABI between netbpf's loader and its eBPF programs, and every decision that needs no I/O.
//!
//! Values that come from the wire stay in wire order until somebody asks for them by a getter.
//! Shared structs have no padding, no `bool`, `Option` or `enum` field; [`config::ABI_VERSION`]
//! changes whenever one of their layouts does.
#![no_std]

pub mod checksum;
pub mod config;
pub mod conntrack;
pub mod endpoint;
pub mod family;
pub mod nat;
pub mod packet;
pub mod pod;
pub mod policy;
pub mod senders;
pub mod service;
pub mod socket;
pub mod tuple;
pub mod verdict;
pub mod wire;

#[cfg(test)]
extern crate std;

#[cfg(test)]
mod arbitrary;
