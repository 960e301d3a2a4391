//! Fragments: a later piece goes the way of its first one, and of nobody else's.

use std::net::SocketAddr;

use netbpf_common::verdict::{DropReason, Hook, StackReason};
use netbpf_tests::{
    packet::{Frame, Piece, fragment},
    prog_run::{
        Action, Bed, CLIENT_MAC, DNS_PORT, Place, UPLINK_MAC, on_bed,
        residents::{DB, WEB},
    },
    topology::Family,
};

use crate::{client, host};

#[test]
fn later_fragments_follow_their_first_one() {
    on_bed(|bed| {
        for family in Family::ALL {
            let payload: Vec<u8> = (0..64).collect();
            let sent = WEB
                .routes(Frame::udp(
                    WEB.at(family, 40000),
                    SocketAddr::new(family.far(), 53),
                ))
                .with_payload(&payload);
            let left = sent.clone().from(host(family, 40000)).routed();
            let first = Piece {
                id: 7,
                offset: 0,
                len: 32,
            };
            let later = Piece {
                id: 7,
                offset: 32,
                len: 40,
            };
            let run_at = |hook, place, piece| bed.run_bytes(hook, place, &fragment(&sent, piece));
            let run = |piece| run_at(Hook::FromContainer, Place::Veth(WEB), piece);
            run(later).drops(DropReason::FragmentWithoutFirst);
            for piece in [first, later] {
                let outcome = run(piece);
                assert_eq!(
                    (outcome.action, &outcome.counted),
                    (Action::Redirect, &Vec::new())
                );
                assert_eq!(outcome.bytes, fragment(&left, piece));
            }
            let stranger = Piece { id: 8, ..later };
            run(stranger).drops(DropReason::FragmentWithoutFirst);
            only_where_the_first_came_in(bed, family, &sent, later);
        }
        assert_eq!(bed.halves(), 8);
    });
}

/// A later piece that comes in by another interface gets no use of the first one.
fn only_where_the_first_came_in(bed: &Bed, family: Family, sent: &Frame, later: Piece) {
    let piece = fragment(sent, later);
    bed.run_bytes(Hook::FromContainer, Place::Veth(DB), &piece)
        .drops(DropReason::FragmentWithoutFirst);
    // The same of a datagram to a published port, of which the uplink knows the first piece.
    let asked = Frame::udp(client(family, 40000), host(family, DNS_PORT.0));
    let asked = asked.with_payload(&(0..64).collect::<Vec<u8>>());
    let first = Piece {
        offset: 0,
        len: 32,
        ..later
    };
    let addressed = [
        (Place::Uplink, UPLINK_MAC),
        (Place::Stray, bed.netns().mac("stray")),
    ];
    let [uplink, stray] = addressed.map(|(place, mac)| {
        let asked = asked.clone().macs(CLIENT_MAC, mac);
        move |piece| bed.run_bytes(Hook::FromNetdev, place, &fragment(&asked, piece))
    });
    uplink(later).takes_the_stack(StackReason::NotUnderstood);
    assert_eq!(uplink(first).action, Action::Redirect);
    stray(later).takes_the_stack(StackReason::NotUnderstood);
    bed.run_bytes(
        Hook::FromContainer,
        Place::Veth(WEB),
        &fragment(&asked, later),
    )
    .drops(DropReason::FragmentWithoutFirst);
    assert_eq!(uplink(later).action, Action::Redirect);
}
