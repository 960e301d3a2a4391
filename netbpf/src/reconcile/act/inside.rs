//! What is changed inside a container's namespace: its interfaces and its default routes.

use std::net::IpAddr;

use anyhow::Result;

use super::super::{steps::addresses_to_change, survey};
use crate::{
    host::{Host, Rtnl, address::Preference, link::Link, route::Route},
    plan,
};

pub(super) fn fit_inside(host: &Host, end: &plan::End) -> Result<()> {
    let netns = host.container(&end.netns)?;
    let rtnl = Rtnl::open(&netns)?;
    let link = rtnl.existing_link(&end.interface)?;
    let index = link.index;
    if link.mac != Some(end.mac) {
        rtnl.set_mac(index, end.mac)?;
    }
    let veth = host.rtnl().existing_link(&end.veth)?;
    if veth.mtu != end.mtu {
        host.rtnl().set_mtu(veth.index, end.mtu)?;
    }
    if link.mtu != end.mtu {
        rtnl.set_mtu(index, end.mtu)?;
    }
    let inside = survey::inside(&rtnl, link)?;
    let (missing, extra) = addresses_to_change(end, &inside);
    for net in extra {
        rtnl.del_address(index, net)?;
    }
    for net in missing {
        rtnl.add_address(index, net, Preference::Preferred)?;
    }
    Ok(rtnl.up(index)?)
}

/// One that moves to another end is replaced in one step, so that the container never is without.
pub(super) fn fit_routes(
    host: &Host,
    prefix: &str,
    namespace: &plan::Namespace,
    ends: &[&plan::End],
) -> Result<()> {
    let netns = host.container(&namespace.path)?;
    let rtnl = Rtnl::open(&netns)?;
    let links = rtnl.links()?;
    let mut wanted: Vec<(IpAddr, u32)> = Vec::new();
    for end in ends {
        let index = rtnl.existing_link(&end.interface)?.index;
        wanted.extend(end.gateways.iter().map(|gateway| (*gateway, index)));
    }
    let there = own_default_routes(host, prefix, &rtnl, &links)?;
    let moving = || there.iter().filter(|route| !wanted.contains(route));
    for (gateway, index) in wanted.iter().filter(|route| !there.contains(route)) {
        if moving().any(|(old, _)| old.is_ipv4() == gateway.is_ipv4()) {
            rtnl.replace_default_route(*gateway, *index)?;
        } else {
            rtnl.add_default_route(*gateway, *index)?;
        }
    }
    for (gateway, index) in moving() {
        rtnl.del_default_route(*gateway, *index)?;
    }
    Ok(())
}

/// The default routes of a container by interfaces that we made, also by those that are to go.
fn own_default_routes(
    host: &Host,
    prefix: &str,
    rtnl: &Rtnl,
    links: &[Link],
) -> Result<Vec<(IpAddr, u32)>> {
    let mut own = Vec::new();
    for link in links {
        let Some(veth) = link
            .peer
            .map(|peer| host.rtnl().link_at(peer))
            .transpose()?
        else {
            continue;
        };
        let alias = veth.as_ref().and_then(|veth| veth.alias.as_deref());
        let is_marked = alias.is_some_and(|alias| alias.starts_with(prefix));
        if is_marked && survey::is_pair(veth.as_ref(), link) {
            own.push(link.index);
        }
    }
    let is_own = |index: &u32| own.contains(index);
    let routes = rtnl.routes()?.into_iter();
    Ok(routes
        .filter(Route::is_default)
        .filter_map(|route| Some((route.gateway?, *route.links.first()?)))
        .filter(|(_, index)| is_own(index))
        .collect())
}
