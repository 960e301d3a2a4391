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

#[cfg(test)]
mod tests;

#[cfg(test)]
mod every;

use std::fmt;

use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, TableLike, Value as TomlValue};

pub use self::opened::Opened;
use self::tables::{Entries, entries, entries_or_new, name_of, set, texts};
use crate::error::Error;

/// What a document names.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// `[[network]]`.
    Network,
    /// `[[container]]`.
    Container,
    /// `[[service]]`.
    Service,
}

impl Kind {
    /// Its word, which is also its key in the document.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Network => "network",
            Self::Container => "container",
            Self::Service => "service",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

/// A value of a document.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Value {
    /// A string.
    Text(String),
    /// An integer.
    Number(i64),
    /// A boolean.
    Flag(bool),
    /// A list.
    List(Vec<Value>),
    /// An inline table.
    Table(Keys),
}

impl Value {
    /// A list of strings.
    pub fn texts(texts: &[String]) -> Self {
        Self::List(texts.iter().cloned().map(Self::Text).collect())
    }
}

impl fmt::Display for Value {
    /// As a document has it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        TomlValue::from(self).fmt(f)
    }
}

impl From<&Value> for TomlValue {
    fn from(value: &Value) -> Self {
        match value {
            Value::Text(text) => text.as_str().into(),
            Value::Number(number) => (*number).into(),
            Value::Flag(flag) => (*flag).into(),
            Value::List(values) => values.iter().map(Self::from).collect(),
            Value::Table(keys) => Self::InlineTable(keys.iter().collect()),
        }
    }
}

/// Keys with their values, in the order in which they are written.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Keys(Vec<(String, Value)>);

impl Keys {
    /// Those keys and one more, if there is a value.
    #[must_use]
    pub fn with(mut self, key: &str, value: Option<Value>) -> Self {
        self.0.extend(value.map(|value| (key.to_owned(), value)));
        self
    }

    /// Those keys and one more, whose value is a string.
    #[must_use]
    pub fn text(self, key: &str, text: Option<&str>) -> Self {
        self.with(key, text.map(|text| Value::Text(text.to_owned())))
    }

    /// Those keys and one more, whose value is a list of strings, unless the list is empty.
    #[must_use]
    pub fn texts(self, key: &str, texts: &[String]) -> Self {
        self.with(key, (!texts.is_empty()).then(|| Value::texts(texts)))
    }

    /// Those keys and one more, whose value is a boolean.
    #[must_use]
    pub fn flag(self, key: &str, flag: Option<bool>) -> Self {
        self.with(key, flag.map(Value::Flag))
    }

    /// Those keys and one more, whose value is an integer.
    #[must_use]
    pub fn number(self, key: &str, number: Option<i64>) -> Self {
        self.with(key, number.map(Value::Number))
    }

    /// Those keys and others.
    #[must_use]
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (&str, TomlValue)> {
        self.0
            .iter()
            .map(|(key, value)| (key.as_str(), value.into()))
    }
}

/// One edit.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Edit {
    /// Something new.
    Add {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// Its other keys.
        keys: Keys,
    },
    /// Things that go, all of them or none.
    Remove {
        /// What they are.
        kind: Kind,
        /// Their names.
        names: Vec<String>,
    },
    /// Other values for keys of something that stays.
    Set {
        /// What it is.
        kind: Kind,
        /// Its name.
        name: String,
        /// The keys.
        keys: Keys,
    },
    /// A container enters a network.
    Connect {
        /// The network.
        network: String,
        /// The container.
        container: String,
        /// How: the other keys of its entry in `networks`.
        keys: Keys,
    },
    /// A container leaves a network.
    Disconnect {
        /// The network.
        network: String,
        /// The container.
        container: String,
    },
    /// Ports are published.
    Publish {
        /// The container.
        container: String,
        /// Entries of its `publish`: strings, or tables with a `port`.
        ports: Vec<Value>,
    },
    /// Ports are published no more.
    Unpublish {
        /// The container.
        container: String,
        /// As they were published, give or take the spelling.
        ports: Vec<String>,
    },
    /// A service gets a backend.
    AddBackend {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// The other keys of its entry in `backends`.
        keys: Keys,
    },
    /// A backend changes.
    SetBackend {
        /// The service.
        service: String,
        /// The container.
        container: String,
        /// The keys that get another value.
        keys: Keys,
    },
    /// A service loses a backend.
    RemoveBackend {
        /// The service.
        service: String,
        /// The container.
        container: String,
    },
}

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
    /// The noun of the verb whose `ls` shows what it did.
    pub fn noun(&self) -> &'static str {
        match self {
            Self::Add { kind, .. } | Self::Remove { kind, .. } | Self::Set { kind, .. } => {
                kind.word()
            }
            Self::Connect { .. } | Self::Disconnect { .. } => Kind::Container.word(),
            Self::Publish { .. } | Self::Unpublish { .. } => "port",
            Self::AddBackend { .. } | Self::SetBackend { .. } | Self::RemoveBackend { .. } => {
                Kind::Service.word()
            }
        }
    }

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
