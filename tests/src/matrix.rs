//! Every path between every two places, with what must become of it.
//!
//! The places and the rules come from what `netbpf` itself lists after an `apply`; the expectation
//! is the reachability table of the design, written down once more and independently of the
//! product's policy.

mod cases;
mod frames;
mod listing;
mod local;
mod table;
mod talks;
mod unusual;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    net::IpAddr,
    sync::{
        Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
};

pub use self::{
    listing::{Container, End, GatewayMode, Listing, Network, Port, Service},
    table::table,
};
use crate::{
    netns::{self, Netns},
    product::Instance,
    sockets::{self, Log, PATIENCE, Probe, Proto, SILENCE, Seen, Servers},
    topology::{Family, Topology},
};

/// The port on which every place has a service of its own that nobody published.
pub const OWN_SERVICE: u16 = 7777;

/// A port on which nobody listens anywhere.
pub const CLOSED: u16 = 7;

/// The name that the host's servers answer with.
const HOST: &str = "host";
/// The name that the client's servers answer with.
const OUTSIDE: &str = "client";

/// What must become of a path.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Expected {
    /// One of these answers, and sees this source address.
    Reaches(Vec<(String, IpAddr)>),
    /// The kernel of the asked machine says that nobody listens.
    Refused,
    /// Nobody answers by the nature of the question, which arrives here with this source address.
    Arrives(String, IpAddr),
    /// Nobody answers, and nothing arrives anywhere.
    Blocked,
    /// Blocked or refused: nobody answers, nothing arrives at a service.
    NotAnswered,
}

impl Expected {
    fn reaches(by: &str, source: IpAddr) -> Self {
        Self::Reaches(vec![(by.to_owned(), source)])
    }

    /// Whether that became of it.
    pub fn is_met(&self, seen: &Seen) -> bool {
        match (self, seen) {
            (Self::Reaches(all), Seen::Answered { by, source }) => all
                .iter()
                .any(|(name, addr)| name == by && *addr == source.ip()),
            (Self::Arrives(name, addr), Seen::Arrived { by, source }) => {
                name == by && *addr == source.ip()
            }
            (Self::Refused, Seen::Refused) => true,
            (Self::Blocked, Seen::Silence | Seen::Unreachable) => true,
            (Self::NotAnswered, Seen::Silence | Seen::Unreachable | Seen::Refused) => true,
            _ => false,
        }
    }

    fn words(&self) -> String {
        match self {
            Self::Reaches(all) => {
                let names: BTreeSet<_> = all.iter().map(|(name, _)| name.as_str()).collect();
                format!(
                    "reaches {}",
                    names.into_iter().collect::<Vec<_>>().join(" or ")
                )
            }
            Self::Arrives(name, _) => format!("arrives at {name}"),
            Self::Refused => "refused".to_owned(),
            Self::Blocked => "blocked".to_owned(),
            Self::NotAnswered => "not answered".to_owned(),
        }
    }
}

/// One path and what must become of it.
#[derive(Clone, Debug)]
pub struct Case {
    /// What it shows, for people: `outside → web, published 8080`.
    pub path: String,
    /// The question that is asked.
    pub probe: Probe,
    /// What must become of it.
    pub expected: Expected,
}

impl Case {
    /// What was seen beside what must become of it.
    fn became(&self, seen: &Seen) -> Tried {
        Tried {
            path: self.path.clone(),
            family: Family::of(self.probe.to.ip()),
            what: What::Question(self.probe.proto.name()),
            expected: self.expected.words(),
            seen: seen.to_string(),
            source: seen.source().map(|source| source.ip()),
            is_as_expected: self.expected.is_met(seen),
        }
    }
}

/// What is sent on a path.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum What {
    /// A question of a socket, in this protocol.
    Question(&'static str),
    /// A frame of this kind, past every socket.
    Frame(&'static str),
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Question(name) | Self::Frame(name) => name,
        }
    }
}

/// A path that was tried.
#[derive(Clone, Debug)]
pub struct Tried {
    /// What it shows, for people.
    pub path: String,
    /// The family of its packets.
    pub family: Family,
    /// What was sent.
    pub what: What,
    /// What must become of it.
    pub expected: String,
    /// What became of it.
    pub seen: String,
    /// The source address that was seen.
    pub source: Option<IpAddr>,
    /// Whether all is as expected.
    pub is_as_expected: bool,
}

/// A host, its containers, and servers in all of them.
#[derive(Debug)]
pub struct Bench<'a> {
    topology: &'a Topology,
    listing: Listing,
    /// The interface of each container's default route, by family.
    ways_out: HashMap<(String, Family), String>,
    instance: &'a Instance,
    log: Log,
    servers: Vec<Servers>,
}

