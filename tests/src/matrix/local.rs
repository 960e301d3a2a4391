//! Processes of the host, to published ports and virtual IPs: by every address that leads there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use super::{Bench, Case, Expected, OWN_SERVICE};
use crate::{
    sockets::{Probe, Proto},
    topology::Family,
};

impl Bench<'_> {
    pub(super) fn host_to_published(&self, family: Family, cases: &mut Vec<Case>) {
        for (port, host_port) in self.ports(family) {
            let target = self.listing.container(&port.container);
            let Some(gateway) = self
                .gateway_end(target, family)
                .and_then(|end| self.listing.network(&end.network).gateway(family))
            else {
                continue;
            };
            let mut ask = |addr, expected: &Expected| {
                let asked = SocketAddr::new(addr, host_port);
                cases.push(Case {
                    path: format!("host → {}, published, as {asked}", port.container),
                    probe: Probe::new(self.host(), port.proto, asked),
                    expected: expected.clone(),
                });
            };
            let reached = Expected::reaches(&port.container, gateway);
            let localhost = localhost(family);
            if port.host_ip.is_unspecified() {
                for addr in [localhost, family.host(), gateway] {
                    ask(addr, &reached);
                }
            } else {
                ask(port.host_ip, &reached);
                if port.host_ip != localhost {
                    ask(localhost, &Expected::Refused);
                }
            }
        }
    }

    pub(super) fn host_to_services(&self, family: Family, cases: &mut Vec<Case>) {
        for service in &self.listing.services {
            let network = self.listing.network(&service.network);
            let mut vips = service.vips.iter().copied();
            let Some(vip) = vips.find(|vip| Family::of(*vip) == family) else {
                continue;
            };
            let Some(gateway) = network.gateway(family) else {
                continue;
            };
            let mut ask = |path: &str, proto, port, expected| {
                cases.push(Case {
                    path: format!("host → service {}{path}", service.name),
                    probe: Probe::new(self.host(), proto, SocketAddr::new(vip, port)),
                    expected,
                });
            };
            for (port, _, proto) in &service.ports {
                let backends = service.backends.iter();
                let seen = backends.map(|name| (name.clone(), gateway)).collect();
                ask("", *proto, *port, Expected::Reaches(seen));
            }
            for proto in [Proto::Tcp, Proto::Udp] {
                ask(", another port", proto, OWN_SERVICE, Expected::Refused);
            }
        }
    }
}

/// The loopback address.
const fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}
