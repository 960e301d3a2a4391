//! Reads `mode` of a `[[container]]`, and says what does not go with it.

use super::{
    Document,
    container::ContainerSpec,
    findings::{At, Findings},
    table::Table,
    values,
};
use crate::model::Mode;

/// Reads `mode`, and notes the keys that don't go with it; what can't be told reads as the default.
pub(super) fn read(table: &Table<'_, '_>, findings: &mut Findings) -> At<Mode> {
    let default = At {
        line: table.line,
        value: Mode::Bridge,
    };
    let mode = match table.get("mode") {
        None => Some(default.clone()),
        Some(_) => table.parsed("mode", findings, parse),
    };
    if let Some(mode) = &mode {
        check_keys(table, &mode.value, findings);
    }
    mode.unwrap_or(default)
}

fn parse(text: &str) -> Result<Mode, String> {
    if let Some(name) = text.strip_prefix("container:") {
        let name = values::name(name).map_err(|why| format!("names {name:?}, which {why}"))?;
        return Ok(Mode::Joined(name));
    }
    match text {
        "bridge" => Ok(Mode::Bridge),
        "none" => Ok(Mode::None),
        "host" => Ok(Mode::Host),
        _ => Err("is unknown; known are: bridge, none, host, container:NAME".to_owned()),
    }
}

/// Notes keys that the mode has no use for, and the missing ones that it needs.
fn check_keys(table: &Table<'_, '_>, mode: &Mode, findings: &mut Findings) {
    let refused: &[&str] = match mode {
        Mode::Bridge => return require_networks(table, findings),
        Mode::None => &["networks", "publish", "publish_all", "links"],
        Mode::Host => &["networks", "netns", "links"],
        Mode::Joined(_) => &[
            "networks",
            "netns",
            "publish",
            "publish_all",
            "links",
            "expose",
        ],
    };
    for key in refused {
        if let Some(value) = table.get(key).filter(|value| !is_nothing(value.get_ref())) {
            let line = findings.line(&value.span());
            let what = format!("{key} can't be given with mode \"{mode}\"");
            table.error(line, what, findings);
        }
    }
}

/// Whether a value says the same as its absence.
fn is_nothing(value: &toml::de::DeValue<'_>) -> bool {
    value.as_array().is_some_and(|list| list.is_empty()) || value.as_bool() == Some(false)
}

fn require_networks(table: &Table<'_, '_>, findings: &mut Findings) {
    let Some(value) = table.get("networks") else {
        table.error(table.line, "networks is missing", findings);
        return;
    };
    if value
        .get_ref()
        .as_array()
        .is_some_and(|list| list.is_empty())
    {
        let line = findings.line(&value.span());
        table.error(line, "networks is empty", findings);
    }
}

/// Notes containers that are to share the stack of one that isn't there, or each other's.
pub(super) fn check_joined(document: &Document, findings: &mut Findings) {
    for container in &document.containers {
        let Mode::Joined(other) = &container.mode.value else {
            continue;
        };
        let name = &container.name.value;
        if document.container(other).is_none() {
            let what = format!("container {name:?}: mode: there is no container {other:?}");
            findings.error(container.mode.line, what);
        } else if stack_of(document, container).is_none() && is_in_a_circle(document, container) {
            let what = format!("container {name:?}: mode \"container:{other}\" leads back to it");
            findings.error(container.mode.line, what);
        }
    }
}

fn is_in_a_circle(document: &Document, container: &ContainerSpec) -> bool {
    let mut next = container;
    for _ in 0..document.containers.len() {
        let Some(joined) = joined_by(document, next) else {
            return false;
        };
        if joined.name.value == container.name.value {
            return true;
        }
        next = joined;
    }
    false
}

fn joined_by<'d>(document: &'d Document, container: &ContainerSpec) -> Option<&'d ContainerSpec> {
    match &container.mode.value {
        Mode::Joined(other) => document.container(other),
        _ => None,
    }
}

/// The container whose stack this one has: itself, unless it shares that of another; `None` where
/// that isn't there.
pub(super) fn stack_of<'d>(
    document: &'d Document,
    container: &'d ContainerSpec,
) -> Option<&'d ContainerSpec> {
    let mut next = container;
    for _ in 0..=document.containers.len() {
        if !matches!(next.mode.value, Mode::Joined(_)) {
            return Some(next);
        }
        next = joined_by(document, next)?;
    }
    None
}
