//! From what is published to the host's addresses and ports. Pure but for what it asks of the
//! [`Surroundings`], and that only about a port that nobody has yet.
//!
//! Who keeps a port comes first, then who names one, then who takes one of a range, then the
//! ephemeral ones (row P6). So the same input gives the same ports, and nobody who has one loses
//! it.

use std::{
    collections::HashMap,
    mem,
    net::{IpAddr, SocketAddr},
    ops::Range,
};

use super::{
    Document, Surroundings,
    findings::{At, Findings},
    pieces::{Of, Piece, conflicts},
    publish::HostPort,
    published::PublishSpec,
};
use crate::{
    allocations::{Allocations, ChosenFrom, LastPorts, MappingAllocation, Owner},
    model::{Family, Model, PortBinding, Proto},
};

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
        let of = Of::new(document, model, spec, container, index);
        for publish in &spec.publish {
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

/// Who has which of the host's ports once `document` is resolved to `model`.
pub(super) fn bound_of(document: &Document, model: &Model) -> Bound {
    let mut bound = Bound::default();
    let containers = document.containers.iter().zip(&model.containers);
    for (index, (spec, container)) in containers.enumerate() {
        let of = Of::new(document, model, spec, container, index);
        // What a document is resolved to can be had.
        let pieces = spec.publish.iter().flat_map(|it| of.pieces(it));
        for (piece, binding) in pieces.flatten().zip(&container.publish) {
            if let Some(port) = binding.host_port {
                bound.bind(port, &piece);
            }
        }
    }
    bound
}

/// The pieces of further publishes of one container, each with a port of the host, where all others
/// stay. `None` where one of them can't be had, or needs no port: then `bound` is of no use any more.
pub(super) fn more<'d>(
    of: &Of<'d, '_>,
    publishes: &'d [At<PublishSpec>],
    model: &Model,
    bound: &mut Bound,
    last: &mut LastPorts,
    surroundings: Surroundings<'_>,
) -> Option<Vec<Piece<'d>>> {
    let mut pieces = Vec::new();
    for publish in publishes {
        let parts = of.pieces(publish).ok()?;
        let is_plain = !parts.is_empty() && parts.iter().all(|part| !part.binds.is_empty());
        pieces.extend(is_plain.then_some(parts)?);
    }
    let mut findings = Findings::new("", "");
    let mut choosing = Choosing {
        model,
        groups: groups(&mut pieces),
        pieces,
        bound: mem::take(bound),
        last: *last,
        surroundings,
        findings: &mut findings,
    };
    choosing.exact();
    choosing.choose();
    *bound = choosing.bound;
    *last = choosing.last;
    let pieces = choosing.pieces;
    (!findings.are_wrong()).then_some(pieces)
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

/// Who has which of the host's addresses of each port: a container's place in the model.
#[derive(Debug, Default)]
pub(super) struct Bound(HashMap<(u16, Proto), Vec<(IpAddr, usize)>>);

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

    /// Takes back what was bound for a piece.
    pub(super) fn release(&mut self, port: u16, piece: &Piece<'_>) {
        let key = (port, piece.port().1);
        if let Some(holders) = self.0.get_mut(&key) {
            holders.retain(|(address, holder)| {
                *holder != piece.container || !piece.binds.contains(address)
            });
            if holders.is_empty() {
                self.0.remove(&key);
            }
        }
    }

    /// Whether anybody has a port, on any address.
    pub(super) fn has(&self, port: u16, proto: Proto) -> bool {
        self.0.contains_key(&(port, proto))
    }

    fn take_over(&mut self, other: Self) {
        for (port, holders) in other.0 {
            self.0.entry(port).or_default().extend(holders);
        }
    }
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
        let mut begin = 0;
        while let Some(first) = self.pieces.get(begin) {
            let written = first.written();
            let rest = self.pieces[begin..].iter();
            let end = begin + rest.take_while(|piece| piece.written() == written).count();
            self.exact_range(begin..end);
            begin = end;
        }
    }

    /// Takes the port that a piece names, which was written for it alone, if nobody has it.
    fn take_exact(&mut self, index: usize) -> bool {
        let piece = &mut self.pieces[index];
        let HostPort::Exact(port) = piece.spec.value.publish.host_port else {
            return true;
        };
        let proto = piece.port().1;
        if self.bound.holder(port, proto, &piece.binds).is_some() {
            return false;
        }
        if !piece.binds.is_empty() {
            piece.host_port = Some(port);
            self.bound.bind(port, piece);
        }
        true
    }

    /// What was written once gets all of its ports or none: what is refused takes no port from
    /// others, or they would be refused for its fault.
    fn exact_range(&mut self, written: Range<usize>) {
        if written.len() == 1 && self.take_exact(written.start) {
            return;
        }
        let mut own = Bound::default();
        let mut is_refused = false;
        for index in written {
            let piece = &mut self.pieces[index];
            let HostPort::Exact(port) = piece.spec.value.publish.host_port else {
                continue;
            };
            if piece.binds.is_empty() {
                continue;
            }
            piece.host_port = Some(port);
            let proto = piece.port().1;
            let met = self.bound.holder(port, proto, &piece.binds);
            is_refused |= met.is_some();
            // What meets itself was written twice: one of them stays.
            let holder = met.or_else(|| own.holder(port, proto, &piece.binds));
            own.bind(port, piece);
            let Some((address, holder)) = holder else {
                continue;
            };
            let why = format!(
                "Bind for {} failed: port is already allocated (by container {:?})",
                SocketAddr::new(address, port),
                self.name(holder)
            );
            self.error(index, &why);
        }
        if !is_refused {
            self.bound.take_over(own);
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
