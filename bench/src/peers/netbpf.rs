//! netbpf itself, by its own command.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use netbpf_tests::{
    product::Instance,
    topology::{Family, Topology, with_private_namespaces},
};

use super::{CONTAINERS_V4, PORT, PUBLISHED, SUBNET_V4, SUBNET_V6, Site, Way, topology};

/// The instance goes before the host it stands on.
struct Standing {
    instance: Instance,
    topology: Topology,
}

impl Standing {
    fn apply(netbpf: &Path, config: &str) -> Result<Self> {
        let topology = topology();
        let instance = Instance::new(&topology.id, &topology.host).with_binary(netbpf);
        let standing = Self { instance, topology };
        let config = with_private_namespaces(config, &standing.topology.id);
        let applied = standing.instance.try_apply(&config);
        ensure!(applied.code == Some(0), "netbpf apply: {}", applied.stderr);
        Ok(standing)
    }

    fn container(&self, name: &str) -> PathBuf {
        format!("/run/netns/{}-{name}", self.topology.id).into()
    }

    fn site(self, ports: u16) -> Site {
        Site {
            containers: ["c0", "c1"].map(|name| self.container(name)),
            host: self.topology.host.path().to_owned(),
            client: self.topology.client.path().to_owned(),
            way: Way::Published,
            ports,
            guard: Box::new(self),
        }
    }
}

/// A host on which netbpf stands, with two containers on one network; `ports` ports of the first
/// are published.
///
/// # Errors
///
/// What the command says.
///
/// # Panics
///
/// When the machines can't be made.
pub fn site(netbpf: &Path, ports: u16) -> Result<Site> {
    Ok(Standing::apply(netbpf, &config(ports))?.site(ports))
}

/// A host on which a virtual IP leads to several containers, and two more ask.
pub struct Pool {
    /// The namespaces of who asks.
    pub clients: [PathBuf; 2],
    /// The namespaces of the backends.
    pub backends: Vec<PathBuf>,
    standing: Standing,
}

impl Pool {
    /// Makes it. [`PORT`] of the virtual IP leads to [`PORT`] of the backends.
    ///
    /// # Errors
    ///
    /// What the command says.
    ///
    /// # Panics
    ///
    /// When the machines can't be made.
    pub fn set_up(netbpf: &Path, backends: u8) -> Result<Self> {
        let standing = Standing::apply(netbpf, &pool_config(backends))?;
        let name = |number| format!("b{number}");
        Ok(Self {
            clients: ["c0", "c1"].map(|name| standing.container(name)),
            backends: (0..backends)
                .map(|number| standing.container(&name(number)))
                .collect(),
            standing,
        })
    }

    /// The virtual IP's port.
    pub fn virtual_ip(family: Family) -> SocketAddr {
        SocketAddr::new(addr(family, 254), PORT)
    }

    /// The backends' own ports.
    pub fn direct(&self, family: Family) -> Vec<SocketAddr> {
        (0..self.backends.len())
            .map(|number| SocketAddr::new(addr(family, number as u8 + 100), PORT))
            .collect()
    }

    /// The host's namespace.
    pub fn host(&self) -> &Path {
        self.standing.topology.host.path()
    }
}

/// An address of the network of the containers.
fn addr(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([172, 28, 0, last]),
        Family::V6 => IpAddr::from([0xfd00, 0x28, 0, 0, 0, 0, 0, u16::from(last)]),
    }
}

fn pool_config(backends: u8) -> String {
    let mut config = network();
    config.push_str(&container("c0", 10, ""));
    config.push_str(&container("c1", 11, ""));
    for number in 0..backends {
        config.push_str(&container(&format!("b{number}"), 100 + number, ""));
    }
    let listed: Vec<_> = (0..backends)
        .map(|number| format!("{{ container = \"b{number}\" }}"))
        .collect();
    format!(
        "{config}[[service]]\nname = \"pool\"\nnetwork = \"front\"\nvip = [\"{}\", \"{}\"]\n\
         ports = [\"{PORT}:{PORT}\"]\nbackends = [{}]\nscheduler = \"random\"\n",
        addr(Family::V4, 254),
        addr(Family::V6, 254),
        listed.join(", ")
    )
}

fn config(ports: u16) -> String {
    let last = ports - 1;
    let publish = format!(
        "publish = [\"{PUBLISHED}-{}:{PORT}-{}\"]\n",
        PUBLISHED + last,
        PORT + last
    );
    let [first, second] = CONTAINERS_V4.map(|addr| addr.octets()[3]);
    let containers = [
        container("c0", first, &publish),
        container("c1", second, ""),
    ];
    network() + &containers.concat()
}

fn network() -> String {
    format!("[[network]]\nname = \"front\"\nsubnets = [\"{SUBNET_V4}\", \"{SUBNET_V6}\"]\n\n")
}

/// A container at the addresses with this last number.
fn container(name: &str, last: u8, more: &str) -> String {
    let (v4, v6) = (addr(Family::V4, last), addr(Family::V6, last));
    format!(
        "[[container]]\nname = \"{name}\"\n\
         networks = [{{ name = \"front\", ipv4 = \"{v4}\", ipv6 = \"{v6}\" }}]\n{more}\n"
    )
}
