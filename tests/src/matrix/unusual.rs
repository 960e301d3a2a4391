//! What sockets seldom send, on the paths of what they often send: datagrams in fragments, segments
//! of no connection, and protocols without ports.

use std::{net::SocketAddr, time::Instant};

use super::{Bench, Case, Expected, GatewayMode, HOST, OUTSIDE, OWN_SERVICE, Tried, What};
use crate::{
    sockets::{IcmpEar, PATIENCE, Probe, Proto, SILENCE},
    topology::Family,
};

impl Bench<'_> {
    /// For each path of TCP and UDP the same path of what they can do besides.
    pub(super) fn unusual(&self, cases: &[Case]) -> Vec<Case> {
        cases
            .iter()
            .filter(|case| case.probe.bind.is_none())
            .filter_map(|case| match case.probe.proto {
                Proto::Tcp => self.acknowledgement(case),
                Proto::Udp => Some(self.fragments(case)),
                _ => None,
            })
            .collect()
    }

    /// Fragments go where datagrams go. Only a virtual IP does not refuse them: an answer can't quote
    /// a port that only the first of them has.
    fn fragments(&self, case: &Case) -> Case {
        let mut case = case.clone();
        case.probe.proto = Proto::Fragments;
        let mut services = self.listing.services.iter();
        let is_vip = services.any(|service| service.vips.contains(&case.probe.to.ip()));
        if is_vip && case.expected == Expected::Refused && case.probe.from != self.host() {
            case.expected = Expected::Blocked;
        }
        case
    }

    /// A segment without a connection goes where a connection goes, unless something would be
    /// translated: then nobody knows to what. One of the host's own to itself stays its own, and is
    /// reset by its kernel.
    fn acknowledgement(&self, case: &Case) -> Option<Case> {
        let expected = match &case.expected {
            Expected::Reaches(all) => match &all[..] {
                [(name, source)] if !self.is_translated(case, name) => {
                    Expected::Arrives(name.clone(), *source)
                }
                _ if case.probe.from == self.host() => {
                    Expected::Arrives(HOST.to_owned(), case.probe.to.ip())
                }
                _ => Expected::Blocked,
            },
            Expected::Blocked if case.probe.to.port() == OWN_SERVICE => Expected::Blocked,
            _ => return None,
        };
        let mut case = Case {
            expected,
            ..case.clone()
        };
        case.probe.proto = Proto::Ack;
        Some(case)
    }

    /// Whether addresses or ports are others when a connection arrives than when it left.
    fn is_translated(&self, case: &Case, reached: &str) -> bool {
        let Expected::Reaches(all) = &case.expected else {
            return false;
        };
        let by_container = case.probe.from != self.host() && case.probe.from != self.client();
        match reached {
            HOST => false,
            OUTSIDE => {
                by_container
                    && all
                        .iter()
                        .any(|(_, source)| *source == Family::of(case.probe.to.ip()).host())
            }
            name => !self.listing.container(name).has(case.probe.to.ip()),
        }
    }

    /// Without ports a masqueraded address can serve one container toward one peer: the first that
    /// asks. The next one gets nothing, rather than the answers of the first.
    pub(super) fn one_owner(&self, family: Family) -> Vec<Tried> {
        let far = family.far();
        let mut masqueraded = self.listing.containers.iter().filter(|from| {
            self.sender(from, far).is_some_and(|sender| {
                !sender.network.internal
                    && sender.network.masquerade
                    && sender.network.mode(family) != GatewayMode::Routed
            })
        });
        let owner = masqueraded.next();
        let other = masqueraded.next();
        let mut tried = Vec::new();
        for proto in Proto::PORTLESS {
            let mut ask = |from, words, expected, patience| {
                let case = Case {
                    path: format!("{} → outside, far{words}", self.place(from)),
                    probe: Probe::new(&from.netns, proto, SocketAddr::new(far, 0)),
                    expected,
                };
                let seen = case.probe.ask(patience, &self.log);
                tried.push(case.became(&seen));
            };
            if let Some(from) = owner {
                let reached = Expected::reaches(OUTSIDE, family.host());
                ask(from, ", the first to ask", reached, PATIENCE);
            }
            if let Some(from) = other {
                ask(from, ", which another one asks", Expected::Blocked, SILENCE);
            }
        }
        tried
    }

    /// A datagram that may go no further than the host: whoever may send out is told.
    pub(super) fn last_hops(&self, family: Family) -> Vec<Tried> {
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let containers = self.listing.containers.iter();
        let senders = containers
            .filter(|from| matches!(self.to_outside(from, far.ip()), Expected::Reaches(_)));
        senders
            .map(|from| {
                let ear = IcmpEar::open(&from.netns, family);
                ear.send_with_one_hop(far);
                let told_by = ear.hears_time_exceeded(Instant::now() + PATIENCE);
                let gateway = self
                    .sender(from, far.ip())
                    .and_then(|sender| sender.network.gateway(family));
                Tried {
                    path: format!("{} → outside, far, one hop", self.place(from)),
                    family,
                    what: What::Question(Proto::Udp.name()),
                    expected: "told by its gateway".to_owned(),
                    seen: if told_by.is_some() { "told" } else { "silence" }.to_owned(),
                    source: told_by,
                    is_as_expected: told_by.is_some() && told_by == gateway,
                }
            })
            .collect()
    }
}
