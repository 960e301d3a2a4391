//! Every reason to drop a packet, and every reason to leave one to the stack, has a packet here
//! that meets it. A reason without one does not compile.

use std::{net::SocketAddr, time::Duration};

use netbpf::dataplane::maps::{Contents, Sizes};
use netbpf_common::{
    config::config_flags,
    endpoint::{Interface, role},
    family::{Family as _, V4, V6},
    nat::{RESERVED_WORDS, mapping_flags, target_flags},
    verdict::{DropReason, Hook, StackReason},
};
use netbpf_tests::{
    netns::wait_until,
    packet::{Arp, EchoKind, Flags, Frame, Piece, fragment},
    prog_run::{
        Action, Bed, Context, DNS_PORT, EMPTY_PORT, GONE_PORT, Net, Outcome, Place, Resident,
        WEB_PORT, on_bed_of,
        residents::{DB, GOLD, MONK, NUN, WEB},
        vip,
    },
    topology::Family,
};
use nix::{
    sched::{CpuSet, sched_setaffinity},
    unistd::Pid,
};

use crate::{arrives, client, host};

/// Tables that one established flow of each family fills.
const SMALL: Sizes = Sizes {
    max_flows: 1,
    max_half_open: 64,
};

#[test]
fn every_drop_reason_is_produced_in_both_families_and_counted_alone() {
    let (alone, together): (Vec<_>, Vec<_>) = DropReason::ALL
        .iter()
        .copied()
        .partition(|reason| needs_its_own_bed(*reason));
    on_bed_of(SMALL, |bed| {
        for family in Family::ALL {
            for reason in &together {
                produce(bed, family, *reason).drops(*reason);
            }
        }
    });
    for reason in alone {
        on_bed_of(SMALL, |bed| {
            for family in Family::ALL {
                produce(bed, family, reason).drops(reason);
            }
        });
    }
}

/// Whether the way to a reason changes the world, or leaves flows behind that others would meet.
const fn needs_its_own_bed(reason: DropReason) -> bool {
    matches!(
        reason,
        DropReason::FlowEnded
            | DropReason::ConntrackFull
            | DropReason::TupleTaken
            | DropReason::PortsExhausted
            | DropReason::NoSourceAddress
            | DropReason::NoRoute
            | DropReason::ForwardingOff
            | DropReason::WayOutNotHooked
            | DropReason::TooBig
            | DropReason::SourceMoved
            | DropReason::NotTranslatable
            | DropReason::SourceDenied
    )
}

#[test]
fn every_way_through_the_stack_is_produced_and_counted_alone() {
    for family in Family::ALL {
        on_bed_of(SMALL, |bed| {
            for reason in StackReason::ALL {
                leave(bed, family, *reason).counts(*reason);
                bed.set_flags(0);
            }
        });
    }
}

fn sends(bed: &Bed, from: Resident, frame: &Frame) -> Outcome {
    bed.run(Hook::FromContainer, Place::Veth(from), frame)
}

fn routes(bed: &Bed, from: Resident, frame: Frame) -> Outcome {
    sends(bed, from, &from.routes(frame))
}

fn comes(bed: &Bed, frame: Frame) -> Outcome {
    bed.run(Hook::FromNetdev, Place::Uplink, &arrives(frame))
}

fn far(family: Family) -> SocketAddr {
    SocketAddr::new(family.far(), 53)
}

