//! Docker's `-p` grammar, `--expose`'s, and a service's ports. Pure.
//!
//! What is wrong is said so that it continues the quoted string: `publish "80:": container port is
//! missing`. Where Docker takes an IPv6 address without brackets, it is refused here: nobody can
//! tell where it ends.

use std::net::IpAddr;

use super::values;
use crate::model::{ExposedPort, Proto};

/// Ports from `first` to `last`, both among them; neither is 0, and they are in order.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PortRange {
    pub first: u16,
    pub last: u16,
}

impl PortRange {
    /// How many ports it has.
    pub fn len(self) -> u32 {
        u32::from(self.last - self.first) + 1
    }

    fn ports(self) -> impl Iterator<Item = u16> {
        self.first..=self.last
    }
}

/// Which port of the host a container's port is published on.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum HostPort {
    /// One of the host's ephemeral ports.
    Ephemeral,
    /// This one; never 0.
    Exact(u16),
    /// The first of these that is free.
    FirstFreeOf(PortRange),
}

/// One container port that is published.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Publish {
    /// `None`: what the network binds to; unspecified: every address of its family.
    pub host_ip: Option<IpAddr>,
    /// The port on the host.
    pub host_port: HostPort,
    /// Never 0.
    pub container_port: u16,
    /// The protocol.
    pub proto: Proto,
}

/// A service port: `service port:container port[/tcp|udp]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Ports {
    /// Never 0.
    pub port: u16,
    /// Never 0.
    pub target_port: u16,
    /// The protocol.
    pub proto: Proto,
}

/// Reads `[host address:][host ports:]container ports[/tcp|udp]` as one publish for each container
/// port, in their order.
pub(super) fn parse_publish(text: &str) -> Result<Vec<Publish>, String> {
    let (addresses, proto) = split_proto(text)?;
    let parts = split_parts(addresses)?;
    let container_ports = port_range("container port", parts.container_ports)?;
    let host_ports = host_ports(parts.host_ports, container_ports)?;
    let host_ip = parts.host_ip.map(host_address).transpose()?;
    let publish = |(container_port, host_port)| Publish {
        host_ip,
        host_port,
        container_port,
        proto,
    };
    Ok(container_ports
        .ports()
        .zip(host_ports)
        .map(publish)
        .collect())
}

/// Reads an exposed port or range: `22`, `53/udp`, `8000-8010/tcp`.
pub(super) fn parse_expose(text: &str) -> Result<Vec<ExposedPort>, String> {
    let (ports, proto) = split_proto(text)?;
    if ports.contains(':') {
        return Err("a host port is for publish".to_owned());
    }
    let range = port_range("container port", ports)?;
    Ok(range
        .ports()
        .map(|port| ExposedPort { port, proto })
        .collect())
}

/// Reads a service port.
pub(super) fn parse_ports(text: &str) -> Result<Ports, String> {
    let (ports, proto) = split_proto(text)?;
    let Some((port, target_port)) = ports.split_once(':') else {
        return Err("is not SERVICE PORT:CONTAINER PORT[/tcp|udp]".to_owned());
    };
    refuse_range(port)?;
    refuse_range(target_port)?;
    Ok(Ports {
        port: values::port("service port", port)?,
        target_port: values::port("container port", target_port)?,
        proto,
    })
}

fn split_proto(text: &str) -> Result<(&str, Proto), String> {
    let Some((rest, proto)) = text.split_once('/') else {
        return Ok((text, Proto::Tcp));
    };
    match proto.to_ascii_lowercase().as_str() {
        "" | "tcp" => Ok((rest, Proto::Tcp)),
        "udp" => Ok((rest, Proto::Udp)),
        "sctp" => Err("sctp is not supported".to_owned()),
        _ => Err(format!("protocol {proto:?} is not tcp or udp")),
    }
}

/// A publish in its parts; what is empty or absent is `None`.
struct Parts<'t> {
    host_ip: Option<&'t str>,
    host_ports: Option<&'t str>,
    container_ports: &'t str,
}

