//! What netbpf itself tells a sender: too big, out of hops, nobody listens there.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netbpf_common::{
    endpoint::{Interface, role},
    verdict::{DropReason, Hook, StackReason},
};
use netbpf_tests::{
    packet::{Flags, Frame, Mac, describe, fault},
    prog_run::{
        Action, Bed, CLIENT_MAC, DNS_PORT, Net, Outcome, Place, UPLINK_MAC, WEB_PORT, on_bed,
        residents::{MONK, WEB},
        vip,
    },
    topology::Family,
};

use crate::{arrives, client, host};

/// What is said about a packet: by whom, on which way back, type and code, the second word of the
/// ICMP header, and how much is quoted behind the IP header.
struct Told {
    from: IpAddr,
    macs: (Mac, Mac),
    kind: (u8, u8),
    rest: u32,
    quoted: usize,
}

/// Demands that the sender is told about its packet, in right checksums.
#[track_caller]
fn is_told(outcome: &Outcome, sent: &Frame, told: &Told) {
    assert_eq!(outcome.action, Action::Redirect, "{outcome:?}");
    let bytes = &outcome.bytes;
    assert_eq!(fault(bytes), None, "{}", describe(bytes));
    assert_eq!(
        (&bytes[6..12], &bytes[..6]),
        (&told.macs.0[..], &told.macs.1[..])
    );
    let (src, dst, icmp) = match sent.src {
        IpAddr::V4(_) => (&bytes[26..30], &bytes[30..34], &bytes[34..]),
        IpAddr::V6(_) => (&bytes[22..38], &bytes[38..54], &bytes[54..]),
    };
    assert_eq!((src, dst), (&octets(told.from)[..], &octets(sent.src)[..]));
    assert_eq!((icmp[0], icmp[1]), told.kind);
    assert_eq!(icmp[4..8], told.rest.to_be_bytes());
    let quoted = sent.ip_header_len() + told.quoted;
    assert_eq!(icmp[8..], sent.bytes()[14..14 + quoted]);
}

fn octets(addr: IpAddr) -> Vec<u8> {
    match addr {
        IpAddr::V4(addr) => addr.octets().to_vec(),
        IpAddr::V6(addr) => addr.octets().to_vec(),
    }
}

/// Type and code of out of hops, too big, and a closed port.
const fn kinds(family: Family) -> [(u8, u8); 3] {
    match family {
        Family::V4 => [(11, 0), (3, 4), (3, 3)],
        Family::V6 => [(3, 0), (2, 0), (1, 4)],
    }
}

/// UDP and TCP from WEB, and how much of each is quoted.
fn both(family: Family, to: SocketAddr) -> [(Frame, usize); 2] {
    let from = WEB.at(family, 40000);
    [
        (WEB.routes(Frame::udp(from, to)), 8),
        (WEB.routes(Frame::tcp(from, to, Flags::Syn)), 20),
    ]
}

fn sends(bed: &Bed, frame: &Frame) -> Outcome {
    bed.run(Hook::FromContainer, Place::Veth(WEB), frame)
}

fn comes(bed: &Bed, frame: &Frame) -> Outcome {
    bed.run(Hook::FromNetdev, Place::Uplink, frame)
}

/// What WEB hears from its gateway, or from whom it asked.
fn heard(from: IpAddr, kind: (u8, u8), rest: u32, quoted: usize) -> Told {
    Told {
        from,
        macs: (Net::Front.bridge_mac(), WEB.mac()),
        kind,
        rest,
        quoted,
    }
}

#[test]
fn what_is_too_big_or_out_of_hops_is_told_to_its_sender() {
    on_bed(|bed| {
        for family in Family::ALL {
            let [out_of_hops, too_big, _] = kinds(family);
            let gateway = WEB.net.gateway(family);
            for (frame, quoted) in both(family, SocketAddr::new(family.far(), 53)) {
                let last = frame.clone().with_ttl(1);
                let outcome = sends(bed, &last);
                outcome.counts(StackReason::TtlExceeded);
                is_told(&outcome, &last, &heard(gateway, out_of_hops, 0, quoted));
                // Also where the way of a shorter packet has just been asked for.
                assert_eq!(sends(bed, &frame).action, Action::Redirect);
                let big = frame.with_payload(&[7; 1600]);
                let outcome = sends(bed, &big);
                outcome.counts(StackReason::TooBig);
                is_told(&outcome, &big, &heard(gateway, too_big, 1500, quoted));
            }
        }
    });
}

