//! Edits of the desired state: what an imperative verb does to the document, in the verb's words.
//!
//! Pure: text in, text out. Comments, order and spelling of what an edit isn't about stay. What a
//! key may hold is the document's own affair and checked when the result is loaded; here are only
//! questions of who is there and who is in use.

mod opened;
mod order;
mod publish;
mod spelling;
mod tables;
mod verb;

#[cfg(test)]
mod tests;

#[cfg(test)]
mod every;

use toml_edit::{DocumentMut, TableLike};

use self::tables::{Entries, entries, entries_or_new, name_of, set, texts};
pub use self::{
    opened::Opened,
    verb::{Edit, Keys, Kind, Value},
};
use crate::error::Error;

/// The document `text` after those edits, one after the other.
///
/// # Errors
///
/// [`Error::Host`], in the words of the verb: something is not there, there already, or in use.
pub fn apply(text: &str, edits: &[Edit]) -> Result<String, Error> {
    let mut document = read(text)?;
    let plain = document.to_string();
    for edit in edits {
        edit.apply(&mut document)?;
    }
    rendered(text, &plain, &document)
}

/// The document that edits have made of `text`, for which the parser writes `plain`.
fn rendered(text: &str, plain: &str, document: &DocumentMut) -> Result<String, Error> {
    spelling::kept(text, order::kept(text, plain, document.to_string()))
}

fn read(text: &str) -> Result<DocumentMut, Error> {
    let read = |error| Error::host(format!("failed to read the desired state: {error}"));
    text.parse().map_err(read)
}

impl Edit {
    fn apply(&self, document: &mut DocumentMut) -> Result<(), Error> {
        match self {
            Self::Add { kind, name, keys } => add(document, *kind, name, keys),
            Self::Remove { kind, names } => remove(document, *kind, names),
            Self::Set { kind, name, keys } => {
                let entry = find(document, *kind, name)?;
                keys.iter().for_each(|(key, value)| set(entry, key, value));
                Ok(())
            }
            Self::Connect {
                network,
                container,
                keys,
            } => connect(document, network, container, keys),
            Self::Disconnect { network, container } => disconnect(document, network, container),
            Self::Publish { container, ports } => {
                publish::add(find(document, Kind::Container, container)?, ports)
            }
            Self::Unpublish { container, ports } => {
                let entry = find(document, Kind::Container, container)?;
                publish::remove(entry, container, ports)
            }
            Self::AddBackend {
                service,
                container,
                keys,
            } => add_backend(document, service, container, keys),
            Self::SetBackend {
                service,
                container,
                keys,
            } => {
                let entry = find(document, Kind::Service, service)?;
                let backend = entries(entry, "backends")
                    .and_then(|backends| backends.find("container", container))
                    .ok_or_else(|| no_backend(service, container))?;
                keys.iter()
                    .for_each(|(key, value)| set(backend, key, value));
                Ok(())
            }
            Self::RemoveBackend { service, container } => {
                let entry = find(document, Kind::Service, service)?;
                let mut backends =
                    entries(entry, "backends").ok_or_else(|| no_backend(service, container))?;
                let index = backends
                    .position("container", container)
                    .ok_or_else(|| no_backend(service, container))?;
                backends.remove(index);
                Ok(())
            }
        }
    }
}

fn no_such(kind: Kind, name: &str) -> Error {
    Error::host(format!("no such {kind}: {name}"))
}

fn no_backend(service: &str, container: &str) -> Error {
    Error::host(format!(
        "container {container} is no backend of service {service}"
    ))
}

fn find<'d>(
    document: &'d mut DocumentMut,
    kind: Kind,
    name: &str,
) -> Result<&'d mut dyn TableLike, Error> {
    entries(document.as_table_mut(), kind.word())
        .and_then(|entries| entries.find("name", name))
        .ok_or_else(|| no_such(kind, name))
}

fn require(document: &mut DocumentMut, kind: Kind, name: &str) -> Result<(), Error> {
    find(document, kind, name).map(drop)
}

fn add(document: &mut DocumentMut, kind: Kind, name: &str, keys: &Keys) -> Result<(), Error> {
    let mut there = entries_or_new(document.as_table_mut(), kind.word(), Entries::new_tables)
        .ok_or_else(|| not_a_list(kind.word()))?;
    if there.position("name", name).is_some() {
        let what = format!("{kind} with name {name} already exists");
        return Err(Error::host(what));
    }
    there.push(std::iter::once(("name", name.into())).chain(keys.iter()));
    Ok(())
}

