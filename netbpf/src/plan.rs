//! What must be on the host and in the maps for a model to be true. Pure: no I/O, and the same
//! input gives the same bytes.
//!
//! Two steps, for an ifindex is known only once its link exists: [`links()`] says which links,
//! addresses, sysctls and uplinks there must be, [`contents()`] what the maps must hold then.

mod contents;
mod links;
pub mod names;
mod published;
mod senders;

use std::{collections::BTreeMap, time::Duration};

use netbpf_common::{
    config::{ABI_VERSION, GlobalConfig, config_flags},
    conntrack::{Tick, Timeouts},
};

pub use self::{
    contents::contents,
    links::{Bridge, End, Links, Namespace, alias_prefix, links},
    published::{are_single, ports},
};
use crate::{
    dataplane::maps::Sizes,
    host::{Mac, address::Address, link::Link},
    model::{Index, Model},
};

/// What was seen on the host.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// Every link.
    pub links: Vec<Link>,
    /// Where they stand.
    pub link_index: Index,
    /// Every address that is not this instance's.
    pub addresses: Vec<Address>,
    /// The bridges that this instance adopted, with the MACs that they had; all zero for none.
    pub adopted: BTreeMap<String, Mac>,
    /// `net.ipv4.ip_local_reserved_ports`: first and last port of each range.
    pub reserved_ports: Vec<(u16, u16)>,
    /// The kernel's number for the host's namespace.
    pub netns_cookie: u64,
    /// The links that have an IPv6 default route from a router advertisement.
    pub advertised_routers: Vec<String>,
    /// Whether there are IPsec policies.
    pub has_ipsec: bool,
    /// Whether the kernel does not say with which address it would leave by a route.
    pub lacks_fib_source: bool,
}

impl Facts {
    /// The link of that name.
    pub fn link(&self, name: &str) -> Option<&Link> {
        self.link_index.find(&self.links, name, |link| &link.name)
    }
}

/// What the programs read as their config, but for the generation, which is the loader's to count.
pub fn config(model: &Model, facts: &Facts, generation: u32) -> GlobalConfig {
    let ticks = |time: Duration| {
        Tick::count_from_millis(u64::try_from(time.as_millis()).unwrap_or(u64::MAX))
    };
    let timeouts = &model.conntrack.timeouts;
    let sizes = Sizes::of(model.conntrack.max_entries);
    GlobalConfig {
        abi_version: ABI_VERSION,
        generation,
        timeouts: Timeouts {
            established: ticks(timeouts.established),
            half_open: ticks(timeouts.half_open),
            closing: ticks(timeouts.closing),
            udp: ticks(timeouts.udp),
            udp_stream: ticks(timeouts.udp_stream),
            icmp: ticks(timeouts.icmp),
        },
        max_flows: sizes.max_flows,
        max_half_open: sizes.max_half_open,
        netns_cookie: facts.netns_cookie,
        flags: flag(facts.has_ipsec, config_flags::XFRM),
        pad: 0,
    }
}

const fn flag(is_set: bool, flag: u32) -> u32 {
    if is_set { flag } else { 0 }
}

#[cfg(test)]
mod tests;
