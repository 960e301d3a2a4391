//! Which of the host's addresses a publish binds, family by family (rows P3, P4, P8). It chooses no
//! port.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::{
    Document,
    container::ContainerSpec,
    findings::At,
    publish::{HostPort, PortRange},
    published::PublishSpec,
};
use crate::{
    allocations::ChosenFrom,
    model::{Container, Family, GatewayMode, Model, Network, PortBinding, Proto},
};

/// What becomes one mapping: a publish, or its part of one family.
#[derive(Clone, Debug)]
pub(super) struct Piece<'d> {
    /// The container's place in the model.
    pub container: usize,
    /// Where it comes from.
    pub spec: &'d At<PublishSpec>,
    /// The host address, as the model has it.
    pub host_ip: Option<IpAddr>,
    /// The port of the host; `None` where none is needed.
    pub host_port: Option<u16>,
    /// What the port was chosen from.
    pub chosen_from: Option<ChosenFrom>,
    /// The host's addresses that it binds, the unspecified one for all of a family.
    pub binds: Vec<IpAddr>,
}

/// A container, as the document and the model have it.
pub(super) struct Of<'d, 'm> {
    document: &'d Document,
    spec: &'d ContainerSpec,
    container: &'m Container,
    index: usize,
    /// The networks that published ports of each family lead to, with what a publish binds there
    /// that names no address: looked up once for all its ports.
    gateways: [Option<(&'m Network, Option<IpAddr>)>; 2],
}

impl<'d, 'm> Of<'d, 'm> {
    /// The container at that place in document and model.
    pub fn new(
        document: &'d Document,
        model: &'m Model,
        spec: &'d ContainerSpec,
        container: &'m Container,
        index: usize,
    ) -> Self {
        let gateway = |family| {
            let gateway = container.gateway(model, family)?;
            let network = model.network(&gateway.network)?;
            let binding = document.network(&network.name)?.host_binding;
            Some((network, binding))
        };
        Self {
            document,
            spec,
            container,
            index,
            gateways: Family::BOTH.map(gateway),
        }
    }

    /// An error about a publish of it.
    pub fn about(&self, publish: &At<PublishSpec>, why: &str) -> String {
        let (name, text) = (&self.spec.name.value, &publish.value.text);
        format!("container {name:?}: publish {text:?}: {why}")
    }

    fn gateway(&self, family: Family) -> Option<(&'m Network, Option<IpAddr>)> {
        self.gateways[usize::from(family == Family::V6)]
    }

    /// The parts of a publish; none where every network is internal (row P19).
    pub fn pieces(&self, spec: &'d At<PublishSpec>) -> Result<Vec<Piece<'d>>, String> {
        let publish = &spec.value.publish;
        if Family::BOTH.iter().all(|it| self.gateway(*it).is_none()) {
            return Ok(Vec::new());
        }
        if let Some(host_ip) = publish.host_ip {
            self.check_address(host_ip)?;
        }
        let parts: Vec<(Family, Option<IpAddr>)> = Family::BOTH
            .into_iter()
            .filter_map(|family| Some((family, self.host_ip(family, publish.host_ip)?)))
            .collect();
        let piece = |host_ip, binds| Piece {
            container: self.index,
            spec,
            host_ip,
            host_port: None,
            chosen_from: chosen_from(publish.host_port),
            binds,
        };
        // What is the same in every family is one mapping.
        if publish.host_ip.is_none()
            && let Some(binds) = every_address(&parts, |family| self.has_family(family))
        {
            return Ok(vec![piece(None, binds)]);
        }
        let part = |(family, bind): (Family, Option<IpAddr>)| {
            piece(
                Some(bind.unwrap_or_else(|| unspecified(family))),
                bind.into_iter().collect(),
            )
        };
        Ok(parts.into_iter().map(part).collect())
    }

    fn has_family(&self, family: Family) -> bool {
        self.gateway(family).is_some()
    }

    fn check_address(&self, host_ip: IpAddr) -> Result<(), String> {
        if !self.has_family(Family::of(host_ip)) {
            let networks: Vec<String> = self
                .container
                .attachments
                .iter()
                .map(|attachment| format!("{:?}", attachment.network))
                .collect();
            return Err(format!(
                "network {} has no such family",
                networks.join(", ")
            ));
        }
        let is_vip = |vips: &[At<IpAddr>]| vips.iter().any(|vip| vip.value == host_ip);
        let mut services = self.document.services.iter();
        match services.find(|service| is_vip(&service.vips)) {
            Some(service) => Err(format!(
                "host address is the vip of service {:?}",
                service.name.value
            )),
            None => Ok(()),
        }
    }

    /// The host address of one family that a publish binds, `Some(None)` where the family needs
    /// none, and `None` where the publish is not for the family.
    fn host_ip(&self, family: Family, given: Option<IpAddr>) -> Option<Option<IpAddr>> {
        let (network, default) = self.gateway(family)?;
        let mode = match family {
            Family::V4 => network.gateway_mode_v4,
            Family::V6 => network.gateway_mode_v6,
        };
        if mode == GatewayMode::Routed {
            let is_other = given.is_some_and(|address| Family::of(address) != family);
            return (!is_other).then_some(None);
        }
        let address = match given.or(default) {
            None => unspecified(family),
            // As a default it stands for every address of either family (row P8).
            Some(address) if given.is_none() && address == Ipv4Addr::UNSPECIFIED => {
                unspecified(family)
            }
            Some(address) => address,
        };
        (Family::of(address) == family).then_some(Some(address))
    }
}

/// The addresses of a publish that answers on all of them in every family that there is.
fn every_address(
    parts: &[(Family, Option<IpAddr>)],
    has_family: impl Fn(Family) -> bool,
) -> Option<Vec<IpAddr>> {
    let is_whole = Family::BOTH
        .into_iter()
        .filter(|family| has_family(*family))
        .all(|family| parts.iter().any(|(of, _)| *of == family));
    let binds: Vec<IpAddr> = parts.iter().filter_map(|(_, bind)| *bind).collect();
    let is_every = binds.is_empty() || binds.len() == parts.len();
    (is_whole && is_every && binds.iter().all(IpAddr::is_unspecified)).then_some(binds)
}

const fn unspecified(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        Family::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}

const fn chosen_from(port: HostPort) -> Option<ChosenFrom> {
    match port {
        HostPort::Exact(_) => None,
        HostPort::Ephemeral => Some(ChosenFrom::Ephemeral),
        HostPort::FirstFreeOf(PortRange { first, last }) => Some(ChosenFrom::Range(first, last)),
    }
}

impl<'d> Piece<'d> {
    /// The container and what was written: a range is written once for all of its ports.
    pub fn written(&self) -> (usize, &'d str) {
        (self.container, &self.spec.value.text)
    }

    /// The container's port.
    pub fn port(&self) -> (u16, Proto) {
        let publish = &self.spec.value.publish;
        (publish.container_port, publish.proto)
    }

    /// The binding that it becomes, with the id of its mapping.
    pub fn binding(&self, mapping: u32) -> PortBinding {
        let spec = &self.spec.value;
        let (container_port, proto) = self.port();
        PortBinding {
            mapping,
            host_ip: self.host_ip,
            host_port: self.host_port,
            container_port,
            proto,
            allow: spec.allow.clone(),
            deny: spec.deny.clone(),
        }
    }

    /// Whether it binds an address that meets one of these.
    pub fn meets(&self, binds: &[IpAddr]) -> bool {
        let mut own = self.binds.iter();
        own.any(|own| binds.iter().any(|other| conflicts(*own, *other)))
    }
}

/// Whether one packet could be for both (row P5).
pub(super) fn conflicts(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}
