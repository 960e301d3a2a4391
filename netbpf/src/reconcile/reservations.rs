//! The ports of the host that published ports need: whether another process has one, and, in a
//! process that stays, that none takes one (rows P5, P7).

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    fs, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use netbpf_common::{
    family::{Family as Wire, V4, V6},
    nat::PortKey,
    wire::Be16,
};
use nix::sys::resource::{Resource, getrlimit, setrlimit};

use crate::{
    dataplane::maps::Contents,
    error::Error,
    host::port::{HostPort, Reservation, is_in_use},
    model::{Container, Family, Model, PortBinding},
};

/// How long a port that was taken stays so.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
enum Keeping {
    /// Until it was seen that no other process has it.
    Moment,
    /// As long as it is published.
    Published,
}

/// The ports that this process keeps from others.
#[derive(Debug)]
pub struct Reservations {
    keeping: Keeping,
    held: HashMap<HostPort, Reservation>,
    /// What was taken for the change under way.
    fresh: Vec<HostPort>,
    /// Published ports that another process had before they could be taken.
    lost: BTreeSet<HostPort>,
}

impl Reservations {
    /// For a process that ends: it only looks.
    pub fn momentary() -> Self {
        Self {
            keeping: Keeping::Moment,
            held: HashMap::new(),
            fresh: Vec::new(),
            lost: BTreeSet::new(),
        }
    }

    /// For a process that stays: it keeps what is published.
    pub fn lasting() -> Self {
        // A range is published by many sockets.
        if let Err(error) = allow_many_files() {
            tracing::warn!(%error, "the limit of open files stays");
        }
        Self {
            keeping: Keeping::Published,
            ..Self::momentary()
        }
    }

    /// Whether every published port is kept from other processes.
    pub fn are_whole(&self) -> bool {
        self.keeping == Keeping::Published && self.lost.is_empty()
    }

    /// Whether this process itself has a port.
    pub fn have(&self, port: HostPort) -> bool {
        self.held.contains_key(&port)
    }

    /// Takes what `model` publishes, in the calling thread's namespace. What the maps already hold
    /// is not refused: a process that stays says that another one has it, and one that ends does
    /// not look.
    ///
    /// # Errors
    ///
    /// The first port that another process has.
    pub fn take(&mut self, model: &Model, published: &Contents) -> Result<(), Error> {
        self.lost = self.take_all(wanted(model), published)?;
        Ok(())
    }

    /// As [`Self::take`], for ports of one container of `model` that come to what is published:
    /// `part` is the container with those alone.
    ///
    /// # Errors
    ///
    /// As [`Self::take`].
    pub fn take_more(
        &mut self,
        model: &Model,
        part: &Container,
        published: &Contents,
    ) -> Result<(), Error> {
        let lost = self.take_all(wanted_of(model, part), published)?;
        self.lost.extend(lost);
        Ok(())
    }

    /// The change came to its end: what was taken for it is kept, and what `part` alone publishes is
    /// given up.
    pub fn give_up(&mut self, model: &Model, part: &Container) {
        self.fresh.clear();
        for (port, _) in wanted_of(model, part) {
            self.held.remove(&port);
            self.lost.remove(&port);
        }
    }

    /// Takes what is wanted, and says what could not be taken though it is published already.
    fn take_all<'m>(
        &mut self,
        wanted: impl Iterator<Item = (HostPort, &'m str)>,
        published: &Contents,
    ) -> Result<BTreeSet<HostPort>, Error> {
        let mut lost = BTreeSet::new();
        let mut wanted = wanted.peekable();
        while let Some((port, container)) = wanted.next() {
            if self.needs_nothing(port, published) {
                continue;
            }
            let pair = wanted.peek().map(|(next, _)| *next);
            let pair = pair.filter(|next| {
                is_same_everywhere(port, *next) && !self.needs_nothing(*next, published)
            });
            if let Some(next) = pair
                && let Ok(both) = Reservation::take_both(next)
            {
                wanted.next();
                for (port, reservation) in [port, next].into_iter().zip(both) {
                    self.had(port, reservation);
                }
                continue;
            }
            match Reservation::take(port) {
                Ok(reservation) => self.had(port, reservation),
                Err(error) if is_published(published, port) => {
                    if !self.lost.contains(&port) {
                        tracing::warn!(container, %port, why = said(&error), "not reserved");
                    }
                    lost.insert(port);
                }
                Err(error) => return Err(refusal(container, port, &error)),
            }
        }
        Ok(lost)
    }

