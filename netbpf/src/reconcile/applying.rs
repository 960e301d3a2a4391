//! One change that looks at the whole: recover, resolve, compare, act, commit, or take it back.

use anyhow::Result;

use super::{
    Applied, Fault, Kept, Mode, Options, Report, Reservations, Source,
    act::Doer,
    meaning::{Resolved, Wanted, resolve, resolve_edited},
    ranges,
    steps::{self, Todo},
    survey::{self, Purpose, Survey},
};
use crate::{
    allocations::{Allocations, LastIds},
    config::Surroundings,
    dataplane::{self, maps::Contents},
    error::Error,
    host::{
        Host,
        bpffs::PinDirs,
        port::{self, HostPort},
        undo,
    },
    model::Model,
    state::{Allocated, Instance, Journal, Lock, Pending, fingerprint},
};

/// A change under way.
pub(super) struct Applying<'a> {
    host: &'a Host,
    instance: &'a Instance,
    lock: &'a Lock,
    journal: Journal,
    allocated: Allocated,
    reservations: &'a mut Reservations,
}

impl<'a> Applying<'a> {
    /// Opens what is remembered.
    pub(super) fn begin(
        host: &'a Host,
        instance: &'a Instance,
        lock: &'a Lock,
        reservations: &'a mut Reservations,
    ) -> Result<Self> {
        let journal = Journal::open(instance, lock, host.netns().id())?;
        Ok(Self {
            host,
            instance,
            lock,
            journal,
            allocated: Allocated::open(instance, lock)?,
            reservations,
        })
    }

    /// All of it, or nothing.
    pub(super) fn run(mut self, wanted: &Wanted<'_>, mut options: Options) -> Result<Applied> {
        self.recover(&mut Fault::None)?;
        let committed = self.instance.desired()?;
        let earlier = self.allocated.now().clone();
        let Resolved {
            text,
            document,
            mut model,
            allocations,
            warnings,
        } = self.resolve(wanted, committed.as_deref(), &earlier)?;
        let (mut survey, todo) = self.compare(&mut model, Purpose::GoOn)?;
        let report = Report {
            warnings,
            ..Report::from(todo.changes.clone()).since(earlier.last_ids.mapping)
        };
        if options.mode == Mode::DryRun {
            return Ok(Applied { report, kept: None });
        }
        if !todo.steps.is_empty() {
            self.journal.begin(Pending {
                document: committed.as_deref().map(fingerprint),
                allocations: self.allocated.length(),
                last_ids: allocations.last_ids,
            })?;
            match self.act(&model, &survey, &todo, &mut options.fault) {
                Ok(Some(written)) => survey.expected = written,
                Ok(None) => {}
                Err(error) => return Err(self.take_back(error, &mut options.fault)),
            }
        }
        let made = (options.fault.before("commit").map_err(Into::into))
            .and_then(|()| self.commit(committed.as_deref(), &text, &allocations));
        if let Err(error) = made {
            return Err(self.take_back(error, &mut options.fault));
        }
        let kept = Some(Kept {
            text,
            document,
            model,
            contents: survey.expected,
            reserved_ports: survey.facts.reserved_ports,
            journal: self.journal,
            allocated: self.allocated,
        });
        Ok(Applied { report, kept })
    }

    fn resolve(
        &self,
        wanted: &Wanted<'_>,
        committed: Option<&str>,
        earlier: &Allocations,
    ) -> Result<Resolved> {
        let of_state = |text: &str| Source {
            path: self
                .instance
                .state_dir()
                .join("desired.toml")
                .display()
                .to_string(),
            text: text.to_owned(),
        };
        let observed = self.host.rtnl().observe()?;
        let occupied = ranges::occupied(&observed, self.journal.changes());
        let reserved_ports = survey::reserved_ports()?;
        let surroundings = Surroundings {
            occupied: &occupied,
            reserved_ports: &reserved_ports,
            is_taken: &|address, proto| self.is_taken(HostPort { address, proto }),
        };
        match (wanted, committed) {
            (Wanted::Given(source), _) => Ok(resolve(source, earlier, surroundings)?),
            // What is wrong with the state is no wrong command line.
            (Wanted::Committed, Some(text)) => {
                let source = of_state(text);
                Ok(resolve(&source, earlier, surroundings).map_err(Error::host)?)
            }
            (Wanted::Committed, None) => {
                let name = self.instance.name();
                let message = format!("instance {name} has no desired state yet: name a file");
                Err(Error::host(message).into())
            }
            (Wanted::Edited(edits), text) => {
                let before = of_state(text.unwrap_or_default());
                Ok(resolve_edited(&before, edits, earlier, surroundings)?)
            }
        }
    }

