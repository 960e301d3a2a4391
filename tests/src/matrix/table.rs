//! The matrix as a table for people.

use std::fmt::Write as _;

use super::{Tried, What};

/// The matrix as tables, one for questions and one for frames; protocols that fared alike share a
/// row, and so do frames.
pub fn table(tried: &[Tried]) -> String {
    let (questions, frames): (Vec<_>, Vec<_>) = tried
        .iter()
        .partition(|one| matches!(one.what, What::Question(_)));
    let mut text = one_table(&questions, "PROTOCOLS");
    if !frames.is_empty() {
        text.push('\n');
        text.push_str(&one_table(&frames, "FRAMES"));
    }
    text
}

fn one_table(tried: &[&Tried], sent: &str) -> String {
    let mut rows: Vec<([String; 6], Vec<&'static str>)> = Vec::new();
    for one in tried {
        let key = [
            one.path.clone(),
            one.family.name().to_owned(),
            one.expected.clone(),
            one.seen.clone(),
            one.source
                .map_or("-".to_owned(), |source| source.to_string()),
            if one.is_as_expected {
                "ok"
            } else {
                "NOT AS EXPECTED"
            }
            .to_owned(),
        ];
        let name = one.what.name();
        match rows.iter_mut().find(|(row, _)| *row == key) {
            Some((_, protos)) if !protos.contains(&name) => protos.push(name),
            Some(_) => {}
            None => rows.push((key, vec![name])),
        }
    }
    let header = [
        "PATH",
        "FAMILY",
        sent,
        "EXPECTED",
        "SEEN",
        "SOURCE SEEN",
        "",
    ]
    .map(str::to_owned);
    let lines: Vec<[String; 7]> = [header]
        .into_iter()
        .chain(
            rows.into_iter()
                .map(|([path, family, expected, seen, source, mark], protos)| {
                    [
                        path,
                        family,
                        protos.join(", "),
                        expected,
                        seen,
                        source,
                        mark,
                    ]
                }),
        )
        .collect();
    aligned(&lines)
}

fn aligned(lines: &[[String; 7]]) -> String {
    let width = |column: usize| {
        lines
            .iter()
            .map(|line| line[column].chars().count())
            .max()
            .unwrap_or_default()
    };
    let widths: Vec<usize> = (0..7).map(width).collect();
    let mut table = String::new();
    for line in lines {
        let mut row = String::new();
        for (cell, width) in line.iter().zip(&widths) {
            let _ = write!(row, "{cell:width$}  ");
        }
        table.push_str(row.trim_end());
        table.push('\n');
    }
    table
}
