//! The desired state in Docker's words, validated, with every automatic choice made.
//!
//! Made by [`crate::config::Document::resolve`] and by nothing else. It knows no ifindex and no
//! map: `plan` brings those in.

mod container;
mod family;
mod host;
mod index;
mod network;
mod port_binding;
mod service;

pub use self::{
    container::{Attachment, Container, ContainerLink, ExposedPort, Mode},
    family::Family,
    host::{AddressPool, Conntrack, Host, Timeouts},
    index::Index,
    network::{GatewayMode, Network},
    port_binding::{PortBinding, Proto},
    service::{Service, ServicePort},
};

/// Everything that one instance wants of its host.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Model {
    /// What belongs to the host itself.
    pub host: Host,
    /// The flow table.
    pub conntrack: Conntrack,
    /// The networks, in the order of the document.
    pub networks: Vec<Network>,
    /// The containers, in the order of the document.
    pub containers: Vec<Container>,
    /// The services, in the order of the document.
    pub services: Vec<Service>,
    /// Where the networks stand.
    pub network_index: Index,
    /// Where the containers stand.
    pub container_index: Index,
}

impl Model {
    /// The network of that name.
    pub fn network(&self, name: &str) -> Option<&Network> {
        self.network_index
            .find(&self.networks, name, |network| &network.name)
    }

    /// The container of that name.
    pub fn container(&self, name: &str) -> Option<&Container> {
        self.container_index
            .find(&self.containers, name, |container| &container.name)
    }

    /// Every container's end in a network, in the order of the document.
    pub fn ends(&self) -> impl Iterator<Item = (&Container, &Attachment)> {
        self.containers.iter().flat_map(|container| {
            let attachments = container.attachments.iter();
            attachments.map(move |attachment| (container, attachment))
        })
    }

    /// The container that has that endpoint id.
    pub fn owner(&self, endpoint: u32) -> Option<&Container> {
        self.ends()
            .find(|(_, attachment)| attachment.endpoint == endpoint)
            .map(|(container, _)| container)
    }
}
