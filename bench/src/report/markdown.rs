//! The report for people: one table a row.

use std::{fmt::Write as _, time::Duration};

use super::{Judged, Report};
use crate::{
    budget::Cuts,
    quiet::Cycles,
    row::{Judgement, Row, SUBJECT, Sense, Tally, Target},
    rows::Resolution,
    statistics::Spread,
};

/// The whole report.
pub fn render(report: &Report) -> String {
    let mut text = String::from("# Measured\n\n");
    let machine = &report.machine;
    let kind = if machine.virtual_machine {
        "virtual machine"
    } else {
        "bare metal"
    };
    // Writing to a string can't fail.
    let _ = writeln!(
        text,
        "Linux {}, {} × {} ({kind}), governor {}, load {} at the start. {} rounds, and up to {} \
         where a target is too close to tell, of {} slices of {} ms each ({} ms of streams, \
         {} ms of latency), after {} ms that do not count ({} ms of streams); all contenders of a row alternate in slices. \
         Ratios are taken within a round: the median, in brackets between what it is 95 times in \
         100, and in parentheses the quartiles and the range.\n",
        machine.kernel,
        machine.cpus,
        machine.cpu,
        machine.governor,
        machine.load,
        report.pace.rounds,
        report.pace.most_rounds,
        report.pace.slices,
        report.pace.slice.as_millis(),
        report.pace.long.as_millis(),
        report.pace.tail.as_millis(),
        report.pace.warm_up.as_millis(),
        report.pace.fill.as_millis(),
    );
    let _ = writeln!(text, "{}\n", machine.tools.join("; "));
    let _ = writeln!(text, "{}.\n", outcome(report.tally()));
    let _ = writeln!(text, "{}.\n", disturbances(report.cycles));
    if let Some(limit) = report.pace.limit {
        let _ = writeln!(text, "{}.\n", omissions(report.cuts, limit));
    }
    for words in resolutions(&report.resolution) {
        let _ = writeln!(text, "How fine the bench sees: {words}.\n");
    }
    for note in &report.notes {
        let _ = writeln!(text, "{note}\n");
    }
    for judged in &report.rows {
        text.push_str(&section(judged));
    }
    text
}

fn section(judged: &Judged) -> String {
    let row = &judged.row;
    let mut text = format!("## {}\n\n`{}`\n\n", row.about.title, row.about.id);
    let unit = &row.about.unit;
    let _ = writeln!(
        text,
        "| who | {unit}, median (range) | {SUBJECT} ÷ who |\n| --- | --- | --- |"
    );
    for series in &row.series {
        let Some(spread) = Spread::of(&series.samples) else {
            continue;
        };
        let _ = writeln!(
            text,
            "| {} | {} ({}–{}) | {} |",
            series.name,
            number(spread.median),
            number(spread.min),
            number(spread.max),
            ratio_to(row, &series.name)
        );
    }
    for absent in &row.absent {
        let reason = absent.reason.replace('\n', " ").replace('|', "\\|");
        let _ = writeln!(text, "| {} | not measured: {reason} | |", absent.name);
    }
    text.push('\n');
    for (target, judgement) in &judged.judgements {
        let _ = writeln!(text, "- {}", sentence(target, judgement, unit));
    }
    for note in &row.notes {
        let _ = writeln!(text, "- {note}");
    }
    text.push('\n');
    text
}

fn ratio_to(row: &Row, name: &str) -> String {
    match row.ratio(name) {
        Some(spread) if name != SUBJECT => format!(
            "{} {} ({}–{}, {}–{})",
            ratio(spread.median),
            interval(&spread, ratio),
            ratio(spread.lower),
            ratio(spread.upper),
            ratio(spread.min),
            ratio(spread.max)
        ),
        _ => String::new(),
    }
}

/// What a target demands, in words.
pub fn goal(target: &Target, unit: &str) -> String {
    let sense = match target.sense {
        Sense::AtLeast => "≥",
        Sense::AtMost => "≤",
    };
    match &target.peer {
        Some(peer) => format!("{sense} {:.2} × {peer}", target.bound),
        None => format!("{sense} {} {unit}", number(target.bound)),
    }
}

/// What became of a target, in words.
pub fn sentence(target: &Target, judgement: &Judgement, unit: &str) -> String {
    let goal = goal(target, unit);
    let digits: fn(f64) -> String = match &target.peer {
        Some(_) => |value| format!("{value:.3}"),
        None => number,
    };
    let shown = |spread: &Spread| {
        let (median, interval) = (digits(spread.median), interval(spread, digits));
        let close = if spread.is_close_to(target.bound) {
            ": too close to tell"
        } else {
            ""
        };
        format!("{median} {interval}{close}")
    };
    match judgement {
        Judgement::Reached { spread } => format!("{goal}: reached, {}", shown(spread)),
        Judgement::Short { spread, by } => format!(
            "{goal}: **not reached**, short by {:.1} %, {}",
            by * 100.0,
            shown(spread)
        ),
        Judgement::Unknown => format!("{goal}: **not measured**"),
    }
}

/// A ratio, and between what it is.
pub fn ratio_and_interval(spread: &Spread) -> String {
    let digits = |value| format!("{value:.3}");
    let (median, interval) = (digits(spread.median), interval(spread, digits));
    format!("{median} {interval}")
}

/// Between what a median is, in brackets.
fn interval(spread: &Spread, digits: impl Fn(f64) -> String) -> String {
    spread.interval.map_or_else(
        || "[too few rounds]".to_owned(),
        |it| format!("[{}–{}]", digits(it.from), digits(it.to)),
    )
}

