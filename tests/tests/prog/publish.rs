//! Published ports: in through DNAT with the client's address, and all the way back.

use netbpf_common::verdict::{DropReason, Hook};
use netbpf_tests::{
    packet::{Flags, Frame},
    prog_run::{
        Bed, DNS_PORT, MONK_PORT, Net, Place, WEB_PORT, on_bed,
        residents::{MONK, TENT, WEB},
    },
    topology::Family,
};

use crate::{arrives, client, host};

/// What the container gets of a frame to its published port.
fn delivered(frame: &Frame, family: Family, port: u16) -> Frame {
    frame
        .clone()
        .to(WEB.at(family, port))
        .macs(WEB.net.bridge_mac(), WEB.mac())
        .routed()
}

/// What leaves to the client of a container's answer.
fn returned(answer: &Frame, family: Family, port: u16) -> Frame {
    answer.clone().from(host(family, port)).routed()
}

/// Sends a frame in, and its answer back out.
fn round(bed: &Bed, family: Family, ports: (u16, u16), frame: &Frame, answer: Flags) -> Frame {
    let inside = delivered(frame, family, ports.1);
    bed.run(Hook::FromNetdev, Place::Uplink, frame)
        .redirects(&inside);
    let answer = inside.reply(answer);
    let outside = returned(&answer, family, ports.0);
    bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
        .redirects(&outside);
    outside
}

fn http_syn(family: Family) -> Frame {
    arrives(Frame::tcp(
        client(family, 40000),
        host(family, WEB_PORT.0),
        Flags::Syn,
    ))
}

#[test]
fn a_connection_is_translated_from_syn_to_fin_and_its_states_follow() {
    on_bed(|bed| {
        for family in Family::ALL {
            let state = |expected: &str| {
                let flow = bed
                    .flows()
                    .into_iter()
                    .find(|flow| Family::of(flow.original.src_addr) == family);
                assert_eq!(flow.expect("a flow").state, expected);
            };
            let syn = http_syn(family);
            let syn_ack = round(bed, family, WEB_PORT, &syn, Flags::SynAck);
            // The answer that the client sees is the reverse of what it asked.
            assert_eq!(
                (syn_ack.source(), syn_ack.dst),
                (host(family, 8080), family.client())
            );
            state("SYN_RECV");
            let ack = syn.next(Flags::Ack, b"");
            bed.run(Hook::FromNetdev, Place::Uplink, &ack)
                .redirects(&delivered(&ack, family, 80));
            state("ESTABLISHED");
            let get = ack.next(Flags::PshAck, b"GET / HTTP/1.0\r\n\r\n");
            round(bed, family, WEB_PORT, &get, Flags::PshAck);
            let fin = get.next(Flags::FinAck, b"");
            bed.run(Hook::FromNetdev, Place::Uplink, &fin)
                .redirects(&delivered(&fin, family, 80));
            state("FIN_WAIT");
            let fin_back = delivered(&fin, family, 80).reply(Flags::FinAck);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &fin_back)
                .redirects(&returned(&fin_back, family, 8080));
            state("LAST_ACK");
            let last = fin.next(Flags::Ack, b"");
            bed.run(Hook::FromNetdev, Place::Uplink, &last)
                .redirects(&delivered(&last, family, 80));
            state("TIME_WAIT");
        }
        assert_eq!(bed.halves(), 4);
    });
}

#[test]
fn datagrams_are_translated_and_a_zero_checksum_stays_zero() {
    on_bed(|bed| {
        for family in Family::ALL {
            let ask = Frame::udp(client(family, 5000), host(family, DNS_PORT.0));
            round(bed, family, DNS_PORT, &arrives(ask.clone()), Flags::Ack);
            let ask = Frame::udp(client(family, 5001), host(family, DNS_PORT.0));
            round(
                bed,
                family,
                DNS_PORT,
                &arrives(ask.without_checksum_in(family)),
                Flags::Ack,
            );
        }
    });
}

trait WithoutChecksum {
    fn without_checksum_in(self, family: Family) -> Self;
}

impl WithoutChecksum for Frame {
    /// IPv6 knows no datagrams without a checksum, but for tunnels (RFC 6935).
    fn without_checksum_in(self, family: Family) -> Self {
        match family {
            Family::V4 => self.without_checksum(),
            Family::V6 => self,
        }
    }
}

