//! `apply`: makes the host match a document, and says what changed.

use std::path::Path;

use anyhow::Result;

use super::check;
use crate::{
    cli::{Apply, Cli},
    display,
    reconcile::{Action, Change, Mode, Report, Source},
    run,
    state::Instance,
};

/// `apply [FILE] [--dry-run]`.
pub(super) fn apply(cli: &Cli, instance: &Instance, asked: &Apply) -> Result<()> {
    let source = asked.file.as_deref().map(read).transpose()?;
    let mode = if asked.dry_run {
        Mode::DryRun
    } else {
        Mode::Apply
    };
    let report = run::apply(cli.netns.as_deref(), instance, source, mode)?;
    if asked.listing.json {
        return display::json(&report);
    }
    if cli.quiet {
        return Ok(());
    }
    display::print(&shown(&report, mode))
}

/// A valid document, from a file.
fn read(file: &Path) -> Result<Source> {
    let (text, _) = check::read(file)?;
    Ok(Source {
        path: file.display().to_string(),
        text,
    })
}

/// A report for a person: one change a line.
pub(super) fn shown(report: &Report, mode: Mode) -> String {
    if !report.changed {
        return "nothing to change\n".to_owned();
    }
    let mut text = lines(report);
    if mode == Mode::DryRun {
        text.push_str("nothing was changed: this was a dry run\n");
    }
    text
}

/// The changes, one a line.
pub(super) fn lines(report: &Report) -> String {
    let line = |change: &Change| {
        let sign = match change.action {
            Action::Add => '+',
            Action::Change => '~',
            Action::Remove => '-',
        };
        let line = format!("{sign} {} {} {}", change.kind, change.name, change.detail);
        format!("{}\n", line.trim_end())
    };
    report.changes.iter().map(line).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report() -> Report {
        Report::from(vec![
            Change::new(Action::Add, "network", "front", "bridge nb-front"),
            Change::new(Action::Change, "service", "api", "backends web, db"),
            Change::new(Action::Remove, "container", "old", ""),
        ])
    }

    #[test]
    fn changes_are_shown_one_a_line() {
        assert_eq!(
            shown(&report(), Mode::Apply),
            "+ network front bridge nb-front\n~ service api backends web, db\n- container old\n"
        );
    }

    #[test]
    fn dry_run_says_that_it_was_one() {
        let text = shown(&report(), Mode::DryRun);
        assert!(text.ends_with("- container old\nnothing was changed: this was a dry run\n"));
    }

    #[test]
    fn nothing_to_change_is_said() {
        assert_eq!(
            shown(&Report::default(), Mode::Apply),
            "nothing to change\n"
        );
    }

    #[test]
    fn report_has_the_contracts_fields() {
        let expected = serde_json::json!({
            "changed": true,
            "changes": [
                {
                    "action": "add", "kind": "network", "name": "front",
                    "detail": "bridge nb-front",
                },
                {
                    "action": "change", "kind": "service", "name": "api",
                    "detail": "backends web, db",
                },
                { "action": "remove", "kind": "container", "name": "old", "detail": "" },
            ],
        });
        assert_eq!(serde_json::to_value(report()).unwrap(), expected);
    }
}
