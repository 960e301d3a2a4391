//! Stages on single packets: each hook through `BPF_PROG_TEST_RUN`, etherparse as the judge of
//! whole packets and checksums.
//!
//! Reading a test is reading a packet's life: what one hook puts out is what the next one gets.
//! Every step names the verdict, the whole packet and the counters that moved; no other may.

mod conntrack;
mod drops;
mod egress;
mod errors;
mod fragments;
mod identity;
mod isolation;
mod local;
mod malformed;
mod not_understood;
mod publish;
mod senders;
mod service;
mod told;

use std::net::{IpAddr, SocketAddr};

use netbpf_tests::{
    packet::Frame,
    prog_run::{CLIENT_MAC, UPLINK_MAC},
    topology::Family,
};

/// The client's address and a port.
fn client(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.client(), port)
}

/// The host's address and a port.
fn host(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.host(), port)
}

/// An address with no port that matters.
const fn bare(addr: IpAddr) -> SocketAddr {
    SocketAddr::new(addr, 0)
}

/// A frame of the client, or of what lies beyond it.
fn arrives(frame: Frame) -> Frame {
    frame.macs(CLIENT_MAC, UPLINK_MAC)
}
