//! Source checks: who says that it is whom, in Ethernet, IP, ARP and neighbour discovery, at the
//! container's door and at the outside's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use etherparse::ArpOperation;
use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{Arp, EchoKind, Flags, Frame, Mac},
    prog_run::{
        Action, Bed, Net, Outcome, Place, Resident, WEB_PORT, on_bed,
        residents::{DB, MONK, NUN, WEB},
    },
    topology::Family,
};

use crate::{arrives, client, host};

const BROADCAST: Mac = [0xff; 6];

fn v4(resident: Resident) -> [u8; 4] {
    match resident.addr(Family::V4) {
        IpAddr::V4(addr) => addr.octets(),
        IpAddr::V6(_) => unreachable!("an IPv4 address was asked for"),
    }
}

fn v6(resident: Resident) -> Ipv6Addr {
    match resident.addr(Family::V6) {
        IpAddr::V6(addr) => addr,
        IpAddr::V4(_) => unreachable!("an IPv6 address was asked for"),
    }
}

fn sends(bed: &Bed, from: Resident, frame: &Frame) -> Outcome {
    bed.run(Hook::FromContainer, Place::Veth(from), frame)
}

#[test]
fn a_foreign_mac_is_dropped() {
    on_bed(|bed| {
        for family in Family::ALL {
            let frame = Frame::udp(WEB.at(family, 1), host(family, 53));
            for mac in [DB.mac(), [2, 0, 0, 0, 0, 1], Net::Front.bridge_mac()] {
                let forged = frame.clone().macs(mac, Net::Front.bridge_mac());
                sends(bed, WEB, &forged).drops(DropReason::SourceMac);
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_foreign_address_is_dropped_wherever_it_is_sent() {
    on_bed(|bed| {
        for family in Family::ALL {
            let lies = [
                DB.addr(family),
                MONK.addr(family),
                Net::Front.gateway(family),
                family.host(),
                family.client(),
                Net::Front.addr(family, 99),
                loopback(family),
            ];
            let targets = [
                (Net::Front.gateway(family), Net::Front.bridge_mac()),
                (family.far(), Net::Front.bridge_mac()),
                (DB.addr(family), DB.mac()),
            ];
            for lie in lies {
                for (to, mac) in targets {
                    let frame = Frame::udp(SocketAddr::new(lie, 1), SocketAddr::new(to, 53));
                    sends(bed, WEB, &frame.macs(WEB.mac(), mac)).drops(DropReason::SourceAddress);
                }
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

const fn loopback(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

#[test]
fn outsiders_cannot_have_our_addresses() {
    on_bed(|bed| {
        for family in Family::ALL {
            let multicast: IpAddr = match family {
                Family::V4 => Ipv4Addr::new(224, 0, 0, 5).into(),
                Family::V6 => Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 5).into(),
            };
            let unspecified: IpAddr = match family {
                Family::V4 => Ipv4Addr::UNSPECIFIED.into(),
                Family::V6 => Ipv6Addr::UNSPECIFIED.into(),
            };
            for lie in [
                WEB.addr(family),
                Net::Vault.addr(family, 99),
                Net::Front.gateway(family),
                family.host(),
                loopback(family),
                multicast,
                unspecified,
            ] {
                for to in [
                    host(family, WEB_PORT.0),
                    host(family, 22),
                    WEB.at(family, 80),
                ] {
                    let frame = Frame::tcp(SocketAddr::new(lie, 1), to, Flags::Syn);
                    bed.run(Hook::FromNetdev, Place::Uplink, &arrives(frame))
                        .drops(DropReason::MartianSource);
                }
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

fn request(from: Resident, target: [u8; 4]) -> Arp {
    Arp {
        src_mac: from.mac(),
        dst_mac: BROADCAST,
        operation: ArpOperation::REQUEST,
        sender: (from.mac(), v4(from)),
        target: ([0; 6], target),
    }
}

fn arp(bed: &Bed, from: Resident, arp: &Arp) -> Outcome {
    bed.run_bytes(Hook::FromContainer, Place::Veth(from), &arp.bytes())
}

/// Demands that the bytes went to another container of the bridge, or to the bridge, as they came.
fn handed_on(outcome: &Outcome, action: Action) {
    assert_eq!(
        (outcome.action, &outcome.counted),
        (action, &Vec::new()),
        "{outcome:?}"
    );
    assert_eq!(outcome.bytes, outcome.sent);
}

#[test]
fn arp_among_containers_is_handed_over_and_the_rest_goes_to_the_bridge() {
    on_bed(|bed| {
        for (from, to) in [(WEB, DB), (MONK, NUN)] {
            handed_on(&arp(bed, from, &request(from, v4(to))), Action::Redirect);
            let answer = Arp {
                src_mac: to.mac(),
                dst_mac: from.mac(),
                operation: ArpOperation::REPLY,
                sender: (to.mac(), v4(to)),
                target: (from.mac(), v4(from)),
            };
            handed_on(&arp(bed, to, &answer), Action::Redirect);
            let gateway = match from.net.gateway(Family::V4) {
                IpAddr::V4(addr) => addr.octets(),
                IpAddr::V6(_) => unreachable!("an IPv4 address was asked for"),
            };
            handed_on(&arp(bed, from, &request(from, gateway)), Action::Next);
        }
    });
}

#[test]
fn a_forged_arp_sender_is_dropped() {
    on_bed(|bed| {
        let honest = request(WEB, v4(DB));
        let gateway = [172, 28, 0, 1];
        for forged in [
            Arp {
                sender: (WEB.mac(), v4(DB)),
                ..honest
            },
            Arp {
                sender: (WEB.mac(), gateway),
                ..honest
            },
            Arp {
                sender: (DB.mac(), v4(WEB)),
                ..honest
            },
            Arp {
                src_mac: DB.mac(),
                ..honest
            },
            Arp {
                operation: ArpOperation::REPLY,
                sender: (WEB.mac(), gateway),
                ..honest
            },
        ] {
            arp(bed, WEB, &forged).drops(DropReason::ArpSender);
        }
    });
}

fn solicited_node(target: Ipv6Addr) -> (Ipv6Addr, Mac) {
    let [.., a, b, c] = target.octets();
    let group = Ipv6Addr::new(
        0xff02,
        0,
        0,
        0,
        0,
        1,
        0xff00 | u16::from(a),
        u16::from_be_bytes([b, c]),
    );
    (group, [0x33, 0x33, 0xff, a, b, c])
}

/// A neighbour solicitation for `target`, with the sender's MAC as its option.
fn solicitation(from: Resident, target: Ipv6Addr) -> Frame {
    let (group, mac) = solicited_node(target);
    let mut payload = target.octets().to_vec();
    payload.extend([1, 1]);
    payload.extend(from.mac());
    Frame::icmp(v6(from).into(), group.into(), 135, [0; 4], &payload)
        .macs(from.mac(), mac)
        .with_ttl(255)
}

/// A neighbour advertisement that says that `from` has `target`.
fn advertisement(from: Resident, to: Resident, target: Ipv6Addr) -> Frame {
    let mut payload = target.octets().to_vec();
    payload.extend([2, 1]);
    payload.extend(from.mac());
    Frame::icmp(
        v6(from).into(),
        v6(to).into(),
        136,
        [0x60, 0, 0, 0],
        &payload,
    )
    .macs(from.mac(), to.mac())
    .with_ttl(255)
}

#[test]
fn neighbour_discovery_among_containers_is_handed_over_also_without_talk() {
    on_bed(|bed| {
        for (from, to) in [(WEB, DB), (MONK, NUN)] {
            handed_on(
                &sends(bed, from, &solicitation(from, v6(to))),
                Action::Redirect,
            );
            handed_on(
                &sends(bed, to, &advertisement(to, from, v6(to))),
                Action::Redirect,
            );
            let IpAddr::V6(gateway) = from.net.gateway(Family::V6) else {
                unreachable!("an IPv6 address was asked for")
            };
            handed_on(
                &sends(bed, from, &solicitation(from, gateway)),
                Action::Next,
            );
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_forged_advertisement_is_dropped() {
    on_bed(|bed| {
        let gateway: Ipv6Addr = match Net::Front.gateway(Family::V6) {
            IpAddr::V6(addr) => addr,
            IpAddr::V4(_) => unreachable!("an IPv6 address was asked for"),
        };
        for target in [v6(DB), gateway] {
            sends(bed, WEB, &advertisement(WEB, DB, target)).drops(DropReason::NeighbourTarget);
        }
    });
}

#[test]
fn routers_and_dhcp_servers_are_not_played() {
    on_bed(|bed| {
        let all_nodes: IpAddr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1).into();
        let link_local: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 1).into();
        let group = [0x33, 0x33, 0, 0, 0, 1];
        for kind in [134, 137] {
            for src in [WEB.addr(Family::V6), link_local] {
                let frame = Frame::icmp(src, all_nodes, kind, [64, 0, 0, 0], &[0; 32]);
                sends(bed, WEB, &frame.macs(WEB.mac(), group).with_ttl(255))
                    .drops(DropReason::RouterImpersonation);
            }
        }
        let to_all = "255.255.255.255:68".parse().expect("an address");
        let offer = Frame::udp(WEB.at(Family::V4, 67), to_all).macs(WEB.mac(), BROADCAST);
        sends(bed, WEB, &offer).drops(DropReason::RouterImpersonation);
        let to_db = Frame::udp(WEB.at(Family::V6, 547), DB.at(Family::V6, 546));
        sends(bed, WEB, &WEB.bridges(DB, to_db)).drops(DropReason::RouterImpersonation);
    });
}

#[test]
fn an_address_is_looked_for_before_it_is_had() {
    on_bed(|bed| {
        // Duplicate address detection, and a DHCP client's first words.
        let (group, mac) = solicited_node(v6(WEB));
        let unspecified = IpAddr::V6(Ipv6Addr::UNSPECIFIED);
        let probe = Frame::icmp(unspecified, group.into(), 135, [0; 4], &v6(WEB).octets());
        let probe = probe.macs(WEB.mac(), mac).with_ttl(255);
        handed_on(&sends(bed, WEB, &probe), Action::Next);
        let discover = Frame::udp(
            "0.0.0.0:68".parse().expect("an address"),
            "255.255.255.255:67".parse().expect("an address"),
        );
        handed_on(
            &sends(bed, WEB, &discover.macs(WEB.mac(), BROADCAST)),
            Action::Next,
        );
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_link_local_address_is_good_on_its_own_link_only() {
    on_bed(|bed| {
        let link_local: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 7).into();
        let peer: IpAddr = Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, 8).into();
        let near = Frame::echo(link_local, peer, EchoKind::Request, 1);
        let handed = sends(bed, WEB, &WEB.bridges(DB, near.clone()));
        handed_on(&handed, Action::Redirect);
        sends(bed, MONK, &MONK.bridges(NUN, near)).drops(DropReason::IccDisabled);
        let away = Frame::echo(link_local, Family::V6.far(), EchoKind::Request, 1);
        sends(bed, WEB, &WEB.routes(away)).drops(DropReason::SourceAddress);
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_known_flow_needs_the_right_mac_as_well() {
    on_bed(|bed| {
        for family in Family::ALL {
            let sent = WEB.routes(Frame::udp(WEB.at(family, 40000), client(family, 53)));
            sends(bed, WEB, &sent).redirects(&sent.clone().from(host(family, 40000)).routed());
            let forged = sent.clone().macs(DB.mac(), Net::Front.bridge_mac());
            sends(bed, WEB, &forged).drops(DropReason::SourceMac);
        }
    });
}
