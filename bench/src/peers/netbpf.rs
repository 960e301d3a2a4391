//! netbpf itself, by its own command.

use std::path::Path;

use anyhow::{Result, ensure};
use netbpf_tests::{product::Instance, topology::Topology, topology::with_private_namespaces};

use super::{CONTAINERS_V4, CONTAINERS_V6, Site};

/// A host on which netbpf stands, with two containers on one network.
///
/// # Errors
///
/// What the command says.
pub fn site(netbpf: &Path) -> Result<Site> {
    let topology = Topology::create();
    let instance = Instance::new(&topology.id, &topology.host).with_binary(netbpf);
    let applied = instance.try_apply(&with_private_namespaces(&config(), &topology.id));
    ensure!(applied.code == Some(0), "netbpf apply: {}", applied.stderr);
    let containers = [0, 1].map(|it| format!("/run/netns/{}-c{it}", topology.id).into());
    Ok(Site {
        containers,
        // The instance goes first.
        guard: Box::new((instance, topology)),
    })
}

fn config() -> String {
    let container = |number: usize| {
        format!(
            "[[container]]\nname = \"c{number}\"\n\
             networks = [{{ name = \"front\", ipv4 = \"{}\", ipv6 = \"{}\" }}]\n",
            CONTAINERS_V4[number], CONTAINERS_V6[number]
        )
    };
    format!(
        "[[network]]\nname = \"front\"\nsubnets = [\"172.28.0.0/24\", \"fd00:28::/64\"]\n\
         {}{}",
        container(0),
        container(1)
    )
}
