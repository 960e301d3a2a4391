//! From what is published to the host's addresses and ports. Pure but for what it asks of the
//! [`Surroundings`], and that only about a port that nobody has yet.
//!
//! Who keeps a port comes first, then who names one, then who takes one of a range, then the
//! ephemeral ones (row P6). So the same input gives the same ports, and nobody who has one loses
//! it.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    Document, Surroundings,
    container::ContainerSpec,
    findings::{At, Findings},
    publish::{HostPort, PortRange},
    published::PublishSpec,
};
use crate::{
    allocations::{Allocations, ChosenFrom, LastPorts, MappingAllocation, Owner},
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
    binds: Vec<IpAddr>,
}

/// The pieces of every container of `model`, in the order of the document, each with its port.
pub(super) fn pieces<'d>(
    document: &'d Document,
    model: &Model,
    earlier: &Allocations,
    next: &mut Allocations,
    surroundings: Surroundings<'_>,
    findings: &mut Findings,
) -> Vec<Piece<'d>> {
    let mut pieces = Vec::new();
    for (index, (spec, container)) in document
        .containers
        .iter()
        .zip(&model.containers)
        .enumerate()
    {
        for publish in &spec.publish {
            let of = Of {
                document,
                model,
                spec,
                container,
                index,
            };
            match of.pieces(publish) {
                Ok(parts) => pieces.extend(parts),
                Err(why) => findings.error(publish.line, of.about(publish, &why)),
            }
        }
    }
    let mut choosing = Choosing {
        model,
        groups: groups(&mut pieces),
        pieces,
        bound: Bound::default(),
        last: earlier.last_ports,
        surroundings,
        findings,
    };
    choosing.keep(&earlier.mappings);
    choosing.exact();
    choosing.choose();
    next.last_ports = choosing.last;
    choosing.pieces
}

/// A container, as the document and the model have it.
struct Of<'d, 'm> {
    document: &'d Document,
    model: &'m Model,
    spec: &'d ContainerSpec,
    container: &'m Container,
    index: usize,
}

impl<'d> Of<'d, '_> {
    fn about(&self, publish: &At<PublishSpec>, why: &str) -> String {
        let (name, text) = (&self.spec.name.value, &publish.value.text);
        format!("container {name:?}: publish {text:?}: {why}")
    }

    /// The network that published ports of a family lead to.
    fn gateway(&self, family: Family) -> Option<&Network> {
        let gateway = self.container.gateway(self.model, family)?;
        self.model.network(&gateway.network)
    }

    /// The parts of a publish; none where every network is internal (row P19).
    fn pieces(&self, spec: &'d At<PublishSpec>) -> Result<Vec<Piece<'d>>, String> {
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
        let network = self.gateway(family)?;
        let mode = match family {
            Family::V4 => network.gateway_mode_v4,
            Family::V6 => network.gateway_mode_v6,
        };
        if mode == GatewayMode::Routed {
            let is_other = given.is_some_and(|address| Family::of(address) != family);
            return (!is_other).then_some(None);
        }
        let default = self.document.network(&network.name)?.host_binding;
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

/// Pieces that get the same port: those of one container's port that differ in addresses only.
struct Group {
    pieces: Vec<usize>,
    from: ChosenFrom,
}

fn groups(pieces: &mut [Piece<'_>]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    let mut of_port: HashMap<_, Vec<usize>> = HashMap::new();
    for (index, piece) in pieces.iter().enumerate() {
        let (Some(from), false) = (piece.chosen_from, piece.binds.is_empty()) else {
            continue;
        };
        let same = of_port
            .entry((piece.container, piece.port(), from))
            .or_default();
        let is_apart = |other: &usize| !pieces[*other].meets(&piece.binds);
        let found = same
            .iter()
            .find(|it| groups[**it].pieces.iter().all(is_apart));
        match found {
            Some(group) => groups[*group].pieces.push(index),
            None => {
                same.push(groups.len());
                groups.push(Group {
                    pieces: vec![index],
                    from,
                });
            }
        }
    }
    // A port that is not needed was chosen from nothing.
    for piece in pieces.iter_mut().filter(|piece| piece.binds.is_empty()) {
        piece.chosen_from = None;
    }
    groups
}

impl Piece<'_> {
    fn port(&self) -> (u16, Proto) {
        let publish = &self.spec.value.publish;
        (publish.container_port, publish.proto)
    }

    fn meets(&self, binds: &[IpAddr]) -> bool {
        let mut own = self.binds.iter();
        own.any(|own| binds.iter().any(|other| conflicts(*own, *other)))
    }
}

/// Who has which of the host's addresses of each port: a container's place in the model.
#[derive(Default)]
struct Bound(HashMap<(u16, Proto), Vec<(IpAddr, usize)>>);

impl Bound {
    /// Whose port one of these addresses meets.
    fn holder(&self, port: u16, proto: Proto, binds: &[IpAddr]) -> Option<(IpAddr, usize)> {
        let holders = self.0.get(&(port, proto))?;
        binds.iter().find_map(|address| {
            let mut holders = holders.iter();
            let (_, holder) = holders.find(|(other, _)| conflicts(*other, *address))?;
            Some((*address, *holder))
        })
    }

    fn bind(&mut self, port: u16, piece: &Piece<'_>) {
        let holders = self.0.entry((port, piece.port().1)).or_default();
        let binds = piece.binds.iter();
        holders.extend(binds.map(|address| (*address, piece.container)));
    }
}

/// Whether one packet could be for both (row P5).
fn conflicts(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}

/// The ports of a container's port that were chosen earlier, each once, in their order.
type Choices<'e> = HashMap<(&'e str, (u16, Proto), ChosenFrom), Vec<u16>>;

fn choices(earlier: &[MappingAllocation]) -> Choices<'_> {
    let mut choices = Choices::new();
    for mapping in earlier {
        let (Some(from), Some(port)) = (mapping.chosen_from, mapping.key.host_port) else {
            continue;
        };
        let Owner::Container(name) = &mapping.key.owner else {
            continue;
        };
        let of = (mapping.key.container_port, mapping.key.proto);
        let ports = choices.entry((name.as_str(), of, from)).or_default();
        if !ports.contains(&port) {
            ports.push(port);
        }
    }
    choices
}

