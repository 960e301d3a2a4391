//! What depends on who sends: lists of sources, gateway modes, trust, links; and ends whose
//! source is not checked, or that are one container's.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netbpf::dataplane::maps::{Contents, SubnetKey};
use netbpf_common::{
    endpoint::{interface_flags, network_flags},
    family::{Family as _, V4, V6},
    nat::{MappingKey, PortKey, PublishTarget, mapping_flags, target_flags},
    senders::{LinkKey, SCOPE_BITS, ScopedAddr, TrustedInterface, listed},
    tuple::proto,
    verdict::{DropReason, Hook},
    wire::{Be16, Ipv4, Ipv6},
};
use netbpf_tests::{
    packet::{Arp, EchoKind, Flags, Frame},
    prog_run::{
        Action, Bed, DNS_PORT, Net, Outcome, Place, Resident, WEB_PORT, on_bed,
        residents::{DB, GOLD, MONK, NUN, TENT, WEB},
        vip,
    },
    topology::Family,
};

use crate::{arrives, client, host};

/// The mappings of `8080/tcp` and of `5353/udp`, and one of a container's own port.
const WEB_MAPPING: u32 = 1;
const DNS_MAPPING: u32 = 2;
const OWN_MAPPING: u32 = 70;

/// The mappings that get lists.
const LISTED: [u32; 2] = [WEB_MAPPING, DNS_MAPPING];

fn of_v4(addr: IpAddr) -> Ipv4 {
    match addr {
        IpAddr::V4(addr) => addr.into(),
        IpAddr::V6(_) => Ipv4::UNSPECIFIED,
    }
}

fn of_v6(addr: IpAddr) -> Ipv6 {
    match addr {
        IpAddr::V6(addr) => addr.into(),
        IpAddr::V4(_) => Ipv6::UNSPECIFIED,
    }
}

fn prefix_v4(scope: u32, addr: IpAddr, len: u32) -> SubnetKey<ScopedAddr<V4>> {
    SubnetKey {
        prefix_len: SCOPE_BITS + len,
        addr: ScopedAddr {
            scope,
            addr: of_v4(addr),
        },
    }
}

fn prefix_v6(scope: u32, addr: IpAddr, len: u32) -> SubnetKey<ScopedAddr<V6>> {
    SubnetKey {
        prefix_len: SCOPE_BITS + len,
        addr: ScopedAddr {
            scope,
            addr: of_v6(addr),
        },
    }
}

/// Lists one address of each family for a mapping.
fn list(contents: &mut Contents, mapping: u32, addr: fn(Family) -> IpAddr, what: u32) {
    let (v4, v6) = (addr(Family::V4), addr(Family::V6));
    contents
        .sources_v4
        .insert(prefix_v4(mapping, v4, V4::ADDR_BITS), what);
    contents
        .sources_v6
        .insert(prefix_v6(mapping, v6, V6::ADDR_BITS), what);
}

/// Says of a mapping that it has lists.
fn mark_listed(contents: &mut Contents, mapping: u32, flags: u32) {
    for (key, value) in &mut contents.mappings {
        if key.mapping == mapping {
            *value |= mapping_flags::LISTED | flags;
        }
    }
    for target in contents.published_v4.values_mut() {
        if target.mapping == mapping {
            target.flags |= target_flags::LISTED;
        }
    }
    for target in contents.published_v6.values_mut() {
        if target.mapping == mapping {
            target.flags |= target_flags::LISTED;
        }
    }
}

/// Publishes a container's port under its own address.
fn open(contents: &mut Contents, to: Resident, port: u16, protocol: u8) {
    let (v4, v6) = (of_v4(to.addr(Family::V4)), of_v6(to.addr(Family::V6)));
    let (port, endpoint) = (Be16::new(port), to.endpoint());
    let key = |addr| PortKey {
        addr,
        port,
        proto: protocol,
        pad: 0,
    };
    let target = PublishTarget {
        addr: v4,
        port,
        flags: 0,
        mapping: OWN_MAPPING,
        endpoint,
    };
    contents.published_v4.insert(key(v4), target);
    let key = PortKey {
        addr: v6,
        port,
        proto: protocol,
        pad: 0,
    };
    let target = PublishTarget {
        addr: v6,
        port,
        flags: 0,
        mapping: OWN_MAPPING,
        endpoint,
    };
    contents.published_v6.insert(key, target);
    let mapping = MappingKey {
        mapping: OWN_MAPPING,
        endpoint,
    };
    contents.mappings.insert(mapping, V4::STANDS | V6::STANDS);
}

