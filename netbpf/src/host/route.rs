//! Routes: list, and the default routes of a container. It never touches a route of the host.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use futures_util::TryStreamExt as _;
use ipnet::IpNet;
use nix::errno::Errno;
use rtnetlink::{
    RouteMessageBuilder,
    packet_route::{
        AddressFamily,
        route::{
            RouteAddress, RouteAttribute, RouteHeader, RouteMessage, RouteNextHop, RouteProtocol,
            RouteType,
        },
    },
};

use super::{
    error::{Error, Result},
    rtnl::{Rtnl, Unless as _},
};

/// A unicast route, or one that refuses what is unicast, as the kernel shows it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Route {
    /// Where it leads; of length 0 for a default route.
    pub destination: IpNet,
    /// The first next hop; none when the destination is on the link, or the next hop is of the
    /// other family.
    pub gateway: Option<IpAddr>,
    /// The links it leaves by: none for a route that leads nowhere, several for a multipath one.
    pub links: Vec<u32>,
    /// The number of its table; 254 is the main one.
    pub table: u32,
    /// Lower is preferred.
    pub metric: u32,
    /// Whether a router advertisement made it.
    pub advertised: bool,
}

impl Route {
    /// Whether it takes what no other route does.
    pub fn is_default(&self) -> bool {
        self.destination.prefix_len() == 0
    }
}

impl Rtnl {
    /// Every unicast route of every table, also those that refuse, in both families.
    pub fn routes(&self) -> Result<Vec<Route>> {
        let mut routes = self.routes_of(RouteMessageBuilder::<Ipv4Addr>::new().build())?;
        routes.extend(self.routes_of(RouteMessageBuilder::<Ipv6Addr>::new().build())?);
        Ok(routes)
    }

    fn routes_of(&self, query: RouteMessage) -> Result<Vec<Route>> {
        let messages = self.wait(
            || "list the routes".to_owned(),
            self.handle()
                .route()
                .get(query)
                .execute()
                .try_collect::<Vec<_>>(),
        )?;
        Ok(messages.iter().filter_map(route_of).collect())
    }

    /// Links that have an IPv6 default route from a router advertisement: the host loses it when
    /// forwarding is switched on for them, unless `accept_ra` is 2 by then.
    pub fn links_with_advertised_default(&self) -> Result<Vec<u32>> {
        let mut links: Vec<u32> = self
            .routes_of(RouteMessageBuilder::<Ipv6Addr>::new().build())?
            .into_iter()
            .filter(|route| route.advertised && route.is_default())
            .flat_map(|route| route.links)
            .collect();
        links.sort_unstable();
        links.dedup();
        Ok(links)
    }

    /// Adds a default route by `gateway`, which has to be on the link.
    pub fn add_default_route(&self, gateway: IpAddr, index: u32) -> Result<()> {
        let request = self.handle().route().add(default_route(gateway, index)?);
        self.wait(
            || format!("add a default route by {gateway}"),
            request.execute(),
        )
        .unless(&[Errno::EEXIST])
    }

    /// Makes the default route lead by `gateway`, which has to be on the link, instead of the one
    /// that its family has: in one step.
    pub fn replace_default_route(&self, gateway: IpAddr, index: u32) -> Result<()> {
        let route = default_route(gateway, index)?;
        let request = self.handle().route().add(route).replace();
        self.wait(
            || format!("make the default route lead by {gateway}"),
            request.execute(),
        )
    }

    /// Deletes the default route by `gateway`; a missing one is as it should be.
    pub fn del_default_route(&self, gateway: IpAddr, index: u32) -> Result<()> {
        let request = self.handle().route().del(default_route(gateway, index)?);
        self.wait(
            || format!("delete the default route by {gateway}"),
            request.execute(),
        )
        .unless(&[Errno::ESRCH, Errno::ENODEV])
    }
}

fn default_route(gateway: IpAddr, index: u32) -> Result<RouteMessage> {
    if gateway.is_unspecified() || gateway.is_multicast() {
        return Err(Error::NotAGateway(gateway));
    }
    Ok(match gateway {
        IpAddr::V4(gateway) => RouteMessageBuilder::<Ipv4Addr>::new()
            .output_interface(index)
            .gateway(gateway)
            .build(),
        IpAddr::V6(gateway) => RouteMessageBuilder::<Ipv6Addr>::new()
            .output_interface(index)
            .gateway(gateway)
            .build(),
    })
}

fn route_of(message: &RouteMessage) -> Option<Route> {
    let header = &message.header;
    let is_to_somebody = matches!(
        header.kind,
        RouteType::Unicast | RouteType::BlackHole | RouteType::Unreachable | RouteType::Prohibit
    );
    if !is_to_somebody {
        return None;
    }
    let mut route = Route {
        destination: everything(header)?,
        gateway: None,
        links: Vec::new(),
        table: header.table.into(),
        metric: 0,
        advertised: header.protocol == RouteProtocol::Ra,
    };
    for attribute in &message.attributes {
        match attribute {
            RouteAttribute::Destination(address) => {
                let address = ip_of(address)?;
                route.destination = IpNet::new(address, header.destination_prefix_length).ok()?;
            }
            RouteAttribute::Gateway(address) => route.gateway = ip_of(address),
            RouteAttribute::Oif(index) => route.links.push(*index),
            RouteAttribute::Table(table) => route.table = *table,
            RouteAttribute::Priority(metric) => route.metric = *metric,
            RouteAttribute::MultiPath(hops) => {
                route
                    .links
                    .extend(hops.iter().map(|hop| hop.interface_index));
                route.gateway = hops.iter().find_map(gateway_of);
            }
            _ => {}
        }
    }
    Some(route)
}

fn everything(header: &RouteHeader) -> Option<IpNet> {
    let address = match header.address_family {
        AddressFamily::Inet => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        AddressFamily::Inet6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        _ => return None,
    };
    IpNet::new(address, header.destination_prefix_length).ok()
}

fn ip_of(address: &RouteAddress) -> Option<IpAddr> {
    match address {
        RouteAddress::Inet(address) => Some(IpAddr::V4(*address)),
        RouteAddress::Inet6(address) => Some(IpAddr::V6(*address)),
        _ => None,
    }
}

fn gateway_of(hop: &RouteNextHop) -> Option<IpAddr> {
    hop.attributes.iter().find_map(|attribute| match attribute {
        RouteAttribute::Gateway(address) => ip_of(address),
        _ => None,
    })
}
