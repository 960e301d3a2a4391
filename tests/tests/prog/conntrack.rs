//! The flow table: room, floods, races, generations, endings, expiry.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Barrier, Mutex},
    thread,
    time::Duration,
};

use aya::maps::{Array, Map, MapData};
use netbpf::dataplane::maps::Sizes;
use netbpf_common::{
    conntrack::{HalfOpenPlace, Rooms},
    family::V4,
    tuple::Tuple,
    verdict::{DropReason, Hook},
    wire::Be16,
};
use netbpf_tests::{
    netns::wait_until,
    packet::{Flags, Frame},
    prog_run::{
        Action, Bed, Context, Net, Place, WEB_PORT, on_bed, on_bed_of,
        residents::{DB, MONK, WEB},
    },
    topology::Family,
};

use crate::{arrives, client, host};

fn syn(family: Family, port: u16) -> Frame {
    arrives(Frame::tcp(
        client(family, port),
        host(family, WEB_PORT.0),
        Flags::Syn,
    ))
}

fn delivered(frame: &Frame, family: Family) -> Frame {
    frame
        .clone()
        .to(WEB.at(family, WEB_PORT.1))
        .macs(WEB.net.bridge_mac(), WEB.mac())
        .routed()
}

fn from_outside(bed: &Bed, frame: &Frame) -> netbpf_tests::prog_run::Outcome {
    bed.run(Hook::FromNetdev, Place::Uplink, frame)
}

/// A connection through the published port, its handshake done.
fn established(bed: &Bed, family: Family, port: u16) -> Frame {
    let syn = syn(family, port);
    from_outside(bed, &syn).redirects(&delivered(&syn, family));
    let answer = delivered(&syn, family).reply(Flags::SynAck);
    let back = answer.clone().from(host(family, WEB_PORT.0)).routed();
    bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
        .redirects(&back);
    let ack = syn.next(Flags::Ack, b"");
    from_outside(bed, &ack).redirects(&delivered(&ack, family));
    ack
}

#[test]
fn a_flood_of_half_open_connections_leaves_the_established_one_alone() {
    const FLOOD: u32 = 200_000;
    on_bed(|bed| {
        for family in Family::ALL {
            let ack = established(bed, family, 40000);
            let program = bed.program(Hook::FromNetdev);
            let ifindex = bed.ifindex(Place::Uplink);
            let context = Context {
                ifindex,
                ingress: ifindex,
                mark: 0,
            };
            for count in 0..FLOOD / 2 {
                let frame = spoofed(family, count);
                let (action, ..) = program.run(context, &frame.bytes());
                assert_eq!(action, Action::Redirect, "SYN {count}");
            }
            let data = ack.next(Flags::PshAck, b"still here");
            from_outside(bed, &data).redirects(&delivered(&data, family));
        }
        // Two established flows, and a room of half-open ones for each family.
        assert!(
            bed.halves() <= 2 * (2 + 2 * 1024),
            "{} halves",
            bed.halves()
        );
        let established = bed
            .flows()
            .into_iter()
            .filter(|flow| flow.state == "ESTABLISHED");
        assert_eq!(established.count(), 2);
    });
}

/// A SYN from an address of its own.
fn spoofed(family: Family, count: u32) -> Frame {
    let [_, a, b, c] = count.to_be_bytes();
    let src = match family {
        Family::V4 => [20 + a, b, c, 7].into(),
        Family::V6 => {
            let mut octets = [0; 16];
            octets[..4].copy_from_slice(&[0x20, 0x01, 0x0d, 0xb8]);
            octets[13..].copy_from_slice(&[a, b, c]);
            octets[4] = 0x77;
            octets.into()
        }
    };
    arrives(Frame::tcp(
        SocketAddr::new(src, 1024),
        host(family, WEB_PORT.0),
        Flags::Syn,
    ))
}

