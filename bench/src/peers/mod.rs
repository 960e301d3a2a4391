//! Who is measured: netbpf and its peers. Each stands on a host of its own, all of the same shape:
//! a client outside, an uplink, a bridge, two containers. They differ in the dataplane alone.

pub mod direct_veth;
pub mod netbpf;

mod sites;

use std::{
    any::Any,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::PathBuf,
};

use anyhow::{Result, anyhow};
use netbpf_tests::topology::Family;

pub use sites::{Sites, Wanted};

/// The two ends of one veth pair, without a host between.
pub const DIRECT: &str = "direct veth pair";

/// The address of the containers, IPv4.
pub const CONTAINERS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(172, 28, 0, 10), Ipv4Addr::new(172, 28, 0, 11)];
/// The address of the containers, IPv6.
pub const CONTAINERS_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 0x10),
    Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 0x11),
];

/// Where the ends of a load can be, on one peer's host.
pub struct Site {
    /// The namespaces of the two containers.
    pub containers: [PathBuf; 2],
    /// What it stands on; all of it goes when this is dropped.
    pub guard: Box<dyn Any>,
}

impl Site {
    /// The address of a container's server.
    pub fn container(&self, number: usize, family: Family, port: u16) -> SocketAddr {
        let addr: IpAddr = match family {
            Family::V4 => CONTAINERS_V4[number].into(),
            Family::V6 => CONTAINERS_V6[number].into(),
        };
        SocketAddr::new(addr, port)
    }
}

/// Sets something up. What goes wrong is an error, also where the set-up panics, as that of tests
/// does; what stood by then goes.
///
/// # Errors
///
/// The reason.
pub fn set_up<T>(work: impl FnOnce() -> Result<T>) -> Result<T> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or_else(|panic| {
        let reason = panic
            .downcast_ref::<String>()
            .cloned()
            .or_else(|| panic.downcast_ref::<&str>().map(|it| (*it).to_owned()));
        Err(anyhow!(reason.unwrap_or_else(|| "it panicked".to_owned())))
    })
}
