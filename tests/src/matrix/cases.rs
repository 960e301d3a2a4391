//! The table of the design, as cases: who reaches whom, and whom the reached one sees.

use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
};

use super::{Bench, CLOSED, Case, Container, Expected, HOST, OUTSIDE, OWN_SERVICE, Port, Service};
use crate::{
    sockets::{Probe, Proto},
    topology::Family,
};

impl Bench<'_> {
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

    pub(super) fn client(&self) -> &Path {
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
    pub(super) fn backends(
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

    pub(super) fn place(&self, container: &Container) -> String {
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
