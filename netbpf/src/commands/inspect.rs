//! `inspect`: all that is known about things, as a JSON list in the order in which they were
//! named. What needs the host itself is `null` for whoever may not look at it.

use anyhow::Result;
use ipnet::IpNet;
use serde::Serialize;

use super::{
    committed,
    container::{AttachmentRow, ContainerRow},
    network::NetworkRow,
    port::{self, PortRow},
    service::{self, ServiceRow},
};
use crate::{
    cli::Cli,
    display,
    error::Error,
    host::{Host, link::Link},
    model::{Attachment, Container, Model, Network, Proto, Service, ServicePort},
    state::Instance,
};

#[derive(Serialize)]
struct NetworkDetails<'m> {
    #[serde(flatten)]
    row: NetworkRow<'m>,
    id: u32,
    trusted_interfaces: &'m [String],
    trusted_sources: &'m [IpNet],
    state: Option<State>,
    interface: Option<Interface>,
    containers: Vec<Member<'m>>,
    services: Vec<&'m str>,
}

/// A container in a network.
#[derive(Serialize)]
struct Member<'m> {
    container: &'m str,
    #[serde(flatten)]
    row: AttachmentRow<'m>,
}

#[derive(Serialize)]
struct ContainerDetails<'m> {
    #[serde(flatten)]
    row: ContainerRow<'m>,
    source_check: bool,
    state: Option<State>,
    interfaces: Vec<Interface>,
    endpoints: Vec<Endpoint<'m>>,
    ports: Vec<PortRow<'m>>,
    expose: Vec<String>,
    links: Vec<String>,
    services: Vec<&'m str>,
}

/// What of a container's end is not listed.
#[derive(Serialize)]
struct Endpoint<'m> {
    network: &'m str,
    id: u32,
    aliases: &'m [String],
    gw_priority: i32,
}

#[derive(Serialize)]
struct ServiceDetails<'m> {
    #[serde(flatten)]
    row: ServiceRow<'m>,
    mappings: Vec<Mapping>,
}

/// A service's port with its id.
#[derive(Serialize)]
struct Mapping {
    id: u32,
    proto: Proto,
    port: u16,
    container_port: u16,
}

/// An interface of the host.
#[derive(Serialize)]
struct Interface {
    name: String,
    ifindex: u32,
    mac: Option<String>,
    mtu: u32,
    up: bool,
}

impl From<&Link> for Interface {
    fn from(link: &Link) -> Self {
        let octets = |mac: [u8; 6]| mac.map(|byte| format!("{byte:02x}")).join(":");
        Self {
            name: link.name.clone(),
            ifindex: link.index,
            mac: link.mac.map(octets),
            mtu: link.mtu,
            up: link.up,
        }
    }
}

/// How the interfaces of something are.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
enum State {
    /// All of them are there and up.
    Up,
    /// All are there, but not up.
    Down,
    /// One is not there.
    Absent,
}

impl State {
    fn of(links: &[Option<&Link>]) -> Self {
        if links.iter().any(Option::is_none) {
            return Self::Absent;
        }
        let mut links = links.iter().flatten();
        if links.all(|link| link.up) {
            Self::Up
        } else {
            Self::Down
        }
    }
}

/// The links of the host; none for whoever may not look at it.
struct Links(Option<Vec<Link>>);

impl Links {
    fn look(cli: &Cli) -> Self {
        let found = Host::enter(cli.netns.as_deref()).and_then(|host| host.rtnl().links());
        Self(match found {
            Ok(links) => Some(links),
            Err(error) => {
                tracing::debug!(%error, "the host's interfaces are not shown");
                None
            }
        })
    }

    /// The state of the interfaces of these names, and those that are there.
    fn of<'n>(&self, names: impl Iterator<Item = &'n str>) -> (Option<State>, Vec<Interface>) {
        let Some(links) = &self.0 else {
            return (None, Vec::new());
        };
        let found: Vec<_> = names
            .map(|name| links.iter().find(|link| link.name == name))
            .collect();
        let interfaces = found.iter().flatten().map(|link| Interface::from(*link));
        (Some(State::of(&found)), interfaces.collect())
    }
}

