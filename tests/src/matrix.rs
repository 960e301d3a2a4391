//! Every path between every two places, with what must become of it.
//!
//! The places and the rules come from what `netbpf` itself lists after an `apply`; the expectation
//! is the reachability table of the design, written down once more and independently of the
//! product's policy.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::Write as _,
    net::{IpAddr, SocketAddr},
    path::{Path, PathBuf},
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

use serde_json::Value;

use crate::{
    product::Instance,
    sockets::{self, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers},
    topology::{Family, Topology},
};

/// The port on which every place has a service of its own that nobody published.
pub const OWN_SERVICE: u16 = 7777;

/// A port on which nobody listens anywhere.
pub const CLOSED: u16 = 7;

/// The name that the host's servers answer with.
const HOST: &str = "host";
/// The name that the client's servers answer with.
const OUTSIDE: &str = "client";

/// What must become of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// One of these answers, and sees this source address.
    Reaches(Vec<(String, IpAddr)>),
    /// The kernel of the asked machine says that nobody listens.
    Refused,
    /// Nobody answers, and nothing arrives anywhere.
    Blocked,
    /// Blocked or refused: nobody answers, nothing arrives at a service.
    NotAnswered,
}

impl Expected {
    fn reaches(by: &str, source: IpAddr) -> Self {
        Self::Reaches(vec![(by.to_owned(), source)])
    }

    /// Whether that became of it.
    pub fn is_met(&self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Reaches(all), Seen::Answered { by, source }) => all
                .iter()
                .any(|(name, addr)| name == by && *addr == source.ip()),
            (Self::Refused, Seen::Refused) => true,
            (Self::Blocked, Seen::Silence | Seen::Unreachable) => true,
            (Self::NotAnswered, Seen::Silence | Seen::Unreachable | Seen::Refused) => true,
            _ => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Reaches(all) => {
                let names: BTreeSet<_> = all.iter().map(|(name, _)| name.as_str()).collect();
                format!(
                    "reaches {}",
                    names.into_iter().collect::<Vec<_>>().join(" or ")
                )
            }
            Self::Refused => "refused".to_owned(),
            Self::Blocked => "blocked".to_owned(),
            Self::NotAnswered => "not answered".to_owned(),
        }
    }
}

/// One path and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows, for people: `outside → web, published 8080`.
    pub path: String,
    /// The question that is asked.
    pub probe: Probe,
    /// What must become of it.
    pub expected: Expected,
}

/// A case that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// The case.
    pub case: Case,
    /// What became of it.
    pub seen: Seen,
}

impl Tried {
    /// Whether all is as expected.
    pub fn is_as_expected(&self) -> bool {
        self.case.expected.is_met(&self.seen)
    }
}

/// A network as `network ls` shows it.
#[derive(Clone, Debug)]
pub struct Network {
    /// Its name.
    pub name: String,
    /// Its subnets as text.
    pub subnets: Vec<String>,
    /// Its gateway addresses.
    pub gateways: Vec<IpAddr>,
    /// Whether its containers talk to each other.
    pub icc: bool,
    /// Whether it has no way in or out.
    pub internal: bool,
    /// Whether what leaves gets the host's address.
    pub masquerade: bool,
}

impl Network {
    fn gateway(&self, family: Family) -> Option<IpAddr> {
        self.gateways
            .iter()
            .copied()
            .find(|addr| Family::of(*addr) == family)
    }
}

/// A container as `container ls` shows it.
#[derive(Clone, Debug)]
pub struct Container {
    /// Its name.
    pub name: String,
    /// Its namespace.
    pub netns: PathBuf,
    /// The name of its network.
    pub network: String,
    /// Its addresses.
    pub addresses: Vec<IpAddr>,
}

impl Container {
    /// Its address of a family.
    pub fn address(&self, family: Family) -> Option<IpAddr> {
        self.addresses
            .iter()
            .copied()
            .find(|addr| Family::of(*addr) == family)
    }
}