    /// Whether a port is held already, or is none to look for.
    fn needs_nothing(&self, port: HostPort, published: &Contents) -> bool {
        self.held.contains_key(&port)
            || (self.keeping == Keeping::Moment && is_published(published, port))
    }

    /// A port could be taken: who stays keeps it.
    fn had(&mut self, port: HostPort, reservation: Reservation) {
        if self.keeping == Keeping::Published {
            self.held.insert(port, reservation);
            self.fresh.push(port);
        }
    }

    /// The change came to its end: gives up what `model` doesn't publish.
    pub fn keep_published(&mut self, model: &Model) {
        self.fresh.clear();
        if self.held.is_empty() {
            return;
        }
        let wanted: HashSet<HostPort> = wanted(model).map(|(port, _)| port).collect();
        self.held.retain(|port, _| wanted.contains(port));
        self.give_up_halves();
    }

    /// Where one family of a port is published no more, the other gets a socket of its own.
    fn give_up_halves(&mut self) {
        let held = self.held.iter();
        let halves: Vec<HostPort> = held
            .filter(|(_, reservation)| reservation.keeps_too_much())
            .map(|(port, _)| *port)
            .collect();
        for port in halves {
            self.held.remove(&port);
            match Reservation::take(port) {
                Ok(reservation) => drop(self.held.insert(port, reservation)),
                Err(error) => {
                    tracing::warn!(%port, why = said(&error), "not reserved");
                    self.lost.insert(port);
                }
            }
        }
    }

    /// The change was taken back: gives up what was taken for it.
    pub fn go_back(&mut self) {
        for port in self.fresh.drain(..) {
            self.held.remove(&port);
        }
    }
}

/// As many as the kernel gives one process, where we may have them: each published port is a
/// socket.
fn allow_many_files() -> io::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    let most = fs::read_to_string("/proc/sys/fs/nr_open")?;
    let most = most.trim().parse().unwrap_or(hard).max(hard);
    setrlimit(Resource::RLIMIT_NOFILE, most, most)
        .or_else(|_| setrlimit(Resource::RLIMIT_NOFILE, hard, hard))?;
    Ok(())
}

fn said(error: &io::Error) -> String {
    if is_in_use(error) {
        return "address already in use".to_owned();
    }
    error.to_string()
}

fn refusal(container: &str, port: HostPort, error: &io::Error) -> Error {
    let why = said(error);
    Error::host(format!(
        "container {container:?}: failed to bind host port {port}: {why}"
    ))
}

/// What nobody else must listen on, and the container that it leads to. One port may come twice.
fn wanted(model: &Model) -> impl Iterator<Item = (HostPort, &str)> {
    let containers = model.containers.iter();
    containers.flat_map(|container| wanted_of(model, container))
}

fn wanted_of<'m>(
    model: &Model,
    container: &'m Container,
) -> impl Iterator<Item = (HostPort, &'m str)> + use<'m> {
    let families = Family::BOTH.map(|family| container.gateway(model, family).is_some());
    let ports = container.publish.iter().flat_map(move |binding| {
        let has_family = |family| families[usize::from(family == Family::V6)];
        let addresses = match binding.host_port {
            Some(_) => PortBinding::reserved(binding.host_ip, has_family),
            None => Vec::new(),
        };
        addresses.into_iter().map(|address| HostPort {
            address: SocketAddr::new(address, binding.host_port.unwrap_or_default()),
            proto: binding.proto,
        })
    });
    ports.map(|port| (port, container.name.as_str()))
}

/// Whether the second is in IPv6 what the first is in IPv4: every address of one port.
fn is_same_everywhere(v4: HostPort, v6: HostPort) -> bool {
    v4.proto == v6.proto
        && v4.address == SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), v6.address.port())
        && v6.address.ip() == Ipv6Addr::UNSPECIFIED
}

/// Whether the maps have such a port published.
fn is_published(contents: &Contents, port: HostPort) -> bool {
    let in_v4 = |address| {
        contents
            .published_v4
            .contains_key(&key::<V4>(address, port))
    };
    match port.address.ip() {
        IpAddr::V4(address) => in_v4(address.into()),
        IpAddr::V6(address) => {
            let key = key::<V6>(address.into(), port);
            // Processes of the host reach a container without IPv6 there, too.
            contents.published_v6.contains_key(&key)
                || address == Ipv6Addr::UNSPECIFIED && in_v4(<V4 as Wire>::Addr::default())
        }
    }
}

fn key<F: Wire>(addr: F::Addr, port: HostPort) -> PortKey<F> {
    PortKey {
        addr,
        port: Be16::new(port.address.port()),
        proto: port.proto.number(),
        pad: 0,
    }
}