#[test]
fn what_is_too_big_or_out_of_hops_for_a_container_is_told_outside() {
    on_bed(|bed| {
        bed.change(|contents| {
            if let Some(network) = contents.networks.get_mut(&(Net::Front as u32)) {
                network.mtu = 1400;
            }
        });
        for family in Family::ALL {
            let [out_of_hops, too_big, _] = kinds(family);
            let to = host(family, WEB_PORT.0);
            let syn = arrives(Frame::tcp(client(family, 40000), to, Flags::Syn));
            let told = |kind, rest| Told {
                from: family.host(),
                macs: (UPLINK_MAC, CLIENT_MAC),
                kind,
                rest,
                quoted: 20,
            };
            let last = syn.clone().with_ttl(1);
            let outcome = comes(bed, &last);
            outcome.counts(StackReason::TtlExceeded);
            is_told(&outcome, &last, &told(out_of_hops, 0));
            let big = syn.with_payload(&[7; 1401]);
            let outcome = comes(bed, &big);
            outcome.counts(StackReason::TooBig);
            is_told(&outcome, &big, &told(too_big, 1400));
            let delivered = big
                .clone()
                .with_payload(&[7; 1300])
                .to(WEB.at(family, WEB_PORT.1))
                .macs(Net::Front.bridge_mac(), WEB.mac());
            comes(bed, &big.with_payload(&[7; 1300])).redirects(&delivered.routed());
        }
    });
}

#[test]
fn what_is_too_big_for_another_network_is_told_to_the_container_that_sends() {
    on_bed(|bed| {
        bed.change(|contents| {
            if let Some(network) = contents.networks.get_mut(&(Net::Front as u32)) {
                network.mtu = 1400;
            }
        });
        for family in Family::ALL {
            let [_, too_big, _] = kinds(family);
            let syn = Frame::tcp(MONK.at(family, 40000), host(family, WEB_PORT.0), Flags::Syn);
            let big = MONK.routes(syn).with_payload(&[7; 1401]);
            let outcome = bed.run(Hook::FromContainer, Place::Veth(MONK), &big);
            outcome.counts(StackReason::TooBig);
            let told = Told {
                from: MONK.net.gateway(family),
                macs: (MONK.net.bridge_mac(), MONK.mac()),
                kind: too_big,
                rest: 1400,
                quoted: 20,
            };
            is_told(&outcome, &big, &told);
        }
    });
}

#[test]
fn a_port_that_a_vip_has_not_is_refused_by_the_vip() {
    on_bed(|bed| {
        for family in Family::ALL {
            let [_, _, closed] = kinds(family);
            let vip = vip(family);
            for (frame, quoted) in both(family, SocketAddr::new(vip, 22)) {
                let outcome = sends(bed, &frame);
                outcome.counts_drop(DropReason::VipPortClosed);
                is_told(&outcome, &frame, &heard(vip, closed, 0, quoted));
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

/// Toward an address of its own the host remembers an IPv6 path MTU only if it is below that of the
/// interface that has the address: it is told what every link takes, in IPv4 what the way takes.
#[test]
fn what_the_host_says_to_itself_and_is_too_big_for_the_container_is_told_once_for_all() {
    on_bed(|bed| {
        let loopback = Interface {
            role: role::LOOPBACK,
            ..Interface::default()
        };
        let ifindex = bed.ifindex(Place::Loopback);
        bed.change(|contents| {
            contents.interfaces.insert(ifindex, loopback);
        });
        for family in Family::ALL {
            let [_, too_big, _] = kinds(family);
            let rest = match family {
                Family::V4 => 1500,
                Family::V6 => 1280,
            };
            for asked in [host(family, DNS_PORT.0), localhost(family, DNS_PORT.0)] {
                let question = Frame::udp(SocketAddr::new(asked.ip(), 40000), asked);
                bed.run(Hook::FromLocal, Place::Loopback, &question);
                let big = question.with_payload(&[7; 1600]);
                let outcome = bed.run(Hook::FromLocal, Place::Loopback, &big);
                outcome.counts(StackReason::TooBig);
                let told = Told {
                    from: asked.ip(),
                    macs: ([0; 6], [0; 6]),
                    kind: too_big,
                    rest,
                    quoted: 8,
                };
                is_told(&outcome, &big, &told);
            }
        }
    });
}

fn localhost(family: Family, port: u16) -> SocketAddr {
    let addr = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    };
    SocketAddr::new(addr, port)
}
