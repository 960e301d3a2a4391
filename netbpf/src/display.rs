//! How results look: tables for people, JSON for scripts. Results go to stdout, all else to stderr.

use std::io::{self, ErrorKind, Write as _};

use anyhow::{Context as _, Result};
use serde::Serialize;
use tracing_subscriber::filter::LevelFilter;

use crate::{
    cli::{Cli, Listing},
    error::Error,
};

/// Something that is listed: one row of a table.
pub trait Row: Serialize {
    /// The heads of the columns.
    const HEADS: &'static [&'static str];

    /// The cells of the row, as many as there are heads.
    fn cells(&self) -> Vec<String>;
}

/// Starts logging to stderr, as much as the command line asks for.
pub fn start_logging(cli: &Cli) {
    let level = match (cli.quiet, cli.verbose) {
        (true, _) => LevelFilter::ERROR,
        (false, 0) => LevelFilter::INFO,
        (false, 1) => LevelFilter::DEBUG,
        (false, _) => LevelFilter::TRACE,
    };
    // A second start in one process, as in a test, changes nothing.
    let _ = tracing_subscriber::fmt()
        .with_writer(io::stderr)
        .with_max_level(level)
        .with_ansi(false)
        .with_target(false)
        .without_time()
        .try_init();
}

/// An error with its causes. A document's errors stand one a line as they are, for editors.
pub fn failure(error: &anyhow::Error) -> String {
    let of_document = error
        .chain()
        .find_map(|cause| match cause.downcast_ref::<Error>() {
            Some(Error::Config(errors)) => Some(errors),
            _ => None,
        });
    if let Some(errors) = of_document {
        return errors.to_string();
    }
    format!("netbpf: {}", causes(error))
}

/// What an error says, and why, each cause once: many errors already say what caused them.
pub fn causes(error: &anyhow::Error) -> String {
    let mut text = error.to_string();
    for cause in error.chain().skip(1) {
        let cause = cause.to_string();
        if !text.ends_with(&cause) {
            text.push_str(": ");
            text.push_str(&cause);
        }
    }
    text
}

/// Prints rows.
///
/// # Errors
///
/// When stdout refuses.
pub fn list<R: Row>(rows: &[R], listing: Listing) -> Result<()> {
    if listing.json {
        return json(&rows);
    }
    print(&table(R::HEADS, rows.iter().map(Row::cells)))
}

/// Prints a value as JSON.
///
/// # Errors
///
/// When stdout refuses.
pub fn json(value: &impl Serialize) -> Result<()> {
    let mut text = serde_json::to_string_pretty(value).context("failed to write JSON")?;
    text.push('\n');
    print(&text)
}

/// Prints text. That the reader has gone, as `head` does, is no error.
///
/// # Errors
///
/// When stdout refuses for another reason.
pub fn print(text: &str) -> Result<()> {
    let mut stdout = io::stdout().lock();
    match stdout
        .write_all(text.as_bytes())
        .and_then(|()| stdout.flush())
    {
        Err(error) if error.kind() != ErrorKind::BrokenPipe => {
            Err(error).context("failed to write to stdout")
        }
        _ => Ok(()),
    }
}

/// A table: columns as wide as their widest cell, two spaces apart, without trailing spaces.
pub fn table(heads: &[&str], rows: impl IntoIterator<Item = Vec<String>>) -> String {
    let heads = heads.iter().map(|&head| head.to_owned()).collect();
    let lines: Vec<Vec<String>> = std::iter::once(heads).chain(rows).collect();
    let columns = lines.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells
            .map(|cell| cell.chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in &lines {
        let mut shown = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            shown.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(shown.trim_end());
        text.push('\n');
    }
    text
}

/// Values of one cell, with commas; a dash when there is none.
pub fn joined<T: ToString>(values: impl IntoIterator<Item = T>) -> String {
    let values: Vec<String> = values.into_iter().map(|value| value.to_string()).collect();
    if values.is_empty() {
        "-".to_owned()
    } else {
        values.join(",")
    }
}

/// `yes` or `no`.
pub const fn yes_no(value: bool) -> &'static str {
    if value { "yes" } else { "no" }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;

    #[test]
    fn table_is_as_wide_as_its_cells() {
        let rows = [
            vec!["front".to_owned(), "-".to_owned()],
            vec!["b".to_owned(), "x,y".to_owned()],
        ];
        assert_eq!(
            table(&["NAME", "SUBNETS"], rows),
            "NAME   SUBNETS\nfront  -\nb      x,y\n"
        );
        assert_eq!(table(&["NAME"], []), "NAME\n");
    }

    #[test]
    fn failure_says_each_cause_once() {
        let cause = Error::host("link is gone");
        let error = anyhow::Error::from(cause).context("failed to attach: link is gone");
        assert_eq!(failure(&error), "netbpf: failed to attach: link is gone");
        let error = anyhow::Error::from(Error::host("link is gone")).context("failed to attach");
        assert_eq!(failure(&error), "netbpf: failed to attach: link is gone");
    }

    #[test]
    fn errors_of_a_document_stand_as_they_are() {
        let errors = config::load("a.toml", "x = 1\ny = 2").unwrap_err();
        let error = anyhow::Error::from(Error::from(errors));
        assert_eq!(
            failure(&error),
            "a.toml:1: unknown key \"x\"\na.toml:2: unknown key \"y\""
        );
        assert_eq!(crate::error::exit_code(&error), 2);
    }
}