/// A published port as `port ls` shows it: one row a family.
#[derive(Clone, Debug)]
pub struct Port {
    /// The container that it leads to.
    pub container: String,
    /// TCP or UDP.
    pub proto: Proto,
    /// The host address; unspecified: every one of that family.
    pub host_ip: IpAddr,
    /// The host port.
    pub host_port: u16,
    /// The container's port.
    pub container_port: u16,
}

/// A service as `service ls` shows it.
#[derive(Clone, Debug)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Its network.
    pub network: String,
    /// Its virtual addresses.
    pub vips: Vec<IpAddr>,
    /// Service port, container port, protocol.
    pub ports: Vec<(u16, u16, Proto)>,
    /// The names of its backends.
    pub backends: Vec<String>,
}

/// Everything that an instance says about itself.
#[derive(Clone, Debug)]
pub struct Listing {
    /// `network ls`.
    pub networks: Vec<Network>,
    /// `container ls`.
    pub containers: Vec<Container>,
    /// `port ls`.
    pub ports: Vec<Port>,
    /// `service ls`.
    pub services: Vec<Service>,
}

impl Listing {
    /// Asks an instance.
    ///
    /// # Panics
    ///
    /// When a listing does not have the contract's shape.
    pub fn of(instance: &Instance) -> Self {
        Self {
            networks: rows(&instance.json(&["network", "ls"]))
                .iter()
                .map(network)
                .collect(),
            containers: rows(&instance.json(&["container", "ls"]))
                .iter()
                .map(container)
                .collect(),
            ports: rows(&instance.json(&["port", "ls"]))
                .iter()
                .map(port)
                .collect(),
            services: rows(&instance.json(&["service", "ls"]))
                .iter()
                .map(service)
                .collect(),
        }
    }

    /// The container of a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn container(&self, name: &str) -> &Container {
        self.containers
            .iter()
            .find(|container| container.name == name)
            .expect(name)
    }

    /// The network of a name.
    ///
    /// # Panics
    ///
    /// When there is none.
    pub fn network(&self, name: &str) -> &Network {
        self.networks
            .iter()
            .find(|network| network.name == name)
            .expect(name)
    }

    fn network_of(&self, container: &Container) -> &Network {
        self.network(&container.network)
    }

    /// The ports on which each container needs a server for the paths of this listing.
    pub fn ports_of(&self, container: &Container) -> Vec<u16> {
        let published = self
            .ports
            .iter()
            .filter(|port| port.container == container.name)
            .map(|port| port.container_port);
        let served = self
            .services
            .iter()
            .filter(|service| service.backends.contains(&container.name))
            .flat_map(|service| service.ports.iter().map(|(_, target, _)| *target));
        let ports: BTreeSet<u16> = published.chain(served).chain([OWN_SERVICE]).collect();
        ports.into_iter().collect()
    }
}

fn rows(value: &Value) -> Vec<Value> {
    value
        .as_array()
        .unwrap_or_else(|| panic!("not a list: {value}"))
        .clone()
}

fn text(value: &Value, key: &str) -> String {
    value[key]
        .as_str()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
        .to_owned()
}

