//! What stands: interfaces with their hooks, maps with their fill, drops. Reads only, and waits
//! for nobody.

use std::{collections::HashMap, path::PathBuf};

use anyhow::{Context as _, Result};
use netbpf_common::{
    endpoint::role,
    verdict::{DropReason, Hook, StackReason, drop_counter, stack_counter},
};
use serde::Serialize;

use crate::{
    config::{self, Surroundings},
    dataplane::{
        self, Objects,
        attach::{Place, hooks_of},
        maps::{self, MapFill, Maps},
        socket,
    },
    host::{
        Host,
        bpffs::PinDirs,
        cgroup, kernel,
        link::{Framing, Link},
        xfrm,
    },
    plan, reconcile, reserved,
    state::{self, Changes, Instance, Inventory},
};

/// How an instance is.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum State {
    /// Everything that the desired state wants stands.
    Active,
    /// Programs are loaded, but a link, a hook or a pin that should be there is not.
    Degraded,
    /// Nothing is loaded.
    Absent,
}

impl State {
    /// `active`, `degraded` or `absent`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Degraded => "degraded",
            Self::Absent => "absent",
        }
    }
}

/// Kernel features that netbpf uses, or that change what it can do.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize)]
pub struct Features {
    /// Programs hang on TCX links.
    pub tcx: bool,
    /// Route lookups leave the neighbour to whoever sends the packet.
    pub fib_skip_neigh: bool,
    /// Masquerade asks the kernel for the source address.
    pub fib_lookup_src: bool,
    /// IPv6 address rewrites pass `BPF_F_IPV6`.
    pub bpf_f_ipv6: bool,
    /// What is led into a container needs no mark that it is for it: `bpf_redirect_peer` puts it.
    pub redirect_peer_scrub: bool,
    /// br_netfilter gives bridged packets to netfilter.
    pub br_netfilter: bool,
    /// The host has IPsec policies, so that what leaves it takes the host's stack.
    pub xfrm: bool,
}

/// The kernel.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Kernel {
    /// As `uname -r` prints it.
    pub release: String,
    /// Its features.
    pub features: Features,
}

/// One interface that the programs know.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Interface {
    /// Its name; empty when it is gone.
    pub name: String,
    /// Its ifindex.
    pub ifindex: u32,
    /// `container`, `bridge`, `uplink` or `loopback`.
    pub role: &'static str,
    /// The hooks that are in place.
    pub hooks: Vec<&'static str>,
}

/// The hooks at sockets.
#[derive(Clone, Debug, Default, Eq, PartialEq, Serialize)]
pub struct Sockets {
    /// The root cgroup; `null` on a host without cgroup2, whose processes are met on the loopback
    /// interface instead.
    pub cgroup: Option<PathBuf>,
    /// The hooks that are in place; none where nothing is published.
    pub hooks: Vec<&'static str>,
}

impl Sockets {
    fn look(pins: &PinDirs) -> Result<Self> {
        let hooked = socket::hooked(pins)?;
        Ok(Self {
            cgroup: cgroup::root()?,
            hooks: hooked.iter().map(|hook| hook.name()).collect(),
        })
    }
}

/// Packets that one hook counted for one reason.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Count {
    /// The hook.
    pub hook: &'static str,
    /// The stable word.
    pub reason: &'static str,
    /// The reason for a person.
    pub message: &'static str,
    /// Packets.
    pub packets: u64,
    /// Bytes, with link-layer headers.
    pub bytes: u64,
}

