//! Changes of published ports by what is known, without looking at the host and without reading the
//! maps: what a living `run` does for `port add` and `port rm`.
//!
//! Whatever is not plain, or could be wrong, is left to a change that looks at the whole, which
//! comes to the same where both can be had. The order of the steps is that of [`super::steps`], and
//! so is the journal: a kill leads back.

use std::mem;

use anyhow::Result;

use super::{Fault, Kept, Report, Reservations, words};
use crate::{
    allocations::{AllocationsChange, ChosenFrom, MappingAllocation, MappingKey, Owner},
    config::{Counters, Document, Standing, Surroundings},
    dataplane::{
        self, Load, ObjectMark,
        maps::{Contents, Maps, Part},
    },
    edit::{Edit, Opened, Value},
    host::{
        bpffs::PinDirs,
        port::{self, HostPort},
    },
    model::{Container, Model, PortBinding},
    plan,
    state::{Allocated, Instance, Journal, Lock, Pending, Replaced, fingerprint},
};

/// What stands, as the last change left it.
#[derive(Debug)]
pub struct Known {
    opened: Opened,
    fingerprint: u64,
    /// Of its containers only what is not published is up to date: that is the model's.
    document: Document,
    model: Model,
    standing: Standing,
    contents: Contents,
    reserved_ports: Vec<(u16, u16)>,
    maps: Maps,
    journal: Journal,
    allocated: Allocated,
    replaced: Vec<Replaced>,
}

/// How many documents that were replaced may wait until their blocks are given back.
const REPLACED_MAX: usize = 32;

/// What a change came to.
pub enum Outcome {
    /// It is made.
    Done(Report),
    /// The whole has to be looked at; nothing was made, and what is known is of no use any more.
    NotPlain,
    /// It failed half-way; what is known is of no use any more.
    Failed(anyhow::Error),
}

/// What a change acts on.
pub struct Changing<'a> {
    pub instance: &'a Instance,
    pub lock: &'a Lock,
    pub reservations: &'a mut Reservations,
    pub fault: &'a mut Fault,
}

/// A change of the ports of one container.
struct Ports {
    /// The container's place in the model.
    index: usize,
    /// Where among its ports those stand that go, lowest first.
    gone: Vec<usize>,
    /// Those that come, at the end, each with what its host port was chosen from.
    come: Vec<(PortBinding, Option<ChosenFrom>)>,
    /// The container with those alone that go, and with those that come.
    parts: [Container; 2],
    /// What is in the maps of what changes, and what must be.
    before: Contents,
    after: Contents,
    counters: Counters,
}

impl Known {
    /// What stands after a change that looked at the whole.
    ///
    /// # Errors
    ///
    /// The document can't be opened for edits, or the maps not at all.
    pub fn of(instance: &Instance, kept: Kept) -> Result<Self> {
        Ok(Self {
            opened: Opened::read(&kept.text)?,
            fingerprint: fingerprint(&kept.text),
            standing: Standing::of(&kept.document, &kept.model),
            document: kept.document,
            model: kept.model,
            contents: kept.contents,
            reserved_ports: kept.reserved_ports,
            maps: Maps::open(&PinDirs::of(instance.name()).maps)?,
            journal: kept.journal,
            allocated: kept.allocated,
            replaced: Vec::new(),
        })
    }

    /// Whether the programs that were loaded are still those.
    pub fn stands(&self, instance: &Instance) -> bool {
        let pins = PinDirs::of(instance.name());
        dataplane::loaded_mark(&pins) == Some(ObjectMark::own())
    }

    /// Whether something can wait: see [`Self::rest`].
    pub fn can_rest(&self) -> bool {
        !self.replaced.is_empty()
    }

    /// Does what can wait for long no more.
    pub fn tidy(&mut self) {
        if self.replaced.len() > REPLACED_MAX {
            self.rest();
        }
    }

    /// Does what can wait.
    pub fn rest(&mut self) {
        Replaced::give_back(mem::take(&mut self.replaced));
    }

