//! What must hold between subnets, gateways, container addresses and virtual addresses.

use std::{collections::BTreeMap, net::IpAddr};

use ipnet::IpNet;

use super::{
    Document,
    attachment::AttachmentSpec,
    container::ContainerSpec,
    findings::{At, Findings},
    network::NetworkSpec,
    service::ServiceSpec,
    values,
};

/// Who has which address.
type Taken = BTreeMap<IpAddr, String>;

/// Notes overlapping subnets, and addresses that are outside, reserved or taken.
pub(super) fn check(document: &Document, findings: &mut Findings) {
    subnets(document, findings);
    let mut taken = Taken::new();
    for network in &document.networks {
        gateways(network, findings);
        for subnet in network.subnets() {
            let owner = format!("the gateway of network {:?}", network.name.value);
            if let Some(gateway) = network.gateway(subnet.value) {
                taken.insert(gateway, owner);
            }
        }
    }
    for (container, attachment) in document.attachments() {
        container_addresses(document, container, attachment, &mut taken, findings);
    }
    for service in &document.services {
        vips(document, service, &mut taken, findings);
    }
}

fn subnets(document: &Document, findings: &mut Findings) {
    let all: Vec<(&NetworkSpec, &At<IpNet>)> = document
        .networks
        .iter()
        .flat_map(|network| {
            network
                .subnets()
                .iter()
                .map(move |subnet| (network, subnet))
        })
        .collect();
    for (index, (network, subnet)) in all.iter().enumerate() {
        let earlier = &all[..index];
        let Some((other, with)) = earlier
            .iter()
            .find(|(_, other)| values::overlap(other.value, subnet.value))
        else {
            continue;
        };
        let what = format!(
            "network {:?}: subnet {} overlaps {} of network {:?}",
            network.name.value, subnet.value, with.value, other.name.value
        );
        findings.error(subnet.line, what);
    }
}

fn gateways(network: &NetworkSpec, findings: &mut Findings) {
    let name = &network.name.value;
    if network.are_subnets_chosen
        && let Some(At { line, value }) = network.gateways.first()
    {
        let what = format!("network {name:?}: gateway {value} needs a subnet that it lies in");
        findings.error(*line, what);
    }
    if network.subnets.is_none() {
        return;
    }
    for (
        index,
        At {
            line,
            value: gateway,
        },
    ) in network.gateways.iter().enumerate()
    {
        let Some(subnet) = subnet_of(network, *gateway) else {
            let what = format!("network {name:?}: gateway {gateway} is outside its subnets");
            findings.error(*line, what);
            continue;
        };
        if let Some(why) = values::unusable(subnet, *gateway) {
            findings.error(*line, format!("network {name:?}: gateway {gateway} {why}"));
        }
        let earlier = &network.gateways[..index];
        if let Some(other) = earlier.iter().find(|other| subnet.contains(&other.value)) {
            let what = format!(
                "network {name:?}: gateway {gateway} is a second one for {subnet}, beside {}",
                other.value
            );
            findings.error(*line, what);
        }
    }
}

fn container_addresses(
    document: &Document,
    container: &ContainerSpec,
    attachment: &AttachmentSpec,
    taken: &mut Taken,
    findings: &mut Findings,
) {
    let Some(network) = document.network(&attachment.network.value) else {
        return;
    };
    let owner = format!("container {:?}", container.name.value);
    for address in given_addresses(attachment) {
        claim(network, &owner, "address", &address, taken, findings);
    }
}

fn vips(document: &Document, service: &ServiceSpec, taken: &mut Taken, findings: &mut Findings) {
    let network = service
        .network
        .as_ref()
        .and_then(|network| document.network(&network.value));
    let Some(network) = network else {
        return;
    };
    let owner = format!("service {:?}", service.name.value);
    for vip in &service.vips {
        claim(network, &owner, "vip", vip, taken, findings);
    }
}

fn claim(
    network: &NetworkSpec,
    owner: &str,
    word: &str,
    address: &At<IpAddr>,
    taken: &mut Taken,
    findings: &mut Findings,
) {
    let At {
        line,
        value: address,
    } = *address;
    let name = &network.name.value;
    if network.are_subnets_chosen {
        let what = format!("{owner}: {word} {address} needs network {name:?} to name its subnets");
        findings.error(line, what);
    }
    if network.subnets.is_none() {
        return;
    }
    let Some(subnet) = subnet_of(network, address) else {
        let what = format!("{owner}: {word} {address} is outside the subnets of network {name:?}");
        findings.error(line, what);
        return;
    };
    if let Some(why) = values::unusable(subnet, address) {
        findings.error(line, format!("{owner}: {word} {address} {why}"));
        return;
    }
    if let Some(other) = taken.get(&address) {
        findings.error(
            line,
            format!("{owner}: {word} {address} is already taken by {other}"),
        );
        return;
    }
    taken.insert(address, owner.to_owned());
}

/// The subnet of a network that an address lies in.
pub(super) fn subnet_of(network: &NetworkSpec, address: IpAddr) -> Option<IpNet> {
    network
        .subnets()
        .iter()
        .map(|subnet| subnet.value)
        .find(|subnet| subnet.contains(&address))
}

/// The addresses that the document gives to a container.
pub(super) fn given_addresses(attachment: &AttachmentSpec) -> impl Iterator<Item = At<IpAddr>> {
    let ipv4 = attachment
        .ipv4
        .clone()
        .map(|address| address.map(IpAddr::V4));
    let ipv6 = attachment
        .ipv6
        .clone()
        .map(|address| address.map(IpAddr::V6));
    ipv4.into_iter().chain(ipv6)
}
