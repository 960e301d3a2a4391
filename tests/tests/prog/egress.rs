//! Ways out: masquerade with the host's address, kept and searched ports, echoes, replies.

use std::net::SocketAddr;

use netbpf_common::{
    nat::reserved_bit,
    tuple::proto,
    verdict::{DropReason, Hook},
};
use netbpf_tests::{
    packet::{EchoKind, Flags, Frame},
    prog_run::{
        Action, Bed, Place, Resident, on_bed,
        residents::{DB, MONK, TENT, WEB},
    },
    topology::Family,
};

use crate::{arrives, host};

fn far(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.far(), port)
}

/// Sends the answer to what left, and demands that it comes back to the sender of `sent`.
fn comes_back(bed: &Bed, sent: &Frame, left: &Frame, from: Resident) {
    let answer = arrives(left.reply(Flags::SynAck));
    let back = answer
        .clone()
        .to(sent.source())
        .macs(from.net.bridge_mac(), from.mac())
        .routed();
    bed.run(Hook::FromNetdev, Place::Uplink, &answer)
        .redirects(&back);
}

#[test]
fn a_connection_leaves_with_the_hosts_address_and_its_own_port() {
    on_bed(|bed| {
        for family in Family::ALL {
            for frame in [
                Frame::tcp(WEB.at(family, 40000), far(family, 443), Flags::Syn),
                Frame::udp(WEB.at(family, 40000), far(family, 443)),
            ] {
                let sent = WEB.routes(frame);
                let left = sent.clone().from(host(family, 40000)).routed();
                bed.run(Hook::FromContainer, Place::Veth(WEB), &sent)
                    .redirects(&left);
                comes_back(bed, &sent, &left, WEB);
            }
        }
    });
}

#[test]
fn a_container_of_a_network_without_talk_gets_out_as_well() {
    on_bed(|bed| {
        for family in Family::ALL {
            let sent = MONK.routes(Frame::tcp(
                MONK.at(family, 40000),
                far(family, 443),
                Flags::Syn,
            ));
            let left = sent.clone().from(host(family, 40000)).routed();
            bed.run(Hook::FromContainer, Place::Veth(MONK), &sent)
                .redirects(&left);
            comes_back(bed, &sent, &left, MONK);
        }
    });
}

#[test]
fn an_occupied_port_is_replaced_and_the_answer_finds_back() {
    on_bed(|bed| {
        for family in Family::ALL {
            let first = WEB.routes(Frame::udp(WEB.at(family, 40000), far(family, 53)));
            let left = first.clone().from(host(family, 40000)).routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &first)
                .redirects(&left);
            let second = DB.routes(Frame::udp(DB.at(family, 40000), far(family, 53)));
            let left = bed
                .run(Hook::FromContainer, Place::Veth(DB), &second)
                .redirects_from(&second.clone().routed(), family.host());
            assert_ne!(left.src_port(), 40000);
            assert!(left.src_port() >= 1024);
            comes_back(bed, &second, &left, DB);
        }
    });
}

#[test]
fn an_echo_leaves_with_its_identifier_or_with_a_free_one() {
    on_bed(|bed| {
        for family in Family::ALL {
            let ask = |from: Resident| {
                from.routes(Frame::echo(
                    from.addr(family),
                    family.far(),
                    EchoKind::Request,
                    77,
                ))
            };
            let first = ask(WEB);
            let left = first.clone().from(host(family, 77)).routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &first)
                .redirects(&left);
            comes_back(bed, &first, &left, WEB);
            let second = ask(DB);
            let left = bed
                .run(Hook::FromContainer, Place::Veth(DB), &second)
                .redirects_from(&second.clone().routed(), family.host());
            assert_ne!(left.src_port(), 77);
            comes_back(bed, &second, &left, DB);
        }
    });
}

#[test]
fn a_port_that_the_host_listens_on_is_not_taken() {
    on_bed(|bed| {
        for family in Family::ALL {
            let socket = std::net::TcpListener::bind(host(family, 0)).expect("a listener");
            let port = socket.local_addr().expect("an address").port();
            let sent = WEB.routes(Frame::tcp(
                WEB.at(family, port),
                far(family, 443),
                Flags::Syn,
            ));
            let left = bed
                .run(Hook::FromContainer, Place::Veth(WEB), &sent)
                .redirects_from(&sent.clone().routed(), family.host());
            assert_ne!(left.src_port(), port);
        }
    });
}

#[test]
fn a_reserved_port_is_not_taken() {
    on_bed(|bed| {
        let (word, bit) = reserved_bit(proto::UDP, 40000);
        bed.change(|contents| {
            contents.reserved_ports.insert(word, bit);
        });
        for family in Family::ALL {
            let sent = WEB.routes(Frame::udp(WEB.at(family, 40000), far(family, 53)));
            let left = bed
                .run(Hook::FromContainer, Place::Veth(WEB), &sent)
                .redirects_from(&sent.clone().routed(), family.host());
            assert_ne!(left.src_port(), 40000);
            let tcp = WEB.routes(Frame::tcp(
                WEB.at(family, 40000),
                far(family, 53),
                Flags::Syn,
            ));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &tcp)
                .redirects(&tcp.clone().from(host(family, 40000)).routed());
        }
    });
}