    /// Makes a change, if it is of one container's ports and plain.
    pub fn change(&mut self, edits: &[Edit], mut changing: Changing<'_>) -> Outcome {
        let Some(ports) = self.plan(edits, changing.reservations) else {
            return Outcome::NotPlain;
        };
        let made = edits.iter().try_for_each(|edit| self.opened.apply(edit));
        if made.is_err() {
            return Outcome::NotPlain;
        }
        let report = report(&ports).since(self.allocated.now().last_ids.mapping);
        match self.make(&ports, &mut changing) {
            Ok(()) => {
                self.note(ports, changing.reservations);
                Outcome::Done(report)
            }
            Err(error) => Outcome::Failed(error),
        }
    }

    fn plan(&mut self, edits: &[Edit], reservations: &mut Reservations) -> Option<Ports> {
        let (name, what) = match edits {
            [Edit::Publish { container, ports }] => (container, What::Come(ports)),
            [Edit::Unpublish { container, ports }] => (container, What::Go(ports)),
            _ => return None,
        };
        let mut containers = self.model.containers.iter();
        let index = containers.position(|container| container.name == *name)?;
        if !plan::are_single(&self.model, &self.model.containers[index]) {
            return None;
        }
        match what {
            What::Come(values) => self.coming(index, values, reservations),
            What::Go(texts) => self.going(index, texts),
        }
    }

    fn coming(
        &mut self,
        index: usize,
        values: &[Value],
        reservations: &mut Reservations,
    ) -> Option<Ports> {
        let container = self.model.containers.get(index)?;
        // With the first port of all come hooks.
        if container.publish.is_empty() {
            return None;
        }
        let values: Vec<String> = values.iter().map(Value::to_string).collect();
        let now = self.allocated.now();
        let mut counters = Counters {
            ids: now.last_ids,
            ports: now.last_ports,
        };
        let is_taken = |port: HostPort| !reservations.have(port) && port::is_taken(port);
        let surroundings = Surroundings {
            occupied: &[],
            reserved_ports: &self.reserved_ports,
            is_taken: &|address, proto| is_taken(HostPort { address, proto }),
        };
        let whole = (&self.document, &self.model);
        let values = values.join(", ");
        let come = self
            .standing
            .publish(whole, index, &values, &mut counters, surroundings)?;
        let publish = come.iter().map(|(binding, _)| binding.clone()).collect();
        let part = with_ports(container, publish);
        let mut after = plan::ports(&self.model, &part);
        if self.contents.has_any(&after) || !self.contents.has_room(&after) {
            return None;
        }
        let mut before = Contents::default();
        for (word, bits) in &mut after.reserved_ports {
            if let Some(now) = self.contents.reserved_ports.get(word) {
                before.reserved_ports.insert(*word, *now);
                *bits |= now;
            }
        }
        reservations
            .take_more(&self.model, &part, &self.contents)
            .ok()?;
        Some(Ports {
            index,
            gone: Vec::new(),
            come,
            parts: [with_ports(container, Vec::new()), part],
            before,
            after,
            counters,
        })
    }

    fn going(&mut self, index: usize, texts: &[String]) -> Option<Ports> {
        let whole = (&self.document, &self.model);
        let gone = self.standing.unpublish(whole, index, texts)?;
        let container = self.model.containers.get(index)?;
        // With the last port of all go hooks, and with the last one of a container goes its key.
        if gone.len() == container.publish.len() {
            return None;
        }
        let publish = gone.iter().map(|place| container.publish[*place].clone());
        let part = with_ports(container, publish.collect());
        let mut before = plan::ports(&self.model, &part);
        if !self.contents.has_all(&before) {
            return None;
        }
        let mut after = Contents::default();
        let is_reserved = |port: u16| {
            let mut ranges = self.reserved_ports.iter();
            ranges.any(|(first, last)| (*first..=*last).contains(&port))
        };
        // What is reserved by the administrator as well is rare enough to be looked at.
        if part
            .publish
            .iter()
            .filter_map(|it| it.host_port)
            .any(is_reserved)
        {
            return None;
        }
        for (word, bits) in &mut before.reserved_ports {
            let now = *self.contents.reserved_ports.get(word)?;
            let left = now & !*bits;
            *bits = now;
            if left != 0 {
                after.reserved_ports.insert(*word, left);
            }
        }
        let now = self.allocated.now();
        Some(Ports {
            index,
            gone,
            come: Vec::new(),
            parts: [part, with_ports(container, Vec::new())],
            before,
            after,
            counters: Counters {
                ids: now.last_ids,
                ports: now.last_ports,
            },
        })
    }

