//! A container's `publish`: entries that come and go. What a port means is not decided here.

use std::net::IpAddr;

use toml_edit::{TableLike, Value as TomlValue};

use super::{
    Value, not_a_list,
    tables::{Entries, append, entries, entries_or_new, name_of},
};
use crate::error::Error;

/// Appends entries.
pub(super) fn add(container: &mut dyn TableLike, ports: &[Value]) -> Result<(), Error> {
    let mut there = entries_or_new(container, "publish", Entries::new_inline)
        .ok_or_else(|| not_a_list("publish"))?;
    for port in ports {
        match (&mut there, port) {
            (Entries::Inline(list), _) => append(list, port.into()),
            (Entries::Tables(_), Value::Table(keys)) => there.push(keys.iter()),
            (Entries::Tables(_), _) => there.push(std::iter::once(("port", port.into()))),
        }
    }
    Ok(())
}

/// Takes entries away. With the last one goes the key.
pub(super) fn remove(
    container: &mut dyn TableLike,
    name: &str,
    ports: &[String],
) -> Result<(), Error> {
    for port in ports {
        let missing = || Error::host(format!("container {name} does not publish {port}"));
        let there = entries(container, "publish");
        let Some(mut entries) = there else {
            return Err(missing());
        };
        let wanted = canonical(port);
        let is_same = |text: Option<&str>| text == Some(port);
        let is_wanted = |text: Option<&str>| text.map(canonical).as_ref() == Some(&wanted);
        let index = place(&entries, is_same).or_else(|| place(&entries, is_wanted));
        entries.remove(index.ok_or_else(missing)?);
        if entries.len() == 0 {
            container.remove("publish");
        }
    }
    Ok(())
}

fn place(entries: &Entries<'_>, is_wanted: impl Fn(Option<&str>) -> bool) -> Option<usize> {
    match entries {
        Entries::Inline(list) => list.iter().position(|value| is_wanted(port_of(value))),
        Entries::Tables(tables) => tables
            .iter()
            .position(|table| is_wanted(name_of(table, "port"))),
    }
}

fn port_of(value: &TomlValue) -> Option<&str> {
    match value {
        TomlValue::InlineTable(table) => name_of(table, "port"),
        _ => value.as_str(),
    }
}

/// One spelling for what means the same: the protocol in small letters and always there, an
/// address as the standard library writes it.
fn canonical(port: &str) -> String {
    let (rest, proto) = port.split_once('/').unwrap_or((port, "tcp"));
    let (address, ports) = match rest.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, ports)) => (address, ports.trim_start_matches(':')),
        None if rest.matches(':').count() == 2 => rest.split_once(':').unwrap_or(("", rest)),
        None => ("", rest),
    };
    let address = address
        .parse::<IpAddr>()
        .map_or_else(|_| address.to_owned(), |address| address.to_string());
    format!("{address} {ports}/{}", proto.to_ascii_lowercase())
}

#[cfg(test)]
mod tests {
    use super::canonical;

    #[test]
    fn spellings_of_one_port_are_one() {
        for (one, other) in [
            ("8080:80", "8080:80/TCP"),
            ("[::1]:53:53/udp", "[0:0::1]:53:53/UDP"),
            ("127.0.0.1:80:80", "127.0.0.1:80:80/tcp"),
        ] {
            assert_eq!(canonical(one), canonical(other));
        }
        for (one, other) in [
            ("8080:80", "8080:80/udp"),
            ("8080:80", "127.0.0.1:8080:80"),
            ("80", "80:80"),
            ("127.0.0.1::80", "127.0.0.1:80:80"),
        ] {
            assert_ne!(canonical(one), canonical(other), "{one} {other}");
        }
    }
}
