//! The matrix as a table for people.

use std::fmt::Write as _;

use super::Tried;
use crate::{sockets::Seen, topology::Family};

/// The matrix as a table; protocols that fared alike share a row.
pub fn table(tried: &[Tried]) -> String {
    let mut rows: Vec<([String; 6], Vec<&'static str>)> = Vec::new();
    for one in tried {
        let key = [
            one.case.path.clone(),
            Family::of(one.case.probe.to.ip()).name().to_owned(),
            one.case.expected.words(),
            one.seen.to_string(),
            source(&one.seen),
            if one.is_as_expected() {
                "ok"
            } else {
                "NOT AS EXPECTED"
            }
            .to_owned(),
        ];
        let name = one.case.probe.proto.name();
        match rows.iter_mut().find(|(row, _)| *row == key) {
            Some((_, protos)) if !protos.contains(&name) => protos.push(name),
            Some(_) => {}
            None => rows.push((key, vec![name])),
        }
    }
    let header = [
        "PATH",
        "FAMILY",
        "PROTOCOLS",
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
                    [path, family, protos.join(" "), expected, seen, source, mark]
                }),
        )
        .collect();
    aligned(&lines)
}

fn source(seen: &Seen) -> String {
    match seen {
        Seen::Answered { source, .. } | Seen::Arrived { source, .. } => source.ip().to_string(),
        Seen::Refused | Seen::Unreachable | Seen::Silence => "-".to_owned(),
    }
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
