//! Links: observe, make bridges and veth pairs, enslave, bring up, delete.
//! It never deletes a link that does not carry our mark.

mod message;
mod set;

use futures_util::{StreamExt as _, TryStreamExt as _};
use nix::errno::Errno;
use rtnetlink::{
    LinkBridge, LinkMessageBuilder, LinkUnspec, LinkVeth,
    packet_core::{NLM_F_ACK, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload},
    packet_route::{
        RouteNetlinkMessage,
        link::{AfSpecInet6, AfSpecUnspec, In6AddrGenMode, InfoData, InfoVeth, LinkAttribute},
        nsid::{NsidAttribute, NsidMessage},
    },
};

use self::message::link_of;
use super::{
    Mac,
    error::{Error, Result},
    netns::Netns,
    rtnl::{Rtnl, Unless as _},
};

/// `ARPHRD_ETHER`: frames have an Ethernet header.
pub const ARP_ETHER: u16 = 1;

/// The `ARPHRD_*` numbers of links whose packets begin with the network header: PPP, raw IP, IP in
/// IP of both families, SIT, GRE over both, and none at all, which tun and WireGuard have.
const ARP_BARE: [u16; 8] = [512, 519, 768, 769, 776, 778, 823, 0xfffe];

/// What the packets of a link begin with.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Framing {
    /// An Ethernet header.
    Ethernet,
    /// The network header.
    Bare,
}

/// A link as the kernel shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Link {
    /// Its number in its namespace.
    pub index: u32,
    /// Its name.
    pub name: String,
    /// `bridge`, `veth`, …; none for a physical interface.
    pub kind: Option<String>,
    /// Its hardware address; none where there is no Ethernet header.
    pub mac: Option<Mac>,
    /// In bytes, without the Ethernet header.
    pub mtu: u32,
    /// The index of the bridge or bond it is a port of.
    pub master: Option<u32>,
    /// Whether it is administratively up.
    pub up: bool,
    /// Whether it can carry packets now.
    pub running: bool,
    /// Whether it is a loopback interface.
    pub loopback: bool,
    /// The text of `ip link set … alias`.
    pub alias: Option<String>,
    /// The `ARPHRD_*` number: [`ARP_ETHER`] where frames have an Ethernet header.
    pub arp_type: u16,
    /// The index of the peer or lower device, in the namespace `peer_netns` if that is given.
    pub peer: Option<u32>,
    /// The number under which the observed namespace knows the peer's.
    pub peer_netns: Option<i32>,
}

impl Link {
    /// Whether it is a bridge.
    pub fn is_bridge(&self) -> bool {
        self.kind.as_deref() == Some("bridge")
    }

    /// Whether its frames have an Ethernet header.
    pub fn is_ethernet(&self) -> bool {
        self.arp_type == ARP_ETHER
    }

    /// What its packets begin with; none: with something else than IP has.
    pub fn framing(&self) -> Option<Framing> {
        match self.arp_type {
            ARP_ETHER => Some(Framing::Ethernet),
            other if ARP_BARE.contains(&other) => Some(Framing::Bare),
            _ => None,
        }
    }
}

/// How a link that we made is known again. The alias is set just after the link is made, and a kill
/// may fall between; then the hardware address, which nobody else draws, tells.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct Mark<'a> {
    /// `netbpf:<instance>:<kind>:<name>`.
    pub alias: &'a str,
    /// The fixed hardware address of the bridge or of the veth's host side.
    pub mac: Mac,
}

impl Mark<'_> {
    fn is_on(&self, link: &Link) -> bool {
        match &link.alias {
            Some(alias) => alias == self.alias,
            None => link.mac == Some(self.mac),
        }
    }
}

/// What [`Rtnl::until_running`] saw last.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Running {
    /// Every link carries packets.
    All,
    /// One of them does not yet, or is gone.
    NotAll,
}

/// A bridge to be made, or brought into line.
#[derive(Clone, Copy, Debug)]
pub struct BridgeSpec<'a> {
    /// At most 15 bytes.
    pub name: &'a str,
    /// How it is known again; its hardware address.
    pub mark: Mark<'a>,
    /// In bytes.
    pub mtu: u32,
}

/// A veth pair to be made: the host's side where the request is made, the other in the container.
#[derive(Clone, Copy, Debug)]
pub struct VethSpec<'a> {
    /// Name of the host's side, at most 15 bytes.
    pub name: &'a str,
    /// How the host's side is known again; its hardware address.
    pub mark: Mark<'a>,
    /// In bytes, of both sides.
    pub mtu: u32,
    /// The container's namespace.
    pub peer_netns: &'a Netns,
    /// Name of the container's side.
    pub peer_name: &'a str,
    /// Hardware address of the container's side.
    pub peer_mac: Mac,
}

