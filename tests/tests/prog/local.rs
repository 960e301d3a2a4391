//! What the host says to itself: into a container as its gateway's, and back as the one that was
//! asked.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{Arp, EchoKind, Flags, Frame},
    prog_run::{
        Bed, Context, DNS_PORT, GONE_PORT, Net, Outcome, Place, WEB_PORT, on_bed,
        residents::{DB, WEB},
    },
    topology::Family,
};

use crate::host;

const fn localhost(family: Family) -> IpAddr {
    match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::LOCALHOST),
        Family::V6 => IpAddr::V6(Ipv6Addr::LOCALHOST),
    }
}

fn at(addr: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(addr, port)
}

fn leaves(bed: &Bed, frame: &Frame) -> Outcome {
    bed.run(Hook::FromLocal, Place::Loopback, frame)
}

/// Sends a frame into the container, by the hook that lets in what `from_local` has judged.
fn enters(bed: &Bed, frame: &Frame, inside: &Frame) {
    let judged = leaves(bed, frame);
    judged.redirects_from_local(inside);
    let veth = Context {
        ifindex: bed.ifindex(Place::Veth(WEB)),
        ingress: 0,
        mark: judged.mark,
    };
    bed.run_with(Hook::ToContainer, veth, &judged.bytes)
        .passes();
}

/// What the container gets of a frame to its published port.
fn delivered(frame: &Frame, family: Family, port: u16) -> Frame {
    frame
        .clone()
        .from(at(Net::Front.gateway(family), frame.src_port()))
        .to(WEB.at(family, port))
        .macs(WEB.net.bridge_mac(), WEB.mac())
}

/// Sends a frame in, and its answer back to whoever asked.
fn round(bed: &Bed, family: Family, port: u16, frame: &Frame, answer: Flags) {
    let inside = delivered(frame, family, port);
    enters(bed, frame, &inside);
    let returned = frame.reply(answer);
    bed.run(Hook::FromContainer, Place::Veth(WEB), &inside.reply(answer))
        .redirects(&returned);
}

#[test]
fn what_the_host_asks_of_itself_is_answered_by_the_container() {
    on_bed(|bed| {
        for family in Family::ALL {
            for (port, asked) in [(40000, localhost(family)), (40001, family.host())] {
                let to = at(asked, WEB_PORT.0);
                let syn = Frame::tcp(at(asked, port), to, Flags::Syn);
                round(bed, family, WEB_PORT.1, &syn, Flags::SynAck);
                let ack = syn.next(Flags::Ack, b"");
                enters(bed, &ack, &delivered(&ack, family, WEB_PORT.1));
                let get = ack.next(Flags::PshAck, b"GET / HTTP/1.0\r\n\r\n");
                round(bed, family, WEB_PORT.1, &get, Flags::PshAck);
                let question = Frame::udp(at(asked, port), at(asked, DNS_PORT.0));
                round(bed, family, DNS_PORT.1, &question, Flags::Ack);
                round(bed, family, DNS_PORT.1, &question, Flags::Ack);
            }
        }
        assert_eq!(bed.halves(), 16);
        let flows = bed.flows();
        let states: Vec<_> = flows.iter().map(|flow| flow.state).collect();
        let established = states.iter().filter(|state| **state == "ESTABLISHED");
        assert_eq!(established.count(), 4, "{states:?}");
    });
}

#[test]
fn what_is_not_published_is_the_host_s_own() {
    on_bed(|bed| {
        for family in Family::ALL {
            let own = localhost(family);
            let from = at(own, 40000);
            let other = at(family.client(), WEB_PORT.0);
            for frame in [
                Frame::tcp(from, at(own, 8079), Flags::Syn),
                Frame::udp(from, at(own, WEB_PORT.0)),
                Frame::tcp(from, at(own, DNS_PORT.0), Flags::Syn),
                // What begins nothing belongs to a connection of the host's own.
                Frame::tcp(from, at(own, WEB_PORT.0), Flags::Ack),
                Frame::tcp(from, at(own, WEB_PORT.0), Flags::Rst),
                Frame::echo(own, own, EchoKind::Request, 7),
                // Neither is an address of the host.
                Frame::tcp(from, other, Flags::Syn),
                Frame::tcp(from, DB.at(family, 80), Flags::Syn),
            ] {
                leaves(bed, &frame).passes();
            }
            let gone = Frame::tcp(from, host(family, GONE_PORT), Flags::Syn);
            leaves(bed, &gone).drops(DropReason::NoEndpoint);
        }
        let arp = Arp {
            src_mac: [0; 6],
            dst_mac: [0; 6],
            operation: etherparse::ArpOperation::REQUEST,
            sender: ([0; 6], [127, 0, 0, 1]),
            target: ([0; 6], [127, 0, 0, 2]),
        };
        bed.run_bytes(Hook::FromLocal, Place::Loopback, &arp.bytes())
            .passes();
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_port_that_is_unpublished_ends_its_flows_of_the_host_s_own() {
    on_bed(|bed| {
        let questions = Family::ALL.map(|family| {
            let own = localhost(family);
            let question = Frame::udp(at(own, 40000), at(own, DNS_PORT.0));
            round(bed, family, DNS_PORT.1, &question, Flags::Ack);
            question
        });
        bed.change(|contents| {
            contents.published_v4.clear();
            contents.published_v6.clear();
            contents.mappings.clear();
        });
        bed.next_generation();
        for (family, question) in Family::ALL.into_iter().zip(&questions) {
            let answer = delivered(question, family, DNS_PORT.1).reply(Flags::Ack);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                .drops(DropReason::FlowEnded);
            leaves(bed, question).passes();
        }
    });
}
