//! Typed reading of a TOML table: a value of the wrong type is noted and reads as absent.

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{
    findings::{At, Findings},
    keys::{Key, Keys, Support},
};

/// A table of the document and how its errors call it.
pub(super) struct Table<'t, 'i> {
    entries: &'t DeTable<'i>,
    scope: String,
    /// The line it starts on.
    pub line: usize,
}

impl<'t, 'i> Table<'t, 'i> {
    /// The document itself.
    pub fn root(entries: &'t DeTable<'i>) -> Self {
        Self {
            entries,
            scope: String::new(),
            line: 1,
        }
    }

    /// The table in `value`, if it is one.
    pub fn of(scope: &str, value: &'t Spanned<DeValue<'i>>, findings: &Findings) -> Option<Self> {
        let DeValue::Table(entries) = value.get_ref() else {
            return None;
        };
        Some(Self {
            entries,
            scope: scope.to_owned(),
            line: findings.line(&value.span()),
        })
    }

    /// The same table under another name.
    pub fn renamed(&self, scope: String) -> Self {
        Self {
            entries: self.entries,
            scope,
            line: self.line,
        }
    }

    /// How errors call this table.
    pub fn scope(&self) -> &str {
        &self.scope
    }

    /// Notes an error about this table.
    pub fn error(&self, line: usize, what: impl AsRef<str>, findings: &mut Findings) {
        let what = what.as_ref();
        if self.scope.is_empty() {
            findings.error(line, what);
        } else {
            findings.error(line, format!("{}: {what}", self.scope));
        }
    }

    /// Notes every key that this table can't have, or not yet.
    pub fn expect_keys(&self, known: Keys, findings: &mut Findings) {
        for (key, value) in self.entries {
            let line = findings.line(&key.span());
            let name = key.get_ref();
            match known.iter().find(|known| known.name == name) {
                None => self.error(line, format!("unknown key {name:?}"), findings),
                Some(Key {
                    support: Support::OnlyDefault(is_default),
                    ..
                }) if !is_default(value.get_ref()) => {
                    self.error(line, format!("{name} is not supported yet"), findings);
                }
                Some(_) => {}
            }
        }
    }

    /// The value of a key.
    pub fn get(&self, key: &str) -> Option<&'t Spanned<DeValue<'i>>> {
        self.entries.get(key)
    }

    /// A string.
    pub fn string(&self, key: &str, findings: &mut Findings) -> Option<At<&'t str>> {
        self.read(key, "a string", findings, DeValue::as_str)
    }

    /// A boolean.
    pub fn boolean(&self, key: &str, findings: &mut Findings) -> Option<At<bool>> {
        self.read(key, "a boolean", findings, DeValue::as_bool)
    }

    /// An integer.
    pub fn integer(&self, key: &str, findings: &mut Findings) -> Option<At<i128>> {
        self.read(key, "an integer", findings, |value| {
            let integer = value.as_integer()?;
            i128::from_str_radix(integer.as_str(), integer.radix()).ok()
        })
    }

    /// A string that says something that `parse` understands; what it says against it continues
    /// the value's name.
    pub fn parsed<T>(
        &self,
        key: &str,
        findings: &mut Findings,
        parse: impl FnOnce(&str) -> Result<T, String>,
    ) -> Option<At<T>> {
        let text = self.string(key, findings)?;
        match parse(text.value) {
            Ok(value) => Some(At {
                line: text.line,
                value,
            }),
            Err(why) => {
                self.error(text.line, format!("{key} {:?} {why}", text.value), findings);
                None
            }
        }
    }

    /// Notes a word that is not the one that is supported.
    pub fn enumeration(&self, key: &str, supported: &str, later: &[&str], findings: &mut Findings) {
        let Some(At { line, value }) = self.string(key, findings) else {
            return;
        };
        if value == supported {
            return;
        }
        if later.contains(&value) {
            self.error(
                line,
                format!("{key} {value:?} is not supported yet"),
                findings,
            );
            return;
        }
        let all: Vec<&str> = [supported].iter().chain(later).copied().collect();
        let what = format!("{key} {value:?} is unknown; known are: {}", all.join(", "));
        self.error(line, what, findings);
    }

    /// A list of strings; `None` when it is absent, `[]` when it is no list.
    pub fn strings(&self, key: &str, findings: &mut Findings) -> Option<Vec<At<&'t str>>> {
        let values = self.list(key, findings)?;
        let mut strings = Vec::with_capacity(values.len());
        for value in values {
            let line = findings.line(&value.span());
            match value.get_ref().as_str() {
                Some(value) => strings.push(At { line, value }),
                None => self.wrong_type(line, &format!("{key}: each"), "a string", value, findings),
            }
        }
        Some(strings)
    }

    /// A list; `None` when it is absent, `[]` when it is no list.
    pub fn list(
        &self,
        key: &str,
        findings: &mut Findings,
    ) -> Option<Vec<&'t Spanned<DeValue<'i>>>> {
        let value = self.get(key)?;
        if let DeValue::Array(values) = value.get_ref() {
            return Some(values.iter().collect());
        }
        let line = findings.line(&value.span());
        self.wrong_type(line, key, "a list", value, findings);
        Some(Vec::new())
    }

    /// A table inside this one.
    pub fn table(&self, key: &str, findings: &mut Findings) -> Option<Self> {
        let value = self.get(key)?;
        let scope = if self.scope.is_empty() {
            key.to_owned()
        } else {
            format!("{}: {key}", self.scope)
        };
        let table = Self::of(&scope, value, findings);
        if table.is_none() {
            let line = findings.line(&value.span());
            self.wrong_type(line, key, "a table", value, findings);
        }
        table
    }

    /// The tables `[[kind]]`, each called by its name, or by its number when it has none.
    pub fn entries(&self, kind: &str, findings: &mut Findings) -> Vec<Self> {
        let Some(values) = self.list(kind, findings) else {
            return Vec::new();
        };
        let mut tables = Vec::with_capacity(values.len());
        for (index, value) in values.into_iter().enumerate() {
            let number = format!("{kind} {}", index + 1);
            let Some(table) = Self::of(&number, value, findings) else {
                let line = findings.line(&value.span());
                self.wrong_type(line, &number, "a table", value, findings);
                continue;
            };
            let name = table.get("name").and_then(|name| name.get_ref().as_str());
            tables.push(match name {
                Some(name) => table.renamed(format!("{kind} {name:?}")),
                None => table,
            });
        }
        tables
    }

    /// A value that must be there.
    pub fn required<T>(
        &self,
        key: &str,
        value: Option<At<T>>,
        findings: &mut Findings,
    ) -> Option<At<T>> {
        if self.get(key).is_none() {
            self.error(self.line, format!("{key} is missing"), findings);
        }
        value
    }

    fn read<T>(
        &self,
        key: &str,
        wanted: &str,
        findings: &mut Findings,
        convert: impl FnOnce(&'t DeValue<'i>) -> Option<T>,
    ) -> Option<At<T>> {
        let value = self.get(key)?;
        let line = findings.line(&value.span());
        let converted = convert(value.get_ref());
        if converted.is_none() {
            self.wrong_type(line, key, wanted, value, findings);
        }
        converted.map(|value| At { line, value })
    }

    fn wrong_type(
        &self,
        line: usize,
        what: &str,
        wanted: &str,
        value: &Spanned<DeValue<'_>>,
        findings: &mut Findings,
    ) {
        let found = match value.get_ref() {
            DeValue::String(_) => "a string",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.error(
            line,
            format!("{what} must be {wanted}, not {found}"),
            findings,
        );
    }
}
