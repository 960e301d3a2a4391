//! `service ls`.

use std::net::IpAddr;

use anyhow::Result;
use serde::Serialize;

use super::committed;
use crate::{
    cli::Listing,
    dataplane::conntrack::{self, Flow},
    display::{self, Row, joined},
    host::bpffs::PinDirs,
    model::{Attachment, Model, Service, ServicePort},
    state::Instance,
};

/// A service as it is listed.
#[derive(Serialize)]
pub(super) struct ServiceRow<'m> {
    pub name: &'m str,
    pub network: &'m str,
    vips: &'m [IpAddr],
    ports: Vec<String>,
    scheduler: &'static str,
    affinity: &'static str,
    pub backends: Vec<BackendRow<'m>>,
}

/// A backend as it is listed.
#[derive(Serialize)]
pub(super) struct BackendRow<'m> {
    pub container: &'m str,
    /// The first of `addresses`.
    address: Option<IpAddr>,
    addresses: Vec<IpAddr>,
    weight: u32,
    drain: bool,
    /// `null` when the connection table can't be read.
    connections: Option<usize>,
}

impl<'m> ServiceRow<'m> {
    fn of(model: &'m Model, service: &'m Service, flows: Option<&[Flow]>) -> Self {
        let backends = service.backends.iter();
        Self {
            name: &service.name,
            network: &service.network,
            vips: &service.vips,
            ports: service.ports.iter().map(port).collect(),
            scheduler: "random",
            affinity: "none",
            backends: backends
                .map(|name| BackendRow::of(model, service, name, flows))
                .collect(),
        }
    }
}

fn port(port: &ServicePort) -> String {
    format!("{}:{}/{}", port.port, port.target_port, port.proto)
}

impl<'m> BackendRow<'m> {
    fn of(model: &Model, service: &Service, name: &'m str, flows: Option<&[Flow]>) -> Self {
        let attachment = model
            .container(name)
            .and_then(|container| container.attachment(&service.network));
        let has_family = |address: &IpAddr| {
            service
                .vips
                .iter()
                .any(|vip| vip.is_ipv4() == address.is_ipv4())
        };
        let addresses: Vec<IpAddr> = attachment
            .into_iter()
            .flat_map(Attachment::addresses)
            .filter(has_family)
            .collect();
        let endpoint = attachment.map(|attachment| attachment.endpoint);
        let is_to_us = |flow: &&Flow| {
            Some(flow.to_endpoint) == endpoint
                && service
                    .ports
                    .iter()
                    .any(|port| port.mapping == flow.mapping)
        };
        Self {
            container: name,
            address: addresses.first().copied(),
            addresses,
            weight: 1,
            drain: false,
            connections: flows.map(|flows| flows.iter().filter(is_to_us).count()),
        }
    }
}

impl Row for ServiceRow<'_> {
    const HEADS: &'static [&'static str] =
        &["NAME", "NETWORK", "VIPS", "PORTS", "SCHEDULER", "BACKENDS"];

    fn cells(&self) -> Vec<String> {
        vec![
            self.name.to_owned(),
            self.network.to_owned(),
            joined(self.vips),
            joined(&self.ports),
            self.scheduler.to_owned(),
            joined(self.backends.iter().map(|backend| backend.container)),
        ]
    }
}

/// `service ls`.
pub(super) fn ls(instance: &Instance, listing: Listing) -> Result<()> {
    let model = committed::model(instance)?;
    display::list(&rows_of(instance, &model), listing)
}

/// Every service.
pub(super) fn rows_of<'m>(instance: &Instance, model: &'m Model) -> Vec<ServiceRow<'m>> {
    let flows = match conntrack::list(&PinDirs::of(instance.name())) {
        Ok(flows) => Some(flows),
        Err(error) => {
            tracing::debug!(%error, "connections are not counted");
            None
        }
    };
    let services = model.services.iter();
    services
        .map(|service| ServiceRow::of(model, service, flows.as_deref()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::commands::testing::{flow, model};

    #[test]
    fn rows_have_the_contracts_fields() {
        let model = model();
        let service = &model.services[0];
        let mapping = service.ports[0].mapping;
        let web = model.containers[0].attachments[0].endpoint;
        let flows = [
            flow(mapping, web),
            flow(mapping, web),
            flow(mapping + 1, web),
        ];
        let row = serde_json::to_value(ServiceRow::of(&model, service, Some(&flows))).unwrap();
        let backend = |container: &str, addresses: [&str; 2], connections: usize| {
            serde_json::json!({
                "container": container, "address": addresses[0], "addresses": addresses,
                "weight": 1, "drain": false, "connections": connections,
            })
        };
        let expected = serde_json::json!({
            "name": "api", "network": "front", "vips": ["172.28.0.100", "fd00:28::100"],
            "ports": ["80:8080/tcp"], "scheduler": "random", "affinity": "none",
            "backends": [
                backend("web", ["172.28.0.10", "fd00:28::2"], 2),
                backend("db", ["172.28.0.2", "fd00:28::3"], 0),
            ],
        });
        assert_eq!(row, expected);
    }

    #[test]
    fn table_shows_the_service() {
        let model = model();
        let cells = ServiceRow::of(&model, &model.services[0], None).cells();
        assert_eq!(
            display::table(ServiceRow::HEADS, [cells]),
            "NAME  NETWORK  VIPS                       PORTS        SCHEDULER  BACKENDS\n\
             api   front    172.28.0.100,fd00:28::100  80:8080/tcp  random     web,db\n"
        );
    }
}
