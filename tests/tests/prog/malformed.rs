//! Frames that lie about themselves: no verdict beyond the stated default, no growth of the flow
//! table, and every one of them counted.

use std::net::SocketAddr;

use netbpf_common::verdict::{DropReason, Hook, Seat, StackReason};
use netbpf_tests::{
    packet::{Arp, EchoKind, Flags, Frame, set_ipv4_checksum},
    prog_run::{
        Action, Bed, Context, Outcome, Place, SERVICE_PORT, WEB_PORT, on_bed,
        residents::{DB, WEB},
        vip,
    },
    topology::Family,
};

use crate::{arrives, client, host};

/// Frames that a container may send, one of every kind that is looked into.
fn from_container(family: Family) -> Vec<Frame> {
    let far = SocketAddr::new(family.far(), 53);
    let service = SocketAddr::new(vip(family), SERVICE_PORT);
    vec![
        WEB.routes(Frame::tcp(WEB.at(family, 40000), far, Flags::Syn)),
        WEB.routes(Frame::udp(WEB.at(family, 40000), far)),
        WEB.routes(Frame::echo(
            WEB.addr(family),
            family.far(),
            EchoKind::Request,
            3,
        )),
        WEB.routes(Frame::udp(WEB.at(family, 40000), service)),
        WEB.bridges(
            DB,
            Frame::tcp(WEB.at(family, 40000), DB.at(family, 80), Flags::Syn),
        ),
    ]
}

/// Frames that may come from outside.
fn from_outside(family: Family) -> Vec<Frame> {
    let published = host(family, WEB_PORT.0);
    vec![
        arrives(Frame::tcp(client(family, 40000), published, Flags::Syn)),
        arrives(Frame::udp(client(family, 40000), host(family, 5353))),
        arrives(Frame::tcp(
            client(family, 40000),
            WEB.at(family, 80),
            Flags::Syn,
        )),
        arrives(Frame::echo(
            family.client(),
            family.host(),
            EchoKind::Request,
            3,
        )),
    ]
}

/// Runs bytes that nobody can understand through a hook, and demands its default.
#[track_caller]
fn is_not_understood(bed: &Bed, hook: Hook, bytes: &[u8]) {
    let before = bed.halves();
    match hook {
        Hook::FromContainer => {
            bed.run_bytes(hook, Place::Veth(WEB), bytes)
                .drops(DropReason::Malformed);
        }
        _ => {
            let outcome = bed.run_bytes(hook, Place::Uplink, bytes);
            if is_for_container(bytes) {
                outcome.drops(DropReason::Malformed);
            } else {
                outcome.takes_the_stack(StackReason::NotUnderstood);
            }
        }
    }
    assert_eq!(bed.halves(), before);
}

/// Whether enough of the frame is there to see a container's address as its destination.
fn is_for_container(bytes: &[u8]) -> bool {
    let web_v4 = bytes.get(30..34) == Some(&[172, 28, 0, 10][..]) && bytes[12..14] == [8, 0];
    let std::net::IpAddr::V6(v6) = WEB.addr(Family::V6) else {
        return false;
    };
    let web_v6 = bytes.get(38..54) == Some(&v6.octets()[..]) && bytes[12..14] == [0x86, 0xdd];
    web_v4 || web_v6
}

/// A test run takes no IP packet that is shorter than its header (`net/bpf/test_run.c`); such
/// frames are sent for real, by `net/wire.rs`.
const fn shortest(frame: &Frame) -> usize {
    14 + frame.ip_header_len()
}