fn produce(bed: &mut Bed, family: Family, reason: DropReason) -> Outcome {
    let ask = Frame::udp(WEB.at(family, 40000), far(family));
    let syn = Frame::tcp(client(family, 40000), host(family, WEB_PORT.0), Flags::Syn);
    match reason {
        DropReason::Malformed => {
            let mut bytes = WEB.routes(ask).bytes();
            bytes.truncate(bytes.len() - 1);
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &bytes)
        }
        DropReason::UnsupportedEtherType => {
            let mut bytes = WEB.routes(ask).bytes();
            bytes[12..14].copy_from_slice(&0x88cc_u16.to_be_bytes());
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &bytes)
        }
        DropReason::FragmentWithoutFirst => {
            let frame = WEB.routes(ask).with_payload(&[7; 64]);
            let piece = fragment(
                &frame,
                Piece {
                    id: 1,
                    offset: 8,
                    len: 64,
                },
            );
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &piece)
        }
        DropReason::UnknownInterface => {
            bed.run(Hook::FromContainer, Place::Stray, &WEB.routes(ask))
        }
        DropReason::SourceMac => sends(bed, WEB, &ask.macs(DB.mac(), Net::Front.bridge_mac())),
        DropReason::SourceAddress => routes(bed, WEB, Frame::udp(DB.at(family, 1), far(family))),
        DropReason::ArpSender => forged_arp(bed),
        DropReason::NeighbourTarget => forged_advertisement(bed),
        DropReason::RouterImpersonation => impersonation(bed, family),
        DropReason::GroupFrame => sends(bed, WEB, &ask.macs(WEB.mac(), [0xff; 6])),
        DropReason::MartianSource => comes(bed, Frame::udp(WEB.at(family, 1), host(family, 53))),
        DropReason::IsolatedNetwork => {
            routes(bed, WEB, Frame::udp(WEB.at(family, 1), MONK.at(family, 53)))
        }
        DropReason::IccDisabled => {
            let frame = Frame::udp(MONK.at(family, 1), NUN.at(family, 53));
            sends(bed, MONK, &MONK.bridges(NUN, frame))
        }
        DropReason::InternalNetwork => {
            routes(bed, GOLD, Frame::udp(GOLD.at(family, 1), far(family)))
        }
        DropReason::DirectAccess => comes(bed, Frame::udp(client(family, 1), WEB.at(family, 53))),
        DropReason::NoEndpoint => comes(
            bed,
            Frame::tcp(client(family, 1), host(family, GONE_PORT), Flags::Syn),
        ),
        DropReason::VipPortClosed => routes(
            bed,
            WEB,
            // Neither an echo nor anything that has ports: nobody can be told.
            Frame::icmp(WEB.addr(family), vip(family), 200, [0; 4], &[]),
        ),
        DropReason::NoBackend => {
            let service = SocketAddr::new(vip(family), EMPTY_PORT);
            routes(bed, WEB, Frame::udp(WEB.at(family, 1), service))
        }
        DropReason::NoFlow => comes(
            bed,
            Frame::tcp(client(family, 1), host(family, WEB_PORT.0), Flags::Ack),
        ),
        DropReason::FlowEnded => {
            comes(bed, syn.clone());
            bed.change(|contents| take_mappings(contents, family));
            bed.next_generation();
            comes(bed, syn)
        }
        DropReason::ConntrackFull => {
            let inside = comes(bed, syn.clone()).bytes;
            let answer = syn.clone().to(WEB.at(family, WEB_PORT.1)).routed();
            let answer = answer.macs(Net::Front.bridge_mac(), WEB.mac());
            assert_eq!(answer.bytes(), inside);
            sends(bed, WEB, &answer.reply(Flags::SynAck));
            comes(bed, syn.next(Flags::Ack, b""));
            comes(bed, syn.from(client(family, 40001)))
        }
        DropReason::TupleTaken => {
            routes(bed, WEB, Frame::other(WEB.addr(family), family.far(), 47));
            routes(bed, DB, Frame::other(DB.addr(family), family.far(), 47))
        }
        DropReason::PortsExhausted => {
            bed.change(|contents| {
                contents.reserved_ports =
                    (0..RESERVED_WORDS).map(|word| (word, u64::MAX)).collect();
            });
            routes(bed, WEB, ask)
        }
        DropReason::NoSourceAddress => {
            take_addresses(bed, family);
            routes(bed, WEB, ask)
        }
        DropReason::NoRoute => {
            bed.netns()
                .ip(&format!("route replace blackhole {}", family.far()));
            routes(bed, WEB, ask)
        }
        DropReason::ForwardingOff => {
            for family in ["ipv4", "ipv6"] {
                bed.netns()
                    .set_sysctl(&format!("net/{family}/conf/br1/forwarding"), "0");
            }
            routes(bed, WEB, ask)
        }
        DropReason::WayOutNotHooked => {
            bed.netns()
                .ip(&format!("route replace {} dev stray", family.far()));
            routes(bed, WEB, ask)
        }
        DropReason::TtlExceeded => last_of_a_fragment(bed, family),
        DropReason::SourceMoved => moved(bed, family),
        DropReason::TooBig => untold(bed, family),
        DropReason::NotTranslatable => untranslatable(bed, family),
        DropReason::UnannouncedPort => bed.run(
            Hook::FromBridge,
            Place::Bridge(Net::Front),
            &WEB.routes(ask),
        ),
        DropReason::UntranslatedSource => {
            let context = Context {
                ifindex: bed.ifindex(Place::Uplink),
                ingress: bed.ifindex(Place::Bridge(Net::Front)),
                mark: 0,
            };
            bed.run_with(Hook::ToNetdev, context, &ask.bytes())
        }
        DropReason::SourceRouted => {
            let ask = Frame::udp(WEB.at(Family::V4, 40000), far(Family::V4));
            let bytes = source_routed(&WEB.routes(ask).bytes());
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &bytes)
        }
        DropReason::SourceDenied => {
            bed.change(allow_nobody);
            comes(bed, syn)
        }
    }
}

