//! `ls --quiet`: names, one a line, as `docker … ls --quiet` prints ids.

use anyhow::Result;

use super::committed;
use crate::{display, state::Instance};

/// `network ls -q`.
pub(super) fn networks(instance: &Instance) -> Result<()> {
    let model = committed::model(instance)?;
    print(model.networks.iter().map(|network| &network.name))
}

/// `container ls -q`.
pub(super) fn containers(instance: &Instance) -> Result<()> {
    let model = committed::model(instance)?;
    print(model.containers.iter().map(|container| &container.name))
}

/// `service ls -q`.
pub(super) fn services(instance: &Instance) -> Result<()> {
    let model = committed::model(instance)?;
    print(model.services.iter().map(|service| &service.name))
}

fn print<'n>(names: impl Iterator<Item = &'n String>) -> Result<()> {
    display::print(&names.map(|name| format!("{name}\n")).collect::<String>())
}
