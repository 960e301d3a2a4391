//! `port ls`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::committed;
use crate::{
    cli::Listing,
    display::{self, Row, joined},
    error::Error,
    model::{Container, Family, Model, PortBinding, Proto},
    reconcile::{Action, Change, ContainerPort, Report},
    state::Instance,
};

/// A published port as it is listed.
#[derive(Serialize)]
pub(super) struct PortRow<'m> {
    pub container: &'m str,
    service: Option<&'m str>,
    network: &'m str,
    proto: Proto,
    host_ip: IpAddr,
    host_port: Option<u16>,
    container_ip: IpAddr,
    container_port: u16,
    allow: &'m [IpNet],
    deny: &'m [IpNet],
}

impl<'m> PortRow<'m> {
    /// One row for each address of the container that packets for the host address can reach.
    fn of(model: &Model, container: &'m Container, binding: &'m PortBinding) -> Vec<Self> {
        let row = |family| {
            let gateway = container.gateway(model, family)?;
            let container_ip = gateway.address(family)?;
            let host_ip = host_ip_of(binding, container_ip)?;
            Some(Self {
                container: &container.name,
                service: None,
                network: &gateway.network,
                proto: binding.proto,
                host_ip,
                host_port: binding.host_port,
                container_ip,
                container_port: binding.container_port,
                allow: &binding.allow,
                deny: &binding.deny,
            })
        };
        Family::BOTH.into_iter().filter_map(row).collect()
    }

    /// The host's address and port; `None` where it is reached without one.
    fn host_address(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.host_ip, self.host_port?))
    }

    fn host(&self) -> String {
        self.host_address()
            .map_or_else(|| "-".to_owned(), |address| address.to_string())
    }
}

/// The host address of a binding that leads to a container address: of the same family.
fn host_ip_of(binding: &PortBinding, container_ip: IpAddr) -> Option<IpAddr> {
    match binding.host_ip {
        Some(host_ip) => (host_ip.is_ipv4() == container_ip.is_ipv4()).then_some(host_ip),
        None if container_ip.is_ipv4() => Some(Ipv4Addr::UNSPECIFIED.into()),
        None => Some(Ipv6Addr::UNSPECIFIED.into()),
    }
}

impl Row for PortRow<'_> {
    const HEADS: &'static [&'static str] = &["CONTAINER", "NETWORK", "PROTO", "HOST", "TO"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.container.to_owned(),
            self.network.to_owned(),
            self.proto.to_string(),
            self.host(),
            joined([SocketAddr::new(self.container_ip, self.container_port)]),
        ]
    }
}

/// Every published port.
pub(super) fn rows_of(model: &Model) -> Vec<PortRow<'_>> {
    let containers = model.containers.iter();
    let bindings = containers.flat_map(|container| {
        container
            .publish
            .iter()
            .map(move |binding| (container, binding))
    });
    bindings
        .flat_map(|(container, binding)| PortRow::of(model, container, binding))
        .collect()
}

/// `port ls`.
pub(super) fn ls(instance: &Instance, listing: Listing) -> Result<()> {
    display::list(&rows_of(&committed::model(instance)?), listing)
}

/// `port ls CONTAINER`: as `docker port` prints it.
pub(super) fn ls_container(instance: &Instance, name: &str, listing: Listing) -> Result<()> {
    let model = committed::model(instance)?;
    if model.container(name).is_none() {
        return Err(Error::host(format!("no such container: {name}")).into());
    }
    let mut rows = rows_of(&model);
    rows.retain(|row| row.container == name);
    if listing.json {
        return display::json(&rows);
    }
    display::print(&docker_port(&rows).concat())
}

/// The ports of a container that a change brought, as `docker port` prints them, in the order in
/// which they were asked for. Others come with them where what stood was lost: after a boot.
pub(super) fn lines_of_new(container: &str, report: &Report) -> String {
    let added = report.changes.iter().filter(|it| it.action == Action::Add);
    let mut new: Vec<NewPort<'_>> = added.filter_map(NewPort::of).collect();
    new.retain(|port| port.to.container == container);
    new.sort_by_key(|port| port.to.mapping);
    let lines = new.chunk_by(|one, other| one.to.mapping == other.to.mapping);
    lines.flat_map(lines_of_mapping).collect()
}

/// A published port that a change brought.
struct NewPort<'c> {
    /// What leads to it, as the change names it.
    by: &'c str,
    proto: &'c str,
    to: &'c ContainerPort,
}

impl<'c> NewPort<'c> {
    fn of(change: &'c Change) -> Option<Self> {
        let to = change.to.as_ref().filter(|to| to.is_new)?;
        let (by, proto) = change.name.rsplit_once('/')?;
        Some(Self { by, proto, to })
    }

    /// Whether a port of the host leads to it, and not the container's own address.
    fn has_host_port(&self) -> bool {
        self.by != SocketAddr::new(self.to.address, self.to.port).to_string()
    }

    fn line(&self) -> String {
        let by = if self.has_host_port() { self.by } else { "-" };
        format!("{}/{} -> {by}\n", self.to.port, self.proto)
    }
}

