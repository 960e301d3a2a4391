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

    fn host(&self) -> String {
        match self.host_port {
            Some(port) => SocketAddr::new(self.host_ip, port).to_string(),
            None => "-".to_owned(),
        }
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

/// The ports of a container, each as a line that `docker port` prints.
pub(super) fn lines_of(instance: &Instance, container: &str) -> Result<Vec<String>> {
    let model = committed::model(instance)?;
    let mut rows = rows_of(&model);
    rows.retain(|row| row.container == container);
    Ok(docker_port(&rows))
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
