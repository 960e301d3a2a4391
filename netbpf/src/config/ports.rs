//! What must hold between published ports: one host address and port leads to one container.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{
    Document,
    container::ContainerSpec,
    findings::{At, Findings},
    network::NetworkSpec,
    publish::Publish,
};
use crate::model::Proto;

/// Who has which host addresses of a port.
type Bound<'d> = HashMap<(u16, Proto), Vec<(IpAddr, &'d str)>>;

/// Notes ports that are published twice or can't be published, and warns of those that do nothing.
pub(super) fn check(document: &Document, findings: &mut Findings) {
    let mut bound = Bound::new();
    for container in &document.containers {
        let networks = networks_of(document, container);
        let outward = networks.iter().filter(|network| !network.internal);
        let outward: Vec<&NetworkSpec> = outward.copied().collect();
        for publish in &container.publish {
            match (networks.as_slice(), outward.as_slice()) {
                ([], _) => {}
                (_, []) => warn_of_internal(container, &networks, publish, findings),
                _ => bind(document, container, &outward, publish, &mut bound, findings),
            }
        }
    }
}

fn networks_of<'d>(document: &'d Document, container: &ContainerSpec) -> Vec<&'d NetworkSpec> {
    let attachments = container.attachments.iter();
    attachments
        .filter_map(|attachment| document.network(&attachment.network.value))
        .collect()
}

fn warn_of_internal(
    container: &ContainerSpec,
    networks: &[&NetworkSpec],
    publish: &At<(String, Publish)>,
    findings: &mut Findings,
) {
    let why = match networks {
        [network] => format!("network {:?} is internal", network.name.value),
        _ => "all its networks are internal".to_owned(),
    };
    let what = format!(
        "container {:?}: publish {:?} has no effect: {why}",
        container.name.value, publish.value.0
    );
    findings.warn(publish.line, what);
}

fn bind<'d>(
    document: &Document,
    container: &'d ContainerSpec,
    networks: &[&NetworkSpec],
    publish: &At<(String, Publish)>,
    bound: &mut Bound<'d>,
    findings: &mut Findings,
) {
    let At {
        line,
        value: (text, publish),
    } = publish;
    let scope = format!("container {:?}: publish {text:?}", container.name.value);
    let Some(addresses) = host_addresses(networks, publish) else {
        let names: Vec<String> = networks
            .iter()
            .map(|network| format!("{:?}", network.name.value))
            .collect();
        let what = format!("{scope}: network {} has no such family", names.join(", "));
        findings.error(*line, what);
        return;
    };
    if let Some(service) = service_of_vip(document, publish.host_ip) {
        findings.error(
            *line,
            format!("{scope}: host address is the vip of service {service:?}"),
        );
        return;
    }
    let Some(host_port) = publish.exact_port() else {
        return;
    };
    let holders = bound.entry((host_port, publish.proto)).or_default();
    for address in &addresses {
        let conflict = holders
            .iter()
            .find(|(other, _)| conflicts(*other, *address));
        if let Some((_, holder)) = conflict {
            let what = format!(
                "{scope}: Bind for {} failed: port is already allocated (by container {holder:?})",
                SocketAddr::new(*address, host_port)
            );
            findings.error(*line, what);
            return;
        }
    }
    let name = container.name.value.as_str();
    holders.extend(addresses.into_iter().map(|address| (address, name)));
}

/// The host addresses of a publish, the unspecified one for all of a family; `None` when the
/// container has no address of the family that it names.
fn host_addresses(networks: &[&NetworkSpec], publish: &Publish) -> Option<Vec<IpAddr>> {
    let has_family = |is_ipv4: bool| {
        networks.iter().any(|network| {
            let mut subnets = network.subnets().iter();
            network.subnets.is_none()
                || subnets.any(|subnet| subnet.value.addr().is_ipv4() == is_ipv4)
        })
    };
    match publish.host_ip {
        Some(address) => has_family(address.is_ipv4()).then(|| vec![address]),
        None => {
            let all = [
                IpAddr::V4(Ipv4Addr::UNSPECIFIED),
                IpAddr::V6(Ipv6Addr::UNSPECIFIED),
            ];
            Some(
                all.into_iter()
                    .filter(|address| has_family(address.is_ipv4()))
                    .collect(),
            )
        }
    }
}

fn service_of_vip(document: &Document, host_ip: Option<IpAddr>) -> Option<&str> {
    let host_ip = host_ip?;
    document
        .services
        .iter()
        .find(|service| service.vips.iter().any(|vip| vip.value == host_ip))
        .map(|service| service.name.value.as_str())
}

/// Whether one packet could be for both (row P5).
fn conflicts(one: IpAddr, other: IpAddr) -> bool {
    one.is_ipv4() == other.is_ipv4()
        && (one == other || one.is_unspecified() || other.is_unspecified())
}
