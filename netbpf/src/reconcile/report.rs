//! What an apply or a purge changed, in words for people and scripts.

use std::{borrow::Cow, net::IpAddr};

use serde::{Deserialize, Deserializer, Serialize};

/// What happens to a thing.
#[derive(Clone, Copy, Debug, Deserialize, Eq, PartialEq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Action {
    /// It comes.
    Add,
    /// It stays and becomes another.
    Change,
    /// It goes.
    Remove,
}

impl Action {
    /// `add`, `change` or `remove`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Add => "add",
            Self::Change => "change",
            Self::Remove => "remove",
        }
    }
}

/// One change.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct Change {
    /// What happens.
    pub action: Action,
    /// What kind of thing: `network`, `container`, `port`, `service`, `uplink`, `sysctl`, …
    pub kind: Cow<'static, str>,
    /// Its name.
    pub name: String,
    /// More about it; may be empty.
    pub detail: String,
    /// Where a published port of a container leads.
    #[serde(
        default,
        deserialize_with = "as_known",
        skip_serializing_if = "Option::is_none"
    )]
    pub to: Option<ContainerPort>,
}

/// A port as this version tells it. A living `run` of another version may tell it otherwise: its
/// change is made all the same, and is no failure.
fn as_known<'de, D: Deserializer<'de>>(told: D) -> Result<Option<ContainerPort>, D::Error> {
    let told = serde_json::Value::deserialize(told)?;
    Ok(serde_json::from_value(told).ok())
}

/// A port of a container.
#[derive(Clone, Debug, Deserialize, Eq, PartialEq, Serialize)]
pub struct ContainerPort {
    /// The container.
    pub container: String,
    /// Its address.
    pub address: IpAddr,
    /// Its port.
    pub port: u16,
    /// The id of what leads there: who was asked for later has a higher one.
    pub mapping: u32,
    /// Whether it is there since this change; else what stood was lost and comes again.
    pub is_new: bool,
}

impl Change {
    /// A change of the thing `name`.
    pub fn new(
        action: Action,
        kind: &'static str,
        name: impl Into<String>,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            action,
            kind: Cow::Borrowed(kind),
            name: name.into(),
            detail: detail.into(),
            to: None,
        }
    }
}

/// Everything that changed; what another process did comes over its control socket.
#[derive(Clone, Debug, Default, Deserialize, Eq, PartialEq, Serialize)]
pub struct Report {
    /// Whether anything did.
    pub changed: bool,
    /// In the order in which it was done.
    pub changes: Vec<Change>,
    /// What was accepted and yet is most likely not meant, of a document that a verb edited.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

impl Report {
    /// The same, with which ports are new: their mappings have higher ids than any had before.
    pub(super) fn since(mut self, last_mapping: u32) -> Self {
        for to in self.changes.iter_mut().filter_map(|it| it.to.as_mut()) {
            to.is_new = to.mapping > last_mapping;
        }
        self
    }
}

impl From<Vec<Change>> for Report {
    fn from(changes: Vec<Change>) -> Self {
        Self {
            changed: !changes.is_empty(),
            changes,
            warnings: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn change_that_another_version_tells_is_read_without_a_port_that_it_tells_otherwise() {
        let port = r#"{"container": "web", "port": 80, "mapping": 3}"#;
        let change = r#"{"action": "add", "kind": "port", "name": "a", "detail": "b", "to": "#;
        let read: Change = serde_json::from_str(&format!("{change}{port}}}")).unwrap();
        assert_eq!(read, Change::new(Action::Add, "port", "a", "b"));
        let port = r#"{"container": "web", "address": "10.0.0.2", "port": 80, "mapping": 3,
                       "is_new": true, "other": 1}"#;
        let read: Change = serde_json::from_str(&format!("{change}{port}}}")).unwrap();
        assert_eq!(read.to.map(|to| to.container).as_deref(), Some("web"));
    }
}