/// Everything about an instance that `status` shows.
#[derive(Clone, Debug, Eq, PartialEq, Serialize)]
pub struct Status {
    /// Its name.
    pub instance: String,
    /// The version of netbpf that loaded the programs; this one's when nothing is loaded.
    pub version: String,
    /// How it is.
    pub state: State,
    /// What should be there and is not: pins, as `map networks`, and the desired state, as `file` and
    /// its path.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub missing: Vec<String>,
    /// What it runs on.
    pub kernel: Kernel,
    /// Whether published ports are kept from other processes of the host.
    pub ports_reserved: bool,
    /// How processes of the host reach published ports.
    pub sockets: Sockets,
    /// The interfaces that the programs know, by ifindex.
    pub interfaces: Vec<Interface>,
    /// The maps.
    pub maps: Vec<MapFill>,
    /// What was dropped; reasons that never came are left out.
    pub drops: Vec<Count>,
    /// What took the host's stack instead of the short way.
    pub slow_path: Vec<Count>,
}

/// Looks at an instance.
///
/// # Errors
///
/// When the instance belongs to another namespace than `host`, or something can't be read.
pub fn status(host: &Host, instance: &Instance) -> Result<Status> {
    let inventory = instance.inventory()?;
    check_namespace(host, instance, inventory.as_ref())?;
    let pins = PinDirs::of(instance.name());
    let mut status = Status {
        instance: instance.name().to_owned(),
        version: dataplane::loaded_mark(&pins)
            .map_or_else(|| env!("CARGO_PKG_VERSION").to_owned(), |mark| mark.version),
        state: State::Absent,
        missing: Vec::new(),
        kernel: kernel()?,
        ports_reserved: reserved::is_up(instance),
        sockets: Sockets::look(&pins)?,
        interfaces: Vec::new(),
        maps: Vec::new(),
        drops: Vec::new(),
        slow_path: Vec::new(),
    };
    let missing = dataplane::missing(&pins, Objects::Ethernet);
    if !missing.is_empty() {
        // A first change that was cut short has left what the next command takes back.
        let is_half_made = inventory
            .as_ref()
            .is_some_and(|inventory| inventory.pending.is_some());
        if is_half_made || dataplane::loaded_mark(&pins).is_some() {
            status.state = State::Degraded;
            status.missing = missing;
        }
        return Ok(status);
    }
    let observed = host.rtnl().observe()?;
    status.interfaces = interfaces(&pins, &observed.links)?;
    status.maps = maps::fill(&pins.maps)?;
    (status.drops, status.slow_path) = counts(&pins)?;
    let is_settled = inventory
        .as_ref()
        .is_some_and(|inventory| inventory.pending.is_none());
    // One that is there and can't be read is told of where it is compared.
    let lacks_desired = is_settled && matches!(instance.desired(), Ok(None));
    if lacks_desired {
        let path = instance.desired_path();
        status.missing.push(format!("file {}", path.display()));
    }
    let stands = is_settled
        && !lacks_desired
        && stands(host, instance, inventory.as_ref(), &pins).unwrap_or_else(|error| {
            tracing::warn!(
                error = format!("{error:#}"),
                "the desired state can't be compared"
            );
            false
        });
    status.state = if stands {
        State::Active
    } else {
        State::Degraded
    };
    Ok(status)
}

fn check_namespace(
    host: &Host,
    instance: &Instance,
    inventory: Option<&Inventory>,
) -> Result<(), state::Error> {
    let here = host.netns().id();
    match inventory {
        Some(inventory) if inventory.bounds.host != here && !inventory.changes.is_empty() => {
            Err(state::Error::ElsewhereBound {
                instance: instance.name().to_owned(),
                owner: inventory.bounds.host,
                here,
            })
        }
        _ => Ok(()),
    }
}

fn kernel() -> Result<Kernel> {
    let release = kernel::release()?;
    let kernel::Features {
        tcx,
        fib_skip_neigh,
        fib_lookup_src,
        bpf_f_ipv6,
        redirect_peer_scrub,
    } = kernel::Features::detect().unwrap_or_default();
    let features = Features {
        tcx,
        fib_skip_neigh,
        fib_lookup_src,
        bpf_f_ipv6,
        redirect_peer_scrub,
        xfrm: xfrm::has_policies()?,
        br_netfilter: kernel::bridge_calls_iptables()? || kernel::bridge_calls_ip6tables()?,
    };
    Ok(Kernel { release, features })
}

