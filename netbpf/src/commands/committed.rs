//! The committed desired state, as readers see it: they never wait for a writer.

use anyhow::{Context as _, Result};

use crate::{
    allocations::Allocations,
    config::{self, Surroundings},
    error::Error,
    model::Model,
    state::Instance,
};

/// How often a reader looks again when a writer came between two files.
const ATTEMPTS: u32 = 8;

/// The model of the committed desired state; an empty one when nothing was applied yet.
pub(super) fn model(instance: &Instance) -> Result<Model> {
    let (desired, allocations) = read(instance)?;
    let path = instance
        .state_dir()
        .join("desired.toml")
        .display()
        .to_string();
    let loaded = config::load_on(&path, &desired, &allocations, Surroundings::UNKNOWN);
    // The state is the host's: what is wrong with it is no wrong command line.
    let (_, model, _) = loaded.map_err(|refusal| Error::host(refusal.errors()))?;
    Ok(model)
}

fn read(instance: &Instance) -> Result<(String, Allocations)> {
    let mut before = instance.allocations().context("failed to read the state")?;
    for _ in 0..ATTEMPTS {
        let desired = instance.desired().context("failed to read the state")?;
        let after = instance.allocations().context("failed to read the state")?;
        if before == after {
            return Ok((desired.unwrap_or_default(), after));
        }
        before = after;
    }
    Err(Error::host("the state changes faster than it can be read").into())
}
