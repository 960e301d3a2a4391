//! The report of a run that is kept in the repository, and the part of the README that follows from
//! it: no figure there is written by hand.

use std::{fmt::Write as _, fs, path::Path};

use anyhow::{Context as _, Result, ensure};

use super::{
    Judged, Report,
    markdown::{self, goal, number, ratio},
};
use crate::{
    row::{Judgement, Row, SUBJECT, Tally, Target},
    statistics::Spread,
};

/// Between these lines stands what follows from the report.
const BEGIN: &str = "<!-- what `cargo xtask bench readme` writes -->";
const END: &str = "<!-- until here -->";

/// What the README says where no report is kept.
pub const NOTHING: &str = "No run is kept yet.\n\n";

/// A run of fewer rounds is a first impression.
const ROUNDS: usize = 7;

/// How many digits of a sample are kept.
const DIGITS: usize = 5;

/// Reads a report and judges it anew.
///
/// # Errors
///
/// It can't be read, or is none.
pub fn read(path: &Path) -> Result<Report> {
    let what = || format!("failed to read {}", path.display());
    let text = fs::read_to_string(path).with_context(what)?;
    let report: Report = serde_json::from_str(&text).with_context(what)?;
    let rows = report.rows.into_iter().map(|judged| judged.row).collect();
    Ok(
        Report::new(report.machine, &report.pace, report.notes, rows)
            .beside(report.cycles, report.resolution)
            .within(report.cuts),
    )
}

/// Keeps the report of a measurement at `kept`, one row a line, and writes what follows from it
/// into the README.
///
/// # Errors
///
/// It is of a first impression, or something could not be measured; a file can't be read or written; the README has no place for it.
pub fn keep(report: &Path, kept: &Path, readme: &Path) -> Result<()> {
    let mut report = read(report)?;
    ensure!(
        report.pace.rounds >= ROUNDS,
        "a report of {} rounds is a first impression, and is not kept",
        report.pace.rounds
    );
    ensure!(
        report.is_whole(),
        "a report in which something could not be measured is not kept"
    );
    report.rows.iter_mut().for_each(round);
    let write = |path: &Path, text: &str| {
        fs::write(path, text).with_context(|| format!("failed to write {}", path.display()))
    };
    if let Some(directory) = kept.parent() {
        fs::create_dir_all(directory)?;
    }
    write(kept, &compact(&report)?)?;
    let text = fs::read_to_string(readme)
        .with_context(|| format!("failed to read {}", readme.display()))?;
    write(readme, &with_section(&text, &section(&read(kept)?))?)
}

/// The README with this between its lines.
///
/// # Errors
///
/// It has no such lines.
pub fn with_section(readme: &str, section: &str) -> Result<String> {
    let (before, rest) = readme
        .split_once(BEGIN)
        .context("the README has no begin")?;
    let (_, after) = rest.split_once(END).context("the README has no end")?;
    Ok(format!("{before}{BEGIN}\n\n{section}{END}{after}"))
}

fn round(judged: &mut Judged) {
    for series in &mut judged.row.series {
        for sample in &mut series.samples {
            *sample = significant(*sample);
        }
    }
}

fn significant(value: f64) -> f64 {
    let text = format!("{value:.*e}", DIGITS - 1);
    text.parse().unwrap_or(value)
}

/// JSON with a row in each line, so that a change of one row is a change of one line.
fn compact(report: &Report) -> Result<String> {
    let rows = report
        .rows
        .iter()
        .map(|judged| serde_json::to_string(&judged.row));
    let rows = rows.collect::<Result<Vec<_>, _>>()?;
    Ok(format!(
        "{{\"machine\":{},\n\"pace\":{},\n\"cycles\":{},\n\"resolution\":{},\n\"notes\":{},\n\"rows\":[\n{}\n]}}\n",
        serde_json::to_string(&report.machine)?,
        serde_json::to_string(&report.pace)?,
        serde_json::to_string(&report.cycles)?,
        serde_json::to_string(&report.resolution)?,
        serde_json::to_string(&report.notes)?,
        rows.join(",\n")
    ))
}