/// How many targets came out how, in words.
pub fn outcome(tally: Tally) -> String {
    let Tally {
        targets,
        reached,
        barely,
        short,
        nearly,
    } = tally;
    let unknown = targets - reached - short;
    let mut text = format!(
        "{reached} of {targets} targets reached ({barely} of them too close to tell), {short} not \
         reached ({nearly} of them too close to tell)"
    );
    if unknown > 0 {
        let _ = write!(text, ", {unknown} not measured");
    }
    text
}

/// How often the machine was disturbed, in words.
pub fn disturbances(cycles: Cycles) -> String {
    let Cycles {
        kept,
        again,
        stayed,
    } = cycles;
    format!(
        "{kept} cycles of slices count; {again} were taken again because the reference load found \
         the machine disturbed, and {stayed} of those that count were disturbed as well"
    )
}

/// What there was no time for, in words.
fn omissions(cuts: Cuts, limit: Duration) -> String {
    let Cuts { rounds, works } = cuts;
    format!(
        "A run like this one ends after {} s; rounds left out for that: {rounds}, works left out as a \
         whole: {works}",
        limit.as_secs()
    )
}

/// How two hosts compare that are alike, in words, for each number of each load.
pub fn resolutions(resolution: &[Resolution]) -> Vec<String> {
    let words = |it: &Resolution| match &it.spread {
        Some(spread) => format!("{}: {}", it.title, ratio_and_interval(spread)),
        None => format!("{}: not measured", it.title),
    };
    resolution.iter().map(words).collect()
}

/// A ratio as it can be read: with more digits where it is small.
pub fn ratio(value: f64) -> String {
    if value.abs() < 0.1 {
        format!("{value:.4}")
    } else {
        format!("{value:.2}")
    }
}

/// A number as it can be read: whole where it is large.
pub fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        machine::Machine,
        rounds::Pace,
        row::{About, Absent, Direction, Series},
    };

    fn report() -> Report {
        let series = |name: &str, samples: [f64; 3]| Series {
            name: name.to_owned(),
            samples: samples.to_vec(),
        };
        let row = Row {
            about: About {
                id: "path/load".to_owned(),
                title: "a work on a path".to_owned(),
                unit: "requests/s".to_owned(),
                direction: Direction::HigherIsBetter,
                targets: vec![
                    Target::at_least(1.5, "plain"),
                    Target::at_least(2.5, "plain"),
                    Target::at_least(1.0, "absent"),
                ],
            },
            series: vec![
                series(SUBJECT, [2000.0, 4000.0, 6000.0]),
                series("plain", [1000.0, 2000.0, 3000.0]),
            ],
            absent: vec![Absent {
                name: "absent".to_owned(),
                reason: "not | here".to_owned(),
            }],
            notes: vec!["it was noted".to_owned()],
        };
        let pace = Pace {
            rounds: 3,
            slices: 2,
            tail: Duration::from_millis(46),
            ..Pace::QUICK
        };
        Report::new(
            Machine::look(),
            &pace,
            vec!["all was noted".to_owned()],
            vec![row],
        )
        .beside(
            Cycles {
                kept: 9,
                again: 2,
                stayed: 1,
            },
            vec![Resolution {
                title: "two hosts".to_owned(),
                spread: Spread::of(&[1.01]),
            }],
        )
        .within(Cuts {
            rounds: 5,
            works: 1,
        })
    }

    #[test]
    fn the_report_names_everybody_and_every_target_and_nobody_is_dropped() {
        let text = render(&report());
        for line in [
            "| netbpf | 4000 (2000–6000) |  |",
            "| plain | 2000 (1000–3000) | 2.00 [too few rounds] (2.00–2.00, 2.00–2.00) |",
            "| absent | not measured: not \\| here | |",
            "- ≥ 1.50 × plain: reached, 2.000 [too few rounds]: too close to tell",
            "- ≥ 2.50 × plain: **not reached**, short by 20.0 %, 2.000 [too few rounds]",
            "1 of 3 targets reached (1 of them too close to tell), 1 not reached (1 of them too \
             close to tell), 1 not measured.",
            "- ≥ 1.00 × absent: **not measured**",
            "- it was noted",
            "9 cycles of slices count; 2 were taken again",
            "ends after 110 s; rounds left out for that: 5, works left out as a whole: 1.",
            "How fine the bench sees: two hosts: 1.010 [too few rounds].",
            "all was noted",
            "2 slices of 25 ms each (45 ms of streams, 46 ms of latency), after 5 ms that do not \
             count (15 ms of streams); all contenders",
        ] {
            assert!(text.contains(line), "{line} is not in\n{text}");
        }
    }

    #[test]
    fn a_median_has_its_interval_beside_it() {
        let samples = [1.9, 1.95, 2.0, 2.0, 2.0, 2.05, 2.1];
        let spread = Spread::of(&samples).expect("there are samples");
        let reached = Judgement::Reached { spread };
        for (bound, words) in [
            (1.5, "≥ 1.50 × plain: reached, 2.000 [1.900–2.100]"),
            (
                1.95,
                "≥ 1.95 × plain: reached, 2.000 [1.900–2.100]: too close to tell",
            ),
        ] {
            let target = Target::at_least(bound, "plain");
            assert_eq!(sentence(&target, &reached, "requests/s"), words);
        }
    }

    #[test]
    fn the_json_holds_samples_and_judgements() {
        let report = report();
        assert!(!report.is_whole(), "a target names somebody absent");
        let json = serde_json::to_value(&report).expect("a report can be written");
        let row = &json["rows"][0];
        assert_eq!(row["id"], "path/load");
        assert_eq!(row["series"][0]["samples"][1], 4000.0);
        assert_eq!(row["judgements"][0][1]["reached"]["spread"]["median"], 2.0);
        assert_eq!(row["judgements"][2][1], "unknown");
    }
}
