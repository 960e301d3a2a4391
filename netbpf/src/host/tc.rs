//! The `clsact` qdisc of an interface and our one filter at each of its two places. It never looks
//! into anybody else's filters, and never deletes one.

use nix::errno::Errno;
use rtnetlink::{
    packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        tc::{TcAttribute, TcFilterBpfOption, TcHandle, TcMessage, TcOption},
    },
    sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE},
};

use super::{
    Rtnl,
    error::{Doing as _, Result},
    link::Link,
};

/// Before every other filter.
pub const PRIORITY: u16 = 1;

/// By which ours is known: "nb".
pub const HANDLE: u16 = 0x6e62;

/// `htons(ETH_P_ALL)`.
const ALL_PROTOCOLS: u32 = 0x0003_u16.to_be() as u32;

const KIND: &str = "clsact";

/// Where a filter sits.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Side {
    /// What the interface receives.
    Ingress,
    /// What it sends.
    Egress,
}

impl Side {
    const ALL: [Self; 2] = [Self::Ingress, Self::Egress];

    const fn parent(self) -> TcHandle {
        TcHandle {
            major: u16::MAX,
            minor: match self {
                Self::Ingress => TcHandle::MIN_INGRESS,
                Self::Egress => TcHandle::MIN_EGRESS,
            },
        }
    }
}

/// Whether an interface has a `clsact` qdisc.
pub fn has_clsact(ifindex: u32) -> Result<bool> {
    let request = message(ifindex, TcHandle::UNSPEC, TcHandle::UNSPEC, 0);
    let answers = ask(RouteNetlinkMessage::GetQueueDiscipline(request), NLM_F_DUMP)?;
    Ok(answers.iter().any(|answer| {
        matches!(answer, RouteNetlinkMessage::NewQueueDiscipline(found)
            if found.header.index == index_of(ifindex) && is_clsact(found))
    }))
}

fn is_clsact(found: &TcMessage) -> bool {
    let is_kind = |it: &TcAttribute| matches!(it, TcAttribute::Kind(kind) if kind == KIND);
    found.attributes.iter().any(is_kind)
}

/// The id of the program of our filter there, if we have one.
pub fn program(ifindex: u32, side: Side) -> Result<Option<u32>> {
    let mut found = filters(ifindex, side)?;
    found.retain(is_ours);
    Ok(found.iter().flat_map(|it| &it.attributes).find_map(|it| {
        let TcAttribute::Options(options) = it else {
            return None;
        };
        options.iter().find_map(|option| match option {
            TcOption::Bpf(TcFilterBpfOption::ProgId(id)) => Some(*id),
            _ => None,
        })
    }))
}

fn is_ours(filter: &TcMessage) -> bool {
    filter.header.info >> 16 == u32::from(PRIORITY)
        && filter.header.handle
            == TcHandle {
                major: 0,
                minor: HANDLE,
            }
}

fn filters(ifindex: u32, side: Side) -> Result<Vec<TcMessage>> {
    if !has_clsact(ifindex)? {
        return Ok(Vec::new());
    }
    let request = message(ifindex, TcHandle::UNSPEC, side.parent(), 0);
    let answers = ask(RouteNetlinkMessage::GetTrafficFilter(request), NLM_F_DUMP)?;
    Ok(answers
        .into_iter()
        .filter_map(|answer| match answer {
            RouteNetlinkMessage::NewTrafficFilter(filter) => Some(filter),
            _ => None,
        })
        // Each priority has a row of its own beside those of its filters.
        .filter(|filter| filter.header.handle != TcHandle::UNSPEC)
        .collect())
}

/// Deletes our filter there; one that is gone, with its interface or without, is as it should be.
pub fn delete(ifindex: u32, side: Side) -> Result<()> {
    if program(ifindex, side)?.is_none() {
        return Ok(());
    }
    let info = u32::from(PRIORITY) << 16 | ALL_PROTOCOLS;
    let ours = TcHandle {
        major: 0,
        minor: HANDLE,
    };
    let mut request = message(ifindex, ours, side.parent(), info);
    request.attributes.push(TcAttribute::Kind("bpf".to_owned()));
    ask(RouteNetlinkMessage::DelTrafficFilter(request), NLM_F_ACK).map(drop)
}