#[test]
fn a_full_table_refuses_the_new_flow_and_keeps_the_old_ones() {
    on_bed_of(
        Sizes {
            max_flows: 4,
            max_half_open: 4,
        },
        |bed| {
            for family in Family::ALL {
                let acks: Vec<_> = (0..4)
                    .map(|at| established(bed, family, 40000 + at))
                    .collect();
                from_outside(bed, &syn(family, 50000)).drops(DropReason::ConntrackFull);
                for ack in &acks {
                    let data = ack.next(Flags::PshAck, b"alive");
                    from_outside(bed, &data).redirects(&delivered(&data, family));
                }
                // One ends, and there is room again.
                let rst = acks[0].next(Flags::Rst, b"");
                from_outside(bed, &rst).redirects(&delivered(&rst, family));
                from_outside(bed, &syn(family, 40000))
                    .redirects(&delivered(&syn(family, 40000), family));
            }
            assert_eq!(bed.halves(), 2 * 2 * 4);
        },
    );
}

#[test]
fn racing_first_packets_make_one_flow() {
    const RACERS: usize = 4;
    on_bed(|bed| {
        for family in Family::ALL {
            for round in 0..200 {
                let frame = Frame::udp(
                    WEB.at(family, 20000 + round),
                    SocketAddr::new(family.far(), 53),
                );
                let sent = WEB.routes(frame);
                let seen = race::<RACERS>(bed, &sent);
                let expected = sent
                    .clone()
                    .from(host(family, 20000 + round))
                    .routed()
                    .bytes();
                for (action, bytes) in seen {
                    assert_eq!(action, Action::Redirect);
                    assert_eq!(bytes, expected);
                }
            }
        }
        assert_eq!(bed.halves(), 2 * 2 * 200);
    });
}

fn race<const RACERS: usize>(bed: &Bed, frame: &Frame) -> Vec<(Action, Vec<u8>)> {
    let (start, seen) = (Barrier::new(RACERS), Mutex::new(Vec::new()));
    let ifindex = bed.ifindex(Place::Veth(WEB));
    let context = Context {
        ifindex,
        ingress: ifindex,
        mark: 0,
    };
    let bytes = frame.bytes();
    thread::scope(|scope| {
        for _ in 0..RACERS {
            scope.spawn(|| {
                // A thread begins in the namespace of the one that makes it.
                let program = bed.program(Hook::FromContainer);
                start.wait();
                let (action, bytes, _) = program.run(context, &bytes);
                seen.lock()
                    .expect("nobody panics with the lock")
                    .push((action, bytes));
            });
        }
    });
    seen.into_inner().expect("nobody panics with the lock")
}

fn unpublish(bed: &mut Bed) {
    bed.change(|contents| {
        contents.mappings.retain(|key, _| key.mapping != 1);
        contents
            .published_v4
            .retain(|_, target| target.mapping != 1);
        contents
            .published_v6
            .retain(|_, target| target.mapping != 1);
    });
    bed.next_generation();
}

