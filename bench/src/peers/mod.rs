//! Who is measured: netbpf and its peers. Each stands on a host of its own, all of the same shape:
//! a client outside, an uplink, a bridge, two containers. They differ in the dataplane alone.

pub mod bed;
pub mod direct_veth;
pub mod docker;
pub mod flows;
pub mod loopback;
pub mod netbpf;
pub mod nft_maps;
mod offloads;
pub mod rules;
mod sites;

use std::{
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    panic::{AssertUnwindSafe, catch_unwind},
    path::{Path, PathBuf},
    time::Duration,
};

use ::netbpf::host::bpffs::PinDirs;
use anyhow::{Context as _, Result, anyhow, bail, ensure};
use netbpf_tests::{
    netns::{Netns, output, run, wait_until},
    topology::{Family, Topology},
};

pub use sites::{Chosen, Sites, Wanted};

/// Docker's rules in nf_tables.
pub const DOCKER_NFT: &str = "Docker, iptables-nft";
/// Docker's rules in xtables.
pub const DOCKER_LEGACY: &str = "Docker, iptables-legacy";
/// What carries a connection to a loopback address of the host into a container, by default.
pub const DOCKER_PROXY: &str = "docker-proxy";
/// Docker's rules for the same, instead of its proxy.
pub const DOCKER_NO_PROXY: &str = "Docker without proxy";
/// nftables with one look-up for all published ports.
pub const NFT_MAPS: &str = "nftables, verdict maps";
/// The kernel's bridge and routing, without any filter or translation.
pub const PLAIN: &str = "plain, no filter";
/// Another host like [`PLAIN`]: what differs between both is the bench's own.
pub const PLAIN_AGAIN: &str = "plain, another host";
/// The two ends of one veth pair, without a host between.
pub const DIRECT: &str = "direct veth pair";
/// One namespace's own loopback interface.
pub const LOOPBACK: &str = "loopback";

/// The network of the containers, IPv4.
pub const SUBNET_V4: &str = "172.28.0.0/24";
/// The network of the containers, IPv6.
pub const SUBNET_V6: &str = "fd00:28::/64";
/// The addresses of the containers, IPv4.
pub const CONTAINERS_V4: [Ipv4Addr; 2] =
    [Ipv4Addr::new(172, 28, 0, 10), Ipv4Addr::new(172, 28, 0, 11)];
/// The addresses of the containers, IPv6.
pub const CONTAINERS_V6: [Ipv6Addr; 2] = [
    Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 10),
    Ipv6Addr::new(0xfd00, 0x28, 0, 0, 0, 0, 0, 11),
];
/// The first port that servers listen on; published ports lead to it and those that follow.
pub const PORT: u16 = 10_000;
/// The first published port of the host. All of them are below the ports that clients choose.
pub const PUBLISHED: u16 = 20_000;

/// How a client outside, or on the host, gets at the first container's ports.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Way {
    /// By the ports that are published on the host.
    Published,
    /// By the container's own address.
    Direct,
}

/// What a site stands on; all of it goes when this is dropped.
pub trait Standing: Send {
    /// Publishes the ports up to this number, and no others.
    ///
    /// # Errors
    ///
    /// What its programs say; that it can't.
    fn publish(&mut self, ports: u16) -> Result<()> {
        bail!("it does not publish {ports} ports")
    }

    /// Its dockerd, if it has one.
    fn docker(&self) -> Option<&docker::Daemon> {
        None
    }

    /// Where netbpf's programs and maps are pinned, if it is netbpf.
    fn pins(&self) -> Option<PinDirs> {
        None
    }
}

impl Standing for Netns {}
impl Standing for [Netns; 2] {}

/// Where the ends of a load can be, on one peer's host.
pub struct Site {
    /// The namespaces of the two containers. Ports of the first are published.
    pub containers: [PathBuf; 2],
    /// The host's namespace.
    pub host: PathBuf,
    /// The namespace of the machine outside.
    pub client: PathBuf,
    /// How the first container is got at from elsewhere.
    pub way: Way,
    /// How many of its ports are published.
    pub ports: u16,
    /// What it stands on.
    pub guard: Box<dyn Standing>,
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

    /// What to ask at `host` for a port of the first container: the port itself is counted from
    /// [`PORT`].
    pub fn published(&self, host: IpAddr, offset: u16) -> SocketAddr {
        match self.way {
            Way::Published => SocketAddr::new(host, PUBLISHED + offset),
            Way::Direct => self.container(0, Family::of(host), PORT + offset),
        }
    }

    /// All of its namespaces.
    fn places(&self) -> impl Iterator<Item = &Path> {
        let [first, second] = &self.containers;
        let all = [first, second, &self.host, &self.client];
        all.into_iter().map(PathBuf::as_path)
    }

    /// Publishes more ports.
    ///
    /// # Errors
    ///
    /// As [`Standing::publish`].
    pub fn grow(&mut self, ports: u16) -> Result<()> {
        self.guard.publish(ports)?;
        self.ports = ports;
        Ok(())
    }

    /// As [`forget`].
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn forget(&self) -> Result<()> {
        forget(&self.host, self.guard.pins().as_ref())
    }
}

/// Forgets all connections of a host, those that the kernel tracks and netbpf's flows alike: then
/// nobody begins where an earlier one lies, and the kernel's table, which all namespaces share, does
/// not fill.
///
/// # Errors
///
/// There is no `conntrack`; a failed system call.
pub fn forget(host: &Path, pins: Option<&PinDirs>) -> Result<()> {
    /// By what `nsenter` says that it does not find a program.
    const NOT_FOUND: Option<i32> = Some(127);
    let mut conntrack = Netns::existing(host).command("conntrack");
    let flushed = conntrack.arg("--flush").output();
    // A kernel that tracks nothing has nothing to forget, and says so by another code.
    ensure!(
        flushed.is_ok_and(|it| it.status.code() != NOT_FOUND),
        "without conntrack, what the kernel tracks is not forgotten"
    );
    if let Some(pins) = pins {
        flows::end_all(&pins.maps).context("netbpf's flows do not end")?;
    }
    Ok(())
}

/// A host with its uplink and the machine outside, without the rules that tests close it by. The
/// machine outside has routes to the containers.
///
/// # Panics
///
/// When a step fails.
pub fn topology() -> Topology {
    let topology = Topology::create();
    run(topology.host.command("nft").args(["flush", "ruleset"]));
    for subnet in [SUBNET_V4, SUBNET_V6] {
        topology.route_from_client(subnet);
    }
    topology
}

/// Waits until a namespace gets an answer from an address.
///
/// # Panics
///
/// When it gets none.
fn wait_for(netns: &Path, addr: IpAddr) {
    let netns = Netns::existing(netns);
    wait_until("the host answers", Duration::from_secs(10), || {
        let mut ping = netns.command("ping");
        ping.args(["-c", "1", "-W", "1"]).arg(addr.to_string());
        output(&mut ping).status.success()
    });
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
