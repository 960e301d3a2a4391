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
        let Some(network) = network_of(document, container) else {
            continue;
        };
        for publish in &container.publish {
            if network.internal {
                warn_of_internal(container, network, publish, findings);
                continue;
            }
            bind(document, container, network, publish, &mut bound, findings);
        }
    }
}

fn network_of<'d>(document: &'d Document, container: &ContainerSpec) -> Option<&'d NetworkSpec> {
    document.network(&container.attachment.as_ref()?.network.value)
}

fn warn_of_internal(
    container: &ContainerSpec,
    network: &NetworkSpec,
    publish: &At<(String, Publish)>,
    findings: &mut Findings,
) {
    let what = format!(
        "container {:?}: publish {:?} has no effect: network {:?} is internal",
        container.name.value, publish.value.0, network.name.value
    );
    findings.warn(publish.line, what);
}

fn bind<'d>(
    document: &Document,
    container: &'d ContainerSpec,
    network: &NetworkSpec,
    publish: &At<(String, Publish)>,
    bound: &mut Bound<'d>,
    findings: &mut Findings,
) {
    let At {
        line,
        value: (text, publish),
    } = publish;
    let scope = format!("container {:?}: publish {text:?}", container.name.value);
    let Some(addresses) = host_addresses(network, publish) else {
        let what = format!(
            "{scope}: network {:?} has no such family",
            network.name.value
        );
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
fn host_addresses(network: &NetworkSpec, publish: &Publish) -> Option<Vec<IpAddr>> {
    let has_family = |is_ipv4: bool| {
        network.subnets.is_none()
            || network
                .subnets()
                .iter()
                .any(|subnet| subnet.value.addr().is_ipv4() == is_ipv4)
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