fn set_flags(bed: &mut Bed, net: Net, flags: u32) {
    bed.change(|contents| {
        let network = contents.networks.get_mut(&(net as u32));
        network.expect("the network").flags |= flags;
    });
}

fn clear_flags(bed: &mut Bed, net: Net, flags: u32) {
    bed.change(|contents| {
        let network = contents.networks.get_mut(&(net as u32));
        network.expect("the network").flags &= !flags;
    });
}

fn from_outside(bed: &Bed, frame: &Frame) -> Outcome {
    bed.run(Hook::FromNetdev, Place::Uplink, frame)
}

fn sends(bed: &Bed, from: Resident, frame: &Frame) -> Outcome {
    bed.run(Hook::FromContainer, Place::Veth(from), frame)
}

/// What a container gets of a frame that was routed to its own address.
fn handed_over(frame: &Frame, to: Resident) -> Frame {
    frame.clone().macs(to.net.bridge_mac(), to.mac()).routed()
}

/// Sends a frame from outside to a container's own address, and the answer back.
fn reaches_from_outside(bed: &Bed, to: Resident, frame: &Frame) {
    let inside = handed_over(frame, to);
    from_outside(bed, frame).redirects(&inside);
    let answer = inside.reply(Flags::SynAck);
    sends(bed, to, &answer).redirects(&answer.clone().routed());
}

/// Sends a frame of a container to another network's container, and the answer back.
fn reaches_from_inside(bed: &Bed, from: Resident, to: Resident, frame: &Frame) {
    let inside = handed_over(frame, to);
    sends(bed, from, frame).redirects(&inside);
    let answer = inside.reply(Flags::SynAck);
    let back = answer
        .clone()
        .macs(from.net.bridge_mac(), from.mac())
        .routed();
    sends(bed, to, &answer).redirects(&back);
}

/// A segment, a datagram and an echo from outside to a container.
fn one_of_each(family: Family, to: Resident, port: u16) -> [Frame; 3] {
    [
        Frame::tcp(client(family, 40000), to.at(family, port), Flags::Syn),
        Frame::udp(client(family, 40000), to.at(family, port)),
        Frame::echo(family.client(), to.addr(family), EchoKind::Request, 9),
    ]
    .map(arrives)
}

fn asks_web(family: Family, from: SocketAddr) -> Frame {
    Frame::tcp(from, host(family, WEB_PORT.0), Flags::Syn)
}

/// A first packet to each of [`LISTED`], and the container's port.
fn asks(family: Family, from: SocketAddr) -> [(Frame, u16); 2] {
    let question = Frame::udp(from, host(family, DNS_PORT.0));
    [(asks_web(family, from), WEB_PORT.1), (question, DNS_PORT.1)]
}

#[test]
fn lists_are_about_the_outside_and_other_networks_and_end_what_they_close() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (first, port) in asks(family, client(family, 40000)) {
                let first = arrives(first);
                let inside = first
                    .clone()
                    .to(WEB.at(family, port))
                    .macs(WEB.net.bridge_mac(), WEB.mac())
                    .routed();
                from_outside(bed, &first).redirects(&inside);
            }
        }
        // Only a container of another network may come, then not even that one.
        bed.change(|contents| {
            for mapping in LISTED {
                list(contents, mapping, |it| TENT.addr(it), listed::ALLOW);
                mark_listed(contents, mapping, mapping_flags::HAS_ALLOW);
            }
        });
        bed.next_generation();
        let asked_by = |bed: &Bed, from: Resident, family| {
            asks(family, from.at(family, 40000))
                .map(|(first, _)| sends(bed, from, &from.routes(first)))
        };
        for family in Family::ALL {
            for (first, _) in asks(family, client(family, 40000)) {
                let first = arrives(first);
                from_outside(bed, &first).drops(DropReason::FlowEnded);
                from_outside(bed, &first).drops(DropReason::SourceDenied);
            }
            for denied in asked_by(bed, MONK, family) {
                denied.drops(DropReason::SourceDenied);
            }
            // Neither a neighbour nor the container itself is asked.
            for near in [DB, WEB, TENT] {
                for allowed in asked_by(bed, near, family) {
                    assert_eq!(allowed.action, Action::Redirect);
                }
            }
        }
        bed.change(|contents| {
            for mapping in LISTED {
                list(contents, mapping, |it| TENT.addr(it), listed::DENY);
            }
        });
        bed.next_generation();
        for family in Family::ALL {
            for reason in [DropReason::FlowEnded, DropReason::SourceDenied] {
                for denied in asked_by(bed, TENT, family) {
                    denied.drops(reason);
                }
            }
            for allowed in asked_by(bed, DB, family) {
                assert_eq!(allowed.action, Action::Redirect);
            }
        }
    });
}