fn flag(value: &Value, key: &str) -> bool {
    value[key]
        .as_bool()
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

fn number(value: &Value, key: &str) -> u16 {
    value[key]
        .as_u64()
        .and_then(|number| u16::try_from(number).ok())
        .unwrap_or_else(|| panic!("no {key} in {value}"))
}

/// An address, with or without a prefix length behind it.
fn address(text: &str) -> IpAddr {
    let addr = text.split('/').next().unwrap_or_default();
    addr.parse()
        .unwrap_or_else(|error| panic!("{text}: {error}"))
}

fn texts(value: &Value) -> Vec<String> {
    rows(value)
        .iter()
        .map(|text| text.as_str().expect("a string").to_owned())
        .collect()
}

fn proto(text: &str) -> Proto {
    *Proto::ALL
        .iter()
        .find(|proto| proto.name() == text)
        .unwrap_or_else(|| panic!("{text}?"))
}

fn network(row: &Value) -> Network {
    Network {
        name: text(row, "name"),
        subnets: texts(&row["subnets"]),
        gateways: texts(&row["gateways"])
            .iter()
            .map(|text| address(text))
            .collect(),
        icc: flag(row, "icc"),
        internal: flag(row, "internal"),
        masquerade: flag(row, "masquerade"),
    }
}

fn container(row: &Value) -> Container {
    let attachment = &row["networks"][0];
    Container {
        name: text(row, "name"),
        netns: text(row, "netns").into(),
        network: text(attachment, "name"),
        addresses: ["ipv4", "ipv6"]
            .iter()
            .filter_map(|key| attachment[*key].as_str())
            .map(address)
            .collect(),
    }
}

fn port(row: &Value) -> Port {
    Port {
        container: text(row, "container"),
        proto: proto(&text(row, "proto")),
        host_ip: address(&text(row, "host_ip")),
        host_port: number(row, "host_port"),
        container_port: number(row, "container_port"),
    }
}

fn service(row: &Value) -> Service {
    Service {
        name: text(row, "name"),
        network: text(row, "network"),
        vips: texts(&row["vips"])
            .iter()
            .map(|text| address(text))
            .collect(),
        ports: rows(&row["ports"]).iter().map(service_port).collect(),
        backends: rows(&row["backends"])
            .iter()
            .map(|row| text(row, "container"))
            .collect(),
    }
}

/// `80:8080/tcp`, as in the config.
fn service_port(row: &Value) -> (u16, u16, Proto) {
    let text = row
        .as_str()
        .unwrap_or_else(|| panic!("not a service port: {row}"));
    let (ports, name) = text.split_once('/').unwrap_or((text, "tcp"));
    let (port, target) = ports.split_once(':').unwrap_or((ports, ports));
    (
        port.parse().expect(text),
        target.parse().expect(text),
        proto(name),
    )
}

/// A host, its containers, and servers in all of them.
#[derive(Debug)]
pub struct Bench<'a> {
    topology: &'a Topology,
    listing: Listing,
    log: Log,
    servers: Vec<Servers>,
}

impl<'a> Bench<'a> {
    /// Opens servers on the host, on the client and in every container, and gives the client the
    /// routes by which it would reach container addresses if it were let in.
    pub fn set_up(topology: &'a Topology, instance: &Instance) -> Self {
        let listing = Listing::of(instance);
        let log = Log::default();
        let mut servers = vec![
            sockets::serve(topology.host.path(), HOST, &[OWN_SERVICE], &log),
            sockets::serve(topology.client.path(), OUTSIDE, &[OWN_SERVICE], &log),
        ];
        for container in &listing.containers {
            let ports = listing.ports_of(container);
            servers.push(sockets::serve(
                &container.netns,
                &container.name,
                &ports,
                &log,
            ));
        }
        for subnet in listing.networks.iter().flat_map(|network| &network.subnets) {
            topology.route_from_client(subnet);
        }
        Self {
            topology,
            listing,
            log,
            servers,
        }
    }

    /// What the instance said about itself.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Where the servers write down what arrives.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How many places have servers.
    pub fn places(&self) -> usize {
        self.servers.len()
    }