/// What the README says: what it was measured on, and a table for each path.
pub fn section(report: &Report) -> String {
    let machine = &report.machine;
    let mut text = String::new();
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "Linux {}, {} × {}; {}. {} to {} rounds, medians; {}. Two figures \
         are IPv4 and IPv6.\n",
        machine.kernel,
        machine.cpus,
        machine.cpu,
        machine.tools.join("; "),
        report.pace.rounds,
        report.pace.most_rounds,
        markdown::outcome(report.tally())
    );
    if !report.resolution.is_empty() {
        let _ = writeln!(
            text,
            "Two plain hosts that are alike differ in a row by: {}. {}.\n",
            markdown::resolutions(&report.resolution).join("; "),
            markdown::disturbances(report.cycles)
        );
    }
    for note in &report.notes {
        let _ = writeln!(text, "{note}.\n");
    }
    for (path, works) in paths(report) {
        let _ = writeln!(
            text,
            "<details><summary>{}</summary>\n",
            summary(path, &works)
        );
        text.push_str("| work | netbpf | netbpf ÷ peer | to reach |\n| --- | --- | --- | --- |\n");
        works.iter().for_each(|work| text.push_str(&line(work)));
        text.push_str("\n</details>\n\n");
    }
    text
}

/// The rows of one work, one for each family that it has.
type Work<'r> = Vec<&'r Judged>;

