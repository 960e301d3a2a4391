//! ICMP errors about known flows: translated outside and inside, in both directions.

use std::net::{IpAddr, SocketAddr};

use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{Flags, Frame},
    prog_run::{
        DNS_PORT, Net, Place, WEB_PORT, on_bed,
        residents::{DB, WEB},
    },
    topology::Family,
};

use crate::{arrives, client, host};

/// Destination unreachable: port unreachable.
const fn unreachable(family: Family) -> (u8, u8) {
    match family {
        Family::V4 => (3, 3),
        Family::V6 => (1, 4),
    }
}

/// A router on the way, which is no end of the flow.
fn router(family: Family) -> IpAddr {
    family.stranger()
}

#[test]
fn an_error_about_a_masqueraded_flow_comes_to_the_container_as_if_there_were_no_translation() {
    on_bed(|bed| {
        for family in Family::ALL {
            let (kind, code) = unreachable(family);
            let far = SocketAddr::new(family.far(), 53);
            for frame in [
                Frame::udp(WEB.at(family, 40000), far),
                Frame::tcp(WEB.at(family, 40000), far, Flags::Syn),
            ] {
                let sent = WEB.routes(frame);
                let left = sent.clone().from(host(family, 40000)).routed();
                bed.run(Hook::FromContainer, Place::Veth(WEB), &sent)
                    .redirects(&left);
                let error = arrives(Frame::error_about(router(family), &left, kind, code));
                let inside = Frame::error_about(router(family), &sent.clone().routed(), kind, code)
                    .macs(WEB.net.bridge_mac(), WEB.mac())
                    .routed();
                bed.run(Hook::FromNetdev, Place::Uplink, &error)
                    .redirects(&inside);
            }
        }
        // Errors are no flows of their own.
        assert_eq!(bed.halves(), 2 * 2 * 2);
    });
}

#[test]
fn an_error_of_a_container_about_a_published_flow_leaves_as_the_hosts() {
    on_bed(|bed| {
        for family in Family::ALL {
            let (kind, code) = unreachable(family);
            let ask = arrives(Frame::udp(client(family, 5000), host(family, DNS_PORT.0)));
            let inside = ask
                .clone()
                .to(WEB.at(family, DNS_PORT.1))
                .macs(WEB.net.bridge_mac(), WEB.mac())
                .routed();
            bed.run(Hook::FromNetdev, Place::Uplink, &ask)
                .redirects(&inside);
            let error = WEB.routes(Frame::error_about(WEB.addr(family), &inside, kind, code));
            let outside = WEB
                .routes(Frame::error_about(
                    family.host(),
                    &ask.clone().routed(),
                    kind,
                    code,
                ))
                .routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &error)
                .redirects(&outside);
        }
        assert_eq!(bed.halves(), 2 * 2);
    });
}

#[test]
fn an_error_about_no_flow_reaches_no_container() {
    on_bed(|bed| {
        for family in Family::ALL {
            let (kind, code) = unreachable(family);
            let nothing = Frame::udp(WEB.at(family, 40000), SocketAddr::new(family.far(), 53));
            let error = arrives(Frame::error_about(router(family), &nothing, kind, code));
            bed.run(Hook::FromNetdev, Place::Uplink, &error)
                .drops(DropReason::DirectAccess);
            let to_host = Frame::udp(host(family, 40000), SocketAddr::new(family.far(), 53));
            let error = arrives(Frame::error_about(router(family), &to_host, kind, code));
            bed.run(Hook::FromNetdev, Place::Uplink, &error).passes();
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_container_cannot_forge_an_error_about_somebody_elses_flow() {
    on_bed(|bed| {
        for family in Family::ALL {
            let (kind, code) = unreachable(family);
            let syn = arrives(Frame::tcp(
                client(family, 40000),
                host(family, WEB_PORT.0),
                Flags::Syn,
            ));
            let inside = syn
                .clone()
                .to(WEB.at(family, WEB_PORT.1))
                .macs(WEB.net.bridge_mac(), WEB.mac())
                .routed();
            bed.run(Hook::FromNetdev, Place::Uplink, &syn)
                .redirects(&inside);
            let forged = Frame::error_about(DB.addr(family), &inside, kind, code);
            let outcome = bed.run(
                Hook::FromContainer,
                Place::Veth(DB),
                &forged.macs(DB.mac(), Net::Front.bridge_mac()),
            );
            let untouched = bed.run(Hook::FromNetdev, Place::Uplink, &syn);
            untouched.redirects(&inside);
            // Whatever becomes of it, it leaves without the host's address.
            let as_host = Frame::error_about(family.host(), &syn.clone().routed(), kind, code);
            assert_ne!(outcome.bytes[14..], as_host.routed().bytes()[14..]);
        }
    });
}
