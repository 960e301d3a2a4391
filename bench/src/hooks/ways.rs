//! What is asked of each hook: packets of the bed's world, first ones and later ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use netbpf_common::{config::MARK_TO_HOST, verdict::Hook};
use netbpf_tests::{
    packet::{Flags, Frame},
    prog_run::{
        Bed, CLIENT_MAC, Context, Net, Place, UPLINK_MAC, WEB_PORT,
        residents::{DB, MONK, WEB},
    },
    topology::Family,
};

/// Whether a packet's flow is known.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Kind {
    /// It is, and nothing changes.
    Established,
    /// It is not: the packet begins one.
    New,
}

impl Kind {
    /// Its word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Established => "established",
            Self::New => "new",
        }
    }
}

/// What a packet is about.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub enum Way {
    /// A client asks a published port.
    Published,
    /// The container answers it.
    Answer,
    /// A container asks the outside.
    Masqueraded,
    /// The outside answers it.
    Returned,
    /// A container asks another one of its network.
    Bridged,
    /// The host asks a container.
    FromHost,
    /// The host asks itself for a published port.
    Local,
    /// The host asks the outside for itself.
    OwnOut,
    /// A container's packet for the host has come up to its bridge.
    ToHost,
}

/// The first port of new flows: the one before it is the established one's.
const FIRST: u16 = 2000;

fn far(family: Family) -> SocketAddr {
    SocketAddr::new(family.far(), 53)
}

fn localhost(family: Family, port: u16) -> SocketAddr {
    let addr: IpAddr = match family {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(addr, port)
}

impl Way {
    /// All of them.
    pub const ALL: [Self; 9] = [
        Self::Published,
        Self::Answer,
        Self::Masqueraded,
        Self::Returned,
        Self::Bridged,
        Self::FromHost,
        Self::Local,
        Self::OwnOut,
        Self::ToHost,
    ];

    /// Its word in names.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Published => "published",
            Self::Answer => "answer",
            Self::Masqueraded => "masqueraded",
            Self::Returned => "returned",
            Self::Bridged => "bridged",
            Self::FromHost => "from_host",
            Self::Local => "local",
            Self::OwnOut => "own_out",
            Self::ToHost => "to_host",
        }
    }

    /// The hook that it is about.
    pub const fn hook(self) -> Hook {
        match self {
            Self::Published | Self::Returned => Hook::FromNetdev,
            Self::Answer | Self::Masqueraded | Self::Bridged => Hook::FromContainer,
            Self::FromHost => Hook::ToContainer,
            Self::Local => Hook::FromLocal,
            Self::OwnOut => Hook::ToNetdev,
            Self::ToHost => Hook::FromBridge,
        }
    }

    /// The kinds of packets that there are of it. What has no flow of ours counts as established.
    pub const fn kinds(self) -> &'static [Kind] {
        match self {
            Self::Published | Self::Masqueraded | Self::Bridged | Self::FromHost | Self::Local => {
                &[Kind::Established, Kind::New]
            }
            Self::Answer | Self::Returned | Self::OwnOut | Self::ToHost => &[Kind::Established],
        }
    }

    /// Where its hook runs.
    pub fn context(self, bed: &Bed) -> Context {
        let place = match self {
            Self::Published | Self::Returned | Self::OwnOut => Place::Uplink,
            Self::Answer | Self::Masqueraded | Self::Bridged => Place::Veth(WEB),
            Self::FromHost => Place::Veth(MONK),
            Self::Local => Place::Loopback,
            Self::ToHost => Place::Bridge(Net::Front),
        };
        let ifindex = bed.ifindex(place);
        Context {
            ifindex,
            // What the host sends came in nowhere.
            ingress: match self {
                Self::FromHost | Self::OwnOut => 0,
                _ => ifindex,
            },
            mark: match self {
                Self::ToHost => MARK_TO_HOST,
                _ => 0,
            },
        }
    }

    /// Whether the hook's interface has another MAC than the one that the frame is addressed to: a
    /// container's frames are for its bridge, or for another container.
    pub const fn is_for_other_host(self) -> bool {
        matches!(self, Self::Answer | Self::Masqueraded | Self::Bridged)
    }

    /// Where the port stands that differs between first packets, in bytes: the source port.
    pub const fn port_at(family: Family) -> i16 {
        const ETHERNET: i16 = 14;
        match family {
            Family::V4 => ETHERNET + 20,
            Family::V6 => ETHERNET + 40,
        }
    }

    /// The first packet of a flow; each number is another one.
    pub fn first(self, family: Family, number: u16) -> Frame {
        self.asks(family, FIRST + number)
    }

    fn asks(self, family: Family, port: u16) -> Frame {
        let gateway = |net: Net| SocketAddr::new(net.gateway(family), port);
        let host = SocketAddr::new(family.host(), port);
        match self {
            Self::Published | Self::Answer => {
                let client = SocketAddr::new(family.client(), port);
                let to = SocketAddr::new(family.host(), WEB_PORT.0);
                Frame::tcp(client, to, Flags::Syn).macs(CLIENT_MAC, UPLINK_MAC)
            }
            Self::Masqueraded | Self::Returned => {
                WEB.routes(Frame::udp(WEB.at(family, port), far(family)))
            }
            Self::Bridged => WEB.bridges(DB, Frame::udp(WEB.at(family, port), DB.at(family, 53))),
            Self::FromHost => Frame::udp(gateway(MONK.net), MONK.at(family, 53))
                .macs(MONK.net.bridge_mac(), MONK.mac()),
            Self::Local => Frame::tcp(
                localhost(family, port),
                localhost(family, WEB_PORT.0),
                Flags::Syn,
            ),
            Self::OwnOut => Frame::tcp(host, far(family), Flags::Ack).macs(UPLINK_MAC, CLIENT_MAC),
            Self::ToHost => WEB.routes(Frame::udp(WEB.at(family, port), gateway(WEB.net))),
        }
    }

    /// Makes a flow, and gives a later packet of it, which changes nothing however often it comes.
    pub fn established(self, bed: &Bed, family: Family) -> Frame {
        // Two ways share a kind of flow: each has one of its own.
        let port = FIRST - 1 - self as u16;
        let first = self.asks(family, port);
        match self {
            Self::Published => handshake(bed, family, &first).0,
            Self::Answer => handshake(bed, family, &first).1,
            Self::Masqueraded => masqueraded(bed, family, &first).0,
            Self::Returned => masqueraded(bed, family, &first).1,
            Self::Bridged => {
                bed.run(Hook::FromContainer, Place::Veth(WEB), &first);
                let answer = first.reply(Flags::Ack);
                bed.run(Hook::FromContainer, Place::Veth(DB), &answer);
                first
            }
            Self::FromHost => {
                bed.run(Hook::ToContainer, Place::Veth(MONK), &first);
                let answer = first.reply(Flags::Ack);
                bed.run(Hook::FromContainer, Place::Veth(MONK), &answer);
                first
            }
            Self::Local => local(bed, family, &first),
            Self::OwnOut | Self::ToHost => first,
        }
    }
}