/// The lines of one mapping. The container's own addresses stand for it where no port of the host
/// does: one of each family, in however many networks it is.
fn lines_of_mapping(ports: &[NewPort<'_>]) -> Vec<String> {
    let has_host_port = ports.iter().any(NewPort::has_host_port);
    let mut shown: Vec<&NewPort<'_>> = ports
        .iter()
        .filter(|port| port.has_host_port() == has_host_port)
        .collect();
    if !has_host_port {
        shown.dedup_by_key(|port| port.to.address.is_ipv4());
    }
    shown.into_iter().map(NewPort::line).collect()
}

fn docker_port(rows: &[PortRow<'_>]) -> Vec<String> {
    rows.iter()
        .map(|row| format!("{}/{} -> {}\n", row.container_port, row.proto, row.host()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::model;

    #[test]
    fn rows_have_the_contracts_fields() {
        let model = model();
        let rows = serde_json::to_value(rows_of(&model)).unwrap();
        let row = |host_ip: &str, container_ip: &str| {
            serde_json::json!({
                "container": "web", "service": null, "network": "front", "proto": "tcp",
                "host_ip": host_ip, "host_port": 8080,
                "container_ip": container_ip, "container_port": 80, "allow": [], "deny": [],
            })
        };
        let expected = serde_json::json!([
            row("0.0.0.0", "172.28.0.10"),
            row("::", "fd00:28::2"),
            {
                "container": "web", "service": null, "network": "front", "proto": "udp",
                "host_ip": "2001:db8::1", "host_port": 5353,
                "container_ip": "fd00:28::2", "container_port": 53, "allow": [], "deny": [],
            },
        ]);
        assert_eq!(rows, expected);
    }

    #[test]
    fn one_container_prints_as_docker_port_does() {
        assert_eq!(
            docker_port(&rows_of(&model())).concat(),
            "80/tcp -> 0.0.0.0:8080\n80/tcp -> [::]:8080\n53/udp -> [2001:db8::1]:5353\n"
        );
    }

    fn added(name: &str, (container, address, port): (&str, &str, u16), mapping: u32) -> Change {
        Change {
            to: Some(ContainerPort {
                container: container.to_owned(),
                address: address.parse().unwrap(),
                port,
                mapping,
                is_new: true,
            }),
            ..Change::new(Action::Add, "port", name, "")
        }
    }

    /// The same of a port that had been there.
    fn again(name: &str, of: (&str, &str, u16), mapping: u32) -> Change {
        let mut change = added(name, of, mapping);
        change.to.as_mut().unwrap().is_new = false;
        change
    }

    fn new(changes: Vec<Change>) -> String {
        lines_of_new("web", &Report::from(changes))
    }

    const WEB_V4: &str = "172.28.0.10";
    const WEB_V6: &str = "fd00:28::10";

    #[test]
    fn new_ports_are_told_from_the_change_that_made_them() {
        let (v4, v6) = (("web", WEB_V4, 80), ("web", WEB_V6, 80));
        let changes = vec![
            added("0.0.0.0:8080/udp", ("web", WEB_V4, 81), 9),
            added("0.0.0.0:8081/tcp", v4, 8),
            again("0.0.0.0:8083/tcp", v4, 3),
            added("0.0.0.0:9090/tcp", ("db", "172.28.0.11", 90), 7),
            Change {
                action: Action::Remove,
                ..added("0.0.0.0:8082/tcp", v4, 6)
            },
            added("[::]:8081/tcp", v6, 8),
            again("[::]:8083/tcp", v6, 3),
        ];
        assert_eq!(
            new(changes),
            "80/tcp -> 0.0.0.0:8081\n80/tcp -> [::]:8081\n81/udp -> 0.0.0.0:8080\n"
        );
        assert_eq!(new(Vec::new()), "");
    }

    #[test]
    fn new_ports_under_the_containers_own_addresses_are_told_alone() {
        let (v4, v6) = (("web", WEB_V4, 90), ("web", WEB_V6, 90));
        let own = ("172.28.0.10:90/tcp", "[fd00:28::10]:90/tcp");
        assert_eq!(
            new(vec![
                added(own.0, v4, 2),
                again("172.28.0.10:91/tcp", ("web", WEB_V4, 91), 1),
                added(own.1, v6, 2),
                added("[fd00:29::3]:90/tcp", ("web", "fd00:29::3", 90), 2),
            ]),
            "90/tcp -> -\n90/tcp -> -\n"
        );
        // The address of one family is enough, where the other has a port of the host.
        let chosen = vec![added("0.0.0.0:49000/tcp", v4, 2), added(own.1, v6, 3)];
        assert_eq!(new(chosen), "90/tcp -> 0.0.0.0:49000\n90/tcp -> -\n");
        // Who trusts somebody has both.
        let both = vec![added("0.0.0.0:8090/tcp", v4, 2), added(own.0, v4, 2)];
        assert_eq!(new(both), "90/tcp -> 0.0.0.0:8090\n");
    }

    #[test]
    fn table_shows_every_port() {
        let model = model();
        let cells = rows_of(&model).iter().map(Row::cells).collect::<Vec<_>>();
        assert_eq!(
            display::table(PortRow::HEADS, cells),
            "CONTAINER  NETWORK  PROTO  HOST                TO\n\
             web        front    tcp    0.0.0.0:8080        172.28.0.10:80\n\
             web        front    tcp    [::]:8080           [fd00:28::2]:80\n\
             web        front    udp    [2001:db8::1]:5353  [fd00:28::2]:53\n"
        );
    }
}
