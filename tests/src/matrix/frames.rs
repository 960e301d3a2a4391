//! Frames that no socket sends: forged ARP and neighbour discovery, MACs and addresses of others,
//! what only routers and DHCP servers may say, and what is meant for everybody.
//!
//! Each frame has a mark of its own; taps on every interface of the scene tell who heard it.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::PathBuf,
    thread,
    time::{Duration, Instant},
};

use etherparse::ArpOperation;

use super::{Bench, Network, OUTSIDE, OWN_SERVICE, Tried, What};
use crate::{
    netns::Netns,
    packet::{Arp, Frame, Mac},
    sockets::{PATIENCE, Proto, SILENCE, Tap, send_frames, token},
    topology::{FAR_V6, Family, UPLINK},
};

const BROADCAST: Mac = [0xff; 6];
/// The MAC of a virtual router (RFC 5798, 7.3).
const VIRTUAL_ROUTER: Mac = [0, 0, 0x5e, 0, 1, 7];
/// The client's interface.
const CLIENTS: &str = "eth0";

/// A container's end, with what its frames are made of.
struct Seat {
    place: String,
    netns: PathBuf,
    interface: String,
    mac: Mac,
    network: String,
    addresses: Vec<IpAddr>,
    is_checked: bool,
}

impl Seat {
    fn v4(&self) -> Option<Ipv4Addr> {
        self.addresses.iter().find_map(|addr| match addr {
            IpAddr::V4(addr) => Some(*addr),
            IpAddr::V6(_) => None,
        })
    }

    fn v6(&self) -> Option<Ipv6Addr> {
        self.addresses.iter().find_map(|addr| match addr {
            IpAddr::V4(_) => None,
            IpAddr::V6(addr) => Some(*addr),
        })
    }

    fn address(&self, family: Family) -> Option<IpAddr> {
        match family {
            Family::V4 => self.v4().map(IpAddr::V4),
            Family::V6 => self.v6().map(IpAddr::V6),
        }
    }

    /// The link-local address that its kernel makes from its MAC.
    fn link_local(&self) -> Ipv6Addr {
        let [a, b, c, d, e, f] = self.mac;
        let word = |high, low| u16::from_be_bytes([high, low]);
        Ipv6Addr::new(
            0xfe80,
            0,
            0,
            0,
            word(a ^ 2, b),
            word(c, 0xff),
            word(0xfe, d),
            word(e, f),
        )
    }
}

/// One frame and who must hear it.
struct Shot {
    path: String,
    family: Family,
    what: &'static str,
    netns: PathBuf,
    interface: String,
    bytes: Vec<u8>,
    mark: Mark,
    hearers: BTreeSet<String>,
}

/// What tells a frame from all others; servers take it for a question.
#[derive(Clone, Copy)]
struct Mark(u64);

impl Mark {
    fn new() -> Self {
        Self(token())
    }

    fn bytes(self) -> Vec<u8> {
        format!("probe {:024}", self.0).into_bytes()
    }

    /// As an option of neighbour discovery that no kernel knows.
    fn option(self) -> Vec<u8> {
        const KIND: u8 = 253;
        let mark = self.bytes();
        let eights = ((mark.len() + 2) / 8) as u8;
        [vec![KIND, eights], mark].concat()
    }
}

