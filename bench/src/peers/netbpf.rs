//! netbpf itself, by its own command.

use std::{
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
};

use anyhow::{Result, ensure};
use netbpf::host::bpffs::PinDirs;
use netbpf_tests::{
    product::Instance,
    topology::{Family, Topology, with_private_namespaces},
};

use super::{
    CONTAINERS_V4, PORT, PUBLISHED, SUBNET_V4, SUBNET_V6, Site, Standing, Way, offloads, topology,
};

/// The instance goes before the host it stands on.
struct Host {
    instance: Instance,
    topology: Topology,
}

impl Standing for Host {
    fn publish(&mut self, ports: u16) -> Result<()> {
        self.apply(&config(ports))
    }

    fn pins(&self) -> Option<PinDirs> {
        Some(PinDirs::of(self.instance.name()))
    }
}

impl Host {
    fn make(netbpf: &Path) -> Self {
        let topology = topology();
        let instance = Instance::new(&topology.id, &topology.host).with_binary(netbpf);
        Self { instance, topology }
    }

    fn apply(&self, config: &str) -> Result<()> {
        let config = with_private_namespaces(config, &self.topology.id);
        let applied = self.instance.try_apply(&config);
        ensure!(applied.code == Some(0), "netbpf apply: {}", applied.stderr);
        Ok(())
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
    let mut host = Host::make(netbpf);
    host.publish(ports)?;
    Ok(host.site(ports))
}

/// A host on which virtual IPs lead to several containers, and two more ask.
pub struct Pool {
    /// The namespaces of who asks.
    pub clients: [PathBuf; 2],
    backends: Vec<PathBuf>,
    host: Host,
}

/// A virtual IP of a pool: so many of its containers, counted from the first one.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Service {
    /// How many.
    pub backends: u8,
    /// The last number of the virtual IP.
    last: u8,
    /// Its port, and that of its backends: another one for each, for a connection that begins where
    /// one by another virtual IP still waits in the backend is refused at first.
    port: u16,
}

impl Service {
    /// All there are; the last one has every container.
    pub const ALL: [Self; 2] = [
        Self {
            backends: 2,
            last: 254,
            port: PORT,
        },
        Self {
            backends: 100,
            last: 253,
            port: PORT + 2,
        },
    ];

    /// The virtual IP's port.
    pub fn virtual_ip(self, family: Family) -> SocketAddr {
        SocketAddr::new(addr(family, self.last), self.port)
    }

    /// The backends' own addresses, at a port that the virtual IP does not lead to: both are
    /// asked in turn.
    pub fn direct(self, family: Family) -> Vec<SocketAddr> {
        (0..self.backends)
            .map(|number| SocketAddr::new(addr(family, number + FIRST_BACKEND), self.port + 1))
            .collect()
    }

    fn config(self) -> String {
        let listed: Vec<_> = (0..self.backends)
            .map(|number| format!("{{ container = \"b{number}\" }}"))
            .collect();
        format!(
            "[[service]]\nname = \"pool{0}\"\nnetwork = \"front\"\nvip = [\"{1}\", \"{2}\"]\n\
             ports = [\"{4}:{4}\"]\nbackends = [{3}]\nscheduler = \"random\"\n",
            self.backends,
            addr(Family::V4, self.last),
            addr(Family::V6, self.last),
            listed.join(", "),
            self.port
        )
    }
}

/// The last number of the first backend's addresses.
const FIRST_BACKEND: u8 = 100;

impl Pool {
    /// Makes it. The port of each virtual IP leads to the same one of its backends.
    ///
    /// # Errors
    ///
    /// What the command says.
    ///
    /// # Panics
    ///
    /// When the machines can't be made.
    pub fn set_up(netbpf: &Path) -> Result<Self> {
        let backends = Service::ALL.map(|service| service.backends);
        let backends = 0..backends.into_iter().max().unwrap_or_default();
        let host = Host::make(netbpf);
        let mut config = network() + &container("c0", 10, "") + &container("c1", 11, "");
        for number in backends.clone() {
            config.push_str(&container(
                &format!("b{number}"),
                FIRST_BACKEND + number,
                "",
            ));
        }
        config.extend(Service::ALL.map(Service::config));
        host.apply(&config)?;
        let pool = Self {
            clients: ["c0", "c1"].map(|name| host.container(name)),
            backends: backends
                .map(|number| host.container(&format!("b{number}")))
                .collect(),
            host,
        };
        offloads::demand_defaults(pool.places())?;
        Ok(pool)
    }

    /// All namespaces with which other contenders' are compared.
    fn places(&self) -> impl Iterator<Item = &Path> {
        let clients = self.clients.iter().map(PathBuf::as_path);
        let backends = self.backends(Service::ALL[0]).into_iter();
        clients.chain(backends).chain([self.host()])
    }

    /// The namespaces of a service's backends.
    pub fn backends(&self, service: Service) -> Vec<&Path> {
        let backends = self.backends.iter().map(PathBuf::as_path);
        backends.take(usize::from(service.backends)).collect()
    }

    /// Where its programs and maps are pinned.
    pub fn pins(&self) -> Option<PinDirs> {
        self.host.pins()
    }

    /// As [`super::forget`].
    ///
    /// # Errors
    ///
    /// A failed system call.
    pub fn forget(&self) -> Result<()> {
        super::forget(self.host(), self.pins().as_ref())
    }

    /// The host's namespace.
    pub fn host(&self) -> &Path {
        self.host.topology.host.path()
    }
}

/// An address of the network of the containers.
fn addr(family: Family, last: u8) -> IpAddr {
    match family {
        Family::V4 => IpAddr::from([172, 28, 0, last]),
        Family::V6 => IpAddr::from([0xfd00, 0x28, 0, 0, 0, 0, 0, u16::from(last)]),
    }
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