#[test]
fn the_longest_prefix_of_a_list_decides() {
    on_bed(|bed| {
        bed.change(|contents| {
            let (v4, v6) = (Family::V4.client(), Family::V6.client());
            for mapping in LISTED {
                list(contents, mapping, Family::client, listed::ALLOW);
                let all_v4 = prefix_v4(mapping, v4, 8);
                contents.sources_v4.insert(all_v4, listed::DENY);
                let all_v6 = prefix_v6(mapping, v6, 16);
                contents.sources_v6.insert(all_v6, listed::DENY);
                mark_listed(contents, mapping, 0);
            }
        });
        for family in Family::ALL {
            let near = match family.client() {
                IpAddr::V4(addr) => IpAddr::V4(Ipv4Addr::from(u32::from(addr) + 1)),
                IpAddr::V6(addr) => IpAddr::V6(Ipv6Addr::from(u128::from(addr) + 1)),
            };
            for (first, _) in asks(family, client(family, 40000)) {
                let outcome = from_outside(bed, &arrives(first));
                assert_eq!(outcome.action, Action::Redirect);
            }
            for (other, _) in asks(family, SocketAddr::new(near, 40000)) {
                from_outside(bed, &arrives(other)).drops(DropReason::SourceDenied);
            }
            // Without an allow list whoever is not listed may come.
            for (stranger, _) in asks(family, MONK.at(family, 40000)) {
                let outcome = sends(bed, MONK, &MONK.routes(stranger));
                assert_eq!(outcome.action, Action::Redirect);
            }
        }
    });
}

