//! A test's scene: a hostile host, its client, and an instance on it.

use std::path::PathBuf;

use serde_json::Value;

use crate::{
    product::{Ended, Instance},
    topology::{Topology, with_private_namespaces},
};

/// A host with an instance. Dropping it purges the instance and then removes the machines.
#[derive(Debug)]
pub struct Scene {
    /// The instance; it goes first.
    pub instance: Instance,
    /// The machines.
    pub topology: Topology,
}

impl Scene {
    /// A host on which nothing was applied yet.
    pub fn bare() -> Self {
        let topology = Topology::create();
        let instance = Instance::new(&topology.id, &topology.host);
        Self { instance, topology }
    }

    /// A host on which `config` was applied.
    pub fn with(config: &str) -> Self {
        let scene = Self::bare();
        scene.apply(config);
        scene
    }

    /// Applies a config whose containers get namespaces of this scene's own; what it changed.
    pub fn apply(&self, config: &str) -> Value {
        self.instance.apply(&self.private(config))
    }

    /// As [`Self::apply`], whatever comes of it.
    pub fn try_apply(&self, config: &str) -> Ended {
        self.instance.try_apply(&self.private(config))
    }

    /// The config as this scene applies it.
    pub fn private(&self, config: &str) -> String {
        with_private_namespaces(config, &self.topology.id)
    }

    /// The namespace of a container.
    pub fn container(&self, name: &str) -> PathBuf {
        format!("/run/netns/{}-{name}", self.topology.id).into()
    }
}
