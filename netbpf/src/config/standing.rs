//! Published ports that stand, so that one more is compared with those that it could meet and not
//! with all. Whatever is not plain is left to whoever resolves the whole document: nothing here says
//! what is wrong with anything.

use toml::de::DeTable;

use super::{
    Document, Surroundings,
    container::ContainerSpec,
    findings::{At, Findings},
    pieces::{Of, Piece},
    publish::{self, HostPort},
    published::{self, PublishSpec},
    publishing::{Bound, bound_of, more},
    table::Table,
};
use crate::{
    allocations::{ChosenFrom, LastIds, LastPorts},
    model::{Container, Mode, Model, PortBinding},
};

/// What new published ports are chosen and counted from.
#[derive(Clone, Copy, Debug)]
pub struct Counters {
    /// The ids that were handed out last.
    pub ids: LastIds,
    /// The ephemeral ports that were handed out last.
    pub ports: LastPorts,
}

/// Who has which of the host's ports, as a document and its model have it.
#[derive(Debug)]
pub struct Standing {
    bound: Bound,
}

impl Standing {
    /// All that `model` publishes, which `document` is resolved to.
    pub fn of(document: &Document, model: &Model) -> Self {
        Self {
            bound: bound_of(document, model),
        }
    }

    /// The ports that `values`, further entries of the `publish` of the container at that place,
    /// come to, each with what its host port was chosen from, and what was counted up for them.
    ///
    /// `None`: the whole has to be looked at, and this is of no use any more.
    pub fn publish(
        &mut self,
        (document, model): (&Document, &Model),
        index: usize,
        values: &str,
        counters: &mut Counters,
        surroundings: Surroundings<'_>,
    ) -> Option<Vec<(PortBinding, Option<ChosenFrom>)>> {
        let (spec, container) = plain(document, model, index)?;
        let entries = entries(values)?;
        let of = Of::new(document, model, spec, container, index);
        let pieces = more(
            &of,
            &entries,
            model,
            &mut self.bound,
            &mut counters.ports,
            surroundings,
        )?;
        let binding = |piece: &Piece<'_>| {
            let binding = binding(piece, &mut counters.ids);
            (binding, piece.chosen_from)
        };
        Some(pieces.iter().map(binding).collect())
    }

    /// Where among the published ports of the container at that place those stand that `texts`,
    /// entries of its `publish`, came to.
    ///
    /// `None`: the whole has to be looked at, and this is of no use any more.
    pub fn unpublish(
        &mut self,
        (document, model): (&Document, &Model),
        index: usize,
        texts: &[String],
    ) -> Option<Vec<usize>> {
        let (spec, container) = plain(document, model, index)?;
        let entries = exact_entries(texts)?;
        let of = Of::new(document, model, spec, container, index);
        let mut places = Vec::new();
        for entry in &entries {
            for piece in of.pieces(entry).ok()? {
                let port = exact_port(entry)?;
                let place = place_of(container, &piece, port)?;
                self.bound.release(port, &piece);
                places.push(place);
            }
        }
        places.sort_unstable();
        places.dedup();
        let mut gone = places.iter().map(|place| &container.publish[*place]);
        let is_whole = gone.all(|gone| {
            gone.host_port
                .is_some_and(|port| !self.bound.has(port, gone.proto))
        });
        (!places.is_empty() && is_whole).then_some(places)
    }
}

/// A container whose ports depend on no other's, and on which none depends.
fn plain<'d, 'm>(
    document: &'d Document,
    model: &'m Model,
    index: usize,
) -> Option<(&'d ContainerSpec, &'m Container)> {
    let spec = document.containers.get(index)?;
    let container = model.containers.get(index)?;
    let mut all = model.containers.iter();
    let is_linked = all.any(|other| {
        let mut links = other.links.iter();
        links.any(|link| link.container == container.name)
    });
    let is_plain = container.mode == Mode::Bridge && !spec.publish_all && !is_linked;
    (is_plain && spec.name.value == container.name).then_some((spec, container))
}

fn entries(values: &str) -> Option<Vec<At<PublishSpec>>> {
    let text = format!("publish = [{values}]");
    let mut findings = Findings::new("", &text);
    let (root, errors) = DeTable::parse_recoverable(&text);
    let table = Table::root(root.get_ref());
    let entries = published::read_publish(&table, &[], None, &mut findings);
    let is_right = errors.is_empty() && !findings.are_wrong() && !entries.is_empty();
    is_right.then_some(entries)
}

fn exact_entries(texts: &[String]) -> Option<Vec<At<PublishSpec>>> {
    let mut entries = Vec::new();
    for text in texts {
        let publishes = publish::parse_publish(text).ok()?;
        entries.extend(publishes.into_iter().map(|publish| At {
            line: 1,
            value: PublishSpec {
                text: text.clone(),
                publish,
                allow: Vec::new(),
                deny: Vec::new(),
            },
        }));
    }
    Some(entries)
}

const fn exact_port(entry: &At<PublishSpec>) -> Option<u16> {
    match entry.value.publish.host_port {
        HostPort::Exact(port) => Some(port),
        HostPort::Ephemeral | HostPort::FirstFreeOf(_) => None,
    }
}

fn place_of(container: &Container, piece: &Piece<'_>, port: u16) -> Option<usize> {
    let (container_port, proto) = piece.port();
    let is_it = |binding: &PortBinding| {
        binding.host_port == Some(port)
            && binding.container_port == container_port
            && binding.proto == proto
            && binding.host_ip == piece.host_ip
    };
    container.publish.iter().position(is_it)
}

fn binding(piece: &Piece<'_>, ids: &mut LastIds) -> PortBinding {
    ids.mapping = ids.mapping.saturating_add(1);
    piece.binding(ids.mapping)
}