/// What stands under the name of a bridge that is wanted.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum BridgeFound {
    /// Nothing.
    Missing,
    /// One that we made.
    Ours(Link),
    /// Somebody else's, with no ports but ours.
    Adoptable(Link),
}

impl BridgeFound {
    /// What `bridge` with these `ports` is, as [`Rtnl::find_bridge`] says it.
    pub fn among<'l>(
        mark: &Mark<'_>,
        bridge: &Link,
        mut ports: impl Iterator<Item = &'l Link>,
        our_prefix: &str,
    ) -> Result<Self> {
        let name = &bridge.name;
        if !bridge.is_bridge() {
            let kind = bridge.kind.as_deref().unwrap_or("physical interface");
            return Err(Error::Foreign(format!(
                "{name} exists and is no bridge but a {kind}"
            )));
        }
        let is_ours = |port: &Link| {
            let alias = port.alias.as_deref();
            alias.is_some_and(|alias| alias.starts_with(our_prefix))
        };
        if let Some(stranger) = ports.find(|port| !is_ours(port)) {
            let port = &stranger.name;
            return Err(Error::Foreign(format!(
                "bridge {name} has a port that is not ours: {port}"
            )));
        }
        if mark.is_on(bridge) {
            return Ok(Self::Ours(bridge.clone()));
        }
        Ok(Self::Adoptable(bridge.clone()))
    }
}

impl Rtnl {
    /// Every link of the namespace.
    pub fn links(&self) -> Result<Vec<Link>> {
        let messages = self.wait(
            || "list the links".to_owned(),
            self.handle().link().get().execute().try_collect::<Vec<_>>(),
        )?;
        Ok(messages.into_iter().map(link_of).collect())
    }