/// An IPv4 frame with a loose source route behind an option that does nothing.
fn source_routed(bytes: &[u8]) -> Vec<u8> {
    let route = [1, 131, 7, 4, 198, 51, 100, 1];
    let mut bytes = [&bytes[..34], &route, &bytes[34..]].concat();
    bytes[14] = 0x47;
    let total = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    bytes
}

/// Leaves no mapping standing in a family.
fn take_mappings(contents: &mut Contents, family: Family) {
    let stands = match family {
        Family::V4 => V4::STANDS,
        Family::V6 => V6::STANDS,
    };
    for flags in contents.mappings.values_mut() {
        *flags &= !stands;
    }
}

/// Gives every mapping an allow list that names nobody.
fn allow_nobody(contents: &mut Contents) {
    for flags in contents.mappings.values_mut() {
        *flags |= mapping_flags::LISTED | mapping_flags::HAS_ALLOW;
    }
    for target in contents.published_v4.values_mut() {
        target.flags |= target_flags::LISTED;
    }
    for target in contents.published_v6.values_mut() {
        target.flags |= target_flags::LISTED;
    }
}

fn leave(bed: &mut Bed, family: Family, reason: StackReason) -> Outcome {
    let ask = Frame::udp(WEB.at(family, 40000), far(family));
    match reason {
        StackReason::TooBig => routes(bed, WEB, ask.with_payload(&[7; 1600])),
        StackReason::TtlExceeded => routes(bed, WEB, ask.with_ttl(1)),
        StackReason::Xfrm => {
            bed.set_flags(config_flags::XFRM);
            routes(bed, WEB, ask)
        }
        StackReason::NotUnderstood => {
            let mut bytes = arrives(Frame::udp(client(family, 1), host(family, 53))).bytes();
            bytes.truncate(bytes.len() - 12);
            bed.run_bytes(Hook::FromNetdev, Place::Uplink, &bytes)
        }
    }
}

fn forged_arp(bed: &Bed) -> Outcome {
    let arp = Arp {
        src_mac: WEB.mac(),
        dst_mac: [0xff; 6],
        operation: etherparse::ArpOperation::REQUEST,
        sender: (WEB.mac(), [172, 28, 0, 1]),
        target: ([0; 6], [172, 28, 0, 11]),
    };
    bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &arp.bytes())
}

fn forged_advertisement(bed: &Bed) -> Outcome {
    let target: std::net::Ipv6Addr = "fd00:28::1".parse().expect("an address");
    let (from, to) = (WEB.addr(Family::V6), DB.addr(Family::V6));
    let frame = Frame::icmp(from, to, 136, [0x20, 0, 0, 0], &target.octets());
    sends(bed, WEB, &WEB.bridges(DB, frame.with_ttl(255)))
}

fn impersonation(bed: &Bed, family: Family) -> Outcome {
    let (server, client) = match family {
        Family::V4 => (67, 68),
        Family::V6 => (547, 546),
    };
    let offer = Frame::udp(WEB.at(family, server), DB.at(family, client));
    sends(bed, WEB, &WEB.bridges(DB, offer))
}