impl Bench<'_> {
    /// Sends all of them, and says who heard which.
    pub(super) fn frames(&self) -> Vec<Tried> {
        let seats = self.seats();
        let mut taps = self.taps(&seats);
        let mut shots = Vec::new();
        for seat in &seats {
            shots.extend(self.of_one(seat, &seats));
            shots.extend(self.to_router(seat, &seats));
        }
        let outsiders = self.outsiders(&seats);
        let lies = outsiders
            .iter()
            .filter(|shot| shot.hearers.is_empty())
            .count() as u64;
        shots.extend(outsiders);
        let before = self.martians();
        let mut tried = self.fire(shots, &mut taps);
        tried.push(counted(lies, self.martians() - before));
        // What is for everybody is the bridge's affair, where netfilter can eat it.
        self.filter_bridges("0");
        let to_all = seats
            .iter()
            .flat_map(|seat| self.to_everybody(seat, &seats));
        tried.extend(self.fire(to_all.collect(), &mut taps));
        self.filter_bridges("1");
        tried
    }

    /// How many packets from outside were dropped for a source that can't be there.
    fn martians(&self) -> u64 {
        let status = self.instance.json(&["status"]);
        let drops = status["drops"].as_array().cloned().unwrap_or_default();
        drops
            .iter()
            .filter(|drop| drop["hook"] == "from_netdev" && drop["reason"] == "martian_source")
            .filter_map(|drop| drop["packets"].as_u64())
            .sum()
    }

    fn filter_bridges(&self, value: &str) {
        for family in ["iptables", "ip6tables"] {
            // Without br_netfilter there is nothing to switch.
            let name = format!("net/bridge/bridge-nf-call-{family}");
            let _ = self.topology.host.try_set_sysctl(&name, value);
        }
    }

    fn seats(&self) -> Vec<Seat> {
        self.ends()
            .map(|(container, end)| Seat {
                place: match container.ends.len() {
                    1 => container.name.clone(),
                    _ => format!("{} on {}", container.name, end.network),
                },
                mac: Netns::existing(&container.netns).mac(&end.interface),
                netns: container.netns.clone(),
                interface: end.interface.clone(),
                network: end.network.clone(),
                addresses: end.addresses.clone(),
                is_checked: container.source_check,
            })
            .collect()
    }

    fn taps(&self, seats: &[Seat]) -> BTreeMap<String, Tap> {
        let containers = seats
            .iter()
            .map(|seat| (seat.place.clone(), Tap::on(&seat.netns, &seat.interface)));
        let bridges = self.listing.networks.iter().map(|network| {
            (
                on_host(&network.name),
                Tap::on(self.host(), &network.bridge),
            )
        });
        let outside = (OUTSIDE.to_owned(), Tap::on(self.client(), CLIENTS));
        containers.chain(bridges).chain([outside]).collect()
    }

    fn fire(&self, shots: Vec<Shot>, taps: &mut BTreeMap<String, Tap>) -> Vec<Tried> {
        for shot in &shots {
            send_frames(
                &shot.netns,
                &shot.interface,
                std::slice::from_ref(&shot.bytes),
            );
        }
        self.listen(&shots, taps);
        shots
            .into_iter()
            .map(|shot| {
                let heard = self.hearers(&shot, taps);
                Tried {
                    path: shot.path,
                    family: shot.family,
                    what: What::Frame(shot.what),
                    expected: words(&shot.hearers),
                    seen: words(&heard),
                    source: None,
                    is_as_expected: heard == shot.hearers,
                }
            })
            .collect()
    }

    /// Waits until all is heard that must be, and then for what must not be.
    fn listen(&self, shots: &[Shot], taps: &mut BTreeMap<String, Tap>) {
        let deadline = Instant::now() + PATIENCE;
        let all_heard = |taps: &mut BTreeMap<String, Tap>| {
            shots
                .iter()
                .all(|shot| shot.hearers.is_subset(&self.hearers(shot, taps)))
        };
        while !all_heard(taps) && Instant::now() < deadline {
            // A pause between two looks; it ends nothing by itself.
            thread::park_timeout(Duration::from_millis(20));
        }
        let deadline = Instant::now() + SILENCE;
        while Instant::now() < deadline {
            thread::park_timeout(SILENCE);
        }
    }

    fn hearers(&self, shot: &Shot, taps: &mut BTreeMap<String, Tap>) -> BTreeSet<String> {
        let mark = shot.mark.bytes();
        let heard = taps
            .iter_mut()
            .filter_map(|(place, tap)| tap.has_heard(&mark).then(|| place.clone()));
        let mut hearers: BTreeSet<String> = heard.collect();
        // What the host takes comes by no tap of ours if it came by the uplink.
        if let Some((by, _)) = self.log.read(shot.mark.0)
            && !hearers
                .iter()
                .any(|place| *place == by || place.starts_with(&format!("{by} on ")))
        {
            hearers.insert(format!("a service of {by}"));
        }
        hearers
    }

    /// Frames of one container to the bridge, to be routed to the outside.
    fn to_router(&self, seat: &Seat, seats: &[Seat]) -> Vec<Shot> {
        let network = self.listing.network(&seat.network);
        let bridge = self.topology.host.mac(&network.bridge);
        let neighbour = seats
            .iter()
            .find(|other| other.network == seat.network && other.netns != seat.netns);
        let mut shots = Vec::new();
        for family in Family::ALL {
            let Some(own) = seat.address(family).filter(|_| !network.internal) else {
                continue;
            };
            let mut shoot = |what, from: u16, src_mac, is_sent: bool| {
                let mark = Mark::new();
                let to = SocketAddr::new(family.far(), OWN_SERVICE);
                let frame = Frame::udp(SocketAddr::new(own, from), to)
                    .with_payload(&mark.bytes())
                    .macs(src_mac, bridge);
                let hearers = is_sent.then(|| OUTSIDE.to_owned());
                shots.push(Shot {
                    path: format!("{} → outside, from {}", seat.place, seat.network),
                    family,
                    what,
                    netns: seat.netns.clone(),
                    interface: seat.interface.clone(),
                    bytes: frame.bytes(),
                    mark,
                    hearers: hearers.into_iter().collect(),
                });
            };
            shoot("udp", 20_010, seat.mac, true);
            shoot(
                "udp from a foreign mac",
                20_011,
                VIRTUAL_ROUTER,
                !seat.is_checked,
            );
            shoot("udp from the bridge's mac", 20_012, bridge, false);
            if let Some(other) = neighbour {
                shoot("udp from a neighbour's mac", 20_013, other.mac, false);
            }
        }
        shots
    }

    /// Frames of one container to a neighbour.
    fn of_one(&self, seat: &Seat, seats: &[Seat]) -> Vec<Shot> {
        let network = self.listing.network(&seat.network);
        let mut shots = Vec::new();
        let Some(peer) = seats
            .iter()
            .find(|other| other.network == seat.network && other.netns != seat.netns)
        else {
            return shots;
        };
        self.arp(seat, peer, network, &mut shots);
        self.neighbour_discovery(seat, peer, network, &mut shots);
        for family in Family::ALL {
            let (Some(own), Some(to)) = (seat.address(family), peer.address(family)) else {
                continue;
            };
            let mut udp = |what, from: u16, port, src_mac, hearers: &[&str]| {
                let mark = Mark::new();
                let frame = Frame::udp(SocketAddr::new(own, from), SocketAddr::new(to, port));
                let frame = frame.with_payload(&mark.bytes()).macs(src_mac, peer.mac);
                shots.push(seat.shot(peer, family, what, frame.bytes(), mark, hearers));
            };
            let neighbour = if network.icc {
                &[&peer.place[..]][..]
            } else {
                &[]
            };
            udp("udp", 20_000, OWN_SERVICE, seat.mac, neighbour);
            let carried = if seat.is_checked { &[] } else { neighbour };
            udp(
                "udp from a foreign mac",
                20_001,
                OWN_SERVICE,
                VIRTUAL_ROUTER,
                carried,
            );
            udp("udp from its mac", 20_002, OWN_SERVICE, peer.mac, &[]);
            let (server, client) = match family {
                Family::V4 => (67, 68),
                Family::V6 => (547, 546),
            };
            udp("dhcp offer", server, client, seat.mac, &[]);
        }
        shots
    }

    fn arp(&self, seat: &Seat, peer: &Seat, network: &Network, shots: &mut Vec<Shot>) {
        let (Some(own), Some(to)) = (seat.v4(), peer.v4()) else {
            return;
        };
        let mut arp = |what, operation, sender: Ipv4Addr, target: Ipv4Addr, hearers: &[&str]| {
            let mark = Mark::new();
            let packet = Arp {
                src_mac: seat.mac,
                dst_mac: BROADCAST,
                operation,
                sender: (seat.mac, sender.octets()),
                target: ([0; 6], target.octets()),
            };
            let bytes = [packet.bytes(), mark.bytes()].concat();
            shots.push(seat.shot(peer, Family::V4, what, bytes, mark, hearers));
        };
        arp(
            "arp request",
            ArpOperation::REQUEST,
            own,
            to,
            &[&peer.place],
        );
        arp("arp as neighbour", ArpOperation::REPLY, to, own, &[]);
        if let Some(IpAddr::V4(gateway)) = network.gateway(Family::V4) {
            arp("arp as gateway", ArpOperation::REPLY, gateway, to, &[]);
        }
        let mark = Mark::new();
        let redirect = Frame::icmp(own.into(), to.into(), 5, own.octets(), &mark.bytes());
        let bytes = redirect.macs(seat.mac, peer.mac).bytes();
        shots.push(seat.shot(peer, Family::V4, "redirect", bytes, mark, &[]));
    }

    fn neighbour_discovery(
        &self,
        seat: &Seat,
        peer: &Seat,
        network: &Network,
        shots: &mut Vec<Shot>,
    ) {
        const SOLICITED: [u8; 4] = [0x60, 0, 0, 0];
        let (Some(own), Some(to)) = (seat.v6(), peer.v6()) else {
            return;
        };
        let mut message = |what,
                           kind,
                           rest,
                           words: Vec<u8>,
                           dst: (Ipv6Addr, Mac),
                           src: Ipv6Addr,
                           hearers: &[&str]| {
            let mark = Mark::new();
            let payload = [words, mark.option()].concat();
            let frame = Frame::icmp(src.into(), dst.0.into(), kind, rest, &payload)
                .macs(seat.mac, dst.1)
                .with_ttl(255);
            shots.push(seat.shot(peer, Family::V6, what, frame.bytes(), mark, hearers));
        };
        let all_nodes = (
            Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1),
            [0x33, 0x33, 0, 0, 0, 1],
        );
        let unicast = (to, peer.mac);
        let target = |addr: Ipv6Addr| addr.octets().to_vec();
        let with_mac = |addr: Ipv6Addr| [target(addr), vec![2, 1], seat.mac.to_vec()].concat();
        message(
            "ns",
            135,
            [0; 4],
            target(to),
            solicited_node(to),
            own,
            &[&peer.place],
        );
        message(
            "na as neighbour",
            136,
            SOLICITED,
            with_mac(to),
            all_nodes,
            own,
            &[],
        );
        if let Some(IpAddr::V6(gateway)) = network.gateway(Family::V6) {
            message(
                "na as gateway",
                136,
                SOLICITED,
                with_mac(gateway),
                unicast,
                own,
                &[],
            );
        }
        let router = seat.link_local();
        let timers = vec![0; 8];
        message("ra", 134, [64, 0, 35, 40], timers, all_nodes, router, &[]);
        let better = [target(router), target(FAR_V6)].concat();
        message("redirect", 137, [0; 4], better, unicast, router, &[]);
    }

    /// What is meant for all neighbours: they hear it if they hear each other, and so does the
    /// host, but nobody elsewhere.
    fn to_everybody(&self, seat: &Seat, seats: &[Seat]) -> Vec<Shot> {
        let network = self.listing.network(&seat.network);
        let all = |allowed: bool| -> Vec<String> {
            let others = seats
                .iter()
                .filter(|other| other.network == seat.network && other.netns != seat.netns)
                .filter(|_| allowed);
            others
                .map(|other| other.place.clone())
                .chain([on_host(&seat.network)])
                .collect()
        };
        let mut shots = Vec::new();
        let mut to_all = |family, what, bytes, mark, hearers: Vec<String>| {
            shots.push(Shot {
                path: format!("{} → all of {}", seat.place, seat.network),
                family,
                what,
                netns: seat.netns.clone(),
                interface: seat.interface.clone(),
                bytes,
                mark,
                hearers: hearers.into_iter().collect(),
            });
        };
        for (family, what, group, mac) in groups() {
            let Some(own) = seat.address(family) else {
                continue;
            };
            let mark = Mark::new();
            let frame = Frame::udp(SocketAddr::new(own, 5353), SocketAddr::new(group, 5353))
                .with_payload(&mark.bytes())
                .macs(seat.mac, mac);
            to_all(family, what, frame.bytes(), mark, all(network.icc));
        }
        if seat.v4().is_some() {
            let mark = Mark::new();
            let packet = Arp {
                src_mac: VIRTUAL_ROUTER,
                dst_mac: BROADCAST,
                operation: ArpOperation::REQUEST,
                sender: (VIRTUAL_ROUTER, CARRIED),
                target: ([0; 6], CARRIED),
            };
            let hearers = if seat.is_checked {
                Vec::new()
            } else {
                all(true)
            };
            let bytes = [packet.bytes(), mark.bytes()].concat();
            to_all(Family::V4, "arp of a virtual router", bytes, mark, hearers);
        }
        shots
    }

    /// What comes by the uplink with a source that can't be outside, and one frame that can.
    fn outsiders(&self, seats: &[Seat]) -> Vec<Shot> {
        let macs = (
            self.topology.client.mac(CLIENTS),
            self.topology.host.mac(UPLINK),
        );
        let mut shots = Vec::new();
        for family in Family::ALL {
            let published = self.ports(family).find(|(port, _)| {
                port.proto == Proto::Udp
                    && port.host_ip.is_unspecified()
                    && port.admits(family.client())
            });
            let target = published.and_then(|(port, _)| {
                let container = self.listing.container(&port.container);
                let end = self.gateway_end(container, family)?;
                seats
                    .iter()
                    .find(|seat| seat.netns == container.netns && seat.network == end.network)
            });
            let own = target.and_then(|seat| seat.address(family));
            let mut shoot = |what: &'static str, src: IpAddr, asked: u16, hearers: &[String]| {
                let mark = Mark::new();
                let from = SocketAddr::new(src, 20_000);
                let frame = Frame::udp(from, SocketAddr::new(family.host(), asked))
                    .with_payload(&mark.bytes())
                    .macs(macs.0, macs.1);
                shots.push(Shot {
                    path: format!("outside → host:{asked}"),
                    family,
                    what,
                    netns: self.client().to_owned(),
                    interface: CLIENTS.to_owned(),
                    bytes: frame.bytes(),
                    mark,
                    hearers: hearers.iter().cloned().collect(),
                });
            };
            let host_service = ["a service of host".to_owned()];
            shoot("udp", family.client(), OWN_SERVICE, &host_service);
            if let (Some((_, host_port)), Some(seat)) = (published, target) {
                shoot(
                    "udp",
                    family.client(),
                    host_port,
                    std::slice::from_ref(&seat.place),
                );
            }
            let ports = published.map(|(_, host_port)| host_port).into_iter();
            for port in ports.chain([OWN_SERVICE]) {
                for (what, lie) in lies(family) {
                    shoot(what, lie, port, &[]);
                }
                if let Some(own) = own {
                    shoot("udp as a container", own, port, &[]);
                }
            }
        }
        shots
    }
}

