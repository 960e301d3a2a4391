//! The small languages inside strings: names, addresses, MACs, durations. Pure; what is wrong is
//! said so that it continues the value's name: `mtu 12 is not in 68-65535`.

use std::{net::IpAddr, time::Duration};

use ipnet::IpNet;

use crate::{
    ipam,
    naming::{self, INTERFACE_NAME_MAX},
};

/// The longest time-out.
const DURATION_MAX: Duration = Duration::from_secs(365 * 24 * 60 * 60);

/// The ranges that no network can have, and what they are.
const REFUSED_SUBNETS: [(&str, &str); 8] = [
    ("0.0.0.0/8", "\"this network\""),
    ("127.0.0.0/8", "the loopback range"),
    ("169.254.0.0/16", "the link-local range"),
    ("224.0.0.0/4", "the multicast range"),
    ("240.0.0.0/4", "the reserved range"),
    ("::/80", "the unspecified, loopback and IPv4-mapped range"),
    ("fe80::/10", "the link-local range"),
    ("ff00::/8", "the multicast range"),
];

/// A name of a network, container, service or instance.
pub(super) fn name(text: &str) -> Result<String, String> {
    if naming::is_valid(text) {
        return Ok(text.to_owned());
    }
    Err(naming::RULE.to_owned())
}

/// A name that an interface can have.
pub(super) fn interface(text: &str) -> Result<String, String> {
    let reserved = ["", ".", "..", "lo", "all", "default"];
    let is_printable = |byte: u8| byte.is_ascii_graphic() && !b"/:%\"'\\".contains(&byte);
    if text.len() > INTERFACE_NAME_MAX {
        return Err(format!("is longer than {INTERFACE_NAME_MAX} bytes"));
    }
    if reserved.contains(&text) || !text.bytes().all(is_printable) {
        return Err("is not a name that an interface can have".to_owned());
    }
    Ok(text.to_owned())
}

/// A unicast MAC.
pub(super) fn mac(text: &str) -> Result<[u8; 6], String> {
    let bytes: Vec<u8> = text
        .split(':')
        .map(|byte| match byte.len() {
            2 if byte.bytes().all(|digit| digit.is_ascii_hexdigit()) => {
                u8::from_str_radix(byte, 16).ok()
            }
            _ => None,
        })
        .collect::<Option<_>>()
        .unwrap_or_default();
    let Ok(mac) = <[u8; 6]>::try_from(bytes) else {
        return Err("is not a MAC address".to_owned());
    };
    if mac[0] & 1 != 0 {
        return Err("is a multicast address".to_owned());
    }
    if mac == [0; 6] {
        return Err("is not an address that an interface can have".to_owned());
    }
    Ok(mac)
}

/// An address of either family.
pub(super) fn address(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| "is not an IP address".to_owned())
}

/// A subnet that a network can have: unicast, without host bits, with room for a gateway and a
/// container.
pub(super) fn subnet(text: &str) -> Result<IpNet, String> {
    let subnet: IpNet = text
        .parse()
        .map_err(|_| "is not a subnet in CIDR notation".to_owned())?;
    if subnet.trunc() != subnet {
        return Err(format!(
            "has host bits set; the subnet is {}",
            subnet.trunc()
        ));
    }
    for (range, what) in REFUSED_SUBNETS {
        if range.parse().is_ok_and(|range| overlap(subnet, range)) {
            return Err(format!("overlaps {range}, {what}"));
        }
    }
    if subnet.prefix_len() == subnet.max_prefix_len() {
        return Err("has no room for a gateway and a container".to_owned());
    }
    Ok(subnet)
}

/// Where packets may come from: a subnet without host bits, or an address.
pub(super) fn source(text: &str) -> Result<IpNet, String> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Ok(address.into());
    }
    let source: IpNet = text
        .parse()
        .map_err(|_| "is not a subnet in CIDR notation or an address".to_owned())?;
    if source.trunc() != source {
        return Err(format!(
            "has host bits set; the subnet is {}",
            source.trunc()
        ));
    }
    Ok(source)
}

/// Whether two subnets share an address.
pub(super) fn overlap(one: IpNet, other: IpNet) -> bool {
    one.contains(&other) || other.contains(&one)
}

/// Says what keeps an address from being one of an interface in a subnet that it lies in.
pub(super) fn unusable(subnet: IpNet, address: IpAddr) -> Option<String> {
    if ipam::is_network(subnet, address) {
        return Some(format!("is the network address of {subnet}"));
    }
    if ipam::is_broadcast(subnet, address) {
        return Some(format!("is the broadcast address of {subnet}"));
    }
    None
}

/// A duration: numbers with units, largest first or not, as in `1h30m`, `500ms`.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let total = parse_duration(text).ok_or_else(|| {
        "is not a duration: a number and one of ms, s, m, h, d, as in \"60s\"".to_owned()
    })?;
    if total.is_zero() {
        return Err("is not longer than zero".to_owned());
    }
    if total > DURATION_MAX {
        return Err("is longer than 365d".to_owned());
    }
    Ok(total)
}

fn parse_duration(mut text: &str) -> Option<Duration> {
    if text.is_empty() {
        return None;
    }
    let mut total = Duration::ZERO;
    while !text.is_empty() {
        let digits = text.bytes().take_while(u8::is_ascii_digit).count();
        let (number, rest) = text.split_at(digits);
        let letters = rest.bytes().take_while(u8::is_ascii_alphabetic).count();
        let (unit, rest) = rest.split_at(letters);
        let unit_in_ms: u64 = match unit {
            "ms" => 1,
            "s" => 1_000,
            "m" => 60_000,
            "h" => 3_600_000,
            "d" => 86_400_000,
            _ => return None,
        };
        let millis = number.parse::<u64>().ok()?.checked_mul(unit_in_ms)?;
        total = total.checked_add(Duration::from_millis(millis))?;
        text = rest;
    }
    Some(total)
}

/// A port; `what` names it.
pub(super) fn port(what: &str, text: &str) -> Result<u16, String> {
    if text.is_empty() {
        return Err(format!("{what} is missing"));
    }
    if !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return Err(format!("{what} {text:?} is not a number"));
    }
    match text.parse() {
        Ok(port) if port != 0 => Ok(port),
        _ => Err(format!("{what} {text} is not in 1-65535")),
    }
}
