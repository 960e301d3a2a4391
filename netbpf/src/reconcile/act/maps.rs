//! The steps that write maps: what was seen is turned into what is wanted, map by map.

use std::borrow::Cow;

use anyhow::Result;

use super::{
    super::{Fault, survey},
    Doer,
};
use crate::{
    dataplane::maps::{Contents, Maps, Part},
    plan,
};

/// The maps of a change under way.
#[derive(Debug)]
pub struct Written<'a> {
    maps: Maps,
    /// What they held, but for what was stale.
    before: Cow<'a, Contents>,
    pub(super) after: Cow<'a, Contents>,
    /// Whether living flows must ask policy again.
    policy_changes: bool,
}

impl<'a> Doer<'a> {
    pub(super) fn delete_stale(&mut self) -> Result<()> {
        let survey = self.survey;
        let (written, fault) = self.open()?;
        let kept = survey.without_stale(&written.before, &written.after);
        let mut before_each = |map: &str| fault.before(map);
        written
            .maps
            .delete(&written.before, &kept, &mut before_each)?;
        written.before = Cow::Owned(kept);
        Ok(())
    }

    /// Puts one part of what the maps must hold; the other one stays as it was.
    pub(super) fn put(&mut self, part: Part) -> Result<()> {
        let (written, fault) = self.open()?;
        let (before, after) = (&written.before, &written.after);
        let mut before_each = |map: &str| fault.before(map);
        Ok(written.maps.put(part, before, after, &mut before_each)?)
    }

    pub(super) fn delete_keys(&mut self) -> Result<()> {
        let (written, fault) = self.open()?;
        let (before, after) = (&written.before, &written.after);
        let mut before_each = |map: &str| fault.before(map);
        Ok(written.maps.delete(before, after, &mut before_each)?)
    }

    pub(super) fn write_config(&mut self) -> Result<()> {
        let (model, survey) = (self.model, self.survey);
        let (written, _) = self.open()?;
        let now = written.maps.config()?;
        let generation = if written.policy_changes {
            now.generation.wrapping_add(1).max(1)
        } else {
            now.generation.max(1)
        };
        let wanted = plan::config(model, &survey.facts, generation);
        if now == wanted {
            return Ok(());
        }
        Ok(written.maps.set_config(&wanted)?)
    }

    /// The maps, opened when every link is there, so that the plan can be made with its ifindex, and
    /// what may stop a step at one of them.
    fn open(&mut self) -> Result<(&mut Written<'a>, &mut Fault)> {
        let written = match self.written.take() {
            Some(written) => written,
            None => self.written_now()?,
        };
        Ok((self.written.insert(written), &mut *self.fault))
    }

    /// What was seen before the first step, where no step changes it.
    pub(super) fn written_as_seen(&self) -> Result<Written<'a>> {
        let (before, after) = (&self.survey.contents, &self.survey.expected);
        Ok(Written {
            policy_changes: before.policy_changes(after),
            maps: Maps::open(&self.pins().maps)?,
            before: Cow::Borrowed(before),
            after: Cow::Borrowed(after),
        })
    }

    fn written_now(&self) -> Result<Written<'a>> {
        let maps = Maps::open(&self.pins().maps)?;
        let observed = self.host.rtnl().observe()?;
        let facts = survey::facts(self.host, self.journal.changes(), &observed)?;
        let after = plan::contents(self.model, &self.survey.links, &facts)?;
        let before = maps.read()?;
        before.check_room(&after)?;
        Ok(Written {
            policy_changes: before.policy_changes(&after),
            maps,
            before: Cow::Owned(before),
            after: Cow::Owned(after),
        })
    }
}
