//! The order of lines, which the parser does not keep where dotted keys of one table have other keys
//! between them: it writes them side by side.

use std::{collections::HashMap, ops::Range};

/// `after`, which an edit has made of what the parser writes for `before`, `plain`, with the lines
/// that it only moved where they stand in `before`. Lines in the midst of which the edit changed
/// something stay as the parser has them, and so do those beside which it did, or all, where the
/// document would mean something else: lines of one key can be taken for those of another.
pub(super) fn kept(before: &str, plain: &str, after: String) -> String {
    let (old, plain) = (lines(before), lines(plain));
    let Some(moved) = moved(&old, &plain).filter(|moved| !moved.is_empty()) else {
        return after;
    };
    let Some(asked) = meaning(&after) else {
        return after;
    };
    let new = lines(&after);
    let mut texts = [APART, BESIDE]
        .iter()
        .map(|gap| put_back(&old, &plain, &new, &moved, *gap));
    let same = texts.find(|text| meaning(text).as_ref() == Some(&asked));
    same.unwrap_or(after)
}

/// How many lines are between a change and a stretch that it does not cut, at least.
const APART: usize = 0;
const BESIDE: usize = 1;

/// The lines of `old` with what the edit changed from `plain` to `new`.
fn put_back(
    old: &[&str],
    plain: &[&str],
    new: &[&str],
    moved: &[Range<usize>],
    gap: usize,
) -> String {
    let begin = count_same(plain.iter().zip(new));
    let end = count_same(plain[begin..].iter().rev().zip(new[begin..].iter().rev()));
    let changed = around(begin..plain.len() - end, moved, gap);
    let end = plain.len() - changed.end;
    let parts = [
        &old[..changed.start],
        &new[changed.start..new.len() - end],
        &old[changed.end..],
    ];
    joined(&parts.concat())
}

/// What a document says, whatever its order and spelling; `None` where it is none.
fn meaning(text: &str) -> Option<toml::Table> {
    toml::from_str(text.trim_start_matches('\u{feff}')).ok()
}

/// The last line of a document may have no end.
fn joined(lines: &[&str]) -> String {
    let mut text = String::new();
    for line in lines {
        if !text.is_empty() && !text.ends_with('\n') {
            text.push('\n');
        }
        text.push_str(line);
    }
    text
}

fn lines(text: &str) -> Vec<&str> {
    text.split_inclusive('\n').collect()
}

/// A line without its end, and without the mark that a document may begin with.
fn bare(line: &str) -> &str {
    line.trim_end_matches(['\r', '\n'])
        .trim_start_matches('\u{feff}')
}

fn count_same<'t>(pairs: impl Iterator<Item = (&'t &'t str, &'t &'t str)>) -> usize {
    pairs
        .take_while(|(one, other)| bare(one) == bare(other))
        .count()
}

/// The stretches, as short as can be, that have the same lines in another order; `None` where they
/// have others.
fn moved(old: &[&str], plain: &[&str]) -> Option<Vec<Range<usize>>> {
    if old.len() != plain.len() {
        return None;
    }
    let mut stretches = Vec::new();
    let mut begin = 0;
    // How often a line came in the one and has not come in the other.
    let mut ahead: HashMap<&str, isize> = HashMap::new();
    for (place, (one, other)) in old.iter().zip(plain).enumerate() {
        let (one, other) = (bare(one), bare(other));
        if one == other && ahead.is_empty() {
            continue;
        }
        if ahead.is_empty() {
            begin = place;
        }
        for (line, count) in [(one, 1), (other, -1)] {
            let balance = ahead.entry(line).or_default();
            *balance += count;
            if *balance == 0 {
                ahead.remove(line);
            }
        }
        if ahead.is_empty() {
            stretches.push(begin..place + 1);
        }
    }
    ahead.is_empty().then_some(stretches)
}

/// What changed, with all of each stretch that it cuts or that is nearer than `gap`.
fn around(changed: Range<usize>, moved: &[Range<usize>], gap: usize) -> Range<usize> {
    let cut = moved
        .iter()
        .filter(|it| it.start < changed.end + gap && changed.start < it.end + gap);
    cut.fold(changed.clone(), |all, it| {
        all.start.min(it.start)..all.end.max(it.end)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const OLD: &str = "a.x = 1\nb = 2\n# of a\na.y = 3\n[c]\nd = 4\n";
    const PLAIN: &str = "a.x = 1\n# of a\na.y = 3\nb = 2\n[c]\nd = 4\n";

    #[test]
    fn lines_that_only_moved_go_back() {
        for (change, new) in [
            ("d = 4", "d = 5"),
            ("[c]\nd = 4\n", ""),
            ("d = 4", "e = 6\nd = 4"),
        ] {
            let after = PLAIN.replace(change, new);
            assert_eq!(kept(OLD, PLAIN, after), OLD.replace(change, new));
        }
        let after = format!("{PLAIN}[e]\n");
        assert_eq!(kept(OLD, PLAIN, after), format!("{OLD}[e]\n"));
        let after = format!("# new\n{PLAIN}");
        assert_eq!(kept(OLD, PLAIN, after), format!("# new\n{OLD}"));
        let after = format!("{PLAIN}[e]\n");
        assert_eq!(kept(OLD.trim_end(), PLAIN, after), format!("{OLD}[e]\n"));
    }

    #[test]
    fn lines_about_a_change_stay_as_they_are_written() {
        let after = PLAIN.replace("a.y = 3", "a.y = 9");
        assert_eq!(kept(OLD, PLAIN, after.clone()), after);
        let other = PLAIN.replace("d = 4", "d = 4 # x");
        let after = PLAIN.replace("d = 4", "d = 9");
        assert_eq!(kept(OLD, &other, after.clone()), after);
    }
}