/// What the container gets of a frame to its published port.
fn delivered(frame: &Frame, family: Family) -> Frame {
    frame
        .clone()
        .to(WEB.at(family, WEB_PORT.1))
        .macs(WEB.net.bridge_mac(), WEB.mac())
}

/// A connection through the published port: data of the client, and of the container.
fn handshake(bed: &Bed, family: Family, syn: &Frame) -> (Frame, Frame) {
    let ack = syn.next(Flags::Ack, b"");
    bed.run(Hook::FromNetdev, Place::Uplink, syn);
    let answer = |frame: &Frame, flags| delivered(frame, family).reply(flags);
    bed.run(
        Hook::FromContainer,
        Place::Veth(WEB),
        &answer(syn, Flags::SynAck),
    );
    bed.run(Hook::FromNetdev, Place::Uplink, &ack);
    let back = answer(&ack, Flags::PshAck);
    (ack.next(Flags::PshAck, b"data"), back)
}

/// An exchange with the outside: the question again, and the answer again.
fn masqueraded(bed: &Bed, family: Family, asked: &Frame) -> (Frame, Frame) {
    let host = SocketAddr::new(family.host(), asked.src_port());
    bed.run(Hook::FromContainer, Place::Veth(WEB), asked);
    let left = asked.clone().from(host).routed();
    let answer = left.reply(Flags::Ack).macs(CLIENT_MAC, UPLINK_MAC);
    bed.run(Hook::FromNetdev, Place::Uplink, &answer);
    (asked.clone(), answer)
}

/// A connection of the host's to itself that is led to the container.
fn local(bed: &Bed, family: Family, syn: &Frame) -> Frame {
    bed.run(Hook::FromLocal, Place::Loopback, syn);
    let gateway = SocketAddr::new(WEB.net.gateway(family), syn.src_port());
    let inside = delivered(syn, family).from(gateway);
    bed.run(
        Hook::FromContainer,
        Place::Veth(WEB),
        &inside.reply(Flags::SynAck),
    );
    let ack = syn.next(Flags::Ack, b"");
    bed.run(Hook::FromLocal, Place::Loopback, &ack);
    ack.next(Flags::PshAck, b"data")
}