    /// The link of that name, if there is one.
    pub fn link(&self, name: &str) -> Result<Option<Link>> {
        let request = self.handle().link().get().match_name(name).execute();
        let found = self.wait(|| format!("find {name}"), request.try_collect::<Vec<_>>());
        match found {
            Ok(messages) => Ok(messages.into_iter().map(link_of).next()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of that number, if there is one.
    pub fn link_at(&self, index: u32) -> Result<Option<Link>> {
        let request = self.handle().link().get().match_index(index).execute();
        let found = self.wait(
            || format!("find interface {index}"),
            request.try_collect::<Vec<_>>(),
        );
        match found {
            Ok(messages) => Ok(messages.into_iter().map(link_of).next()),
            Err(error) if is_absent(&error) => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The link of that name, which has to be there.
    pub fn existing_link(&self, name: &str) -> Result<Link> {
        self.link(name)?
            .ok_or_else(|| Error::NoLink(name.to_owned()))
    }

    /// What stands under the name of a bridge that is wanted. Something that is no bridge, or a
    /// bridge with a port whose alias does not begin with `our_prefix`, is an error.
    pub fn find_bridge(
        &self,
        mark: &Mark<'_>,
        name: &str,
        our_prefix: &str,
    ) -> Result<BridgeFound> {
        let Some(bridge) = self.link(name)? else {
            return Ok(BridgeFound::Missing);
        };
        let links = self.links()?;
        let ports = links
            .iter()
            .filter(|port| port.master == Some(bridge.index));
        BridgeFound::among(mark, &bridge, ports, our_prefix)
    }

    /// Makes a bridge, down and without ports, or brings one that we made into line.
    pub fn ensure_bridge(&self, spec: &BridgeSpec<'_>) -> Result<Link> {
        let name = spec.name;
        let message = LinkMessageBuilder::<LinkBridge>::new(name)
            .address(spec.mark.mac.to_vec())
            .build();
        self.wait(
            || format!("make bridge {name}"),
            self.handle().link().add(message).execute(),
        )
        .unless(&[Errno::EEXIST])?;
        self.settle(spec.name, &spec.mark, spec.mtu)
    }

    /// Makes a veth pair, both sides down and the host's side without master, or brings one that
    /// we made into line. The container's side is made inside its namespace; a pair of ours that
    /// leads elsewhere is made anew.
    ///
    /// The host's side gets no link-local address: it is a bridge port, and the host would send
    /// the container what belongs to no flow.
    pub fn ensure_veth(&self, spec: &VethSpec<'_>) -> Result<Link> {
        if let Some(link) = self.link(spec.name)? {
            if self.has_peer_in(&link, spec.peer_netns)? {
                return self.settle(&link.name, &spec.mark, spec.mtu);
            }
            self.delete_link(spec.name, &spec.mark)?;
        }
        self.add_veth(spec)?;
        let link = self.settle(spec.name, &spec.mark, spec.mtu)?;
        self.without_link_local(link.index)?;
        Ok(link)
    }

    fn add_veth(&self, spec: &VethSpec<'_>) -> Result<()> {
        let peer = LinkMessageBuilder::<LinkUnspec>::new()
            .name(spec.peer_name)
            .address(spec.peer_mac.to_vec())
            .mtu(spec.mtu)
            .setns_by_fd(spec.peer_netns.raw_fd())
            .build();
        let message = LinkMessageBuilder::<LinkVeth>::new(spec.name, spec.peer_name)
            .address(spec.mark.mac.to_vec())
            .mtu(spec.mtu)
            .set_info_data(InfoData::Veth(InfoVeth::Peer(peer)))
            .build();
        self.wait(
            || {
                let netns = spec.peer_netns.path().display();
                format!("make veth {} with {} in {netns}", spec.name, spec.peer_name)
            },
            self.handle().link().add(message).execute(),
        )
    }

    /// Whether the other side of a veth is in `netns`.
    pub fn has_peer_in(&self, link: &Link, netns: &Netns) -> Result<bool> {
        let Some(peer_netns) = link.peer_netns else {
            return Ok(false);
        };
        Ok(self.number_of(netns)? == Some(peer_netns))
    }

    /// The number under which this namespace knows `netns`, if it does.
    fn number_of(&self, netns: &Netns) -> Result<Option<i32>> {
        let mut query = NsidMessage::default();
        query.attributes = vec![NsidAttribute::Fd(netns.raw_fd().cast_unsigned())];
        let mut message = NetlinkMessage::from(RouteNetlinkMessage::GetNsId(query));
        message.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        let mut handle = self.handle().clone();
        self.wait(
            || format!("find the number of {}", netns.path().display()),
            async move {
                let mut answers = handle.request(message)?;
                let mut number = None;
                while let Some(answer) = answers.next().await {
                    match answer.payload {
                        NetlinkPayload::Error(error) => {
                            return Err(rtnetlink::Error::NetlinkError(error));
                        }
                        NetlinkPayload::InnerMessage(RouteNetlinkMessage::NewNsId(found)) => {
                            number = found.attributes.iter().find_map(assigned).or(number);
                        }
                        _ => {}
                    }
                }
                Ok(number)
            },
        )
    }

    fn without_link_local(&self, index: u32) -> Result<()> {
        let mode = AfSpecInet6::AddrGenMode(In6AddrGenMode::None);
        let change = LinkUnspec::new_with_index(index).append_extra_attribute(
            LinkAttribute::AfSpecUnspec(vec![AfSpecUnspec::Inet6(vec![mode])]),
        );
        // Without IPv6, or below its smallest MTU, there will be no such address anyway.
        self.change(change, || {
            format!("keep link {index} without a link-local address")
        })
        .unless(&[Errno::EAFNOSUPPORT])
    }

    /// Gives a link that we made its alias, hardware address and MTU.
    ///
    /// The MTU is not given at creation: a bridge takes only a later change for the operator's
    /// will, and otherwise falls back to 1500 whenever it has no port.
    fn settle(&self, name: &str, mark: &Mark<'_>, mtu: u32) -> Result<Link> {
        let link = self.existing_link(name)?;
        if !mark.is_on(&link) {
            return Err(Error::Foreign(format!("{name} exists and is not ours")));
        }
        if link.alias.is_none() {
            self.set_alias(link.index, mark.alias)?;
        }
        if link.mac != Some(mark.mac) {
            self.set_mac(link.index, mark.mac)?;
        }
        if link.mtu != mtu {
            self.set_mtu(link.index, mtu)?;
        }
        self.existing_link(name)
    }

    /// Deletes the link of that name if it is ours; a missing one is as it should be. With one
    /// side of a veth pair goes the other.
    pub fn delete_link(&self, name: &str, mark: &Mark<'_>) -> Result<()> {
        let Some(link) = self.link(name)? else {
            return Ok(());
        };
        if !mark.is_on(&link) {
            return Err(Error::Foreign(format!(
                "{name} is not ours any more, so it stays"
            )));
        }
        self.wait(
            || format!("delete {name}"),
            self.handle().link().del(link.index).execute(),
        )
        .unless(&[Errno::ENODEV])
    }
}

fn assigned(attribute: &NsidAttribute) -> Option<i32> {
    match attribute {
        NsidAttribute::Id(number) if *number >= 0 => Some(*number),
        _ => None,
    }
}

fn is_absent(error: &Error) -> bool {
    error.errno() == Some(Errno::ENODEV as i32)
}