#[test]
fn a_gateway_address_is_one_of_the_hosts_addresses() {
    on_bed(|bed| {
        for family in Family::ALL {
            let gateway = Net::Open.gateway(family);
            let asked = std::net::SocketAddr::new(gateway, WEB_PORT.0);
            let syn = arrives(Frame::tcp(client(family, 40001), asked, Flags::Syn));
            let inside = delivered(&syn, family, 80);
            bed.run(Hook::FromNetdev, Place::Uplink, &syn)
                .redirects(&inside);
            let answer = inside.reply(Flags::SynAck);
            bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                .redirects(&answer.clone().from(asked).routed());
        }
    });
}

#[test]
fn one_client_port_to_two_host_addresses_makes_two_flows() {
    on_bed(|bed| {
        for family in Family::ALL {
            let syn = http_syn(family);
            bed.run(Hook::FromNetdev, Place::Uplink, &syn)
                .redirects(&delivered(&syn, family, 80));
            let other = std::net::SocketAddr::new(Net::Open.gateway(family), WEB_PORT.0);
            let second = syn.clone().to(other);
            let inside = bed
                .run(Hook::FromNetdev, Place::Uplink, &second)
                .redirects_from(&delivered(&second, family, 80), family.client());
            assert_ne!(inside.src_port(), syn.src_port());
            let answer = inside.reply(Flags::SynAck);
            let back = answer.clone().from(other).to(syn.source()).routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                .redirects(&back);
        }
    });
}

#[test]
fn containers_reach_published_ports_and_are_seen_as_themselves() {
    on_bed(|bed| {
        for family in Family::ALL {
            // From another network, by that network's own gateway address: routed.
            let asked = std::net::SocketAddr::new(Net::Open.gateway(family), WEB_PORT.0);
            let syn = TENT.routes(Frame::tcp(TENT.at(family, 40000), asked, Flags::Syn));
            let inside = delivered(&syn, family, 80);
            bed.run(Hook::FromContainer, Place::Veth(TENT), &syn)
                .redirects(&inside);
            let answer = inside.reply(Flags::SynAck);
            let back = answer
                .clone()
                .from(asked)
                .macs(TENT.net.bridge_mac(), TENT.mac())
                .routed();
            bed.run(Hook::FromContainer, Place::Veth(WEB), &answer)
                .redirects(&back);
        }
    });
}

#[test]
fn a_container_that_asks_for_its_own_published_port_sees_the_gateway() {
    on_bed(|bed| {
        for family in Family::ALL {
            let asked = host(family, MONK_PORT.0);
            let syn = MONK.routes(Frame::tcp(MONK.at(family, 40000), asked, Flags::Syn));
            let gateway = std::net::SocketAddr::new(Net::Quiet.gateway(family), 40000);
            let inside = syn
                .clone()
                .from(gateway)
                .to(MONK.at(family, MONK_PORT.1))
                .macs(Net::Quiet.bridge_mac(), MONK.mac());
            bed.run(Hook::FromContainer, Place::Veth(MONK), &syn)
                .redirects(&inside);
            let answer = inside.reply(Flags::SynAck);
            let back = answer
                .clone()
                .from(asked)
                .to(syn.source())
                .macs(Net::Quiet.bridge_mac(), MONK.mac());
            bed.run(Hook::FromContainer, Place::Veth(MONK), &answer)
                .redirects(&back);
        }
    });
}

#[test]
fn what_is_not_published_is_the_hosts_own() {
    on_bed(|bed| {
        for family in Family::ALL {
            let syn = Frame::tcp(client(family, 40000), host(family, 22), Flags::Syn);
            bed.run(Hook::FromNetdev, Place::Uplink, &arrives(syn))
                .passes();
            let ask = Frame::udp(client(family, 40000), host(family, WEB_PORT.0));
            bed.run(Hook::FromNetdev, Place::Uplink, &arrives(ask))
                .passes();
        }
        assert_eq!(bed.halves(), 0);
    });
}

#[test]
fn a_segment_that_begins_nothing_is_dropped_at_a_published_port() {
    on_bed(|bed| {
        for family in Family::ALL {
            for flags in [Flags::Ack, Flags::SynAck, Flags::FinAck, Flags::Rst] {
                let stray = Frame::tcp(client(family, 40000), host(family, WEB_PORT.0), flags);
                bed.run(Hook::FromNetdev, Place::Uplink, &arrives(stray))
                    .drops(DropReason::NoFlow);
            }
        }
        assert_eq!(bed.halves(), 0);
    });
}