/// The interface to which we gave a `clsact` qdisc when it had that name and number (0: unknown).
///
/// A number comes again: under another name it is the same interface only if our filter is there,
/// for filters go with their interface.
pub fn owner(rtnl: &Rtnl, name: &str, ifindex: u32) -> Result<Option<Link>> {
    if ifindex == 0 {
        return rtnl.link(name);
    }
    let links = rtnl.links()?;
    let Some(link) = links.into_iter().find(|link| link.index == ifindex) else {
        return Ok(None);
    };
    let is_it = link.name == name || has_filter(ifindex)?;
    Ok(is_it.then_some(link))
}

fn has_filter(ifindex: u32) -> Result<bool> {
    Ok(program(ifindex, Side::Ingress)?.is_some() || program(ifindex, Side::Egress)?.is_some())
}

/// Deletes the `clsact` qdisc of an interface, unless somebody has filters on it.
pub fn delete_clsact_if_unused(ifindex: u32) -> Result<()> {
    if !has_clsact(ifindex)? {
        return Ok(());
    }
    for side in Side::ALL {
        if !filters(ifindex, side)?.is_empty() {
            return Ok(());
        }
    }
    let mut request = message(ifindex, QDISC, TcHandle::CLSACT, 0);
    request.attributes.push(TcAttribute::Kind(KIND.to_owned()));
    ask(RouteNetlinkMessage::DelQueueDiscipline(request), NLM_F_ACK).map(drop)
}

/// The handle that every `clsact` qdisc has.
const QDISC: TcHandle = TcHandle {
    major: u16::MAX,
    minor: 0,
};

fn index_of(ifindex: u32) -> i32 {
    i32::try_from(ifindex).unwrap_or(i32::MAX)
}

fn message(ifindex: u32, handle: TcHandle, parent: TcHandle, info: u32) -> TcMessage {
    let mut message = TcMessage::with_index(index_of(ifindex));
    message.header.handle = handle;
    message.header.parent = parent;
    message.header.info = info;
    message
}

/// Sends a request in the calling thread's namespace and collects what it is answered.
fn ask(message: RouteNetlinkMessage, flags: u16) -> Result<Vec<RouteNetlinkMessage>> {
    let action = || "ask for qdiscs and filters".to_owned();
    let mut request = NetlinkMessage::from(message);
    request.header.flags = NLM_F_REQUEST | flags;
    request.finalize();
    let mut bytes = vec![0; request.buffer_len()];
    request.serialize(&mut bytes);
    let mut socket = Socket::new(NETLINK_ROUTE).doing(action)?;
    socket.bind_auto().doing(action)?;
    socket.connect(&SocketAddr::new(0, 0)).doing(action)?;
    socket.send(&bytes, 0).doing(action)?;
    let mut answers = Vec::new();
    loop {
        let (datagram, _) = socket.recv_from_full().doing(action)?;
        let mut rest = datagram.as_slice();
        while !rest.is_empty() {
            let answer = NetlinkMessage::<RouteNetlinkMessage>::deserialize(rest)
                .map_err(|error| std::io::Error::other(error.to_string()))
                .doing(action)?;
            let len = usize::try_from(answer.header.length).unwrap_or(rest.len());
            rest = rest.get(len.next_multiple_of(4)..).unwrap_or_default();
            match answer.payload {
                NetlinkPayload::Done(_) => return Ok(answers),
                NetlinkPayload::Error(error) => match error.to_io() {
                    _ if error.code.is_none() => return Ok(answers),
                    // The interface went away in between.
                    gone if gone.raw_os_error() == Some(Errno::ENODEV as i32) => {
                        return Ok(answers);
                    }
                    refused => return Err(refused).doing(action),
                },
                NetlinkPayload::InnerMessage(inner) => answers.push(inner),
                _ => {}
            }
        }
    }
}
