//! Docker's `-p` grammar and a service's port grammar, as far as they are supported. Pure.

use std::net::IpAddr;

use super::values;
use crate::model::Proto;

/// A publish: `[host address:]host port:container port[/tcp|udp]`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Publish {
    /// `None`: every address of each family; unspecified: every address of its family.
    pub host_ip: Option<IpAddr>,
    /// Never 0.
    pub host_port: u16,
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

/// Reads a publish.
pub(super) fn parse_publish(text: &str) -> Result<Publish, String> {
    let (addresses, proto) = split_proto(text)?;
    let (host, container_port) = match split_brackets(addresses)? {
        Some((address, ports)) => {
            let Some((host_port, container_port)) = ports.split_once(':') else {
                return Err(WITHOUT_HOST_PORT.to_owned());
            };
            ((Some(address), host_port), container_port)
        }
        None => split_plain(addresses)?,
    };
    let (address, host_port) = host;
    refuse_range(host_port)?;
    refuse_range(container_port)?;
    if host_port.is_empty() {
        return Err(WITHOUT_HOST_PORT.to_owned());
    }
    Ok(Publish {
        host_ip: address.map(host_address).transpose()?,
        host_port: values::port("host port", host_port)?,
        container_port: values::port("container port", container_port)?,
        proto,
    })
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

const WITHOUT_HOST_PORT: &str = "publishing without a host port is not supported yet";

fn split_proto(text: &str) -> Result<(&str, Proto), String> {
    let Some((rest, proto)) = text.split_once('/') else {
        return Ok((text, Proto::Tcp));
    };
    match proto.to_ascii_lowercase().as_str() {
        "tcp" => Ok((rest, Proto::Tcp)),
        "udp" => Ok((rest, Proto::Udp)),
        "sctp" => Err("sctp is not supported".to_owned()),
        _ => Err(format!("protocol {proto:?} is not tcp or udp")),
    }
}

/// The address in brackets and what follows its colon.
fn split_brackets(text: &str) -> Result<Option<(&str, &str)>, String> {
    let Some(text) = text.strip_prefix('[') else {
        return Ok(None);
    };
    let Some((address, ports)) = text.split_once("]:") else {
        return Err("the host address has no closing bracket before its colon".to_owned());
    };
    if !address.contains(':') {
        return Err(format!(
            "brackets are for an IPv6 address, not for {address:?}"
        ));
    }
    Ok(Some((address, ports)))
}

type PlainParts<'t> = ((Option<&'t str>, &'t str), &'t str);

fn split_plain(text: &str) -> Result<PlainParts<'_>, String> {
    let parts: Vec<&str> = text.split(':').collect();
    match parts[..] {
        [_] => {
            refuse_range(text)?;
            values::port("container port", text)?;
            Err(WITHOUT_HOST_PORT.to_owned())
        }
        [host_port, container_port] => Ok(((None, host_port), container_port)),
        [address, host_port, container_port] => Ok(((Some(address), host_port), container_port)),
        _ => Err("an IPv6 host address must stand in brackets".to_owned()),
    }
}

fn refuse_range(port: &str) -> Result<(), String> {
    if port.contains('-') {
        return Err("port ranges are not supported yet".to_owned());
    }
    Ok(())
}

fn host_address(text: &str) -> Result<IpAddr, String> {
    let Ok(address) = text.parse::<IpAddr>() else {
        return Err(format!("host address {text:?} is not an IP address"));
    };
    if address.is_loopback() {
        return Err("publishing on a loopback address is not supported yet".to_owned());
    }
    let why = match address {
        IpAddr::V4(v4) if v4.is_broadcast() => "is the broadcast address",
        IpAddr::V6(v6) if v6.to_ipv4_mapped().is_some() => "is an IPv4-mapped address",
        IpAddr::V6(v6) if v6.is_unicast_link_local() => "is a link-local address",
        _ if address.is_multicast() => "is a multicast address",
        _ => return Ok(address),
    };
    Err(format!("host address {address} {why}"))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            host_ip in prop::option::of(any::<IpAddr>().prop_filter("a host address", |address| {
                host_address(&address.to_string()).is_ok()
            })),
            host_port in 1..=u16::MAX,
            container_port in 1..=u16::MAX,
            proto in prop_oneof![Just(Proto::Tcp), Just(Proto::Udp)],
        ) {
            let host = match host_ip {
                None => String::new(),
                Some(IpAddr::V4(address)) => format!("{address}:"),
                Some(IpAddr::V6(address)) => format!("[{address}]:"),
            };
            let text = format!("{host}{host_port}:{container_port}/{proto}");
            let publish = Publish { host_ip, host_port, container_port, proto };
            prop_assert_eq!(parse_publish(&text), Ok(publish));
        }

        #[test]
        fn anything_else_is_an_error_or_means_the_same(text in "[0-9a-z:/.\\[\\]-]{0,24}") {
            let Ok(publish) = parse_publish(&text) else { return Ok(()) };
            let Publish { host_ip, host_port, container_port, proto } = publish.clone();
            let host = match host_ip {
                None => String::new(),
                Some(IpAddr::V4(address)) => format!("{address}:"),
                Some(IpAddr::V6(address)) => format!("[{address}]:"),
            };
            let again = format!("{host}{host_port}:{container_port}/{proto}");
            prop_assert_eq!(parse_publish(&again), Ok(publish));
        }

        #[test]
        fn no_text_makes_the_parsers_panic(text in any::<String>()) {
            let _ = parse_publish(&text);
            let _ = parse_ports(&text);
        }
    }

    #[test]
    fn protocol_is_tcp_unless_it_says_otherwise() {
        assert_eq!(
            parse_publish("8080:80").map(|publish| publish.proto),
            Ok(Proto::Tcp)
        );
        assert_eq!(
            parse_publish("8080:80/UDP").map(|publish| publish.proto),
            Ok(Proto::Udp)
        );
        assert_eq!(
            parse_ports("53:53/udp").map(|ports| ports.proto),
            Ok(Proto::Udp)
        );
    }
}
