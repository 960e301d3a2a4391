//! Virtual IPs: a backend for each new flow, the client's address, and nothing else behind a VIP.

use std::{collections::BTreeSet, net::SocketAddr};

use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{Body, EchoKind, Flags, Frame},
    prog_run::{
        Action, BACKEND_PORT, Bed, EMPTY_PORT, LONELY_PORT, Net, Outcome, Place, Resident,
        SERVICE_PORT, on_bed,
        residents::{DB, MONK, WEB},
        vip,
    },
    topology::Family,
};

fn service(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(vip(family), port)
}

fn asks(bed: &Bed, from: Resident, frame: &Frame) -> Outcome {
    bed.run(Hook::FromContainer, Place::Veth(from), frame)
}

/// What `backend` gets of a frame to the VIP. It sees the client, or the gateway in the place of
/// itself.
fn delivered(sent: &Frame, family: Family, from: Resident, backend: Resident) -> Frame {
    let frame = sent
        .clone()
        .to(backend.at(family, BACKEND_PORT))
        .macs(Net::Front.bridge_mac(), backend.mac());
    if backend == from {
        frame.from(SocketAddr::new(Net::Front.gateway(family), sent.src_port()))
    } else {
        frame
    }
}

#[test]
fn a_new_flow_gets_a_backend_and_keeps_it() {
    on_bed(|bed| {
        for family in Family::ALL {
            let mut chosen = BTreeSet::new();
            for port in 40000..40040 {
                for frame in [
                    Frame::tcp(
                        WEB.at(family, port),
                        service(family, SERVICE_PORT),
                        Flags::Syn,
                    ),
                    Frame::udp(WEB.at(family, port), service(family, SERVICE_PORT)),
                ] {
                    let sent = WEB.routes(frame);
                    let first = asks(bed, WEB, &sent);
                    let backend = [WEB, DB]
                        .into_iter()
                        .find(|backend| {
                            first.bytes == delivered(&sent, family, WEB, *backend).bytes()
                        })
                        .unwrap_or_else(|| panic!("no backend got this: {first:?}"));
                    first.redirects(&delivered(&sent, family, WEB, backend));
                    chosen.insert(backend.host);
                    for _ in 0..3 {
                        asks(bed, WEB, &sent).redirects(&delivered(&sent, family, WEB, backend));
                    }
                    answers(bed, &sent, family, backend);
                }
            }
            assert_eq!(
                chosen.len(),
                2,
                "one backend was never chosen in eighty flows"
            );
        }
    });
}

fn answers(bed: &Bed, sent: &Frame, family: Family, backend: Resident) {
    let answer = delivered(sent, family, WEB, backend).reply(Flags::SynAck);
    let (Body::Tcp { dst_port, .. } | Body::Udp { dst_port, .. }) = sent.body else {
        panic!("{sent:?} has no ports")
    };
    let back = answer
        .clone()
        .from(SocketAddr::new(vip(family), dst_port))
        .to(sent.source())
        .macs(Net::Front.bridge_mac(), WEB.mac());
    bed.run(Hook::FromContainer, Place::Veth(backend), &answer)
        .redirects(&back);
}

#[test]
fn a_backend_that_gets_itself_sees_the_gateway() {
    on_bed(|bed| {
        for family in Family::ALL {
            let syn = Frame::tcp(
                WEB.at(family, 40000),
                service(family, LONELY_PORT),
                Flags::Syn,
            );
            let sent = WEB.routes(syn);
            asks(bed, WEB, &sent).redirects(&delivered(&sent, family, WEB, WEB));
            answers(bed, &sent, family, WEB);
        }
    });
}

#[test]
fn a_vip_has_nothing_but_its_services_and_the_kernels_echo() {
    on_bed(|bed| {
        for family in Family::ALL {
            let closed = service(family, 22);
            let syn = Frame::tcp(WEB.at(family, 40000), closed, Flags::Syn);
            asks(bed, WEB, &WEB.routes(syn)).counts_drop(DropReason::VipPortClosed);
            let ask = Frame::udp(WEB.at(family, 40000), closed);
            asks(bed, WEB, &WEB.routes(ask)).counts_drop(DropReason::VipPortClosed);
            let echo = Frame::echo(WEB.addr(family), vip(family), EchoKind::Request, 1);
            asks(bed, WEB, &WEB.routes(echo)).goes_to_host();
            let empty = service(family, EMPTY_PORT);
            let syn = Frame::tcp(WEB.at(family, 40000), empty, Flags::Syn);
            asks(bed, WEB, &WEB.routes(syn)).drops(DropReason::NoBackend);
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn another_network_does_not_reach_a_vip() {
    on_bed(|bed| {
        for family in Family::ALL {
            let asked = service(family, SERVICE_PORT);
            let syn = MONK.routes(Frame::tcp(MONK.at(family, 40000), asked, Flags::Syn));
            let outcome = asks(bed, MONK, &syn);
            assert_eq!(outcome.action, Action::Shot, "{outcome:?}");
            outcome.drops(DropReason::IsolatedNetwork);
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_connection_to_a_backend_itself_follows_one_by_the_vip_that_has_ended() {
    on_bed(|bed| {
        for family in Family::ALL {
            let (by_vip, port) = connection_to(bed, family, DB);
            let direct = Frame::tcp(
                WEB.at(family, port),
                DB.at(family, BACKEND_PORT),
                Flags::Syn,
            );
            let direct = WEB.bridges(DB, direct);
            asks(bed, WEB, &direct).drops(DropReason::TupleTaken);
            asks(bed, WEB, &by_vip.next(Flags::Rst, b""));
            asks(bed, WEB, &direct).redirects(&direct);
            let answer = DB.bridges(WEB, direct.reply(Flags::SynAck));
            bed.run(Hook::FromContainer, Place::Veth(DB), &answer)
                .redirects(&answer);
        }
    });
}

/// The first frame of an established connection to the VIP that `backend` got, and its port.
fn connection_to(bed: &Bed, family: Family, backend: Resident) -> (Frame, u16) {
    for port in 41000..41040 {
        let vip = service(family, SERVICE_PORT);
        let syn = WEB.routes(Frame::tcp(WEB.at(family, port), vip, Flags::Syn));
        if asks(bed, WEB, &syn).bytes == delivered(&syn, family, WEB, backend).bytes() {
            answers(bed, &syn, family, backend);
            return (syn, port);
        }
    }
    panic!("forty connections, and none for {backend:?}");
}