/// `network inspect NAME…`.
pub(super) fn networks(cli: &Cli, instance: &Instance, names: &[String]) -> Result<()> {
    let model = committed::model(instance)?;
    let links = Links::look(cli);
    let details = |name: &String| {
        let network = model
            .network(name)
            .ok_or_else(|| missing("network", name))?;
        Ok(network_details(instance, &model, network, &links))
    };
    print(names.iter().map(details))
}

fn network_details<'m>(
    instance: &Instance,
    model: &'m Model,
    network: &'m Network,
    links: &Links,
) -> NetworkDetails<'m> {
    let row = NetworkRow::of(network);
    let (state, interfaces) = links.of(std::iter::once(row.bridge));
    let members = model.containers.iter().flat_map(|container| {
        let ends = ContainerRow::of(instance.name(), container).networks;
        let ours = ends.into_iter().filter(|end| end.name == network.name);
        ours.map(|row| Member {
            container: &container.name,
            row,
        })
    });
    let services = model.services.iter();
    NetworkDetails {
        id: network.id,
        trusted_interfaces: &network.trusted_interfaces,
        trusted_sources: &network.trusted_sources,
        state,
        interface: interfaces.into_iter().next(),
        containers: members.collect(),
        services: services
            .filter(|service| service.network == network.name)
            .map(|service| service.name.as_str())
            .collect(),
        row,
    }
}

/// `container inspect NAME…`.
pub(super) fn containers(cli: &Cli, instance: &Instance, names: &[String]) -> Result<()> {
    let model = committed::model(instance)?;
    let links = Links::look(cli);
    let details = |name: &String| {
        let container = model.container(name);
        let container = container.ok_or_else(|| missing("container", name))?;
        Ok(container_details(instance, &model, container, &links))
    };
    print(names.iter().map(details))
}

fn container_details<'m>(
    instance: &Instance,
    model: &'m Model,
    container: &'m Container,
    links: &Links,
) -> ContainerDetails<'m> {
    let row = ContainerRow::of(instance.name(), container);
    let (state, interfaces) = links.of(row.networks.iter().map(|end| end.host_interface.as_str()));
    let mut ports = port::rows_of(model);
    ports.retain(|port| port.container == container.name);
    let services = model.services.iter();
    let exposed = container.expose.iter();
    let linked = container.links.iter();
    ContainerDetails {
        source_check: container.source_check,
        state,
        interfaces,
        endpoints: container.attachments.iter().map(endpoint).collect(),
        ports,
        expose: exposed
            .map(|exposed| format!("{}/{}", exposed.port, exposed.proto))
            .collect(),
        links: linked
            .map(|link| format!("{}:{}", link.container, link.alias))
            .collect(),
        services: services
            .filter(|service| service.backends.contains(&container.name))
            .map(|service| service.name.as_str())
            .collect(),
        row,
    }
}

fn endpoint(attachment: &Attachment) -> Endpoint<'_> {
    Endpoint {
        network: &attachment.network,
        id: attachment.endpoint,
        aliases: &attachment.aliases,
        gw_priority: attachment.gw_priority,
    }
}

/// `service inspect NAME…`.
pub(super) fn services(instance: &Instance, names: &[String]) -> Result<()> {
    let model = committed::model(instance)?;
    let mut rows = service::rows_of(instance, &model);
    let mut details = Vec::with_capacity(names.len());
    for (index, name) in names.iter().enumerate() {
        // A row is given away once.
        if names[..index].contains(name) {
            continue;
        }
        let found = rows.iter().position(|row| row.name == name);
        let service = model.services.iter().find(|service| service.name == *name);
        let (Some(index), Some(service)) = (found, service) else {
            return Err(missing("service", name).into());
        };
        details.push(ServiceDetails {
            row: rows.swap_remove(index),
            mappings: mappings(service),
        });
    }
    display::json(&details)
}

fn mappings(service: &Service) -> Vec<Mapping> {
    let mapping = |port: &ServicePort| Mapping {
        id: port.mapping,
        proto: port.proto,
        port: port.port,
        container_port: port.target_port,
    };
    service.ports.iter().map(mapping).collect()
}

fn missing(kind: &str, name: &str) -> Error {
    Error::host(format!("no such {kind}: {name}"))
}

fn print<T: Serialize>(details: impl Iterator<Item = Result<T, Error>>) -> Result<()> {
    let details = details.collect::<Result<Vec<T>, Error>>()?;
    display::json(&details)
}
