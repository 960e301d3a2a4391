//! The ports of the host that published ports need: whether another process has one, and, in a
//! process that stays, that none takes one (rows P5, P7).

use std::{
    collections::{BTreeMap, BTreeSet},
    io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
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
    model::{Model, PortBinding},
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
    held: BTreeMap<HostPort, Reservation>,
    /// Published ports that another process had before they could be taken.
    lost: BTreeSet<HostPort>,
}

/// What a process held at one time.
#[derive(Debug)]
pub struct Held(BTreeSet<HostPort>);

impl Reservations {
    /// For a process that ends: it only looks.
    pub fn momentary() -> Self {
        Self {
            keeping: Keeping::Moment,
            held: BTreeMap::new(),
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

    /// What is held now, to go back to.
    pub fn held(&self) -> Held {
        Held(self.held.keys().copied().collect())
    }

    /// Takes what `model` publishes, in the calling thread's namespace. What the maps already hold
    /// is not refused: it is only said that another process has it.
    ///
    /// # Errors
    ///
    /// The first port that another process has.
    pub fn take(&mut self, model: &Model, published: &Contents) -> Result<(), Error> {
        let mut lost = BTreeSet::new();
        for (port, container) in wanted(model) {
            if self.held.contains_key(&port) {
                continue;
            }
            match Reservation::take(port) {
                Ok(reservation) if self.keeping == Keeping::Published => {
                    self.held.insert(port, reservation);
                }
                Ok(_) => {}
                Err(error) if is_published(published, port) => {
                    if !self.lost.contains(&port) {
                        tracing::warn!(container, %port, why = said(&error), "not reserved");
                    }
                    lost.insert(port);
                }
                Err(error) => return Err(refusal(container, port, &error)),
            }
        }
        self.lost = lost;
        Ok(())
    }

    /// Gives up what `model` doesn't publish.
    pub fn keep_published(&mut self, model: &Model) {
        let wanted = wanted(model);
        self.held.retain(|port, _| wanted.contains_key(port));
    }

    /// Gives up what was not held before.
    pub fn go_back_to(&mut self, before: &Held) {
        self.held.retain(|port, _| before.0.contains(port));
    }
}

fn allow_many_files() -> nix::Result<()> {
    let (_, hard) = getrlimit(Resource::RLIMIT_NOFILE)?;
    setrlimit(Resource::RLIMIT_NOFILE, hard, hard)
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

/// What nobody else must listen on, and the container that it leads to.
fn wanted(model: &Model) -> BTreeMap<HostPort, &str> {
    let mut wanted = BTreeMap::new();
    for container in &model.containers {
        for binding in &container.publish {
            let Some(port) = binding.host_port else {
                continue;
            };
            let has_family = |family| container.gateway(model, family).is_some();
            for address in PortBinding::reserved(binding.host_ip, has_family) {
                let port = HostPort {
                    address: SocketAddr::new(address, port),
                    proto: binding.proto,
                };
                wanted.insert(port, container.name.as_str());
            }
        }
    }
    wanted
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