#[test]
fn an_unpublished_port_ends_its_flows_in_the_next_generation() {
    on_bed(|bed| {
        let acks: Vec<_> = Family::ALL
            .iter()
            .map(|family| (*family, established(bed, *family, 40000)))
            .collect();
        unpublish(bed);
        for (family, ack) in acks {
            let answer = delivered(&ack, family).reply(Flags::PshAck);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                .drops(DropReason::FlowEnded);
            // And the host is asked itself now.
            from_outside(bed, &ack).passes();
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_new_generation_leaves_what_is_still_allowed_alone() {
    on_bed(|bed| {
        for family in Family::ALL {
            let ack = established(bed, family, 40000);
            let near = WEB.bridges(DB, Frame::udp(WEB.at(family, 1000), DB.at(family, 53)));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &near)
                .redirects(&near);
            let gateway = SocketAddr::new(Net::Quiet.gateway(family), 50000);
            let ask =
                Frame::udp(gateway, MONK.at(family, 53)).macs(MONK.net.bridge_mac(), MONK.mac());
            bed.run(Hook::ToContainer, Place::Veth(MONK), &ask).passes();
            let service = SocketAddr::new(Net::Quiet.gateway(family), 7777);
            let to_host = MONK.routes(Frame::udp(MONK.at(family, 1000), service));
            bed.run(Hook::FromContainer, Place::Veth(MONK), &to_host)
                .goes_past_bridge();
            bed.next_generation();
            let data = ack.next(Flags::PshAck, b"alive");
            from_outside(bed, &data).redirects(&delivered(&data, family));
            let answer = near.reply(Flags::Ack);
            bed.run(Hook::FromContainer, Place::Veth(DB), &answer)
                .redirects(&answer);
            bed.run(
                Hook::FromContainer,
                Place::Veth(MONK),
                &ask.reply(Flags::Ack),
            )
            .goes_past_bridge();
            bed.run(
                Hook::ToContainer,
                Place::Veth(MONK),
                &to_host.reply(Flags::Ack),
            )
            .passes();
        }
    });
}

#[test]
fn a_flow_that_policy_no_longer_allows_ends() {
    on_bed(|bed| {
        for family in Family::ALL {
            let near = WEB.bridges(DB, Frame::udp(WEB.at(family, 1000), DB.at(family, 53)));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &near)
                .redirects(&near);
        }
        bed.change(|contents| {
            let front = contents
                .networks
                .get_mut(&(Net::Front as u32))
                .expect("the network");
            front.flags &= !netbpf_common::endpoint::network_flags::ICC;
        });
        bed.next_generation();
        for family in Family::ALL {
            let near = WEB.bridges(DB, Frame::udp(WEB.at(family, 1000), DB.at(family, 53)));
            bed.run(
                Hook::FromContainer,
                Place::Veth(DB),
                &near.reply(Flags::Ack),
            )
            .drops(DropReason::FlowEnded);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &near)
                .drops(DropReason::IccDisabled);
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn idle_flows_expire_in_the_kernel() {
    on_bed(|bed| {
        bed.set_timeouts(300);
        for family in Family::ALL {
            established(bed, family, 40000);
            from_outside(bed, &syn(family, 40001))
                .redirects(&delivered(&syn(family, 40001), family));
            let sent = WEB.routes(Frame::udp(
                WEB.at(family, 4000),
                SocketAddr::new(family.far(), 53),
            ));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &sent)
                .redirects(&sent.clone().from(host(family, 4000)).routed());
        }
        wait_until(
            "the sweep has emptied both tables",
            Duration::from_secs(20),
            || bed.halves() == 0,
        );
    });
}

/// What a promotion leaves behind whose flow ends on another CPU: a place that is counted and
/// named, and nobody's.
#[test]
fn a_place_of_no_flow_is_given_back() {
    on_bed(|bed| {
        let open = |name: &str| {
            let data = MapData::from_pin(bed.maps_dir().join(name)).expect("the map is pinned");
            Map::Array(data)
        };
        let mut places: Array<MapData, Tuple<V4>> = open("flows_v4").try_into().expect("an array");
        let mut rooms: Array<MapData, Rooms> = open("rooms_v4").try_into().expect("an array");
        let lost = Tuple {
            src_port: Be16::new(7),
            proto: 6,
            ..Tuple::default()
        };
        places.set(0, lost, 0).expect("the place is written");
        let counted = Rooms {
            flows: 1,
            flows_high_water: 1,
            ..Rooms::default()
        };
        rooms.set(0, counted, 0).expect("the count is written");
        wait_until("the place is free", Duration::from_secs(20), || {
            rooms.get(&0, 0).expect("the count is read").flows == 0
        });
        assert_eq!(
            places.get(&0, 0).expect("the place is read"),
            Tuple::default()
        );
        // It is had again, and its flow keeps it.
        established(bed, Family::V4, 40000);
        let taken = rooms.get(&0, 0).expect("the count is read");
        assert_eq!((taken.flows, taken.flows_high_water), (1, 1));
    });
}

#[test]
fn a_closing_connection_can_begin_again() {
    on_bed(|bed| {
        for family in Family::ALL {
            let ack = established(bed, family, 40000);
            let rst = ack.next(Flags::Rst, b"");
            from_outside(bed, &rst).redirects(&delivered(&rst, family));
            // One reset does not delete the flow: what is still on its way is translated.
            let late = delivered(&ack, family).reply(Flags::PshAck);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &late)
                .redirects(&late.clone().from(host(family, WEB_PORT.0)).routed());
            established(bed, family, 40000);
        }
        assert_eq!(bed.halves(), 4);
    });
}

/// A client that asks again by the same port is led where the port leads by then, and the place of
/// its old connection is had by the new one.
#[test]
fn a_connection_that_begins_again_is_led_as_policy_leads_now() {
    on_bed(|bed| {
        for family in Family::ALL {
            let rst = established(bed, family, 40000).next(Flags::Rst, b"");
            from_outside(bed, &rst).redirects(&delivered(&rst, family));
            established(bed, family, 40000);
            from_outside(bed, &rst).redirects(&delivered(&rst, family));
        }
        bed.change(|contents| {
            let (IpAddr::V4(v4), IpAddr::V6(v6)) = (DB.addr(Family::V4), DB.addr(Family::V6))
            else {
                unreachable!("each family has addresses of its own");
            };
            for target in contents.published_v4.values_mut() {
                (target.addr, target.endpoint) = (v4.into(), DB.endpoint());
            }
            for target in contents.published_v6.values_mut() {
                (target.addr, target.endpoint) = (v6.into(), DB.endpoint());
            }
        });
        for family in Family::ALL {
            let syn = syn(family, 40000);
            let to_db = syn
                .clone()
                .to(DB.at(family, WEB_PORT.1))
                .macs(DB.net.bridge_mac(), DB.mac())
                .routed();
            from_outside(bed, &syn).redirects(&to_db);
        }
        assert_eq!(bed.halves(), 4);
    });
}

#[test]
fn a_flow_leaves_its_place_among_the_half_open_ones() {
    on_bed(|bed| {
        let data = MapData::from_pin(bed.maps_dir().join("half_open_v4")).expect("it is pinned");
        let places: Array<MapData, HalfOpenPlace<V4>> =
            Map::Array(data).try_into().expect("an array");
        let tenant = || places.get(&0, 0).expect("the place is read").tenant;
        from_outside(bed, &syn(Family::V4, 40000));
        assert_eq!(tenant(), 1);
        established(bed, Family::V4, 40000);
        assert_eq!(tenant(), 0);
    });
}

/// Ends a connection through the published port from the client's port 40000.
fn reset(bed: &Bed, family: Family) {
    let rst = established(bed, family, 40000).next(Flags::Rst, b"");
    from_outside(bed, &rst).redirects(&delivered(&rst, family));
}

/// The port is the host's own by then: nothing of the old connection is in the way of the new one.
#[test]
fn a_connection_to_a_port_that_is_no_longer_published_is_the_hosts_from_its_first_packet() {
    on_bed(|bed| {
        for family in Family::ALL {
            reset(bed, family);
        }
        unpublish(bed);
        for family in Family::ALL {
            let first = syn(family, 40000);
            from_outside(bed, &first).passes();
            from_outside(bed, &first.next(Flags::Ack, b"")).passes();
        }
        assert_eq!(bed.halves(), 0);
    });
}

/// Not even by a connection that begins again where one lies that has left by it.
#[test]
fn a_way_out_that_is_no_longer_hooked_is_not_taken() {
    on_bed(|bed| {
        for family in Family::ALL {
            reset(bed, family);
        }
        let uplink = bed.ifindex(Place::Uplink);
        bed.change(|contents| {
            contents.interfaces.remove(&uplink);
        });
        for family in Family::ALL {
            for port in [40001, 40000] {
                let first = syn(family, port);
                from_outside(bed, &first).redirects(&delivered(&first, family));
                let answer = delivered(&first, family).reply(Flags::SynAck);
                bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                    .drops(DropReason::WayOutNotHooked);
            }
        }
    });
}