fn interfaces(pins: &PinDirs, links: &[Link]) -> Result<Vec<Interface>> {
    let contents = Maps::open(&pins.maps)?.read()?;
    let links: HashMap<u32, &Link> = links.iter().map(|link| (link.index, link)).collect();
    let mut interfaces = Vec::new();
    for (ifindex, interface) in contents.interfaces {
        let link = links.get(&ifindex).copied();
        let name = link.map_or_else(String::new, |link| link.name.clone());
        let mut hooks = Vec::new();
        for hook in hooks_of(interface.role) {
            let place = Place {
                hook: *hook,
                framing: link.and_then(Link::framing).unwrap_or(Framing::Ethernet),
                interface: name.clone(),
            };
            if link.is_some() && place.is_hooked(pins, ifindex)? {
                hooks.push(hook.name());
            }
        }
        interfaces.push(Interface {
            name,
            ifindex,
            role: role_name(interface.role),
            hooks,
        });
    }
    Ok(interfaces)
}

const fn role_name(of: u8) -> &'static str {
    match of {
        role::CONTAINER => "container",
        role::BRIDGE => "bridge",
        role::UPLINK => "uplink",
        role::LOOPBACK => "loopback",
        _ => "unknown",
    }
}

/// Whether every link and hook of the committed state is there.
fn stands(
    host: &Host,
    instance: &Instance,
    inventory: Option<&Inventory>,
    pins: &PinDirs,
) -> Result<bool> {
    let desired = instance.desired()?.unwrap_or_default();
    let allocations = instance.allocations()?;
    let loaded = config::load_on(
        "desired.toml",
        &desired,
        &allocations,
        Surroundings::UNKNOWN,
    );
    let loaded = loaded.map_err(|refusal| refusal.errors().clone());
    let (_, model, _) = loaded.context("failed to read the state")?;
    let observed = host.rtnl().observe()?;
    let none = Changes::default();
    let noted = inventory.map_or(&none, |inventory| &inventory.changes);
    let facts = reconcile::facts(host, noted, &observed)?;
    let links = plan::links(instance.name(), &model, &facts)?;
    let there = observed.links.iter().map(|link| (link.name.as_str(), link));
    let there: HashMap<&str, &Link> = there.collect();
    let up = |name: &str| there.get(name).is_some_and(|link| link.up);
    if !links.bridges.iter().all(|bridge| up(&bridge.name))
        || !links.ends.iter().all(|end| up(&end.veth))
    {
        return Ok(false);
    }
    for place in links.places() {
        let Some(link) = there.get(place.interface.as_str()) else {
            return Ok(false);
        };
        if !place.is_hooked(pins, link.index)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn counts(pins: &PinDirs) -> Result<(Vec<Count>, Vec<Count>)> {
    let counters = maps::counters(&pins.maps)?;
    let count = |index: u32, hook: Hook, reason: &'static str, message: &'static str| {
        let counter = counters
            .get(index as usize)
            .filter(|counter| counter.packets > 0)?;
        Some(Count {
            hook: hook.name(),
            reason,
            message,
            packets: counter.packets,
            bytes: counter.bytes,
        })
    };
    let mut drops = Vec::new();
    let mut slow_path = Vec::new();
    for hook in Hook::ALL {
        drops.extend(DropReason::ALL.iter().filter_map(|reason| {
            count(
                drop_counter(hook, *reason),
                hook,
                reason.name(),
                reason.message(),
            )
        }));
        slow_path.extend(StackReason::ALL.iter().filter_map(|reason| {
            count(
                stack_counter(hook, *reason),
                hook,
                reason.name(),
                reason.message(),
            )
        }));
    }
    Ok((drops, slow_path))
}
