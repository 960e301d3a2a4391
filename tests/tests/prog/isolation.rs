//! Who may talk to whom: inside a network, between networks, from outside, with the host.

use std::net::SocketAddr;

use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{EchoKind, Flags, Frame},
    prog_run::{
        Bed, Context, Net, Place, Resident, WEB_PORT, on_bed,
        residents::{DB, GOLD, MONK, NUN, SILVER, WEB},
        vip,
    },
    topology::Family,
};

use crate::{arrives, bare, client, host};

/// A segment, a datagram and an echo from one address to another.
fn one_of_each(family: Family, from: Resident, to: SocketAddr) -> [Frame; 3] {
    [
        Frame::tcp(from.at(family, 40000), to, Flags::Syn),
        Frame::udp(from.at(family, 40000), to),
        Frame::echo(from.addr(family), to.ip(), EchoKind::Request, 9),
    ]
}

#[test]
fn containers_of_one_network_talk_without_a_hop_and_see_each_other() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (from, to) in [(WEB, DB), (GOLD, SILVER)] {
                for frame in one_of_each(family, from, to.at(family, 80)) {
                    let sent = from.bridges(to, frame);
                    bed.run(Hook::FromContainer, Place::Veth(from), &sent)
                        .redirects(&sent);
                    let answer = sent.reply(Flags::SynAck);
                    bed.run(Hook::FromContainer, Place::Veth(to), &answer)
                        .redirects(&answer);
                }
            }
        }
    });
}