fn not_a_list(key: &str) -> Error {
    Error::host(format!("{key} of the desired state is not a list"))
}

fn remove(document: &mut DocumentMut, kind: Kind, names: &[String]) -> Result<(), Error> {
    for name in names {
        require(document, kind, name)?;
    }
    for name in names {
        let users = users(document, kind, name, names);
        if !users.is_empty() {
            return Err(Error::host(in_use(kind, name, &users.join(", "))));
        }
    }
    for name in names {
        tables::remove_entry(document, kind.word(), name);
    }
    Ok(())
}

fn in_use(kind: Kind, name: &str, users: &str) -> String {
    match kind {
        Kind::Network => format!("network {name} has active endpoints ({users})"),
        Kind::Container | Kind::Service => format!("{kind} {name} is in use (by {users})"),
    }
}

/// Who needs `name`, apart from those that `go` with it.
fn users(document: &mut DocumentMut, kind: Kind, name: &str, go: &[String]) -> Vec<String> {
    let root = document.as_table_mut();
    let mut users = Vec::new();
    for user in [Kind::Container, Kind::Service] {
        let Some(entries) = entries(root, user.word()) else {
            continue;
        };
        for entry in entries.into_iter() {
            let called = name_of(entry, "name").unwrap_or_default().to_owned();
            if !(kind == user && go.contains(&called)) && needs(user, entry, kind, name) {
                users.push(format!("{user} {called:?}"));
            }
        }
    }
    users
}

/// Whether `entry`, a container or a service, names that network or container.
fn needs(user: Kind, entry: &mut dyn TableLike, kind: Kind, name: &str) -> bool {
    let mut has = |key: &str, field: &str| {
        entries(entry, key).is_some_and(|entries| entries.position(field, name).is_some())
    };
    match (user, kind) {
        (Kind::Container, Kind::Network) => has("networks", "name"),
        (Kind::Service, Kind::Container) => has("backends", "container"),
        (Kind::Service, Kind::Network) => name_of(entry, "network") == Some(name),
        (Kind::Container, Kind::Container) => {
            let links = texts(entry, "links");
            let is_linked = |link: &String| link.split(':').next() == Some(name);
            let joins = name_of(entry, "mode").and_then(|mode| mode.strip_prefix("container:"));
            links.iter().any(is_linked) || joins == Some(name)
        }
        (Kind::Network, _) | (_, Kind::Service) => false,
    }
}

fn connect(
    document: &mut DocumentMut,
    network: &str,
    container: &str,
    keys: &Keys,
) -> Result<(), Error> {
    require(document, Kind::Network, network)?;
    let entry = find(document, Kind::Container, container)?;
    let mut networks = entries_or_new(entry, "networks", Entries::new_inline)
        .ok_or_else(|| not_a_list("networks"))?;
    if networks.position("name", network).is_some() {
        let what = format!("endpoint with name {container} already exists in network {network}");
        return Err(Error::host(what));
    }
    networks.push(std::iter::once(("name", network.into())).chain(keys.iter()));
    Ok(())
}

fn disconnect(document: &mut DocumentMut, network: &str, container: &str) -> Result<(), Error> {
    require(document, Kind::Network, network)?;
    let entry = find(document, Kind::Container, container)?;
    let missing = || {
        Error::host(format!(
            "container {container} is not connected to network {network}"
        ))
    };
    let mut networks = entries(entry, "networks").ok_or_else(missing)?;
    let index = networks.position("name", network).ok_or_else(missing)?;
    if networks.len() == 1 {
        return Err(Error::host(format!(
            "network {network} is the only one of container {container}: connect another one \
             first, or remove the container"
        )));
    }
    networks.remove(index);
    Ok(())
}

fn add_backend(
    document: &mut DocumentMut,
    service: &str,
    container: &str,
    keys: &Keys,
) -> Result<(), Error> {
    require(document, Kind::Container, container)?;
    let entry = find(document, Kind::Service, service)?;
    let mut backends = entries_or_new(entry, "backends", Entries::new_inline)
        .ok_or_else(|| not_a_list("backends"))?;
    if backends.position("container", container).is_some() {
        let what = format!("container {container} is a backend of service {service} already");
        return Err(Error::host(what));
    }
    backends.push(std::iter::once(("container", container.into())).chain(keys.iter()));
    Ok(())
}