    /// Every path of this host.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for family in Family::ALL {
            self.between_containers(family, &mut cases);
            self.host_and_containers(family, &mut cases);
            self.containers_to_outside(family, &mut cases);
            self.outside_to_host(family, &mut cases);
            self.outside_to_containers(family, &mut cases);
            self.containers_to_published(family, &mut cases);
            self.to_services(family, &mut cases);
            self.spoofed(family, &mut cases);
        }
        cases
    }

    fn host(&self) -> &Path {
        self.topology.host.path()
    }

    fn client(&self) -> &Path {
        self.topology.client.path()
    }

    fn between_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            for to in &self.listing.containers {
                let (Some(source), Some(addr)) = (from.address(family), to.address(family)) else {
                    continue;
                };
                if from.name == to.name {
                    continue;
                }
                let network = self.listing.network_of(from);
                let expected = if from.network == to.network && network.icc {
                    Expected::reaches(&to.name, source)
                } else {
                    Expected::Blocked
                };
                let path = format!("{} → {}", self.place(from), self.place(to));
                every_proto(cases, &path, &from.netns, addr, OWN_SERVICE, &expected);
            }
        }
    }

    fn host_and_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for container in &self.listing.containers {
            let network = self.listing.network_of(container);
            let Some(addr) = container.address(family) else {
                continue;
            };
            if let Some(gateway) = network.gateway(family) {
                let path = format!("host → {}", self.place(container));
                let expected = Expected::reaches(&container.name, gateway);
                every_proto(cases, &path, self.host(), addr, OWN_SERVICE, &expected);
            }
            let host = |open: bool| {
                if open {
                    Expected::reaches(HOST, addr)
                } else {
                    Expected::Blocked
                }
            };
            for other in &self.listing.networks {
                let Some(gateway) = other.gateway(family) else {
                    continue;
                };
                let own = other.name == network.name;
                let expected = host(own || !network.internal);
                let path = if own {
                    format!("{} → host, its own gateway", self.place(container))
                } else {
                    format!(
                        "{} → host, gateway of {}",
                        self.place(container),
                        other.name
                    )
                };
                every_proto(
                    cases,
                    &path,
                    &container.netns,
                    gateway,
                    OWN_SERVICE,
                    &expected,
                );
            }
            let path = format!("{} → host, its uplink", self.place(container));
            let expected = host(!network.internal);
            every_proto(
                cases,
                &path,
                &container.netns,
                family.host(),
                OWN_SERVICE,
                &expected,
            );
        }
    }

    fn containers_to_outside(&self, family: Family, cases: &mut Vec<Case>) {
        for container in &self.listing.containers {
            let network = self.listing.network_of(container);
            let Some(addr) = container.address(family) else {
                continue;
            };
            let expected = match (network.internal, network.masquerade) {
                (true, _) => Expected::Blocked,
                (false, true) => Expected::reaches(OUTSIDE, family.host()),
                (false, false) => Expected::reaches(OUTSIDE, addr),
            };
            let place = self.place(container);
            let from = &container.netns;
            let path = format!("{place} → outside, on the link");
            every_proto(cases, &path, from, family.client(), OWN_SERVICE, &expected);
            let path = format!("{place} → outside, far");
            every_proto(cases, &path, from, family.far(), OWN_SERVICE, &expected);
        }
    }

    fn outside_to_host(&self, family: Family, cases: &mut Vec<Case>) {
        let expected = Expected::reaches(HOST, family.client());
        let path = "outside → host, own service";
        every_proto(
            cases,
            path,
            self.client(),
            family.host(),
            OWN_SERVICE,
            &expected,
        );
        for proto in [Proto::Tcp, Proto::Udp] {
            cases.push(Case {
                path: "outside → host, closed port".to_owned(),
                probe: Probe::new(self.client(), proto, SocketAddr::new(family.host(), CLOSED)),
                expected: Expected::Refused,
            });
        }
        for port in self.ports(family) {
            let expected = if port.host_ip.is_unspecified() || port.host_ip == family.host() {
                Expected::reaches(&port.container, family.client())
            } else {
                Expected::Refused
            };
            cases.push(Case {
                path: format!("outside → {}, published {}", port.container, shown(port)),
                probe: Probe::new(
                    self.client(),
                    port.proto,
                    SocketAddr::new(family.host(), port.host_port),
                ),
                expected,
            });
        }
    }

    fn outside_to_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for container in &self.listing.containers {
            let Some(addr) = container.address(family) else {
                continue;
            };
            let path = format!("outside → {}, its address", self.place(container));
            for port in self.listing.ports_of(container) {
                every_proto(cases, &path, self.client(), addr, port, &Expected::Blocked);
            }
        }
    }

    fn containers_to_published(&self, family: Family, cases: &mut Vec<Case>) {
        for port in self
            .ports(family)
            .filter(|port| !port.host_ip.is_loopback())
        {
            for from in &self.listing.containers {
                let network = self.listing.network_of(from);
                let Some(source) = from.address(family) else {
                    continue;
                };
                let asked = if port.host_ip.is_unspecified() {
                    network.gateway(family).unwrap_or(family.host())
                } else {
                    port.host_ip
                };
                let target = self.listing.container(&port.container);
                let gateway = self.listing.network_of(target).gateway(family);
                let expected = match (network.internal, from.name == port.container, gateway) {
                    (true, _, _) => Expected::NotAnswered,
                    (false, true, Some(gateway)) => Expected::reaches(&port.container, gateway),
                    (false, _, _) => Expected::reaches(&port.container, source),
                };
                cases.push(Case {
                    path: format!(
                        "{} → {}, published {}",
                        self.place(from),
                        port.container,
                        shown(port)
                    ),
                    probe: Probe::new(
                        &from.netns,
                        port.proto,
                        SocketAddr::new(asked, port.host_port),
                    ),
                    expected,
                });
            }
        }
    }

    fn to_services(&self, family: Family, cases: &mut Vec<Case>) {
        for service in &self.listing.services {
            let Some(vip) = service
                .vips
                .iter()
                .copied()
                .find(|vip| Family::of(*vip) == family)
            else {
                continue;
            };
            for (port, _, proto) in &service.ports {
                let asked = SocketAddr::new(vip, *port);
                cases.push(Case {
                    path: format!("outside → service {}", service.name),
                    probe: Probe::new(self.client(), *proto, asked),
                    expected: Expected::Blocked,
                });
                for from in &self.listing.containers {
                    let Some(source) = from.address(family) else {
                        continue;
                    };
                    let expected = if from.network == service.network {
                        self.backends(service, from, source, family)
                    } else {
                        Expected::NotAnswered
                    };
                    cases.push(Case {
                        path: format!("{} → service {}", self.place(from), service.name),
                        probe: Probe::new(&from.netns, *proto, asked),
                        expected,
                    });
                }
            }
            for from in &self.listing.containers {
                for proto in [Proto::Tcp, Proto::Udp] {
                    cases.push(Case {
                        path: format!(
                            "{} → service {}, another port",
                            self.place(from),
                            service.name
                        ),
                        probe: Probe::new(&from.netns, proto, SocketAddr::new(vip, OWN_SERVICE)),
                        expected: Expected::NotAnswered,
                    });
                }
            }
        }
    }

    /// Any backend may answer; one that asks itself sees the gateway.
    fn backends(
        &self,
        service: &Service,
        from: &Container,
        source: IpAddr,
        family: Family,
    ) -> Expected {
        let gateway = self.listing.network(&service.network).gateway(family);
        let seen_by = |backend: &String| {
            let own = *backend == from.name;
            (backend.clone(), gateway.filter(|_| own).unwrap_or(source))
        };
        Expected::Reaches(service.backends.iter().map(seen_by).collect())
    }

    fn spoofed(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            let Some(own) = from.address(family) else {
                continue;
            };
            let neighbour = self
                .listing
                .containers
                .iter()
                .find(|other| other.name != from.name);
            let borrowed = [
                Some(family.stranger()),
                neighbour.and_then(|it| it.address(family)),
            ];
            for lie in borrowed.into_iter().flatten().filter(|lie| *lie != own) {
                let bind = SocketAddr::new(lie, 0);
                let gateway = self.listing.network_of(from).gateway(family);
                for to in [Some(family.client()), gateway].into_iter().flatten() {
                    cases.push(Case {
                        path: format!("{} → anywhere, as {lie}", self.place(from)),
                        probe: Probe::new(
                            &from.netns,
                            Proto::Udp,
                            SocketAddr::new(to, OWN_SERVICE),
                        )
                        .bound(bind),
                        expected: Expected::Blocked,
                    });
                }
            }
        }
    }

    fn ports(&self, family: Family) -> impl Iterator<Item = &Port> {
        self.listing
            .ports
            .iter()
            .filter(move |port| Family::of(port.host_ip) == family)
    }

    fn place(&self, container: &Container) -> String {
        let network = self.listing.network_of(container);
        let kind = match (network.internal, network.icc) {
            (true, _) => ", internal",
            (false, false) => ", icc off",
            (false, true) => "",
        };
        format!("{} ({}{kind})", container.name, container.network)
    }
}