#[test]
fn a_frame_that_is_cut_anywhere_is_not_understood() {
    on_bed(|bed| {
        for family in Family::ALL {
            for frame in from_container(family) {
                let whole = frame.bytes();
                for len in shortest(&frame)..whole.len() {
                    is_not_understood(bed, Hook::FromContainer, &whole[..len]);
                }
            }
            for frame in from_outside(family) {
                let whole = frame.bytes();
                for len in shortest(&frame)..whole.len() {
                    is_not_understood(bed, Hook::FromNetdev, &whole[..len]);
                }
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn an_arp_packet_that_is_cut_anywhere_is_dropped() {
    on_bed(|bed| {
        let arp = Arp {
            src_mac: WEB.mac(),
            dst_mac: [0xff; 6],
            operation: etherparse::ArpOperation::REQUEST,
            sender: (WEB.mac(), [172, 28, 0, 10]),
            target: ([0; 6], [172, 28, 0, 11]),
        };
        let whole = arp.bytes();
        for len in 14..whole.len() {
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &whole[..len])
                .drops(DropReason::Malformed);
        }
        for at in 14..20 {
            let mut odd = whole.clone();
            odd[at] ^= 0x40;
            bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &odd)
                .drops(DropReason::Malformed);
        }
    });
}

#[test]
fn ipv4_headers_that_contradict_themselves_are_not_understood() {
    on_bed(|bed| {
        for (hook, frames) in [
            (Hook::FromContainer, from_container(Family::V4)),
            (Hook::FromNetdev, from_outside(Family::V4)),
        ] {
            for frame in frames {
                let whole = frame.bytes();
                let len = (whole.len() - 14) as u16;
                // Header lengths below five words, and versions that are none.
                for first in [0x44, 0x40, 0x41, 0x55, 0x05, 0x65, 0xf5] {
                    is_not_understood(bed, hook, &with(&whole, 14, &[first]));
                }
                // Total lengths below the header, and beyond the frame.
                for total in [0, 1, 19, 20, len + 1, u16::MAX] {
                    is_not_understood(bed, hook, &with(&whole, 16, &total.to_be_bytes()));
                }
                // A header that is all of the packet.
                is_not_understood(bed, hook, &with(&whole, 14, &[0x4f]));
            }
        }
    });
}

#[test]
fn ipv6_headers_that_contradict_themselves_are_not_understood() {
    on_bed(|bed| {
        for (hook, frames) in [
            (Hook::FromContainer, from_container(Family::V6)),
            (Hook::FromNetdev, from_outside(Family::V6)),
        ] {
            for frame in frames {
                let whole = frame.bytes();
                let payload = (whole.len() - 54) as u16;
                for first in [0x40, 0x50, 0x70, 0x00] {
                    is_not_understood(bed, hook, &with(&whole, 14, &[first]));
                }
                for wrong in [1, 7, payload + 1, u16::MAX] {
                    is_not_understood(bed, hook, &with(&whole, 18, &wrong.to_be_bytes()));
                }
                // No next header, and chains that never end in this packet.
                is_not_understood(bed, hook, &with(&whole, 20, &[59]));
                is_not_understood(bed, hook, &chain(&whole, 9, 60));
                is_not_understood(bed, hook, &chain(&whole, 100, 0));
            }
        }
    });
}

#[test]
fn transport_headers_that_contradict_themselves_are_not_understood() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (hook, frames) in [
                (Hook::FromContainer, from_container(family)),
                (Hook::FromNetdev, from_outside(family)),
            ] {
                for frame in frames {
                    let whole = frame.bytes();
                    let l4 = 14 + frame.ip_header_len();
                    match frame.body {
                        netbpf_tests::packet::Body::Tcp { .. } => {
                            // Data offsets below five words, and beyond the packet.
                            for words in [0, 1, 4, 6, 15] {
                                let offset = [words << 4];
                                is_not_understood(bed, hook, &with(&whole, l4 + 12, &offset));
                            }
                        }
                        netbpf_tests::packet::Body::Udp { .. } => {
                            let len = (whole.len() - l4) as u16;
                            for wrong in [0, 7, len + 1, u16::MAX] {
                                let wrong = wrong.to_be_bytes();
                                is_not_understood(bed, hook, &with(&whole, l4 + 4, &wrong));
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
    });
}

#[test]
fn options_and_extension_headers_are_walked_over() {
    on_bed(|bed| {
        let sent = WEB.routes(Frame::udp(
            WEB.at(Family::V4, 40000),
            SocketAddr::new(Family::V4.far(), 53),
        ));
        let left = sent.clone().from(host(Family::V4, 40000)).routed();
        let outcome = bed.run_bytes(
            Hook::FromContainer,
            Place::Veth(WEB),
            &with_options(&sent.bytes()),
        );
        is_translated_to(&outcome, &with_options(&left.bytes()));

        let sent = WEB.routes(Frame::udp(
            WEB.at(Family::V6, 40000),
            SocketAddr::new(Family::V6.far(), 53),
        ));
        let left = sent.clone().from(host(Family::V6, 40000)).routed();
        for kinds in [&[60][..], &[0, 60], &[0, 43, 60]] {
            let chained = |frame: &Frame| {
                kinds
                    .iter()
                    .rev()
                    .fold(frame.bytes(), |bytes, kind| chain(&bytes, 1, *kind))
            };
            let outcome = bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &chained(&sent));
            is_translated_to(&outcome, &chained(&left));
        }
    });
}

/// Where a transport header begins further on than is looked, nothing else is taken for it. The
/// extension header that leads there would do for one of UDP.
#[test]
fn a_transport_header_out_of_reach_is_not_guessed() {
    on_bed(|bed| {
        let (from, to) = (WEB.at(Family::V6, 40000), DB.at(Family::V6, 53));
        let sent = WEB.bridges(DB, Frame::udp(from, to)).bytes();
        // At byte 2,046 of the frame is the last one that is found.
        let found = long(&sent, 248);
        let outcome = bed.run_bytes(Hook::FromContainer, Place::Veth(WEB), &found);
        is_translated_to(&outcome, &found);
        for units in [249, 255] {
            is_not_understood(bed, Hook::FromContainer, &long(&sent, units));
        }
    });
}

/// An IPv6 frame with one destination option that makes its header `units` + 1 times eight bytes
/// long.
fn long(bytes: &[u8], units: u8) -> Vec<u8> {
    let mut header = vec![0; (usize::from(units) + 1) * 8];
    header[..6].copy_from_slice(&[bytes[20], units, 1, 4, 0, 16]);
    let mut whole = [&bytes[..54], &header, &bytes[54..]].concat();
    whole[20] = 60;
    let payload = (whole.len() - 54) as u16;
    whole[18..20].copy_from_slice(&payload.to_be_bytes());
    whole
}

fn is_translated_to(outcome: &Outcome, expected: &[u8]) {
    assert_eq!(
        (outcome.action, &outcome.counted),
        (Action::Redirect, &Vec::new())
    );
    assert_eq!(outcome.bytes, expected);
}

/// The bytes with others put over them.
fn with(bytes: &[u8], at: usize, patch: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    bytes[at..at + patch.len()].copy_from_slice(patch);
    bytes
}

/// An IPv4 frame with a word of no-operation options.
fn with_options(bytes: &[u8]) -> Vec<u8> {
    let mut bytes = [&bytes[..34], &[1, 1, 1, 1], &bytes[34..]].concat();
    bytes[14] = 0x46;
    let total = (bytes.len() - 14) as u16;
    bytes[16..18].copy_from_slice(&total.to_be_bytes());
    // The options add their own two words to the sum.
    set_ipv4_checksum(&mut bytes);
    let sum = u32::from(!u16::from_be_bytes([bytes[24], bytes[25]])) + 0x0101 + 0x0101;
    let checksum = !(((sum & 0xffff) + (sum >> 16)) as u16);
    bytes[24..26].copy_from_slice(&checksum.to_be_bytes());
    bytes
}

/// An IPv6 frame with `count` extension headers of one kind, each eight bytes of padding.
fn chain(bytes: &[u8], count: usize, kind: u8) -> Vec<u8> {
    let mut headers = Vec::new();
    for at in 0..count {
        let next = if at + 1 == count { bytes[20] } else { kind };
        headers.extend([next, 0, 1, 4, 0, 0, 0, 0]);
    }
    let mut chained = [&bytes[..54], &headers, &bytes[54..]].concat();
    chained[20] = kind;
    let payload = (chained.len() - 54) as u16;
    chained[18..20].copy_from_slice(&payload.to_be_bytes());
    chained
}

/// A small generator of numbers that are the same in every run (xorshift64).
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }

    fn below(&mut self, end: usize) -> usize {
        (self.roll() % end as u64) as usize
    }
}

/// Changes a few bytes, and sometimes the length.
fn mutated(dice: &mut Dice, bytes: &[u8]) -> Vec<u8> {
    let mut bytes = bytes.to_vec();
    for _ in 0..=dice.below(4) {
        let at = dice.below(bytes.len());
        bytes[at] = match dice.below(3) {
            0 => bytes[at] ^ (1 << dice.below(8)),
            1 => dice.roll() as u8,
            _ => [0, 1, 0x7f, 0x80, 0xff][dice.below(5)],
        };
    }
    match dice.below(8) {
        0 => bytes.truncate(14 + dice.below(bytes.len() - 14)),
        1 => bytes.resize(bytes.len() + dice.below(64), dice.roll() as u8),
        _ => {}
    }
    bytes
}

/// Whether a test run takes the frame; see [`shortest`].
fn is_long_enough(bytes: &[u8]) -> bool {
    match bytes[12..14] {
        [0x08, 0x00] => bytes.len() >= 14 + 20,
        [0x86, 0xdd] => bytes.len() >= 14 + 40,
        _ => true,
    }
}

#[test]
fn mutated_frames_meet_no_other_verdict_and_leave_the_table_bounded() {
    const RUNS: usize = 20_000;
    on_bed(|bed| {
        let mut dice = Dice(0x6e62_7066_0001);
        let seeds: Vec<(Hook, Vec<u8>)> = Family::ALL
            .iter()
            .flat_map(|family| {
                let inside = from_container(*family).into_iter();
                let outside = from_outside(*family).into_iter();
                inside
                    .map(|frame| (Hook::FromContainer, frame.bytes()))
                    .chain(outside.map(|frame| (Hook::FromNetdev, frame.bytes())))
            })
            .collect();
        let programs = Hook::ALL
            .into_iter()
            .filter(|hook| hook.seat() == Seat::Interface)
            .map(|hook| bed.program(hook))
            .collect::<Vec<_>>();
        for _ in 0..RUNS {
            let (hook, bytes) = &seeds[dice.below(seeds.len())];
            // Now and then the other hooks get it as well.
            let hook = if dice.below(4) == 0 {
                Hook::ALL[dice.below(5)]
            } else {
                *hook
            };
            let place = match hook {
                Hook::FromContainer | Hook::ToContainer => Place::Veth(WEB),
                Hook::FromNetdev | Hook::ToNetdev => Place::Uplink,
                _ => Place::Bridge(WEB.net),
            };
            let ifindex = bed.ifindex(place);
            let ingress = if dice.below(2) == 0 { ifindex } else { 0 };
            // An action that is none of ours panics.
            let context = Context {
                ifindex,
                ingress,
                mark: 0,
            };
            let bytes = mutated(&mut dice, bytes);
            if is_long_enough(&bytes) {
                let _ = programs[hook as usize].run(context, &bytes);
            }
        }
        assert!(bed.halves() <= 4 * (4096 + 1024), "{} halves", bed.halves());
        // The programs still do their work.
        let syn = arrives(Frame::tcp(
            client(Family::V4, 61000),
            host(Family::V4, 8080),
            Flags::Syn,
        ));
        let inside = syn
            .clone()
            .to(WEB.at(Family::V4, 80))
            .macs(WEB.net.bridge_mac(), WEB.mac());
        bed.run(Hook::FromNetdev, Place::Uplink, &syn)
            .redirects(&inside.routed());
    });
}
