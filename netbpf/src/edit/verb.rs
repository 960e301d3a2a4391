//! What can be asked of a document, as a verb says it and a living `run` is told it.

use std::fmt;

use serde::{Deserialize, Serialize};
use toml_edit::Value as TomlValue;

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

    /// Each key with its value, as a document has it.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&str, TomlValue)> {
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
}