    fn make(&mut self, ports: &Ports, changing: &mut Changing<'_>) -> Result<()> {
        self.journal.begin(Pending {
            document: Some(self.fingerprint),
            allocations: self.allocated.length(),
            last_ids: ports.counters.ids,
        })?;
        self.write(ports, changing.fault)?;
        changing.fault.before("commit")?;
        self.allocated.change(self.allocations(ports))?;
        let (instance, text) = (changing.instance, self.opened.text());
        let replaced = instance.write_desired(changing.lock, text)?;
        self.replaced.push(replaced);
        self.fingerprint = fingerprint(self.opened.text());
        // The change is made. Who finds it unfinished in the journal sees by the document that it is.
        let told = self.journal.finish().and_then(|()| self.allocated.tidy());
        if let Err(error) = told {
            tracing::warn!(%error, "what is made was not told to the journal");
        }
        Ok(())
    }

    fn write(&mut self, ports: &Ports, fault: &mut Fault) -> Result<()> {
        let (before, after) = (&ports.before, &ports.after);
        for (step, part) in [
            ("WritePlaces", Part::Places),
            ("WriteMappings", Part::Mappings),
        ] {
            fault.before(step)?;
            let maps = &self.maps;
            maps.put(part, before, after, &mut |map| fault.before(map))?;
        }
        fault.before("DeleteKeys")?;
        let maps = &self.maps;
        maps.delete(before, after, &mut |map| fault.before(map))?;
        if before.policy_changes(after) {
            fault.before("WriteConfig")?;
            let mut config = self.maps.config()?;
            config.generation = config.generation.wrapping_add(1).max(1);
            self.maps.set_config(&config)?;
        }
        Ok(())
    }

    /// The mappings of all containers stand in the order of the document.
    fn allocations(&self, ports: &Ports) -> AllocationsChange {
        let containers = &self.model.containers;
        let count = |all: &[Container]| all.iter().map(|it| it.publish.len()).sum::<usize>();
        let first = count(&containers[..ports.index]);
        let end = count(&containers[..=ports.index]) - ports.gone.len();
        let owner = &containers[ports.index].name;
        let come = ports.come.iter().map(|(binding, chosen_from)| {
            let key = MappingKey {
                owner: Owner::Container(owner.clone()),
                proto: binding.proto,
                host_ip: binding.host_ip,
                host_port: binding.host_port,
                container_port: binding.container_port,
            };
            MappingAllocation {
                id: binding.mapping,
                key,
                vips: Vec::new(),
                chosen_from: *chosen_from,
            }
        });
        AllocationsChange::of_mappings(
            (ports.counters.ids, ports.counters.ports),
            ports.gone.iter().map(|place| first + place).collect(),
            (end..).zip(come).collect(),
        )
    }

    /// What was made is what stands.
    fn note(&mut self, ports: Ports, reservations: &mut Reservations) {
        self.contents.turn(&ports.before, &ports.after);
        reservations.give_up(&self.model, &ports.parts[0]);
        let publish = &mut self.model.containers[ports.index].publish;
        for place in ports.gone.iter().rev() {
            publish.remove(*place);
        }
        publish.extend(ports.come.into_iter().map(|(binding, _)| binding));
    }
}

/// Which way ports go.
enum What<'e> {
    Come(&'e [Value]),
    Go(&'e [String]),
}

/// The container with other published ports.
fn with_ports(container: &Container, publish: Vec<PortBinding>) -> Container {
    Container {
        name: container.name.clone(),
        netns: container.netns.clone(),
        mode: container.mode.clone(),
        source_check: container.source_check,
        attachments: container.attachments.clone(),
        publish,
        expose: container.expose.clone(),
        links: container.links.clone(),
    }
}

fn report(ports: &Ports) -> Report {
    let mut changes = Vec::new();
    let [part, _] = &ports.parts;
    let model = Model {
        containers: vec![with_ports(part, Vec::new())],
        ..Model::default()
    };
    let states = (&ports.before, &ports.after);
    words::maps(&mut changes, states, &model, Load::Nothing);
    Report::from(changes)
}