#[test]
fn nothing_unsolicited_comes_to_a_masqueraded_port() {
    on_bed(|bed| {
        for family in Family::ALL {
            let sent = WEB.routes(Frame::udp(WEB.at(family, 40000), far(family, 53)));
            let left = sent.clone().from(host(family, 40000)).routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &sent)
                .redirects(&left);
            let stranger = SocketAddr::new(family.stranger(), 53);
            // It is nobody's but the host's, whose stack refuses it.
            bed.run(
                Hook::FromNetdev,
                Place::Uplink,
                &arrives(left.reply(Flags::Ack).from(stranger)),
            )
            .passes();
            let other_port = far(family, 54);
            bed.run(
                Hook::FromNetdev,
                Place::Uplink,
                &arrives(left.reply(Flags::Ack).from(other_port)),
            )
            .passes();
        }
    });
}

#[test]
fn a_network_without_masquerade_leaves_as_it_is_and_adopts_a_running_connection() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (port, flags) in [(40000, Flags::Syn), (40001, Flags::Ack)] {
                let sent = TENT.routes(Frame::tcp(TENT.at(family, port), far(family, 443), flags));
                let left = sent.clone().routed();
                bed.run(Hook::FromContainer, Place::Veth(TENT), &sent)
                    .redirects(&left);
                comes_back(bed, &sent, &left, TENT);
            }
            let masqueraded = WEB.routes(Frame::tcp(
                WEB.at(family, 40001),
                far(family, 443),
                Flags::Ack,
            ));
            bed.run(Hook::FromContainer, Place::Veth(WEB), &masqueraded)
                .drops(DropReason::NoFlow);
        }
    });
}

#[test]
fn another_protocol_is_masqueraded_by_its_address() {
    const GRE: u8 = 47;
    on_bed(|bed| {
        for family in Family::ALL {
            let sent = WEB.routes(Frame::other(WEB.addr(family), family.far(), GRE));
            let left = sent.clone().from(host(family, 0)).routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &sent)
                .redirects(&left);
            comes_back(bed, &sent, &left, WEB);
            let second = DB.routes(Frame::other(DB.addr(family), family.far(), GRE));
            bed.run(Hook::FromContainer, Place::Veth(DB), &second)
                .drops(DropReason::TupleTaken);
        }
    });
}

#[test]
fn what_the_host_itself_sends_is_left_alone() {
    on_bed(|bed| {
        for family in Family::ALL {
            let frame = Frame::tcp(host(family, 40000), far(family, 443), Flags::Syn);
            bed.run(Hook::ToNetdev, Place::Uplink, &frame).passes();
        }
    });
}

#[test]
fn a_ping_of_the_hosts_own_keeps_apart_from_a_masqueraded_one() {
    on_bed(|bed| {
        for family in Family::ALL {
            let echo = |from, to, kind, id| Frame::echo(from, to, kind, id);
            let own = echo(family.host(), family.far(), EchoKind::Request, 9);
            bed.run(Hook::ToNetdev, Place::Uplink, &own).passes();
            let asked = echo(WEB.addr(family), family.far(), EchoKind::Request, 9);
            let left = asked.clone().from(host(family, 9)).routed();
            let left = WEB.routes(left);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &WEB.routes(asked))
                .redirects(&left);
            // The container has the identifier, so that the host's next one gets another.
            let outcome = bed.run(Hook::ToNetdev, Place::Uplink, &own);
            let at = 14 + own.ip_header_len() + 4;
            let id = u16::from_be_bytes([outcome.bytes[at], outcome.bytes[at + 1]]);
            assert_ne!(id, 9);
            let shown = echo(family.host(), family.far(), EchoKind::Request, id);
            assert_eq!(outcome.bytes, shown.bytes());
            let answer = arrives(echo(family.far(), family.host(), EchoKind::Reply, id));
            let heard = arrives(echo(family.far(), family.host(), EchoKind::Reply, 9));
            let outcome = bed.run(Hook::FromNetdev, Place::Uplink, &answer);
            assert_eq!((outcome.action, &outcome.counted), (Action::Next, &vec![]));
            assert_eq!(outcome.bytes, heard.bytes());
        }
    });
}

#[test]
fn a_link_local_address_is_no_source_for_the_outside() {
    on_bed(|bed| {
        let netns = bed.netns();
        for device in ["up0", "stray", "br1", "br2", "br3", "br4"] {
            netns.ip(&format!("-6 addr flush dev {device} scope global"));
        }
        netns.ip("-6 addr replace fe80::1/64 dev up0 nodad");
        netns.ip(&format!("-6 route replace {} dev up0", Family::V6.far()));
        let ask = Frame::udp(WEB.at(Family::V6, 40000), far(Family::V6, 53));
        bed.run(Hook::FromContainer, Place::Veth(WEB), &WEB.routes(ask))
            .drops(DropReason::NoSourceAddress);
        assert_eq!(bed.halves(), 0);
    });
}