#[test]
fn containers_of_a_network_without_talk_are_kept_apart() {
    on_bed(|bed| {
        for family in Family::ALL {
            for frame in one_of_each(family, MONK, NUN.at(family, 80)) {
                bed.run(
                    Hook::FromContainer,
                    Place::Veth(MONK),
                    &MONK.bridges(NUN, frame.clone()),
                )
                .drops(DropReason::IccDisabled);
                bed.run(Hook::FromContainer, Place::Veth(MONK), &MONK.routes(frame))
                    .drops(DropReason::IccDisabled);
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn networks_are_kept_apart() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (from, to, reason) in [
                (WEB, MONK, DropReason::IsolatedNetwork),
                (MONK, WEB, DropReason::IsolatedNetwork),
                (WEB, GOLD, DropReason::InternalNetwork),
                (GOLD, WEB, DropReason::InternalNetwork),
            ] {
                for frame in one_of_each(family, from, to.at(family, 80)) {
                    bed.run(Hook::FromContainer, Place::Veth(from), &from.routes(frame))
                        .drops(reason);
                }
            }
            let nobody = SocketAddr::new(Net::Quiet.addr(family, 99), 80);
            for frame in one_of_each(family, WEB, nobody) {
                bed.run(Hook::FromContainer, Place::Veth(WEB), &WEB.routes(frame))
                    .drops(DropReason::IsolatedNetwork);
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn an_internal_network_has_no_way_out_and_its_own_gateway_only() {
    on_bed(|bed| {
        for family in Family::ALL {
            for to in [family.far(), family.host(), Net::Front.gateway(family)] {
                for frame in one_of_each(family, GOLD, SocketAddr::new(to, 80)) {
                    bed.run(Hook::FromContainer, Place::Veth(GOLD), &GOLD.routes(frame))
                        .drops(DropReason::InternalNetwork);
                }
            }
            let published = SocketAddr::new(Net::Vault.gateway(family), WEB_PORT.0);
            let syn = Frame::tcp(GOLD.at(family, 40000), published, Flags::Syn);
            bed.run(Hook::FromContainer, Place::Veth(GOLD), &GOLD.routes(syn))
                .drops(DropReason::InternalNetwork);
            let own = SocketAddr::new(Net::Vault.gateway(family), 22);
            for frame in one_of_each(family, GOLD, own) {
                bed.run(Hook::FromContainer, Place::Veth(GOLD), &GOLD.routes(frame))
                    .goes_past_bridge();
            }
        }
    });
}

#[test]
fn container_addresses_are_closed_to_the_outside() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (to, reason) in [
                (WEB, DropReason::DirectAccess),
                (MONK, DropReason::DirectAccess),
                (GOLD, DropReason::InternalNetwork),
            ] {
                for frame in [
                    Frame::tcp(client(family, 40000), to.at(family, 80), Flags::Syn),
                    Frame::tcp(client(family, 40000), to.at(family, 80), Flags::Ack),
                    Frame::udp(client(family, 40000), to.at(family, 80)),
                    Frame::echo(family.client(), to.addr(family), EchoKind::Request, 9),
                    Frame::other(family.client(), to.addr(family), 47),
                ] {
                    bed.run(Hook::FromNetdev, Place::Uplink, &arrives(frame))
                        .drops(reason);
                }
            }
            let service = SocketAddr::new(vip(family), 9090);
            let syn = Frame::tcp(client(family, 40000), service, Flags::Syn);
            bed.run(Hook::FromNetdev, Place::Uplink, &arrives(syn))
                .drops(DropReason::DirectAccess);
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn what_the_stack_would_route_to_a_container_is_dropped_at_its_door() {
    on_bed(|bed| {
        for family in Family::ALL {
            let context = |place| Context {
                ifindex: bed.ifindex(Place::Veth(WEB)),
                ingress: bed.ifindex(place),
                mark: 0,
            };
            let frame = Frame::tcp(client(family, 40000), WEB.at(family, 80), Flags::Syn)
                .macs(WEB.net.bridge_mac(), WEB.mac());
            bed.run_with(Hook::ToContainer, context(Place::Uplink), &frame.bytes())
                .drops(DropReason::DirectAccess);
            bed.run_with(Hook::ToContainer, context(Place::Stray), &frame.bytes())
                .drops(DropReason::UnannouncedPort);
        }
    });
}

#[test]
fn host_and_containers_talk_in_both_directions_everywhere() {
    on_bed(|bed| {
        for family in Family::ALL {
            for resident in [WEB, MONK, GOLD] {
                host_asks(bed, family, resident);
                host_is_asked(bed, family, resident);
            }
        }
    });
}

fn host_asks(bed: &Bed, family: Family, resident: Resident) {
    let from = SocketAddr::new(resident.net.gateway(family), 50000);
    for frame in [
        Frame::tcp(from, resident.at(family, 80), Flags::Syn),
        Frame::udp(from, resident.at(family, 80)),
        Frame::echo(from.ip(), resident.addr(family), EchoKind::Request, 9),
    ] {
        let sent = frame.macs(resident.net.bridge_mac(), resident.mac());
        bed.run(Hook::ToContainer, Place::Veth(resident), &sent)
            .passes();
        let answer = sent.reply(Flags::SynAck);
        bed.run(Hook::FromContainer, Place::Veth(resident), &answer)
            .goes_past_bridge();
    }
}

fn host_is_asked(bed: &Bed, family: Family, resident: Resident) {
    let gateway = SocketAddr::new(resident.net.gateway(family), 7777);
    for frame in one_of_each(family, resident, gateway) {
        let sent = resident.routes(frame);
        bed.run(Hook::FromContainer, Place::Veth(resident), &sent)
            .goes_past_bridge();
        let answer = sent.reply(Flags::SynAck);
        bed.run(Hook::ToContainer, Place::Veth(resident), &answer)
            .passes();
    }
}

#[test]
fn the_host_gets_from_a_bridge_only_what_a_container_hook_marked() {
    on_bed(|bed| {
        let frame = WEB.routes(Frame::tcp(
            WEB.at(Family::V4, 40000),
            SocketAddr::new(Net::Front.gateway(Family::V4), 22),
            Flags::Syn,
        ));
        let marked = bed.run(Hook::FromContainer, Place::Veth(WEB), &frame);
        marked.goes_past_bridge();
        let context = |mark| Context {
            ifindex: bed.ifindex(Place::Bridge(Net::Front)),
            ingress: bed.ifindex(Place::Veth(WEB)),
            mark,
        };
        bed.run_with(Hook::FromBridge, context(marked.mark), &marked.bytes)
            .passes();
        bed.run_with(Hook::FromBridge, context(0), &marked.bytes)
            .drops(DropReason::UnannouncedPort);
    });
}

#[test]
fn an_answer_counts_only_where_its_flow_goes_in() {
    on_bed(|bed| {
        for family in Family::ALL {
            let syn = arrives(Frame::tcp(
                client(family, 40000),
                host(family, WEB_PORT.0),
                Flags::Syn,
            ));
            let inside = syn
                .clone()
                .to(WEB.at(family, 80))
                .macs(WEB.net.bridge_mac(), WEB.mac())
                .routed();
            bed.run(Hook::FromNetdev, Place::Uplink, &syn)
                .redirects(&inside);
            // Another container forges the answer, to the byte.
            let forged = inside.reply(Flags::SynAck);
            bed.run(Hook::FromContainer, Place::Veth(DB), &forged)
                .drops(DropReason::SourceMac);
            let with_own_mac = DB.routes(inside.reply(Flags::SynAck));
            bed.run(Hook::FromContainer, Place::Veth(DB), &with_own_mac)
                .drops(DropReason::SourceAddress);
            // The client's own packet, sent by a container.
            let forged = DB.routes(syn.clone());
            bed.run(Hook::FromContainer, Place::Veth(DB), &forged)
                .drops(DropReason::SourceAddress);
        }
    });
}

#[test]
fn multicast_is_flooded_and_a_network_without_talk_lets_only_neighbour_discovery_cross() {
    on_bed(|bed| {
        let group_mac = [0x01, 0, 0x5e, 0, 0, 0xfb];
        let group = "224.0.0.251:5353".parse().expect("an address");
        for (from, to, reason) in [(WEB, DB, None), (MONK, NUN, Some(DropReason::IccDisabled))] {
            let frame = Frame::udp(from.at(Family::V4, 5353), group).macs(from.mac(), group_mac);
            bed.run(Hook::FromContainer, Place::Veth(from), &frame)
                .goes_to_host();
            let context = Context {
                ifindex: bed.ifindex(Place::Veth(to)),
                ingress: bed.ifindex(Place::Veth(from)),
                mark: netbpf_common::config::MARK_TO_HOST,
            };
            let copy = bed.run_with(Hook::ToContainer, context, &frame.bytes());
            match reason {
                Some(reason) => copy.drops(reason),
                None => assert_eq!(copy.action, netbpf_tests::prog_run::Action::Next),
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn an_address_that_nobody_has_leads_nowhere() {
    on_bed(|bed| {
        for family in Family::ALL {
            let nobody = Net::Front.addr(family, 99);
            let frame = Frame::udp(WEB.at(family, 1), bare(nobody));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &WEB.routes(frame))
                .drops(DropReason::NoEndpoint);
        }
    });
}