fn shown(port: &Port) -> String {
    format!(
        "{}/{}",
        SocketAddr::new(port.host_ip, port.host_port),
        port.proto.name()
    )
}

fn every_proto(
    cases: &mut Vec<Case>,
    path: &str,
    from: &Path,
    to: IpAddr,
    port: u16,
    expected: &Expected,
) {
    for proto in Proto::ALL {
        cases.push(Case {
            path: path.to_owned(),
            probe: Probe::new(from, proto, SocketAddr::new(to, port)),
            expected: expected.clone(),
        });
    }
}

impl Bench<'_> {
    /// Tries everything: each case, what outsiders send to a masqueraded port, and whether every
    /// backend of a service is found.
    pub fn try_everything(&self) -> Vec<Tried> {
        let mut tried = try_all(self.cases(), &self.log);
        for family in Family::ALL {
            tried.extend(self.unsolicited(family));
            tried.extend(self.every_backend(family));
        }
        tried
    }

    /// A container talks to the far machine; a stranger then sends to the address and port that
    /// the far machine saw.
    fn unsolicited(&self, family: Family) -> Vec<Tried> {
        let containers = self.listing.containers.iter();
        let open = containers.filter(|container| !self.listing.network_of(container).internal);
        open.filter_map(|container| {
            container.address(family)?;
            Some(self.unsolicited_to(container, family))
        })
        .collect()
    }

    fn unsolicited_to(&self, container: &Container, family: Family) -> Tried {
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = sockets::Talk::open(&container.netns, far);
        let masqueraded = talk.exchange(PATIENCE);
        let path = format!("stranger → {}, its masqueraded port", self.place(container));
        let asked = masqueraded.unwrap_or(SocketAddr::new(family.host(), CLOSED));
        let stranger = SocketAddr::new(family.stranger(), 0);
        let probe = Probe::new(self.client(), Proto::Udp, asked).bound(stranger);
        let mut seen = probe.ask(SILENCE, &self.log);
        if masqueraded.is_none() {
            seen = Seen::Arrived {
                by: "nobody: the container's own talk failed".to_owned(),
                source: far,
            };
        } else if talk.got_more() {
            seen = Seen::Arrived {
                by: container.name.clone(),
                source: stranger,
            };
        }
        Tried {
            case: Case {
                path,
                probe,
                expected: Expected::NotAnswered,
            },
            seen,
        }
    }

    /// Asks each service from each container of its network until every backend has answered; the
    /// chance that one of a few stays unseen in that many questions is nil.
    fn every_backend(&self, family: Family) -> Vec<Tried> {
        let mut tried = Vec::new();
        for service in &self.listing.services {
            let vip = service
                .vips
                .iter()
                .copied()
                .find(|vip| Family::of(*vip) == family);
            let Some(vip) = vip else { continue };
            let members = self
                .listing
                .containers
                .iter()
                .filter(|from| from.network == service.network);
            for (from, (port, _, proto)) in
                members.flat_map(|from| service.ports.iter().map(move |port| (from, port)))
            {
                let Some(source) = from.address(family) else {
                    continue;
                };
                let Expected::Reaches(mut missing) = self.backends(service, from, source, family)
                else {
                    continue;
                };
                let probe = Probe::new(&from.netns, *proto, SocketAddr::new(vip, *port));
                tried.extend(self.until_found(service, from, &probe, &mut missing));
            }
        }
        tried
    }

    fn until_found(
        &self,
        service: &Service,
        from: &Container,
        probe: &Probe,
        missing: &mut Vec<(String, IpAddr)>,
    ) -> Vec<Tried> {
        const QUESTIONS: usize = 200;
        let mut tried = Vec::new();
        let found = |by: &str, source: IpAddr, seen: Seen| Tried {
            case: Case {
                path: format!(
                    "{} → service {}, backend {by}",
                    self.place(from),
                    service.name
                ),
                probe: probe.clone(),
                expected: Expected::reaches(by, source),
            },
            seen,
        };
        for _ in 0..QUESTIONS {
            if missing.is_empty() {
                return tried;
            }
            let seen = probe.ask(PATIENCE, &self.log);
            let hit = missing
                .iter()
                .position(|(name, source)| Expected::reaches(name, *source).is_met(&seen));
            if let Some(at) = hit {
                let (name, source) = missing.swap_remove(at);
                tried.push(found(&name, source, seen));
            } else if !matches!(seen, Seen::Answered { .. }) {
                break;
            }
        }
        tried.extend(
            missing
                .iter()
                .map(|(name, source)| found(name, *source, Seen::Silence)),
        );
        tried
    }
}

