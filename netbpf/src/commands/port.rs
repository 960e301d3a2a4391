//! `port ls`.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::committed;
use crate::{
    cli::Listing,
    config::Wanted,
    display::{self, Row, joined},
    error::Error,
    model::{Container, Family, Model, PortBinding, Proto},
    reconcile::{Action, Change, Report},
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

    /// The address and port that lead to it, as a change names them.
    fn reached_by(&self) -> String {
        let own = SocketAddr::new(self.container_ip, self.container_port);
        let host = |port| SocketAddr::new(self.host_ip, port);
        format!("{}/{}", self.host_port.map_or(own, host), self.proto)
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

/// The ports of a container that were asked for and added, as `docker port` prints them. Others
/// come with them where what stood was lost: after a boot.
pub(super) fn lines_of_new(
    instance: &Instance,
    container: &str,
    wanted: &Wanted,
    report: &Report,
) -> Result<String> {
    let changes = report.changes.iter();
    let new: Vec<&Change> = changes
        .filter(|change| change.kind == "port" && change.action == Action::Add)
        .collect();
    // The change says all there is to say, but for containers that are reached without a port of
    // the host.
    if new.iter().all(|change| change.to.is_some()) {
        return Ok(told(container, wanted, &new).concat());
    }
    let model = committed::model(instance)?;
    let mut rows = rows_of(&model);
    rows.retain(|row| {
        let name = row.reached_by();
        row.container == container
            && new.iter().any(|change| change.name == name)
            && wanted.can_be(row.container_port, row.proto, row.host_address())
    });
    Ok(docker_port(&rows).concat())
}

/// The ports of a container among those that a change has added, as they were asked for.
fn told(container: &str, wanted: &Wanted, new: &[&Change]) -> Vec<String> {
    let mut lines: Vec<(u32, String)> = new
        .iter()
        .filter_map(|change| line_of(change, container, wanted))
        .collect();
    lines.sort_by_key(|(mapping, _)| *mapping);
    // Who was asked for last has the highest ids.
    let mut ids: Vec<u32> = lines.iter().map(|(mapping, _)| *mapping).collect();
    ids.dedup();
    let older = ids.len().saturating_sub(wanted.count());
    let ids = &ids[older..];
    lines.retain(|(mapping, _)| ids.contains(mapping));
    lines.into_iter().map(|(_, line)| line).collect()
}

/// The line of a port of a container that can have been asked for, with its mapping.
fn line_of(change: &Change, container: &str, wanted: &Wanted) -> Option<(u32, String)> {
    let to = change.to.as_ref().filter(|to| to.container == container)?;
    let (host, proto) = change.name.rsplit_once('/')?;
    let mut protos = [Proto::Tcp, Proto::Udp].into_iter();
    let known = protos.find(|known| known.name() == proto)?;
    let is_wanted = wanted.can_be(to.port, known, Some(host.parse().ok()?));
    is_wanted.then(|| (to.mapping, format!("{}/{proto} -> {host}\n", to.port)))
}

fn docker_port(rows: &[PortRow<'_>]) -> Vec<String> {
    rows.iter()
        .map(|row| format!("{}/{} -> {}\n", row.container_port, row.proto, row.host()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{commands::testing::model, reconcile::ContainerPort};

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

    #[test]
    fn new_ports_are_told_from_the_change_that_made_them() {
        let port = |name: &str, container: &str, (port, mapping)| Change {
            to: Some(ContainerPort {
                container: container.to_owned(),
                port,
                mapping,
            }),
            ..Change::new(Action::Add, "port", name, "")
        };
        let instance = Instance::new("there is none");
        let new = |specs: &[&str], changes| {
            let specs: Vec<String> = specs.iter().map(|&spec| spec.to_owned()).collect();
            let wanted = Wanted::read(&specs);
            lines_of_new(&instance, "web", &wanted, &Report::from(changes)).unwrap()
        };
        let changes = vec![
            port("0.0.0.0:8080/udp", "web", (81, 9)),
            port("0.0.0.0:8081/tcp", "web", (80, 8)),
            port("0.0.0.0:9090/tcp", "db", (90, 7)),
            Change {
                action: Action::Remove,
                ..port("0.0.0.0:8082/tcp", "web", (80, 6))
            },
            port("[::]:8081/tcp", "web", (80, 8)),
        ];
        assert_eq!(
            new(&["8081:80", "8080:81/udp"], changes.clone()),
            "80/tcp -> 0.0.0.0:8081\n80/tcp -> [::]:8081\n81/udp -> 0.0.0.0:8080\n"
        );
        // What stood was lost and comes with it.
        assert_eq!(
            new(&["8080:81/udp"], changes.clone()),
            "81/udp -> 0.0.0.0:8080\n"
        );
        let chosen = vec![
            port("0.0.0.0:8081/tcp", "web", (80, 3)),
            port("0.0.0.0:32768/tcp", "web", (80, 8)),
            port("[::]:32768/tcp", "web", (80, 8)),
        ];
        assert_eq!(
            new(&["80"], chosen),
            "80/tcp -> 0.0.0.0:32768\n80/tcp -> [::]:32768\n"
        );
        assert_eq!(new(&["7-9:80"], changes.clone()), "");
        assert_eq!(new(&["127.0.0.1:8081:80"], changes), "");
        assert_eq!(new(&["80"], Vec::new()), "");
    }

    #[test]
    fn rows_are_named_as_the_changes_that_made_them() {
        let model = model();
        let rows = rows_of(&model);
        let names: Vec<String> = rows.iter().map(PortRow::reached_by).collect();
        assert_eq!(
            names,
            [
                "0.0.0.0:8080/tcp",
                "[::]:8080/tcp",
                "[2001:db8::1]:5353/udp"
            ]
        );
        let routed = PortRow {
            host_port: None,
            ..rows.into_iter().next().unwrap()
        };
        assert_eq!(routed.reached_by(), "172.28.0.10:80/tcp");
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
