//! What takes more than one question: unsolicited packets to a masqueraded port, and whether every
//! backend of a service is found.

use std::net::{IpAddr, SocketAddr};

use super::{
    Bench, CLOSED, Case, Container, Expected, GatewayMode, OWN_SERVICE, Service, Tried, try_all,
};
use crate::{
    sockets::{self, PATIENCE, Probe, Proto, SILENCE, Seen},
    topology::Family,
};

impl Bench<'_> {
    /// Tries everything: each case, what outsiders send to a masqueraded port, whether every
    /// backend of a service is found, who owns a tuple without ports, whether a router is heard, and frames that no socket
    /// sends.
    pub fn try_everything(&self) -> Vec<Tried> {
        let mut tried = try_all(self.cases(), &self.log);
        for family in Family::ALL {
            tried.extend(self.unsolicited(family));
            tried.extend(self.every_backend(family));
            tried.extend(self.one_owner(family));
            tried.extend(self.last_hops(family));
        }
        tried.extend(self.frames());
        tried
    }

    /// A container talks to the far machine; a stranger then sends to the address and port that
    /// the far machine saw.
    fn unsolicited(&self, family: Family) -> Vec<Tried> {
        let containers = self.listing.containers.iter();
        let masqueraded = containers.filter(|from| {
            self.sender(from, family.far()).is_some_and(|sender| {
                !sender.network.internal
                    && sender.network.masquerade
                    && sender.network.mode(family) != GatewayMode::Routed
            })
        });
        masqueraded
            .map(|container| self.unsolicited_to(container, family))
            .collect()
    }

    fn unsolicited_to(&self, container: &Container, family: Family) -> Tried {
        let far = SocketAddr::new(family.far(), OWN_SERVICE);
        let mut talk = sockets::Talk::open(&container.netns, far);
        let masqueraded = talk.exchange(PATIENCE);
        let path = format!("stranger → {}, its masqueraded port", self.place(container));
        let asked = masqueraded.unwrap_or(SocketAddr::new(family.host(), CLOSED));
        let stranger = SocketAddr::new(family.stranger(), 0);
        let probe = Probe::new(self.client(), Proto::Udp, asked).bound(stranger);
        let mut seen = probe.ask(SILENCE, &self.log);
        if masqueraded.is_none() {
            seen = Seen::Arrived {
                by: "nobody: the container's own talk failed".to_owned(),
                source: far,
            };
        } else if talk.got_more() {
            seen = Seen::Arrived {
                by: container.name.clone(),
                source: stranger,
            };
        }
        let case = Case {
            path,
            probe,
            expected: Expected::NotAnswered,
        };
        case.became(&seen)
    }

    /// Asks each service from each container of its network until every backend has answered; the
    /// chance that one of a few stays unseen in that many questions is nil.
    fn every_backend(&self, family: Family) -> Vec<Tried> {
        let mut tried = Vec::new();
        for service in &self.listing.services {
            let Some(vip) = service.vip(family) else {
                continue;
            };
            for from in &self.listing.containers {
                let Expected::Reaches(backends) = self.backends(service, from, vip) else {
                    continue;
                };
                for (port, _, proto) in &service.ports {
                    let probe = Probe::new(&from.netns, *proto, SocketAddr::new(vip, *port));
                    let mut missing = backends.clone();
                    tried.extend(self.until_found(service, from, &probe, &mut missing));
                }
            }
        }
        tried
    }

    fn until_found(
        &self,
        service: &Service,
        from: &Container,
        probe: &Probe,
        missing: &mut Vec<(String, IpAddr)>,
    ) -> Vec<Tried> {
        const QUESTIONS: usize = 200;
        let mut tried = Vec::new();
        let found = |by: &str, source: IpAddr, seen: Seen| {
            let case = Case {
                path: format!(
                    "{} → service {}, backend {by}",
                    self.place(from),
                    service.name
                ),
                probe: probe.clone(),
                expected: Expected::reaches(by, source),
            };
            case.became(&seen)
        };
        for _ in 0..QUESTIONS {
            if missing.is_empty() {
                return tried;
            }
            let seen = probe.ask(PATIENCE, &self.log);
            let hit = missing
                .iter()
                .position(|(name, source)| Expected::reaches(name, *source).is_met(&seen));
            if let Some(at) = hit {
                let (name, source) = missing.swap_remove(at);
                tried.push(found(&name, source, seen));
            } else if !matches!(seen, Seen::Answered { .. }) {
                break;
            }
        }
        tried.extend(
            missing
                .iter()
                .map(|(name, source)| found(name, *source, Seen::Silence)),
        );
        tried
    }
}
