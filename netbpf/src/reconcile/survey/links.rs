//! What is there of wanted bridges, namespaces and ends, and who else holds them.

use std::{collections::HashMap, path::Path};

use anyhow::Result;

use super::{BridgeSeen, EndSeen, Inside, NamespaceSeen, Survey};
use crate::{
    error::Error,
    host::{
        Host, Netns, Observed, Rtnl,
        link::{BridgeFound, Link, Mark},
        netns,
    },
    naming, plan,
    state::{Change as Noted, Instance, Journal, Origin},
};

pub(super) fn bridge_seen(
    survey: &Survey,
    instance: &Instance,
    bridge: &plan::Bridge,
) -> Result<BridgeSeen> {
    let Some(there) = survey.facts.link(&bridge.name) else {
        return Ok(BridgeSeen::Missing);
    };
    let prefix = plan::alias_prefix(instance.name());
    // An adopted bridge has another MAC than the one that marks ours.
    let mac = naming::bridge_mac(instance.name(), &bridge.network);
    let mark = Mark {
        alias: &bridge.alias,
        mac,
    };
    Ok(
        match BridgeFound::among(&mark, there, survey.ports_of(there.index), &prefix)? {
            BridgeFound::Missing => BridgeSeen::Missing,
            BridgeFound::Ours(link) => BridgeSeen::Ours(link),
            BridgeFound::Adoptable(link) => match link.alias.as_deref() {
                Some(alias) if alias.starts_with(&prefix) => BridgeSeen::Outdated,
                Some(alias) if alias.starts_with("netbpf:") => {
                    return Err(Error::host(format!(
                        "bridge {} belongs to another instance ({alias})",
                        bridge.name
                    ))
                    .into());
                }
                _ => BridgeSeen::Adoptable(link),
            },
        },
    )
}

/// A bridge of somebody else's keeps its MAC, if it has one. The plan knows those that were adopted
/// before.
pub(super) fn adopt_macs(instance: &Instance, survey: &mut Survey) {
    for (bridge, seen) in survey.links.bridges.iter_mut().zip(&survey.bridges) {
        let BridgeSeen::Adoptable(link) = seen else {
            continue;
        };
        if survey.facts.adopted.contains_key(&bridge.name) {
            continue;
        }
        bridge.mac = link
            .mac
            .filter(|mac| *mac != [0; 6])
            .unwrap_or_else(|| naming::adopted_bridge_mac(instance.name(), &bridge.network));
    }
}

/// A namespace is made only where nothing is, or where the journal says that one of ours was: what
/// stands there otherwise is somebody's file, and would go with the namespace.
pub(super) fn check_netns_path(journal: &Journal, path: &Path) -> Result<()> {
    if Netns::open(path)?.is_some() {
        return Ok(());
    }
    let is_ours = matches!(
        journal.changes().netns(path),
        Some(Noted::Netns {
            origin: Origin::Made,
            ..
        })
    );
    let shown = path.display();
    if path.symlink_metadata().is_ok() && !is_ours {
        return Err(Error::host(format!("{shown} exists and is not a network namespace")).into());
    }
    let directory = path.parent().unwrap_or(Path::new("/"));
    if directory != Path::new(netns::NAMED) && !directory.is_dir() {
        let directory = directory.display();
        return Err(Error::host(format!("{directory} is no directory to make {shown} in")).into());
    }
    Ok(())
}

pub(super) fn namespace_seen(host: &Host, path: &Path) -> Result<NamespaceSeen> {
    if Netns::open(path)?.is_none() {
        return Ok(NamespaceSeen::default());
    }
    let netns = host.container(path)?;
    let links = Rtnl::open(&netns)?.links()?;
    Ok(NamespaceSeen {
        netns: Some(netns),
        is_loopback_up: links.iter().any(|link| link.loopback && link.up),
    })
}

pub(super) fn end_seen(host: &Host, survey: &Survey, end: &plan::End) -> Result<EndSeen> {
    let observed = &survey.observed;
    let veth = survey.facts.link(&end.veth);
    if let Some(link) = veth.filter(|link| !is_marked(link, end)) {
        return Err(Error::host(format!("{} exists and is not ours", link.name)).into());
    }
    let mut seen = EndSeen {
        veth: veth.cloned(),
        ..EndSeen::default()
    };
    let Some(netns) = survey.netns(&end.container) else {
        return Ok(seen);
    };
    let rtnl = Rtnl::open(netns)?;
    let Some(link) = rtnl.link(&end.interface)? else {
        return Ok(seen);
    };
    let leads_here = match &seen.veth {
        Some(veth) => host.rtnl().has_peer_in(veth, netns)?,
        None => false,
    };
    if leads_here && is_pair(seen.veth.as_ref(), &link) {
        seen.inside = Some(inside(&rtnl, link)?);
    } else {
        seen.squatter = Some(own_peer(&link, observed, end)?);
    }
    Ok(seen)
}

fn is_marked(link: &Link, end: &plan::End) -> bool {
    match &link.alias {
        Some(alias) => *alias == end.alias,
        None => link.mac == Some(end.veth_mac),
    }
}

/// Whether two links in two namespaces are the ends of one pair: each knows the other's number.
pub fn is_pair(veth: Option<&Link>, inside: &Link) -> bool {
    veth.is_some_and(|veth| {
        veth.peer == Some(inside.index)
            && inside.peer == Some(veth.index)
            && veth.peer_netns.is_some()
    })
}

/// The veth of ours that has `inside` as its other end.
///
/// # Errors
///
/// When there is none: the interface is somebody else's.
fn own_peer(inside: &Link, observed: &Observed, end: &plan::End) -> Result<Link> {
    let prefix = end
        .alias
        .strip_suffix(&format!("container:{}:{}", end.container, end.network));
    let is_own = |link: &&Link| {
        is_pair(Some(link), inside)
            && link
                .alias
                .as_deref()
                .zip(prefix)
                .is_some_and(|(alias, own)| alias.starts_with(own))
    };
    observed.links.iter().find(is_own).cloned().ok_or_else(|| {
        let netns = end.netns.display();
        Error::host(format!(
            "interface {} already exists in {netns} and is not ours",
            inside.name
        ))
        .into()
    })
}

pub fn inside(rtnl: &Rtnl, link: Link) -> Result<Inside> {
    let index = link.index;
    let addresses = rtnl
        .addresses()?
        .into_iter()
        .filter(|it| it.index == index)
        .collect();
    let default_routes = rtnl
        .routes()?
        .into_iter()
        .filter(|route| route.is_default() && route.links.contains(&index))
        .collect();
    Ok(Inside {
        link,
        addresses,
        default_routes,
    })
}

/// No other instance may hold a container's namespace, and no other container of this one.
pub(super) fn check_holders(
    instance: &Instance,
    journal: &Journal,
    links: &plan::Links,
) -> Result<()> {
    let (mut wanted, mut holders) = (Vec::new(), HashMap::new());
    for namespace in &links.namespaces {
        let Some(netns) = Netns::open(&namespace.path)? else {
            continue;
        };
        let (container, path) = (namespace.container.as_str(), namespace.path.as_path());
        if let Some(other) = holders.insert(netns.id(), container) {
            return Err(Error::host(format!(
                "container {container:?}: {} is the network namespace of container {other:?} \
                 under another name; one that shares it has mode = \"container:{other}\"",
                path.display()
            ))
            .into());
        }
        wanted.push((container, path, netns.id()));
    }
    Ok(journal.check_containers(instance, &wanted)?)
}
