//! What the host sends or forwards and nobody understands.

use std::net::SocketAddr;

use netbpf_common::verdict::{DropReason, Hook, StackReason};
use netbpf_tests::{
    packet::{Frame, Piece, fragment},
    prog_run::{Context, Place, on_bed, residents::WEB},
    topology::Family,
};

use crate::{client, host};

/// What the host itself sends: into a container only what can be understood, outside all that does
/// not say that it is a container's.
#[test]
fn what_the_host_sends_and_nobody_understands_is_counted_and_enters_no_container() {
    on_bed(|bed| {
        for family in Family::ALL {
            let outside = SocketAddr::new(family.far(), 53);
            let into = Frame::udp(host(family, 40000), WEB.at(family, 53));
            let out = Frame::udp(host(family, 40000), outside);
            let forged = Frame::udp(WEB.at(family, 40000), outside);
            let cut = |frame: &Frame| {
                let bytes = frame.bytes();
                bytes[..bytes.len() - 4].to_vec()
            };
            let later = |frame: &Frame| {
                let piece = Piece {
                    id: 9,
                    offset: 8,
                    len: 64,
                };
                fragment(&frame.clone().with_payload(&[7; 64]), piece)
            };
            let sends = |hook, place, bytes: &[u8]| bed.run_bytes(hook, place, bytes);
            let (veth, uplink) = (Place::Veth(WEB), Place::Uplink);
            sends(Hook::ToContainer, veth, &cut(&into)).drops(DropReason::Malformed);
            sends(Hook::ToContainer, veth, &later(&into)).drops(DropReason::FragmentWithoutFirst);
            sends(Hook::ToNetdev, uplink, &cut(&forged)).drops(DropReason::Malformed);
            sends(Hook::ToNetdev, uplink, &later(&forged)).drops(DropReason::FragmentWithoutFirst);
            for bytes in [cut(&out), later(&out)] {
                let outcome = sends(Hook::ToNetdev, uplink, &bytes);
                outcome.takes_the_stack(StackReason::NotUnderstood);
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

/// Forwarded by the stack: what comes by a bridge of ours is a container's, whatever it says, and
/// what an outward interface brings is nobody's in a container.
#[test]
fn what_the_stack_forwards_and_nobody_understands_is_dropped() {
    on_bed(|bed| {
        for family in Family::ALL {
            let outside = SocketAddr::new(family.far(), 53);
            for from in [WEB.at(family, 40000), client(family, 40000)] {
                let bytes = Frame::udp(from, outside).bytes();
                let bridge = Context {
                    ifindex: bed.ifindex(Place::Uplink),
                    ingress: bed.ifindex(Place::Bridge(WEB.net)),
                    mark: 0,
                };
                bed.run_with(Hook::ToNetdev, bridge, &bytes[..bytes.len() - 4])
                    .drops(DropReason::Malformed);
            }
            let bytes = Frame::udp(client(family, 40000), WEB.at(family, 53)).bytes();
            let uplink = Context {
                ifindex: bed.ifindex(Place::Veth(WEB)),
                ingress: bed.ifindex(Place::Uplink),
                mark: 0,
            };
            bed.run_with(Hook::ToContainer, uplink, &bytes[..bytes.len() - 4])
                .drops(DropReason::Malformed);
        }
        assert_eq!(bed.halves(), 0);
    });
}