/// Tries all cases, first what must work and then what must not; the latter spend their time
/// waiting, and wait together.
pub fn try_all(cases: Vec<Case>, log: &Log) -> Vec<Tried> {
    let (open, closed): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .partition(|case| matches!(case.expected, Expected::Reaches(_)));
    let mut tried = try_together(open, 8, log);
    tried.extend(try_together(closed, 64, log));
    tried
}

fn try_together(cases: Vec<Case>, threads: usize, log: &Log) -> Vec<Tried> {
    let next = AtomicUsize::new(0);
    let tried = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(|| {
                while let Some((at, case)) = take(&cases, &next) {
                    let patience = match case.expected {
                        Expected::Reaches(_) | Expected::Refused => PATIENCE,
                        Expected::Blocked | Expected::NotAnswered => SILENCE,
                    };
                    let seen = case.probe.ask(patience, log);
                    if let Ok(mut tried) = tried.lock() {
                        tried.insert(
                            at,
                            Tried {
                                case: case.clone(),
                                seen,
                            },
                        );
                    }
                }
            });
        }
    });
    tried
        .into_inner()
        .map(|tried| tried.into_values().collect())
        .unwrap_or_default()
}

fn take<'a>(cases: &'a [Case], next: &AtomicUsize) -> Option<(usize, &'a Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case))
}