struct Choosing<'a, 'd> {
    model: &'a Model,
    pieces: Vec<Piece<'d>>,
    groups: Vec<Group>,
    bound: Bound,
    last: LastPorts,
    surroundings: Surroundings<'a>,
    findings: &'a mut Findings,
}

impl<'a> Choosing<'a, '_> {
    fn name(&self, container: usize) -> &'a str {
        self.model
            .containers
            .get(container)
            .map_or("", |container| container.name.as_str())
    }

    fn error(&mut self, piece: usize, why: &str) {
        let piece = &self.pieces[piece];
        let text = &piece.spec.value.text;
        let what = format!(
            "container {:?}: publish {text:?}: {why}",
            self.name(piece.container)
        );
        let line = piece.spec.line;
        self.findings.error(line, what);
    }

    fn give(&mut self, group: usize, port: u16) {
        for index in &self.groups[group].pieces {
            let piece = &mut self.pieces[*index];
            piece.host_port = Some(port);
            self.bound.bind(port, piece);
        }
    }

    /// Whether nobody else has a port on any address of a group.
    fn is_unbound(&self, group: usize, port: u16) -> bool {
        let mut pieces = self.groups[group].pieces.iter();
        pieces.all(|index| {
            let piece = &self.pieces[*index];
            let holder = self.bound.holder(port, piece.port().1, &piece.binds);
            holder.is_none()
        })
    }

    /// What was chosen earlier stays with those that still want it.
    fn keep(&mut self, earlier: &[MappingAllocation]) {
        let mut chosen = choices(earlier);
        for group in 0..self.groups.len() {
            let piece = &self.pieces[self.groups[group].pieces[0]];
            let key = (
                self.name(piece.container),
                piece.port(),
                self.groups[group].from,
            );
            let Some(ports) = chosen.get_mut(&key) else {
                continue;
            };
            let Some(place) = ports.iter().position(|port| self.is_unbound(group, *port)) else {
                continue;
            };
            let port = ports.remove(place);
            self.give(group, port);
        }
    }

    fn exact(&mut self) {
        for index in 0..self.pieces.len() {
            let piece = &mut self.pieces[index];
            let HostPort::Exact(port) = piece.spec.value.publish.host_port else {
                continue;
            };
            if piece.binds.is_empty() {
                continue;
            }
            piece.host_port = Some(port);
            let holder = self.bound.holder(port, piece.port().1, &piece.binds);
            self.bound.bind(port, &self.pieces[index]);
            if let Some((address, holder)) = holder {
                let why = format!(
                    "Bind for {} failed: port is already allocated (by container {:?})",
                    SocketAddr::new(address, port),
                    self.name(holder)
                );
                self.error(index, &why);
            }
        }
    }

    fn choose(&mut self) {
        let mut open: Vec<usize> = (0..self.groups.len())
            .filter(|group| {
                self.pieces[self.groups[*group].pieces[0]]
                    .host_port
                    .is_none()
            })
            .collect();
        // Whoever has less to choose from comes first.
        open.sort_by_key(|group| self.groups[*group].from == ChosenFrom::Ephemeral);
        for group in open {
            let first = self.groups[group].pieces[0];
            let proto = self.pieces[first].port().1;
            let port = match self.groups[group].from {
                ChosenFrom::Range(low, high) => {
                    (low..=high).find(|port| self.is_free(group, *port))
                }
                ChosenFrom::Ephemeral => self.ephemeral(group, proto),
            };
            match port {
                Some(port) => self.give(group, port),
                None => self.error(first, "all ports are allocated"),
            }
        }
    }

    /// The next ephemeral port after the one that was handed out last, once around.
    fn ephemeral(&mut self, group: usize, proto: Proto) -> Option<u16> {
        let (first, last) = self.model.host.ephemeral_ports;
        let begin = self
            .last
            .get(proto)
            .checked_add(1)
            .filter(|next| (first..=last).contains(next))
            .unwrap_or(first);
        let is_reserved = |port: u16| {
            let mut ranges = self.surroundings.reserved_ports.iter();
            ranges.any(|(low, high)| (*low..=*high).contains(&port))
        };
        let port = (begin..=last)
            .chain(first..begin)
            .find(|port| !is_reserved(*port) && self.is_free(group, *port))?;
        self.last.set(proto, port);
        Some(port)
    }

    fn is_free(&self, group: usize, port: u16) -> bool {
        let is_taken = |index: &usize| {
            let piece = &self.pieces[*index];
            let has_family = |family| {
                piece
                    .binds
                    .iter()
                    .any(|address| Family::of(*address) == family)
            };
            let mut reserved = PortBinding::reserved(piece.host_ip, has_family).into_iter();
            reserved.any(|address| {
                (self.surroundings.is_taken)(SocketAddr::new(address, port), piece.port().1)
            })
        };
        self.is_unbound(group, port) && !self.groups[group].pieces.iter().any(is_taken)
    }
}
