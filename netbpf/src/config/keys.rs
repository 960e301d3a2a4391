//! Every key of the document, and which of them are only accepted with their default.

use toml::de::DeValue;

/// The keys of one kind of table.
pub(super) type Keys = &'static [Key];

/// A key of the document.
pub(super) struct Key {
    /// Its name.
    pub name: &'static str,
    /// Whether it does something.
    pub support: Support,
}

/// Whether a key does something.
pub(super) enum Support {
    /// It is read.
    Yes,
    /// It is accepted when its value is what holds anyway, which this function says.
    OnlyDefault(fn(&DeValue<'_>) -> bool),
}

const fn key(name: &'static str) -> Key {
    Key {
        name,
        support: Support::Yes,
    }
}

const fn later(name: &'static str, is_default: fn(&DeValue<'_>) -> bool) -> Key {
    Key {
        name,
        support: Support::OnlyDefault(is_default),
    }
}

fn never(_: &DeValue<'_>) -> bool {
    false
}

fn is_empty_list(value: &DeValue<'_>) -> bool {
    value.as_array().is_some_and(|list| list.is_empty())
}

fn is_false(value: &DeValue<'_>) -> bool {
    value.as_bool() == Some(false)
}

fn is_integer(value: &DeValue<'_>, wanted: &str) -> bool {
    value
        .as_integer()
        .is_some_and(|integer| integer.as_str() == wanted)
}

/// The document.
pub(super) const ROOT: Keys = &[
    key("host"),
    key("conntrack"),
    key("metrics"),
    key("network"),
    key("container"),
    key("service"),
];

/// `[host]`.
pub(super) const HOST: Keys = &[key("uplinks"), key("ephemeral_ports"), key("address_pools")];

/// One of `address_pools` of `[host]`.
pub(super) const ADDRESS_POOL: Keys = &[key("base"), key("size")];

/// `[conntrack]`.
pub(super) const CONNTRACK: Keys = &[key("max_entries"), key("timeouts")];

/// `timeouts` of `[conntrack]`.
pub(super) const TIMEOUTS: Keys = &[
    key("established"),
    key("half_open"),
    key("closing"),
    key("udp"),
    key("udp_stream"),
    key("icmp"),
];

/// `[metrics]`.
pub(super) const METRICS: Keys = &[later("listen", never)];

/// `[[network]]`.
pub(super) const NETWORK: Keys = &[
    key("name"),
    key("driver"),
    key("bridge"),
    key("subnets"),
    key("gateways"),
    key("ip_range"),
    key("icc"),
    key("internal"),
    key("gateway_mode"),
    key("masquerade"),
    key("mtu"),
    key("host_binding"),
    key("trusted_interfaces"),
    key("trusted_sources"),
];

/// `gateway_mode` of a `[[network]]`, where it is a table.
pub(super) const GATEWAY_MODE: Keys = &[key("ipv4"), key("ipv6")];

/// `[[container]]`.
pub(super) const CONTAINER: Keys = &[
    key("name"),
    key("netns"),
    key("mode"),
    key("source_check"),
    key("networks"),
    key("publish"),
    key("expose"),
    key("publish_all"),
    key("links"),
];

/// One of `publish` of a `[[container]]`, as a table.
pub(super) const PUBLISH: Keys = &[key("port"), key("allow"), key("deny")];

/// One of `networks` of a `[[container]]`.
pub(super) const ATTACHMENT: Keys = &[
    key("name"),
    key("ipv4"),
    key("ipv6"),
    key("mac"),
    key("interface"),
    key("aliases"),
    key("gw_priority"),
];

/// `[[service]]`.
pub(super) const SERVICE: Keys = &[
    key("name"),
    key("network"),
    key("vip"),
    key("ports"),
    later("publish", is_empty_list),
    key("backends"),
    key("scheduler"),
    key("affinity"),
    later("affinity_timeout", |value| value.as_str() == Some("3h")),
    key("endpoint_mode"),
];

/// One of `backends` of a `[[service]]`.
pub(super) const BACKEND: Keys = &[
    key("container"),
    later("weight", |value| is_integer(value, "1")),
    later("drain", is_false),
];