/// Leaves the way out without any address that it could be taken with.
fn take_addresses(bed: &Bed, family: Family) {
    let option = match family {
        Family::V4 => "-4",
        Family::V6 => "-6",
    };
    for device in ["up0", "stray", "br1", "br2", "br3", "br4", "lo"] {
        bed.netns().ip(&format!("{option} addr flush dev {device}"));
    }
    bed.netns()
        .ip(&format!("{option} route replace {} dev up0", family.far()));
}

/// An echo whose identifier must change and stands further back than programs write.
fn untranslatable(bed: &Bed, family: Family) -> Outcome {
    /// As much as lets the ICMP header begin two bytes before the furthest place, 2047.
    const OPTIONS: usize = 2046 - 54;
    let request = |from: Resident| {
        from.routes(Frame::echo(
            from.addr(Family::V6),
            Family::V6.far(),
            EchoKind::Request,
            5,
        ))
    };
    // Only IPv6 has headers that long; the reason is one for both families.
    let _ = family;
    bed.netns().ip("link set up0 mtu 9000");
    sends(bed, WEB, &request(WEB));
    let whole = request(DB).bytes();
    let (ip, icmp) = whole.split_at(54);
    let mut options = vec![58, (OPTIONS / 8 - 1) as u8, 1, 4, 0, 0, 0, 0];
    options.resize(OPTIONS, 0);
    let mut bytes = [ip, &options, icmp].concat();
    bytes[20] = 60;
    let payload = u16::try_from(options.len() + icmp.len()).expect("it fits");
    bytes[18..20].copy_from_slice(&payload.to_be_bytes());
    bed.run_bytes(Hook::FromContainer, Place::Veth(DB), &bytes)
}

/// A fragment whose hops run out: no answer can quote it.
fn last_of_a_fragment(bed: &Bed, family: Family) -> Outcome {
    let ask = Frame::udp(client(family, 40000), host(family, DNS_PORT.0));
    let ask = arrives(ask.with_payload(&[7; 64])).with_ttl(1);
    let piece = Piece {
        id: 1,
        offset: 0,
        len: 32,
    };
    bed.run_bytes(Hook::FromNetdev, Place::Uplink, &fragment(&ask, piece))
}

/// A masqueraded flow whose way moves to an interface with another address.
fn moved(bed: &mut Bed, family: Family) -> Outcome {
    let ask = || WEB.routes(Frame::udp(WEB.at(family, 40000), far(family)));
    sends(bed, WEB, &ask());
    let stray = bed.ifindex(Place::Stray);
    let uplink = Interface {
        role: role::UPLINK,
        ..Interface::default()
    };
    bed.change(|contents| {
        contents.interfaces.insert(stray, uplink);
    });
    let address = match family {
        Family::V4 => "203.0.113.77/32",
        Family::V6 => "2001:db8:77::77/128 nodad",
    };
    bed.netns().ip(&format!("addr add dev stray {address}"));
    bed.netns()
        .ip(&format!("route replace {} dev stray", family.far()));
    // The way that was just asked for holds for a moment.
    let mut outcome = sends(bed, WEB, &ask());
    wait_until("the flow asks for its way", Duration::from_secs(1), || {
        if outcome.action == Action::Redirect {
            outcome = sends(bed, WEB, &ask());
        }
        outcome.action != Action::Redirect
    });
    outcome
}

/// A packet that is too big, after so many others of this moment that its sender is not told.
fn untold(bed: &Bed, family: Family) -> Outcome {
    // The budget is a CPU's.
    let mut first_cpu = CpuSet::new();
    first_cpu.set(0).expect("there is a first CPU");
    sched_setaffinity(Pid::from_raw(0), &first_cpu).expect("this thread stays on it");
    let big = WEB.routes(Frame::udp(WEB.at(family, 40000), far(family)).with_payload(&[7; 1600]));
    let ifindex = bed.ifindex(Place::Veth(WEB));
    let context = Context {
        ifindex,
        ingress: ifindex,
        mark: 0,
    };
    let (program, bytes) = (bed.program(Hook::FromContainer), big.bytes());
    // A moment may end between the last of these and the one that counts; then it begins again.
    for _ in 0..100 {
        for _ in 0..200 {
            program.run(context, &bytes);
        }
        let outcome = sends(bed, WEB, &big);
        if outcome.action == Action::Shot {
            return outcome;
        }
    }
    panic!("every sender was told of twenty thousand packets that are too big");
}