/// The works of each path in the order of the report, by the first word of their ids.
fn paths(report: &Report) -> Vec<(&str, Vec<Work<'_>>)> {
    let mut paths: Vec<(&str, Vec<Work<'_>>)> = Vec::new();
    for judged in &report.rows {
        let id = &judged.row.about.id;
        let path = id.split('/').next().unwrap_or_default();
        let at = paths.iter().position(|(name, _)| *name == path);
        let at = at.unwrap_or_else(|| {
            paths.push((path, Vec::new()));
            paths.len() - 1
        });
        let works = &mut paths[at].1;
        let same =
            |work: &&mut Work<'_>| without_family(&work[0].row.about.id) == without_family(id);
        match works.iter_mut().find(same) {
            Some(work) => work.push(judged),
            None => works.push(vec![judged]),
        }
    }
    paths
}

fn without_family(id: &str) -> Vec<&str> {
    let words = id.split('/');
    words
        .filter(|word| !matches!(*word, "ipv4" | "ipv6"))
        .collect()
}

fn summary(path: &str, works: &[Work<'_>]) -> String {
    let judgements = || works.iter().flatten().flat_map(|judged| &judged.judgements);
    let tally = Tally::of(judgements());
    format!(
        "{path}: {} of {} targets reached, {} too close to tell",
        tally.reached,
        tally.targets,
        tally.barely + tally.nearly
    )
}

fn line(work: &Work<'_>) -> String {
    let first = &work[0].row;
    let title = first
        .about
        .title
        .replace(", IPv4", "")
        .replace(", IPv6", "");
    let own = each(work, |judged| {
        Some(number(Spread::of(judged.row.samples(SUBJECT)?)?.median))
    });
    let unit = &first.about.unit;
    format!(
        "| {title} | {own} {unit} | {} | {} |\n",
        ratios(work).join("<br>"),
        outcomes(work).join("<br>")
    )
}

/// One word for each row of a work, or one for all where they are the same.
fn each(work: &Work<'_>, word: impl Fn(&Judged) -> Option<String>) -> String {
    let word = |judged: &&Judged| word(judged).unwrap_or_else(|| "not measured".to_owned());
    let mut words: Vec<String> = work.iter().map(word).collect();
    words.dedup();
    words.join(" / ")
}

fn ratios(work: &Work<'_>) -> Vec<String> {
    let mut peers: Vec<&str> = Vec::new();
    for series in work.iter().flat_map(|judged| &judged.row.series) {
        if series.name != SUBJECT && !peers.contains(&&series.name[..]) {
            peers.push(&series.name);
        }
    }
    let beside = |row: &Row, peer: &str| Some(ratio(row.ratio(peer)?.median));
    let peers = peers.into_iter();
    peers
        .map(|peer| format!("{peer}: {}", each(work, |judged| beside(&judged.row, peer))))
        .collect()
}

fn outcomes(work: &Work<'_>) -> Vec<String> {
    let mut targets: Vec<&Target> = Vec::new();
    for (target, _) in work.iter().flat_map(|judged| &judged.judgements) {
        if !targets.contains(&target) {
            targets.push(target);
        }
    }
    let unit = &work[0].row.about.unit;
    let targets = targets.into_iter();
    targets
        .map(|target| format!("{}: {}", goal(target, unit), outcome(work, target)))
        .collect()
}

fn outcome(work: &Work<'_>, target: &Target) -> String {
    let demanded = |judged: &&Judged| judged.judgements.iter().any(|(its, _)| its == target);
    let demanding: Work<'_> = work.iter().copied().filter(demanded).collect();
    each(&demanding, |judged| {
        let (_, judgement) = judged.judgements.iter().find(|(its, _)| its == target)?;
        match judgement {
            Judgement::Reached { .. } => Some("reached".to_owned()),
            Judgement::Short { by, .. } => Some(format!("**{:.1} % short**", by * 100.0)),
            Judgement::Unknown => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::{
        machine::Machine,
        rounds::Pace,
        row::{About, Direction, Series},
    };

    fn row(family: &str, ours: f64) -> Row {
        let series = |name: &str, sample: f64| Series {
            name: name.to_owned(),
            samples: vec![sample; 7],
        };
        Row {
            about: About {
                id: format!("path/load/{}", family.to_lowercase()),
                title: format!("a work on a path, {family}"),
                unit: "requests/s".to_owned(),
                direction: Direction::HigherIsBetter,
                targets: vec![Target::at_least(1.5, "plain")],
            },
            series: vec![series(SUBJECT, ours), series("plain", 1000.0)],
            absent: Vec::new(),
            notes: Vec::new(),
        }
    }

    fn report(rounds: usize) -> Report {
        let pace = Pace {
            rounds,
            slice: Duration::from_millis(1),
            ..Pace::FULL
        };
        let rows = vec![row("IPv4", 2000.0), row("IPv6", 1200.1234)];
        Report::new(
            Machine::look(),
            &pace,
            vec!["it was noted".to_owned()],
            rows,
        )
    }

    #[test]
    fn a_work_is_one_line_with_both_families() {
        let text = section(&report(7));
        for line in [
            "<summary>path: 1 of 2 targets reached, 0 too close to tell</summary>",
            "| a work on a path | 2000 / 1200 requests/s | plain: 2.00 / 1.20 | \
             ≥ 1.50 × plain: reached / **20.0 % short** |",
            "it was noted.",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn the_readme_follows_from_what_is_kept() {
        let directory = tempfile::tempdir().expect("a temporary directory");
        let at = |name: &str| directory.path().join(name);
        let write = |name: &str, text: &str| fs::write(at(name), text).expect("a file");
        let text = |name: &str| fs::read_to_string(at(name)).expect("a file");
        write("readme", &format!("before\n{BEGIN}\nold\n{END}\nafter\n"));
        write("report", &serde_json::to_string(&report(7)).expect("JSON"));
        keep(&at("report"), &at("kept"), &at("readme")).expect("it is kept");
        let section = section(&read(&at("kept")).expect("what is kept"));
        assert_eq!(
            text("readme"),
            format!("before\n{BEGIN}\n\n{section}{END}\nafter\n")
        );
        assert!(text("kept").contains("1200.1"), "samples have five digits");

        write("report", &serde_json::to_string(&report(3)).expect("JSON"));
        keep(&at("report"), &at("kept"), &at("readme")).expect_err("a first impression");
    }
}