impl<'a> Bench<'a> {
    /// Opens servers on the host, on the client and in every container, and gives the client the
    /// routes by which it would reach container addresses if it were let in. Containers of internal
    /// networks give themselves the default routes that they were not given: isolation must not rest
    /// on their good manners.
    pub fn set_up(topology: &'a Topology, instance: &'a Instance) -> Self {
        let listing = Listing::of(instance);
        for container in &listing.containers {
            give_default_routes(topology, &listing, container);
        }
        let log = Log::default();
        let mut servers = vec![
            sockets::serve(topology.host.path(), HOST, &[OWN_SERVICE], &log),
            sockets::serve(topology.client.path(), OUTSIDE, &[OWN_SERVICE], &log),
        ];
        for container in &listing.containers {
            let ports = listing.ports_of(container);
            servers.push(sockets::serve(
                &container.netns,
                &container.name,
                &ports,
                &log,
            ));
        }
        for subnet in listing.networks.iter().flat_map(|network| &network.subnets) {
            topology.route_from_client(subnet);
        }
        Self {
            topology,
            ways_out: ways_out(&listing),
            instance,
            listing,
            log,
            servers,
        }
    }

    /// What the instance said about itself.
    pub fn listing(&self) -> &Listing {
        &self.listing
    }

    /// Where the servers write down what arrives.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// How many places have servers.
    pub fn places(&self) -> usize {
        self.servers.len()
    }
}

/// Gives a container without a way out one that it should not have.
fn give_default_routes(topology: &Topology, listing: &Listing, container: &Container) {
    let netns = Netns::existing(&container.netns);
    let shut = |end: &End| listing.network(&end.network).internal;
    // One that has an open network as well has its default routes from there.
    if !container.ends.iter().all(shut) {
        return;
    }
    for end in &container.ends {
        let network = listing.network(&end.network);
        for gateway in &network.gateways {
            netns.ip(&format!("route replace default via {gateway}"));
        }
        if !network.gateways.is_empty() {
            continue;
        }
        // Nobody answers for the outside on an isolated bridge, whose MAC it tries all the same.
        let bridge = netns::mac_words(&topology.host.mac(&network.bridge));
        for family in Family::ALL
            .into_iter()
            .filter(|family| end.address(*family).is_some())
        {
            for to in [family.host(), family.client(), family.far()] {
                netns.ip(&format!("route replace {to} dev {}", end.interface));
                netns.ip(&format!(
                    "neigh replace {to} lladdr {bridge} dev {}",
                    end.interface
                ));
            }
        }
    }
}

/// Asks each container's kernel where its default routes leave.
fn ways_out(listing: &Listing) -> HashMap<(String, Family), String> {
    let mut ways = HashMap::new();
    for container in &listing.containers {
        let netns = Netns::existing(&container.netns);
        for (family, flag) in [(Family::V4, "-4"), (Family::V6, "-6")] {
            let shown = netns.ip(&format!("{flag} route show default"));
            let mut words = shown.split_whitespace();
            if words.any(|word| word == "dev")
                && let Some(interface) = words.next()
            {
                ways.insert((container.name.clone(), family), interface.to_owned());
            }
        }
    }
    ways
}

/// Tries all cases, first what must work and then what must not; the latter spend their time
/// waiting, and wait together. Only where there are no ports what must not work comes first: what
/// works the other way round makes it an answer.
pub fn try_all(cases: Vec<Case>, log: &Log) -> Vec<Tried> {
    /// How many wait together.
    const CROWD: usize = 192;
    let (open, closed): (Vec<_>, Vec<_>) = cases
        .into_iter()
        .partition(|case| matches!(case.expected, Expected::Reaches(_) | Expected::Arrives(..)));
    let (first, closed): (Vec<_>, Vec<_>) = closed
        .into_iter()
        .partition(|case| Proto::PORTLESS.contains(&case.probe.proto));
    let mut tried = try_together(first, CROWD, log);
    tried.extend(try_together(open, 8, log));
    tried.extend(try_together(closed, CROWD, log));
    tried
}

fn try_together(cases: Vec<Case>, threads: usize, log: &Log) -> Vec<Tried> {
    let next = AtomicUsize::new(0);
    let tried = Mutex::new(BTreeMap::new());
    thread::scope(|scope| {
        for _ in 0..threads.min(cases.len()) {
            scope.spawn(|| {
                while let Some((at, mut case)) = take(&cases, &next) {
                    let patience = match case.expected {
                        Expected::Reaches(_) | Expected::Arrives(..) | Expected::Refused => {
                            PATIENCE
                        }
                        Expected::Blocked | Expected::NotAnswered => {
                            case.probe = case.probe.traced();
                            SILENCE
                        }
                    };
                    let seen = case.probe.ask(patience, log);
                    if let Ok(mut tried) = tried.lock() {
                        tried.insert(at, case.became(&seen));
                    }
                }
            });
        }
    });
    tried
        .into_inner()
        .map(|tried| tried.into_values().collect())
        .unwrap_or_default()
}

fn take(cases: &[Case], next: &AtomicUsize) -> Option<(usize, Case)> {
    let at = next.fetch_add(1, Ordering::Relaxed);
    cases.get(at).map(|case| (at, case.clone()))
}
