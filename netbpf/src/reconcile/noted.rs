//! What a change notes in the journal before it makes it. Pure: nothing is written here.

use std::path::Path;

use ipnet::IpNet;
use netbpf_common::endpoint::role;

use super::survey::{BridgeSeen, Survey};
use crate::{
    dataplane::attach::Means,
    host::{Netns, sysctl::Sysctl},
    plan,
    state::{AdoptedBridge, Change as Noted, Changes, Instance, Origin},
};

/// What the journal may keep.
pub fn wanted(instance: &Instance, survey: &Survey) -> Changes {
    let mut wanted = Changes::default();
    wanted.note(&Noted::Pins {
        instance: instance.name().to_owned(),
    });
    for (planned, seen) in survey.links.bridges.iter().zip(&survey.bridges) {
        wanted.note(&bridge(planned, seen, survey));
        wanted.extend(
            planned
                .addresses
                .iter()
                .map(|(net, _)| address(&planned.name, *net)),
        );
    }
    let namespaces = survey.links.namespaces.iter();
    wanted.extend(namespaces.map(|namespace| netns(namespace, None)));
    wanted.extend(survey.links.ends.iter().map(veth));
    for file in &survey.links.files {
        wanted.note(&section(file));
        wanted.extend(directories(file));
    }
    if Means::here() == Means::Clsact {
        wanted.extend(keep_qdiscs(survey).map(|name| qdisc(name, survey.index(name))));
    }
    let sysctls = survey.links.sysctls.iter();
    wanted.extend(sysctls.map(|(knob, _)| sysctl(knob, String::new())));
    wanted
}

pub fn bridge(bridge: &plan::Bridge, seen: &BridgeSeen, survey: &Survey) -> Noted {
    let BridgeSeen::Adoptable(link) = seen else {
        return Noted::Bridge {
            name: bridge.name.clone(),
            alias: bridge.alias.clone(),
            mac: bridge.mac,
        };
    };
    let own = survey
        .facts
        .addresses
        .iter()
        .filter(|address| address.index == link.index);
    Noted::AdoptedBridge(AdoptedBridge {
        name: bridge.name.clone(),
        mac: link.mac.unwrap_or_default(),
        mtu: link.mtu,
        up: link.up,
        addresses: own.map(|address| address.net).collect(),
        index: link.index,
    })
}

pub fn address(interface: &str, net: IpNet) -> Noted {
    Noted::Address {
        interface: interface.to_owned(),
        net,
    }
}

/// The interfaces that outlive their hooks, and whose qdiscs therefore have to be taken back.
pub fn keep_qdiscs(survey: &Survey) -> impl Iterator<Item = &str> {
    let roles = survey.links.roles();
    roles.filter_map(|(name, role)| (role != role::CONTAINER).then_some(name))
}

/// The number is 0 where the interface is still to be made.
pub fn qdisc(interface: &str, index: u32) -> Noted {
    Noted::Qdisc {
        interface: interface.to_owned(),
        index,
    }
}

pub fn netns(namespace: &plan::Namespace, found: Option<&Netns>) -> Noted {
    Noted::Netns {
        container: namespace.container.clone(),
        path: namespace.path.clone(),
        id: found.map(Netns::id),
        origin: if found.is_some() {
            Origin::Adopted
        } else {
            Origin::Made
        },
    }
}

pub fn veth(end: &plan::End) -> Noted {
    Noted::Veth {
        name: end.veth.clone(),
        alias: end.alias.clone(),
        mac: end.veth_mac,
        container: end.container.clone(),
    }
}

pub fn section(file: &plan::names::File) -> Noted {
    Noted::Section {
        path: file.path.clone(),
    }
}

/// The directories that a file needs, the outer ones first: on a host that has nothing in `/etc`
/// there is none.
pub fn directories(file: &plan::names::File) -> impl Iterator<Item = Noted> {
    let mut paths: Vec<&Path> = file.path.ancestors().skip(1).collect();
    paths.reverse();
    let below_root = paths.into_iter().filter(|path| path.parent().is_some());
    below_root.map(|path| Noted::Directory {
        path: path.to_owned(),
    })
}

pub fn sysctl(sysctl: &Sysctl, old: String) -> Noted {
    Noted::Sysctl {
        sysctl: sysctl.clone(),
        old,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_directory_above_a_file_is_one_that_may_be_missing() {
        let file = plan::names::File {
            container: "web".to_owned(),
            path: "/etc/netns/web/hosts".into(),
            section: String::new(),
        };
        let needed: Vec<Noted> = directories(&file).collect();
        let expected = ["/etc", "/etc/netns", "/etc/netns/web"];
        assert_eq!(
            needed,
            expected.map(|path| Noted::Directory { path: path.into() })
        );
    }
}