fn split_parts(text: &str) -> Result<Parts<'_>, String> {
    let (host_ip, ports) = match text.strip_prefix('[') {
        Some(rest) => split_brackets(rest)?,
        None => split_plain(text)?,
    };
    let (host_ports, container_ports) = match ports.rsplit_once(':') {
        Some((host_ports, container_ports)) => (host_ports, container_ports),
        None => ("", ports),
    };
    Ok(Parts {
        host_ip: host_ip.filter(|address| !address.is_empty()),
        host_ports: Some(host_ports).filter(|ports| !ports.is_empty()),
        container_ports,
    })
}

/// What stands after an opening bracket: the address, and the ports behind it.
fn split_brackets(text: &str) -> Result<(Option<&str>, &str), String> {
    let Some((address, ports)) = text.split_once("]:") else {
        return Err("the host address has no closing bracket before its colon".to_owned());
    };
    if !address.contains(':') {
        return Err(format!(
            "brackets are for an IPv6 address, not for {address:?}"
        ));
    }
    if !ports.contains(':') {
        return Err(
            "between the host address and the container port a colon is missing".to_owned(),
        );
    }
    Ok((Some(address), ports))
}

fn split_plain(text: &str) -> Result<(Option<&str>, &str), String> {
    match text.matches(':').count() {
        0 | 1 => Ok((None, text)),
        2 => Ok(text
            .split_once(':')
            .map_or((None, text), |(address, ports)| (Some(address), ports))),
        _ => Err("an IPv6 host address must stand in brackets".to_owned()),
    }
}

/// One host port for each container port.
fn host_ports(text: Option<&str>, container: PortRange) -> Result<Vec<HostPort>, String> {
    let count = container.ports().count();
    // Docker takes port 0 for none.
    let Some(text) = text.filter(|text| !(is_zero(text) && count == 1)) else {
        return Ok(vec![HostPort::Ephemeral; count]);
    };
    let host = port_range("host port", text)?;
    if host.len() == container.len() {
        return Ok(host.ports().map(HostPort::Exact).collect());
    }
    if count == 1 {
        return Ok(vec![HostPort::FirstFreeOf(host)]);
    }
    let PortRange { first, last } = container;
    Err(format!(
        "host ports {text} and container ports {first}-{last} differ in number"
    ))
}

fn is_zero(text: &str) -> bool {
    matches!(text, "0" | "0-0")
}

/// A port, or a range of them; `what` names one of them.
pub(super) fn port_range(what: &str, text: &str) -> Result<PortRange, String> {
    let Some((first, last)) = text.split_once('-') else {
        let port = values::port(what, text)?;
        return Ok(PortRange {
            first: port,
            last: port,
        });
    };
    for (end, name) in [(first, "first"), (last, "last")] {
        if end.is_empty() {
            return Err(format!("the range of {what}s {text:?} has no {name} one"));
        }
    }
    let first = values::port(what, first)?;
    let last = values::port(what, last)?;
    if first > last {
        return Err(format!("the range of {what}s {text:?} is reversed"));
    }
    Ok(PortRange { first, last })
}

fn refuse_range(port: &str) -> Result<(), String> {
    if port.contains('-') {
        return Err("port ranges are not supported yet".to_owned());
    }
    Ok(())
}

/// Reads the address that published ports bind when they name none.
pub(super) fn binding_address(text: &str) -> Result<IpAddr, String> {
    let address = values::address(text)?;
    match unpublishable(address) {
        Some(why) => Err(why.to_owned()),
        None => Ok(address),
    }
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(format!("host address {text:?} is not an IP address"));
    };
    match unpublishable(address) {
        Some(why) => Err(format!("host address {address} {why}")),
        None => Ok(address),
    }
}

/// Why no port can be published on an address.
fn unpublishable(address: IpAddr) -> Option<&'static str> {
    match address {
        IpAddr::V4(v4) if v4.is_broadcast() => Some("is the broadcast address"),
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => Some("is an IPv4-mapped address"),
        IpAddr::V6(v6) if v6.is_unicast_link_local() => Some("is a link-local address"),
        _ if address.is_multicast() => Some("is a multicast address"),
        _ => None,
    }
}