#[test]
fn an_unprotected_network_is_open_to_the_outside_and_to_other_networks() {
    const UNPROTECTED: u32 = network_flags::UNPROTECTED_V4 | network_flags::UNPROTECTED_V6;
    on_bed(|bed| {
        set_flags(bed, Net::Front, UNPROTECTED);
        for family in Family::ALL {
            for frame in one_of_each(family, WEB, 81) {
                reaches_from_outside(bed, WEB, &frame);
            }
            let syn = Frame::tcp(MONK.at(family, 40000), WEB.at(family, 81), Flags::Syn);
            reaches_from_inside(bed, MONK, WEB, &MONK.routes(syn));
            // Not the other way round, not for an internal network, not the virtual IP.
            let back = Frame::tcp(WEB.at(family, 40000), MONK.at(family, 81), Flags::Syn);
            sends(bed, WEB, &WEB.routes(back)).drops(DropReason::IsolatedNetwork);
            let gold = Frame::tcp(GOLD.at(family, 40000), WEB.at(family, 81), Flags::Syn);
            sends(bed, GOLD, &GOLD.routes(gold)).drops(DropReason::InternalNetwork);
            let service = Frame::udp(client(family, 40000), SocketAddr::new(vip(family), 9090));
            from_outside(bed, &arrives(service)).drops(DropReason::DirectAccess);
        }
        clear_flags(bed, Net::Front, UNPROTECTED);
        bed.next_generation();
        for family in Family::ALL {
            for frame in one_of_each(family, WEB, 81) {
                from_outside(bed, &frame).drops(DropReason::FlowEnded);
                from_outside(bed, &frame).drops(DropReason::DirectAccess);
            }
            let syn = Frame::tcp(MONK.at(family, 40000), WEB.at(family, 81), Flags::Syn);
            sends(bed, MONK, &MONK.routes(syn)).drops(DropReason::FlowEnded);
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_routed_network_opens_published_ports_and_echo_and_closes_with_them() {
    const ROUTED: u32 = network_flags::ROUTED_V4 | network_flags::ROUTED_V6;
    on_bed(|bed| {
        set_flags(bed, Net::Open, ROUTED);
        bed.change(|contents| open(contents, TENT, 80, proto::TCP));
        for family in Family::ALL {
            let [syn, datagram, echo] = one_of_each(family, TENT, 80);
            reaches_from_outside(bed, TENT, &syn);
            reaches_from_outside(bed, TENT, &echo);
            from_outside(bed, &datagram).drops(DropReason::DirectAccess);
            let closed = Frame::tcp(client(family, 40000), TENT.at(family, 81), Flags::Syn);
            from_outside(bed, &arrives(closed)).drops(DropReason::DirectAccess);
            let unasked = Frame::echo(family.client(), TENT.addr(family), EchoKind::Reply, 77);
            from_outside(bed, &arrives(unasked)).drops(DropReason::DirectAccess);
            let near = Frame::tcp(WEB.at(family, 40000), TENT.at(family, 80), Flags::Syn);
            reaches_from_inside(bed, WEB, TENT, &WEB.routes(near));
            let near = Frame::tcp(WEB.at(family, 40000), TENT.at(family, 81), Flags::Syn);
            sends(bed, WEB, &WEB.routes(near)).drops(DropReason::IsolatedNetwork);
        }
        bed.change(|contents| {
            contents
                .published_v4
                .retain(|_, to| to.mapping != OWN_MAPPING);
            contents
                .published_v6
                .retain(|_, to| to.mapping != OWN_MAPPING);
            contents
                .mappings
                .retain(|key, _| key.mapping != OWN_MAPPING);
        });
        bed.next_generation();
        for family in Family::ALL {
            let [syn, _, echo] = one_of_each(family, TENT, 80);
            from_outside(bed, &syn).drops(DropReason::FlowEnded);
            from_outside(bed, &syn).drops(DropReason::DirectAccess);
            from_outside(bed, &echo).redirects(&handed_over(&echo, TENT));
        }
        clear_flags(bed, Net::Open, ROUTED);
        bed.next_generation();
        for family in Family::ALL {
            let [_, _, echo] = one_of_each(family, TENT, 80);
            from_outside(bed, &echo).drops(DropReason::FlowEnded);
        }
    });
}

#[test]
fn an_own_port_has_the_lists_of_its_mapping() {
    on_bed(|bed| {
        let routed = network_flags::ROUTED_V4 | network_flags::ROUTED_V6;
        set_flags(bed, Net::Open, routed);
        bed.change(|contents| {
            for protocol in [proto::TCP, proto::UDP] {
                open(contents, TENT, 80, protocol);
            }
            list(
                contents,
                OWN_MAPPING,
                |family| WEB.addr(family),
                listed::ALLOW,
            );
            mark_listed(contents, OWN_MAPPING, mapping_flags::HAS_ALLOW);
        });
        for family in Family::ALL {
            let [syn, datagram, _] = one_of_each(family, TENT, 80);
            let (from, to) = (WEB.at(family, 40000), TENT.at(family, 80));
            for (denied, near) in [
                (syn, Frame::tcp(from, to, Flags::Syn)),
                (datagram, Frame::udp(from, to)),
            ] {
                from_outside(bed, &denied).drops(DropReason::SourceDenied);
                reaches_from_inside(bed, WEB, TENT, &WEB.routes(near));
            }
        }
    });
}

#[test]
fn trusted_interfaces_and_sources_reach_published_container_ports_alone() {
    on_bed(|bed| {
        set_flags(bed, Net::Front, network_flags::TRUSTED);
        bed.change(|contents| open(contents, WEB, 80, proto::TCP));
        for family in Family::ALL {
            let [syn, ..] = one_of_each(family, WEB, 80);
            from_outside(bed, &syn).drops(DropReason::DirectAccess);
        }
        let (uplink, bridge) = (
            bed.ifindex(Place::Uplink),
            bed.ifindex(Place::Bridge(Net::Quiet)),
        );
        let trust = |ifindex| TrustedInterface {
            network: Net::Front as u32,
            ifindex,
        };
        bed.change(|contents| {
            contents.trusted_interfaces.insert(trust(uplink), 1);
            contents.trusted_interfaces.insert(trust(bridge), 1);
            let (v4, v6) = (TENT.addr(Family::V4), TENT.addr(Family::V6));
            let network = Net::Front as u32;
            contents
                .trusted_sources_v4
                .insert(prefix_v4(network, v4, V4::ADDR_BITS), 1);
            contents
                .trusted_sources_v6
                .insert(prefix_v6(network, v6, V6::ADDR_BITS), 1);
        });
        for family in Family::ALL {
            let [syn, datagram, echo] = one_of_each(family, WEB, 80);
            reaches_from_outside(bed, WEB, &syn);
            from_outside(bed, &datagram).drops(DropReason::DirectAccess);
            from_outside(bed, &echo).drops(DropReason::DirectAccess);
            for from in [MONK, TENT] {
                let near = Frame::tcp(from.at(family, 40000), WEB.at(family, 80), Flags::Syn);
                reaches_from_inside(bed, from, WEB, &from.routes(near));
            }
            // The trust is that network's, not its neighbour's.
            let other = Frame::tcp(client(family, 40000), TENT.at(family, 80), Flags::Syn);
            from_outside(bed, &arrives(other)).drops(DropReason::DirectAccess);
        }
        bed.change(|contents| {
            contents.trusted_interfaces.clear();
        });
        bed.next_generation();
        for family in Family::ALL {
            let [syn, ..] = one_of_each(family, WEB, 80);
            let answer = handed_over(&syn, WEB).reply(Flags::Ack);
            sends(bed, WEB, &answer).drops(DropReason::FlowEnded);
            from_outside(bed, &syn).drops(DropReason::DirectAccess);
            let monk = Frame::tcp(MONK.at(family, 40000), WEB.at(family, 80), Flags::Syn);
            sends(bed, MONK, &MONK.routes(monk)).drops(DropReason::FlowEnded);
            let tent = Frame::tcp(TENT.at(family, 40000), WEB.at(family, 80), Flags::Ack);
            let tent = TENT.routes(tent);
            sends(bed, TENT, &tent).redirects(&handed_over(&tent, WEB));
        }
    });
}

#[test]
fn a_link_opens_one_port_in_one_direction_until_it_goes() {
    on_bed(|bed| {
        let link = LinkKey {
            from_endpoint: MONK.endpoint(),
            to_endpoint: NUN.endpoint(),
            port: Be16::new(80),
            proto: proto::TCP,
            pad: 0,
        };
        bed.change(|contents| {
            contents.links.insert(link, 1);
        });
        for family in Family::ALL {
            let syn = |from: Resident, to: Resident, port| {
                from.bridges(
                    to,
                    Frame::tcp(from.at(family, 40000), to.at(family, port), Flags::Syn),
                )
            };
            let asked = syn(MONK, NUN, 80);
            sends(bed, MONK, &asked).redirects(&asked);
            let answer = asked.reply(Flags::SynAck);
            sends(bed, NUN, &answer).redirects(&answer);
            sends(bed, MONK, &syn(MONK, NUN, 81)).drops(DropReason::IccDisabled);
            sends(bed, NUN, &syn(NUN, MONK, 80)).drops(DropReason::IccDisabled);
            let datagram = Frame::udp(MONK.at(family, 40000), NUN.at(family, 80));
            sends(bed, MONK, &MONK.bridges(NUN, datagram)).drops(DropReason::IccDisabled);
            let echo = Frame::echo(MONK.addr(family), NUN.addr(family), EchoKind::Request, 9);
            sends(bed, MONK, &MONK.bridges(NUN, echo)).drops(DropReason::IccDisabled);
        }
        bed.change(|contents| contents.links.clear());
        bed.next_generation();
        for family in Family::ALL {
            let asked = Frame::tcp(MONK.at(family, 40000), NUN.at(family, 80), Flags::Syn);
            let asked = MONK.bridges(NUN, asked);
            sends(bed, NUN, &asked.reply(Flags::Ack)).drops(DropReason::FlowEnded);
            sends(bed, MONK, &asked).drops(DropReason::IccDisabled);
        }
        assert_eq!(bed.halves(), 0);
    });
}

/// An address that no container has: what a router carries.
fn foreign(family: Family) -> IpAddr {
    match family {
        Family::V4 => Ipv4Addr::new(172, 30, 9, 9).into(),
        Family::V6 => Ipv6Addr::new(0xfd00, 0x99, 0, 0, 0, 0, 0, 9).into(),
    }
}

/// The MAC of a virtual router (RFC 9568, 7.3).
const VRRP_MAC: [u8; 6] = [0, 0, 0x5e, 0, 1, 7];

fn uncheck(bed: &mut Bed, resident: Resident) {
    let ifindex = bed.ifindex(Place::Veth(resident));
    bed.change(|contents| {
        let interface = contents.interfaces.get_mut(&ifindex);
        interface.expect("the interface").flags = interface_flags::SOURCE_UNCHECKED;
    });
}

#[test]
fn an_unchecked_end_sends_for_others_and_hears_the_answers_at_the_mac_it_sent_from() {
    on_bed(|bed| {
        uncheck(bed, WEB);
        for family in Family::ALL {
            let from = SocketAddr::new(foreign(family), 4000);
            let ask = Frame::udp(from, SocketAddr::new(family.far(), 53))
                .macs(VRRP_MAC, WEB.net.bridge_mac());
            let outside = ask.clone().from(host(family, 4000)).routed();
            sends(bed, WEB, &ask).redirects(&outside);
            let answer = arrives(outside.reply(Flags::Ack));
            let inside = answer
                .clone()
                .to(from)
                .macs(WEB.net.bridge_mac(), VRRP_MAC)
                .routed();
            from_outside(bed, &answer).redirects(&inside);
            // The next one may come from another of its MACs.
            let again = ask.clone().macs(WEB.mac(), WEB.net.bridge_mac());
            sends(bed, WEB, &again)
                .redirects(&outside.clone().macs(WEB.mac(), WEB.net.bridge_mac()));
            // What it carries from and to neighbours is theirs to track.
            let near = Frame::tcp(from, DB.at(family, 80), Flags::SynAck).macs(WEB.mac(), DB.mac());
            sends(bed, WEB, &near).redirects(&near);
            let back = Frame::tcp(DB.at(family, 80), from, Flags::Ack).macs(DB.mac(), WEB.mac());
            sends(bed, DB, &back).redirects(&back);
        }
        assert_eq!(bed.flows().len(), 2);
    });
}

#[test]
fn an_end_that_is_checked_again_ends_what_it_sent_for_others() {
    on_bed(|bed| {
        uncheck(bed, WEB);
        let ask = |family: Family, from: SocketAddr| {
            Frame::udp(from, SocketAddr::new(family.far(), 53))
                .macs(WEB.mac(), WEB.net.bridge_mac())
        };
        let foreign = |family| SocketAddr::new(foreign(family), 4000);
        let own = |family| WEB.at(family, 4001);
        for family in Family::ALL {
            for from in [foreign(family), own(family)] {
                let frame = ask(family, from);
                let outside = frame.clone().from(host(family, from.port())).routed();
                sends(bed, WEB, &frame).redirects(&outside);
            }
        }
        let ifindex = bed.ifindex(Place::Veth(WEB));
        bed.change(|contents| {
            let interface = contents.interfaces.get_mut(&ifindex);
            interface.expect("the interface").flags = 0;
        });
        bed.next_generation();
        for family in Family::ALL {
            sends(bed, WEB, &ask(family, foreign(family))).drops(DropReason::FlowEnded);
            let frame = ask(family, own(family));
            let outside = frame.clone().from(host(family, 4001)).routed();
            sends(bed, WEB, &frame).redirects(&outside);
        }
    });
}

#[test]
fn an_unchecked_end_plays_neither_the_host_nor_a_neighbour() {
    on_bed(|bed| {
        uncheck(bed, WEB);
        for family in Family::ALL {
            let far = SocketAddr::new(family.far(), 53);
            // A neighbour's flow that it must not get hold of.
            let theirs = DB.routes(Frame::udp(DB.at(family, 4000), far));
            assert_eq!(sends(bed, DB, &theirs).action, Action::Redirect);
            for src in [
                family.host(),
                Net::Front.gateway(family),
                Net::Quiet.gateway(family),
                vip(family),
                DB.addr(family),
            ] {
                let forged = Frame::udp(SocketAddr::new(src, 4000), far)
                    .macs(WEB.mac(), WEB.net.bridge_mac());
                sends(bed, WEB, &forged).drops(DropReason::SourceAddress);
            }
            for mac in [DB.mac(), WEB.net.bridge_mac(), [0x33, 0x33, 0, 0, 0, 1]] {
                let forged = Frame::udp(WEB.at(family, 4000), far).macs(mac, WEB.net.bridge_mac());
                sends(bed, WEB, &forged).drops(DropReason::SourceMac);
            }
            // Another network's container: as a router it may carry it, but not its flows.
            let monks = MONK.routes(Frame::udp(MONK.at(family, 4000), far));
            assert_eq!(sends(bed, MONK, &monks).action, Action::Redirect);
            let carried =
                Frame::udp(MONK.at(family, 4000), far).macs(WEB.mac(), WEB.net.bridge_mac());
            sends(bed, WEB, &carried).drops(DropReason::TupleTaken);
            assert_eq!(sends(bed, MONK, &monks).action, Action::Redirect);
        }
    });
}

fn arp_of(from: Resident, operation: etherparse::ArpOperation, sender: [u8; 4]) -> Arp {
    Arp {
        src_mac: from.mac(),
        dst_mac: [0xff; 6],
        operation,
        sender: (from.mac(), sender),
        target: ([0; 6], [172, 28, 0, 11]),
    }
}

#[test]
fn an_unchecked_end_answers_for_addresses_that_nobody_has() {
    use etherparse::ArpOperation;
    on_bed(|bed| {
        let run = |bed: &Bed, arp: &Arp| {
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &arp.bytes())
        };
        let free = arp_of(WEB, ArpOperation::REPLY, [172, 28, 0, 200]);
        run(bed, &free).drops(DropReason::ArpSender);
        uncheck(bed, WEB);
        assert_eq!(run(bed, &free).counted, []);
        for taken in [[172, 28, 0, 11], [172, 28, 0, 1], [172, 28, 0, 100]] {
            run(bed, &arp_of(WEB, ArpOperation::REPLY, taken)).drops(DropReason::ArpSender);
        }
        let of_db = Arp {
            sender: (DB.mac(), [172, 28, 0, 200]),
            ..free
        };
        run(bed, &of_db).drops(DropReason::ArpSender);
    });
}

/// Makes two ends one container's.
fn join(bed: &mut Bed, one: Resident, other: Resident) {
    let ends = [one, other].map(|end| bed.ifindex(Place::Veth(end)));
    bed.change(|contents| {
        for end in ends {
            let interface = contents.interfaces.get_mut(&end);
            interface.expect("the interface").container = one.endpoint();
        }
    });
}

#[test]
fn a_container_of_two_networks_answers_by_either_interface() {
    on_bed(|bed| {
        for family in Family::ALL {
            // A neighbour in the second network asks for the port that is published in the first.
            let syn = TENT.routes(asks_web(family, TENT.at(family, 40000)));
            let inside = handed_over(&syn.clone().to(WEB.at(family, 80)), WEB);
            sends(bed, TENT, &syn).redirects(&inside);
            // The answer stays on the link that both are on.
            let answer = inside.reply(Flags::SynAck).macs(MONK.mac(), TENT.mac());
            sends(bed, MONK, &answer).drops(DropReason::SourceAddress);
        }
        join(bed, WEB, MONK);
        for family in Family::ALL {
            let syn = TENT.routes(asks_web(family, TENT.at(family, 40000)));
            let inside = handed_over(&syn.clone().to(WEB.at(family, 80)), WEB);
            let answer = inside.reply(Flags::SynAck).macs(MONK.mac(), TENT.mac());
            let back = answer
                .clone()
                .from(host(family, WEB_PORT.0))
                .macs(TENT.net.bridge_mac(), TENT.mac())
                .routed();
            sends(bed, MONK, &answer).redirects(&back);
            // With its own MAC only, and no flow of its own begins that way.
            let forged = answer.clone().macs(WEB.mac(), TENT.mac());
            sends(bed, MONK, &forged).drops(DropReason::SourceMac);
            let new = Frame::udp(WEB.at(family, 9), SocketAddr::new(family.far(), 9))
                .macs(MONK.mac(), MONK.net.bridge_mac());
            sends(bed, MONK, &new).drops(DropReason::SourceAddress);
            // Somebody else's interface is no sibling.
            let stolen = answer.clone().macs(NUN.mac(), TENT.mac());
            sends(bed, NUN, &stolen).drops(DropReason::SourceAddress);
        }
    });
}

#[test]
fn what_the_bridge_is_not_told_of_reaches_the_host_by_the_bridge() {
    on_bed(|bed| {
        join(bed, WEB, MONK);
        uncheck(bed, TENT);
        for family in Family::ALL {
            let ask = Frame::udp(gateway_of(WEB, family, 50000), WEB.at(family, 53))
                .macs(WEB.net.bridge_mac(), WEB.mac());
            bed.run(Hook::ToContainer, Place::Veth(WEB), &ask).passes();
            let answer = ask.reply(Flags::Ack);
            sends(bed, WEB, &answer).goes_past_bridge();
            // To another MAC than the bridge's.
            let astray = answer.clone().macs(WEB.mac(), DB.mac());
            sends(bed, WEB, &astray).goes_to_host();
            // By the other interface, which is on another bridge.
            let answer = answer.macs(MONK.mac(), MONK.net.bridge_mac());
            sends(bed, MONK, &answer).goes_to_host();
            let service = gateway_of(TENT, family, 7777);
            let own = TENT.routes(Frame::udp(TENT.at(family, 1000), service));
            sends(bed, TENT, &own).goes_past_bridge();
            let other =
                Frame::udp(TENT.at(family, 1001), service).macs(VRRP_MAC, TENT.net.bridge_mac());
            sends(bed, TENT, &other).goes_to_host();
            // The host asks somebody behind it; the bridge floods that, for it has forgotten where.
            let ask = Frame::udp(gateway_of(TENT, family, 50001), TENT.at(family, 54))
                .macs(TENT.net.bridge_mac(), VRRP_MAC);
            bed.run(Hook::ToContainer, Place::Veth(MONK), &ask).passes();
            bed.run(Hook::ToContainer, Place::Veth(TENT), &ask).passes();
            sends(bed, TENT, &ask.reply(Flags::Ack)).goes_to_host();
        }
    });
}

fn gateway_of(resident: Resident, family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(resident.net.gateway(family), port)
}

#[test]
fn a_container_of_two_networks_asks_for_its_neighbour_with_the_address_that_it_answers_from() {
    use etherparse::ArpOperation;
    on_bed(|bed| {
        let mut ask = arp_of(MONK, ArpOperation::REQUEST, [172, 28, 0, 10]);
        ask.target.1 = [172, 29, 0, 11];
        let run = |bed: &Bed, arp: &Arp| {
            bed.run_bytes(Hook::FromContainer, Place::Veth(MONK), &arp.bytes())
        };
        run(bed, &ask).drops(DropReason::ArpSender);
        join(bed, WEB, MONK);
        assert_eq!(run(bed, &ask).action, Action::Redirect);
        ask.operation = ArpOperation::REPLY;
        run(bed, &ask).drops(DropReason::ArpSender);
    });
}

#[test]
fn what_is_asked_of_one_interface_goes_out_by_the_other_ones_gateway() {
    let routed = network_flags::ROUTED_V4 | network_flags::ROUTED_V6;
    on_bed(|bed| {
        join(bed, WEB, TENT);
        set_flags(bed, Net::Open, routed);
        bed.change(|contents| open(contents, TENT, 80, proto::TCP));
        for family in Family::ALL {
            let [syn, ..] = one_of_each(family, TENT, 80);
            let inside = handed_over(&syn, TENT);
            from_outside(bed, &syn).redirects(&inside);
            let answer = WEB.routes(inside.reply(Flags::SynAck));
            sends(bed, WEB, &answer).redirects(&answer.clone().routed());
        }
    });
}

#[test]
fn a_packet_that_is_not_understood_has_no_source_of_ours() {
    on_bed(|bed| {
        for family in Family::ALL {
            let mut bytes = arrives(Frame::udp(WEB.at(family, 9), host(family, 53))).bytes();
            bytes.truncate(bytes.len() - 4);
            bed.run_bytes(Hook::FromNetdev, Place::Uplink, &bytes)
                .drops(DropReason::MartianSource);
        }
    });
}