/// It is not the host's own stack that drops them.
fn counted(lies: u64, counted: u64) -> Tried {
    Tried {
        path: "outside → host, dropped as martian_source".to_owned(),
        family: Family::V4,
        what: What::Frame("all of those"),
        expected: format!("{lies} counted"),
        seen: format!("{counted} counted"),
        source: None,
        is_as_expected: lies == counted,
    }
}

/// An address that a virtual router has besides those of its machines.
const CARRIED: [u8; 4] = [10, 99, 0, 9];

/// Sources that nobody outside can have.
fn lies(family: Family) -> [(&'static str, IpAddr); 4] {
    let choose = |v4: &str, v6: &str| {
        let text = if family == Family::V4 { v4 } else { v6 };
        text.parse().expect("an address")
    };
    [
        ("udp as the host", family.host()),
        ("udp as loopback", choose("127.0.0.1", "::1")),
        ("udp as multicast", choose("224.0.0.5", "ff02::5")),
        ("udp as nobody", choose("0.0.0.0", "::")),
    ]
}

/// Addresses of everybody on a link, with their MACs.
fn groups() -> [(Family, &'static str, IpAddr, Mac); 3] {
    let parse = |text: &str| text.parse().expect("an address");
    [
        (
            Family::V4,
            "multicast",
            parse("224.0.0.251"),
            [1, 0, 0x5e, 0, 0, 0xfb],
        ),
        (Family::V4, "broadcast", parse("255.255.255.255"), BROADCAST),
        (
            Family::V6,
            "multicast",
            parse("ff02::fb"),
            [0x33, 0x33, 0, 0, 0, 0xfb],
        ),
    ]
}

/// Where neighbour solicitations for an address go (RFC 4291, 2.7.1).
fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = target.octets();
    let [low_a, low_bc] = [0xff00 | u16::from(a), u16::from_be_bytes([b, c])];
    let group = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 1, low_a, low_bc);
    (group, [0x33, 0x33, 0xff, a, b, c])
}

impl Seat {
    fn shot(
        &self,
        peer: &Self,
        family: Family,
        what: &'static str,
        bytes: Vec<u8>,
        mark: Mark,
        hearers: &[&str],
    ) -> Shot {
        Shot {
            path: format!("{} → {}, on {}", self.place, peer.place, self.network),
            family,
            what,
            netns: self.netns.clone(),
            interface: self.interface.clone(),
            bytes,
            mark,
            hearers: hearers.iter().map(|place| (*place).to_owned()).collect(),
        }
    }
}

/// The host's own end of a network.
fn on_host(network: &str) -> String {
    format!("host on {network}")
}

fn words(places: &BTreeSet<String>) -> String {
    if places.is_empty() {
        return "heard by nobody".to_owned();
    }
    let places: Vec<&str> = places.iter().map(String::as_str).collect();
    format!("heard by {}", places.join(", "))
}
