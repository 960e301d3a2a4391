//! The table of the design, as cases: who reaches whom, and whom the reached one sees.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{
    Bench, CLOSED, Case, Container, End, Expected, GatewayMode, HOST, Network, OUTSIDE,
    OWN_SERVICE, Port, Service, listing::contains,
};
use crate::{
    sockets::{Probe, Proto},
    topology::{Family, UPLINK},
};

/// The end by which a container's packets leave, and the source address that its kernel gives them.
#[derive(Clone, Copy)]
pub(super) struct Sender<'a> {
    pub network: &'a Network,
    pub source: IpAddr,
}

impl Bench<'_> {
    /// Every path of this host.
    pub fn cases(&self) -> Vec<Case> {
        let mut cases = Vec::new();
        for family in Family::ALL {
            self.between_containers(family, &mut cases);
            self.host_to_containers(family, &mut cases);
            self.containers_to_host(family, &mut cases);
            self.host_to_published(family, &mut cases);
            self.host_to_services(family, &mut cases);
            self.containers_to_outside(family, &mut cases);
            self.to_closed_ports(family, &mut cases);
            self.outside_to_host(family, &mut cases);
            self.outside_to_containers(family, &mut cases);
            self.containers_to_published(family, &mut cases);
            self.to_services(family, &mut cases);
            self.spoofed(family, &mut cases);
        }
        let unusual = self.unusual(&cases);
        cases.extend(unusual);
        cases
    }

    pub(super) fn host(&self) -> &Path {
        self.topology.host.path()
    }

    pub(super) fn client(&self) -> &Path {
        self.topology.client.path()
    }

    /// What a container's kernel does with a packet for `to`: the end on its link, else the end of
    /// its default route. `None`: it has no way.
    pub(super) fn sender(&self, from: &Container, to: IpAddr) -> Option<Sender<'_>> {
        let family = Family::of(to);
        let listing = &self.listing;
        let on_link = |end: &&End| {
            end.address(family).is_some() && listing.network(&end.network).contains(to)
        };
        let way_out = self.ways_out.get(&(from.name.clone(), family));
        let end = from
            .ends
            .iter()
            .find(on_link)
            .or_else(|| from.ends.iter().find(|end| Some(&end.interface) == way_out))?;
        Some(Sender {
            network: listing.network(&end.network),
            source: end.address(family)?,
        })
    }

    /// The end at which published ports of a family arrive: that of the default route.
    pub(super) fn gateway_end<'c>(&self, of: &'c Container, family: Family) -> Option<&'c End> {
        let way_out = self.ways_out.get(&(of.name.clone(), family))?;
        of.ends.iter().find(|end| end.interface == *way_out)
    }

    fn between_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            for to in &self.listing.containers {
                for end in &to.ends {
                    let Some(addr) = end.address(family).filter(|_| from.name != to.name) else {
                        continue;
                    };
                    let path = format!("{} → {}", self.place(from), self.end_of(to, end));
                    for port in self.listing.ports_of(to) {
                        for proto in Proto::EVERY {
                            // What has no ports is tried once.
                            if !proto.has_ports() && port != OWN_SERVICE {
                                continue;
                            }
                            let asked = SocketAddr::new(addr, port);
                            cases.push(Case {
                                path: path.clone(),
                                probe: Probe::new(&from.netns, proto, asked),
                                expected: self.direct(from, (to, end), asked, proto),
                            });
                        }
                    }
                }
            }
        }
    }

    /// From a container to another one's own address.
    fn direct(
        &self,
        from: &Container,
        (to, end): (&Container, &End),
        asked: SocketAddr,
        proto: Proto,
    ) -> Expected {
        let Some(Sender { network, source }) = self.sender(from, asked.ip()) else {
            return Expected::Blocked;
        };
        let receiver = self.listing.network(&end.network);
        let is_open = if network.name == receiver.name {
            network.icc || self.is_linked(from, to, asked.port(), proto)
        } else {
            let is_trusted = receiver.trusted_interfaces.contains(&network.bridge)
                && self.is_published(to, asked.port(), proto);
            !network.internal && (is_trusted || self.is_open_to_others(to, end, asked, proto))
        };
        if is_open {
            Expected::reaches(&to.name, source)
        } else {
            Expected::Blocked
        }
    }

    /// Whether a link leads from a container to what another one exposes or publishes.
    fn is_linked(&self, from: &Container, to: &Container, port: u16, proto: Proto) -> bool {
        from.links.contains(&to.name)
            && (to.exposed.contains(&(port, proto)) || self.is_published(to, port, proto))
    }

    fn is_published(&self, of: &Container, port: u16, proto: Proto) -> bool {
        self.listing.ports.iter().any(|published| {
            published.container == of.name
                && published.proto == proto
                && published.container_port == port
        })
    }

    /// Whether a container's own address answers whoever is not of its network.
    fn is_open_to_others(
        &self,
        to: &Container,
        end: &End,
        asked: SocketAddr,
        proto: Proto,
    ) -> bool {
        let network = self.listing.network(&end.network);
        match network.mode(Family::of(asked.ip())) {
            _ if network.internal => false,
            GatewayMode::Nat | GatewayMode::Isolated => false,
            GatewayMode::NatUnprotected => true,
            GatewayMode::Routed => {
                proto == Proto::Icmp || self.is_published(to, asked.port(), proto)
            }
        }
    }

    fn host_to_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for (container, end) in self.ends() {
            let network = self.listing.network(&end.network);
            let (Some(addr), Some(gateway)) = (end.address(family), network.gateway(family)) else {
                continue;
            };
            if network.mode(family) == GatewayMode::Isolated {
                continue;
            }
            let path = format!("host → {}", self.end_of(container, end));
            let expected = Expected::reaches(&container.name, gateway);
            every_proto(cases, &path, self.host(), addr, OWN_SERVICE, &expected);
        }
    }

    fn containers_to_host(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            if from.address(family).is_none() {
                continue;
            }
            for network in &self.listing.networks {
                let Some(gateway) = network.gateway(family) else {
                    continue;
                };
                let path = format!("{} → host, gateway of {}", self.place(from), network.name);
                let expected = self.to_host(from, gateway);
                every_proto(cases, &path, &from.netns, gateway, OWN_SERVICE, &expected);
            }
            let path = format!("{} → host, its uplink", self.place(from));
            let expected = self.to_host(from, family.host());
            every_proto(
                cases,
                &path,
                &from.netns,
                family.host(),
                OWN_SERVICE,
                &expected,
            );
        }
    }

    /// From a container to one of the host's own addresses.
    fn to_host(&self, from: &Container, asked: IpAddr) -> Expected {
        match self.sender(from, asked) {
            Some(Sender { network, source })
                if !network.internal || network.gateways.contains(&asked) =>
            {
                Expected::reaches(HOST, source)
            }
            _ => Expected::Blocked,
        }
    }

    fn containers_to_outside(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            if from.address(family).is_none() {
                continue;
            }
            let outside = [("on the link", family.client()), ("far", family.far())];
            for (place, asked) in outside {
                let path = format!("{} → outside, {place}", self.place(from));
                let expected = self.to_outside(from, asked);
                let is_shared = expected == Expected::reaches(OUTSIDE, family.host());
                for proto in Proto::EVERY {
                    // Who may have the host's address without a port of it is tried by itself.
                    if is_shared && Proto::PORTLESS.contains(&proto) {
                        continue;
                    }
                    cases.push(Case {
                        path: path.clone(),
                        probe: Probe::new(&from.netns, proto, SocketAddr::new(asked, OWN_SERVICE)),
                        expected: expected.clone(),
                    });
                }
            }
        }
    }

    pub(super) fn to_outside(&self, from: &Container, asked: IpAddr) -> Expected {
        let family = Family::of(asked);
        match self.sender(from, asked) {
            Some(Sender { network, source }) if !network.internal => {
                let routed = network.mode(family) == GatewayMode::Routed;
                if network.masquerade && !routed {
                    Expected::reaches(OUTSIDE, family.host())
                } else {
                    Expected::reaches(OUTSIDE, source)
                }
            }
            _ => Expected::Blocked,
        }
    }

    /// Nobody listens there, and whoever may ask is told so, translated or not.
    fn to_closed_ports(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            if from.address(family).is_none() {
                continue;
            }
            for proto in [Proto::Tcp, Proto::Udp] {
                let mut ask = |path: String, to: IpAddr, open: Expected| {
                    cases.push(Case {
                        path: format!("{} → {path}, closed port", self.place(from)),
                        probe: Probe::new(&from.netns, proto, SocketAddr::new(to, CLOSED)),
                        expected: match open {
                            Expected::Reaches(_) => Expected::Refused,
                            shut => shut,
                        },
                    });
                };
                let far = family.far();
                ask("outside, far".to_owned(), far, self.to_outside(from, far));
                for (to, end) in self.ends().filter(|(to, _)| to.name != from.name) {
                    if let Some(addr) = end.address(family) {
                        let asked = SocketAddr::new(addr, CLOSED);
                        let open = self.direct(from, (to, end), asked, proto);
                        ask(self.end_of(to, end), addr, open);
                    }
                }
            }
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
        for (port, host_port) in self.ports(family) {
            let asked = SocketAddr::new(family.host(), host_port);
            cases.push(Case {
                path: format!("outside → {}, published {}", port.container, shown(port)),
                probe: Probe::new(self.client(), port.proto, asked),
                expected: self.published_outside(port, asked, family.client()),
            });
        }
    }

    /// What an outsider gets at a host address and port, published on this or on another address.
    fn published_outside(&self, port: &Port, asked: SocketAddr, source: IpAddr) -> Expected {
        let answering = self.listing.ports.iter().find(|other| {
            other.host_port == port.host_port
                && other.proto == port.proto
                && answers_on(other, asked.ip())
        });
        match answering {
            None => Expected::Refused,
            Some(port) if port.admits(source) => Expected::reaches(&port.container, source),
            Some(_) => Expected::Blocked,
        }
    }

    fn outside_to_containers(&self, family: Family, cases: &mut Vec<Case>) {
        for (container, end) in self.ends() {
            let Some(addr) = end.address(family) else {
                continue;
            };
            let path = format!("outside → {}, its address", self.end_of(container, end));
            for port in self.listing.ports_of(container) {
                for proto in Proto::EVERY {
                    if !proto.has_ports() && port != OWN_SERVICE {
                        continue;
                    }
                    let asked = SocketAddr::new(addr, port);
                    let is_open = self.is_open_to_others(container, end, asked, proto)
                        || self.is_trusted(end, family.client())
                            && self.is_published(container, port, proto);
                    let expected = if is_open {
                        Expected::reaches(&container.name, family.client())
                    } else {
                        Expected::Blocked
                    };
                    cases.push(Case {
                        path: path.clone(),
                        probe: Probe::new(self.client(), proto, asked),
                        expected,
                    });
                }
            }
        }
    }

    /// Whether the network of an end trusts a source outside, or everybody there.
    fn is_trusted(&self, end: &End, source: IpAddr) -> bool {
        let network = self.listing.network(&end.network);
        let mut sources = network.trusted_sources.iter();
        network.trusted_interfaces.iter().any(|name| name == UPLINK)
            || sources.any(|prefix| contains(prefix, source))
    }

    fn containers_to_published(&self, family: Family, cases: &mut Vec<Case>) {
        for (port, host_port) in self
            .ports(family)
            .filter(|(port, _)| !port.host_ip.is_loopback())
        {
            for from in &self.listing.containers {
                let Some(end) = from.ends.iter().find(|end| end.address(family).is_some()) else {
                    continue;
                };
                let own = self.listing.network(&end.network).gateway(family);
                let asked = if port.host_ip.is_unspecified() {
                    own.unwrap_or(family.host())
                } else {
                    port.host_ip
                };
                cases.push(Case {
                    path: format!(
                        "{} → {}, published {}",
                        self.place(from),
                        port.container,
                        shown(port)
                    ),
                    probe: Probe::new(&from.netns, port.proto, SocketAddr::new(asked, host_port)),
                    expected: self.published_inside(port, from, asked),
                });
            }
        }
    }

    /// What a container gets at a published port of the host.
    fn published_inside(&self, port: &Port, from: &Container, asked: IpAddr) -> Expected {
        let family = Family::of(asked);
        let Some(Sender { network, source }) = self.sender(from, asked) else {
            return Expected::Blocked;
        };
        let target = self.listing.container(&port.container);
        let receiver = self.gateway_end(target, family).map(|end| &end.network);
        if network.internal {
            return Expected::Blocked;
        }
        if from.name == target.name {
            let gateways = from.ends.iter().filter_map(|end| {
                let gateway = self.listing.network(&end.network).gateway(family)?;
                Some((from.name.clone(), gateway))
            });
            return Expected::Reaches(gateways.collect());
        }
        if receiver != Some(&network.name) && !port.admits(source) {
            return Expected::Blocked;
        }
        Expected::reaches(&target.name, source)
    }

    fn to_services(&self, family: Family, cases: &mut Vec<Case>) {
        for service in &self.listing.services {
            let Some(vip) = service.vip(family) else {
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
                    if from.address(family).is_none() {
                        continue;
                    }
                    cases.push(Case {
                        path: format!("{} → service {}", self.place(from), service.name),
                        probe: Probe::new(&from.netns, *proto, asked),
                        expected: self.backends(service, from, vip),
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
                        expected: match self.backends(service, from, vip) {
                            Expected::Reaches(_) => Expected::Refused,
                            shut => shut,
                        },
                    });
                }
            }
        }
    }

    /// Any backend may answer whoever is of the service's network; one that asks itself sees the
    /// gateway.
    pub(super) fn backends(&self, service: &Service, from: &Container, vip: IpAddr) -> Expected {
        let Some(Sender { network, source }) = self.sender(from, vip) else {
            return Expected::Blocked;
        };
        if network.name != service.network {
            return Expected::Blocked;
        }
        let gateway = network.gateway(Family::of(vip));
        let seen_by = |backend: &String| {
            let own = *backend == from.name;
            (backend.clone(), gateway.filter(|_| own).unwrap_or(source))
        };
        Expected::Reaches(service.backends.iter().map(seen_by).collect())
    }

    /// A stranger's address, another container's, and an address of the container's own that
    /// belongs to another interface than the one by which the packet leaves.
    fn spoofed(&self, family: Family, cases: &mut Vec<Case>) {
        for from in &self.listing.containers {
            let neighbour = self
                .listing
                .containers
                .iter()
                .find(|other| other.name != from.name);
            let borrowed = [
                Some(family.stranger()),
                neighbour
                    .and_then(|other| other.address(family))
                    .filter(|addr| !from.has(*addr)),
            ];
            let own = from.ends.iter().filter_map(|end| end.address(family));
            for to in self.who_is_lied_to(from, family) {
                let Some(sender) = self.sender(from, to) else {
                    continue;
                };
                let lies = borrowed.into_iter().flatten().chain(own.clone());
                for lie in lies.filter(|lie| *lie != sender.source) {
                    let asked = SocketAddr::new(to, OWN_SERVICE);
                    cases.push(Case {
                        path: format!("{} → anywhere, as {lie}", self.place(from)),
                        probe: Probe::new(&from.netns, Proto::Udp, asked)
                            .bound(SocketAddr::new(lie, 0)),
                        expected: self.lied(from, asked, lie),
                    });
                }
            }
        }
    }

    /// What becomes of a datagram with a source that is not the container's own: one that is not
    /// checked carries what comes from elsewhere, but plays no neighbour.
    fn lied(&self, from: &Container, asked: SocketAddr, lie: IpAddr) -> Expected {
        let is_neighbours = from
            .ends
            .iter()
            .any(|end| self.listing.network(&end.network).contains(lie));
        if from.source_check || is_neighbours {
            return Expected::Blocked;
        }
        if asked.ip() != Family::of(lie).client() {
            return Expected::Arrives(HOST.to_owned(), lie);
        }
        // The answer is to an address that the container's own kernel does not have.
        match self.to_outside(from, asked.ip()) {
            Expected::Reaches(all) => Expected::Arrives(OUTSIDE.to_owned(), all[0].1),
            shut => shut,
        }
    }

    fn who_is_lied_to(&self, from: &Container, family: Family) -> Vec<IpAddr> {
        let gateways = from
            .ends
            .iter()
            .filter_map(|end| self.listing.network(&end.network).gateway(family));
        gateways.chain([family.client()]).collect()
    }

    /// The published ports of a family that have a port on the host.
    pub(super) fn ports(&self, family: Family) -> impl Iterator<Item = (&Port, u16)> {
        self.listing
            .ports
            .iter()
            .filter(move |port| Family::of(port.host_ip) == family)
            .filter_map(|port| Some((port, port.host_port?)))
    }

    pub(super) fn ends(&self) -> impl Iterator<Item = (&Container, &End)> {
        self.listing
            .containers
            .iter()
            .flat_map(|container| container.ends.iter().map(move |end| (container, end)))
    }

    /// A container, with its networks.
    pub(super) fn place(&self, container: &Container) -> String {
        let networks: Vec<String> = container
            .ends
            .iter()
            .map(|end| self.network_words(&end.network))
            .collect();
        format!("{} ({})", container.name, networks.join("; "))
    }

    /// A container at its address in one of its networks.
    fn end_of(&self, container: &Container, end: &End) -> String {
        match container.ends.len() {
            0 | 1 => self.place(container),
            _ => format!("{} at its {} address", self.place(container), end.network),
        }
    }

    fn network_words(&self, name: &str) -> String {
        let network = self.listing.network(name);
        let mode = match network.modes {
            [v4, v6] if v4 != v6 => ", mixed modes",
            [GatewayMode::NatUnprotected, _] => ", unprotected",
            [GatewayMode::Routed, _] => ", routed",
            [GatewayMode::Isolated, _] => ", isolated",
            _ => "",
        };
        let kind = match (network.internal, network.icc) {
            (true, _) => ", internal",
            (false, false) => ", icc off",
            (false, true) => "",
        };
        format!("{name}{mode}{kind}")
    }
}

/// Whether a mapping answers on an address of the host.
pub(super) fn answers_on(port: &Port, addr: IpAddr) -> bool {
    port.host_ip == addr
        || (port.host_ip.is_unspecified() && Family::of(port.host_ip) == Family::of(addr))
}

pub(super) fn shown(port: &Port) -> String {
    let address = match port.host_port {
        Some(host_port) => SocketAddr::new(port.host_ip, host_port).to_string(),
        None => format!("{} (routed)", port.host_ip),
    };
    format!("{address}/{}", port.proto.name())
}

fn every_proto(
    cases: &mut Vec<Case>,
    path: &str,
    from: &Path,
    to: IpAddr,
    port: u16,
    expected: &Expected,
) {
    for proto in Proto::EVERY {
        cases.push(Case {
            path: path.to_owned(),
            probe: Probe::new(from, proto, SocketAddr::new(to, port)),
            expected: expected.clone(),
        });
    }
}