    /// Whether another process of the host has a port.
    fn is_taken(&self, port: HostPort) -> bool {
        !self.reservations.have(port) && port::is_taken(port)
    }

    fn compare(&mut self, model: &mut Model, purpose: Purpose) -> Result<(Survey, Todo)> {
        let survey = survey::survey(self.host, self.instance, &self.journal, model, purpose)?;
        if purpose == Purpose::GoOn {
            self.reservations.take(model, &survey.contents)?;
        }
        let pins = PinDirs::of(self.instance.name());
        let load = dataplane::wanted_load(&pins, survey.links.objects());
        let todo = steps::todo(self.instance, &self.journal, model, &survey, load)?;
        Ok((survey, todo))
    }

    /// Does the steps. Gives what the maps hold then, where it is not what was expected before.
    fn act(
        &mut self,
        model: &Model,
        survey: &Survey,
        todo: &Todo,
        fault: &mut Fault,
    ) -> Result<Option<Contents>> {
        let mut doer = Doer {
            host: self.host,
            instance: self.instance,
            journal: &mut self.journal,
            model,
            survey,
            fault,
            written: None,
        };
        let written = doer.run(todo)?;
        fault.before("commit")?;
        Ok(written)
    }

    /// The document last: until it is there, a kill leads back.
    fn commit(&mut self, before: Option<&str>, text: &str, new: &Allocations) -> Result<()> {
        self.allocated.change_to(new)?;
        if before != Some(text) {
            self.instance.write_desired(self.lock, text)?;
        }
        // The change is made. Who finds it unfinished in the journal sees by the document that it is,
        // where it has changed, and else comes to the same once more.
        let told = self.journal.finish().and_then(|()| self.allocated.tidy());
        if let Err(error) = told {
            tracing::warn!(%error, "what is made was not told to the journal");
        }
        Ok(())
    }

    /// Leads back, and says of `error` whether that worked.
    pub(super) fn take_back(&mut self, error: anyhow::Error, fault: &mut Fault) -> anyhow::Error {
        match self.recover(fault) {
            Ok(()) => error.context("the change was taken back, the host is as it was before"),
            Err(other) => error.context(format!(
                "the change could not be taken back completely ({other:#}); the next command will \
                 try again"
            )),
        }
    }

    /// Brings the host back to the state that the journal says is to go back to, if there is one.
    pub(super) fn recover(&mut self, fault: &mut Fault) -> Result<()> {
        let Some(pending) = self.journal.pending().copied() else {
            return Ok(());
        };
        let committed = self.instance.desired()?;
        if committed.as_deref().map(fingerprint) != pending.document {
            // Nothing was left to do but to say so.
            return Ok(self.journal.finish()?);
        }
        tracing::info!(
            instance = self.instance.name(),
            "taking back a change that was cut short"
        );
        dataplane::finish_links(&PinDirs::of(self.instance.name()))?;
        self.allocated.go_back(pending.allocations)?;
        match &committed {
            Some(text) => self.go_back_to(text, pending.last_ids, fault),
            None => self.go_back_to_nothing(),
        }
    }

    fn go_back_to(&mut self, text: &str, last_ids: LastIds, fault: &mut Fault) -> Result<()> {
        let allocations = Allocations {
            last_ids,
            ..self.allocated.now().clone()
        };
        let source = Source {
            path: "desired.toml".to_owned(),
            text: text.to_owned(),
        };
        // What it goes back to was chosen before.
        let Resolved { mut model, .. } =
            resolve(&source, &allocations, Surroundings::UNKNOWN).map_err(Error::host)?;
        let (survey, todo) = self.compare(&mut model, Purpose::GoBack)?;
        self.act(&model, &survey, &todo, fault)?;
        self.commit(Some(text), text, &allocations)
    }

    fn go_back_to_nothing(&mut self) -> Result<()> {
        let changes: Vec<_> = self.journal.changes().iter().cloned().collect();
        let failures = undo::undo_all(self.host, &changes);
        if let Some(failure) = failures.into_iter().next() {
            return Err(failure.error.into());
        }
        self.journal.forget(&changes)?;
        self.instance.remove_desired(self.lock)?;
        Ok(self.journal.finish()?)
    }
}