/// The matrix as a table; protocols that fared alike share a row.
pub fn table(tried: &[Tried]) -> String {
    let mut rows: Vec<([String; 6], Vec<&'static str>)> = Vec::new();
    for one in tried {
        let key = [
            one.case.path.clone(),
            Family::of(one.case.probe.to.ip()).name().to_owned(),
            one.case.expected.words(),
            one.seen.to_string(),
            source(&one.seen),
            if one.is_as_expected() {
                "ok"
            } else {
                "NOT AS EXPECTED"
            }
            .to_owned(),
        ];
        let name = one.case.probe.proto.name();
        match rows.iter_mut().find(|(row, _)| *row == key) {
            Some((_, protos)) if !protos.contains(&name) => protos.push(name),
            Some(_) => {}
            None => rows.push((key, vec![name])),
        }
    }
    let header = [
        "PATH",
        "FAMILY",
        "PROTOCOLS",
        "EXPECTED",
        "SEEN",
        "SOURCE SEEN",
        "",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 7]> = [header]
        .into_iter()
        .chain(
            rows.into_iter()
                .map(|([path, family, expected, seen, source, mark], protos)| {
                    [path, family, protos.join(" "), expected, seen, source, mark]
                }),
        )
        .collect();
    aligned(&lines)
}

fn source(seen: &Seen) -> String {
    match seen {
        Seen::Answered { source, .. } | Seen::Arrived { source, .. } => source.ip().to_string(),
        Seen::Refused | Seen::Unreachable | Seen::Silence => "-".to_owned(),
    }
}

fn aligned(lines: &[[String; 7]]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut table = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        table.push_str(row.trim_end());
        table.push('\n');
    }
    table
}
