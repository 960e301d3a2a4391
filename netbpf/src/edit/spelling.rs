//! What an edit must not take from a document and its parser does not keep: a byte-order mark,
//! lines that end in a carriage return and a line feed, and a last line that has no end.

use super::read;
use crate::error::Error;

/// The mark that some editors begin a file with.
const MARK: &str = "\u{feff}";

/// `after`, which an edit has made of `before`, with the mark and the line ends of that: lines that
/// stand unchanged before and behind the change are as they were, those between end as most do.
///
/// # Errors
///
/// [`Error::Host`]: what came of it can't be read. What has line feeds alone is not read again.
pub(super) fn kept(before: &str, mut after: String) -> Result<String, Error> {
    if !before.is_empty() && !before.ends_with('\n') && after.ends_with('\n') {
        after.pop();
    }
    if !before.starts_with(MARK) && !before.contains('\r') {
        return Ok(after);
    }
    let text = respelt(before, &after);
    read(&text)?;
    Ok(text)
}

fn respelt(before: &str, after: &str) -> String {
    let (mark, before) = before.split_at(before.strip_prefix(MARK).map_or(0, |_| MARK.len()));
    let old: Vec<&str> = before.split_inclusive('\n').collect();
    let new: Vec<&str> = after
        .trim_start_matches(MARK)
        .split_inclusive('\n')
        .collect();
    let begin = count_same(old.iter().zip(&new));
    let end = count_same(old[begin..].iter().rev().zip(new[begin..].iter().rev()));
    // A last line may have no end.
    let ends = |end| old.iter().filter(|line| line.ends_with(end)).count();
    let is_long = ends("\r\n") * 2 > ends("\n");
    let mut text = mark.to_owned();
    text.extend(old[..begin].iter().copied());
    for line in &new[begin..new.len() - end] {
        match bare(line) {
            Some(line) if is_long => text.extend([line, "\r\n"]),
            _ => text.push_str(line),
        }
    }
    text.extend(old[old.len() - end..].iter().copied());
    text
}

/// How many lines are the same but for their ends, until the first that is not.
fn count_same<'t>(pairs: impl Iterator<Item = (&'t &'t str, &'t &'t str)>) -> usize {
    pairs
        .take_while(|(old, new)| match (bare(old), bare(new)) {
            (Some(old), Some(new)) => old == new,
            _ => old == new,
        })
        .count()
}

/// A line without its end, if it has one. Lines of strings come from the parser with the end that
/// they had.
fn bare(line: &str) -> Option<&str> {
    let line = line.strip_suffix('\n')?;
    Some(line.strip_suffix('\r').unwrap_or(line))
}

#[cfg(test)]
mod tests {
    use super::{super::*, kept};

    const DOCUMENT: &str = "# mine\n[[container]]\nname = \"c0\"\npublish = [\n  \"1:1\",\n  \
                            \"2:2\",\n] # ports\n\n[[container]]\nname = \"c1\"\n";

    fn add() -> Edit {
        Edit::Publish {
            container: "c0".to_owned(),
            ports: vec![Value::Text("3:3".to_owned())],
        }
    }

    fn edits() -> Vec<Edit> {
        let remove = Edit::Unpublish {
            container: "c0".to_owned(),
            ports: vec!["1:1".to_owned()],
        };
        let network = Edit::Add {
            kind: Kind::Network,
            name: "front".to_owned(),
            keys: Keys::default().flag("icc", Some(false)),
        };
        vec![add(), remove, network]
    }

    #[test]
    fn edits_keep_line_ends_and_the_mark() {
        let plain = apply(DOCUMENT, &edits()).unwrap();
        for mark in ["", "\u{feff}"] {
            let spelt = |text: &str| format!("{mark}{}", text.replace('\n', "\r\n"));
            let document = spelt(DOCUMENT);
            assert_eq!(apply(&document, &edits()).unwrap(), spelt(&plain));
            let mut opened = Opened::read(&document).unwrap();
            assert_eq!(opened.text(), document);
            for edit in edits() {
                opened.apply(&edit).unwrap();
            }
            assert_eq!(opened.text(), spelt(&plain));
        }
    }

    #[test]
    fn lines_end_as_most_do_where_the_last_has_no_end() {
        let network = Edit::Add {
            kind: Kind::Network,
            name: "front".to_owned(),
            keys: Keys::default(),
        };
        let text = apply("[host]\r\nuplinks = []", &[network]).unwrap();
        assert!(text.contains("[[network]]\r\n"), "{text:?}");
        assert_eq!(text.matches('\n').count(), text.matches("\r\n").count());
    }

    #[test]
    fn lines_apart_from_the_change_end_as_they_did() {
        let mixed = DOCUMENT
            .replacen('\n', "\r\n", 1)
            .replace("c1\"\n", "c1\"\r\n");
        let text = apply(&mixed, &[add()]).unwrap();
        assert!(text.starts_with("# mine\r\n[[container]]\n"), "{text:?}");
        assert!(text.ends_with("\"c1\"\r\n"), "{text:?}");
        assert_eq!(text.matches('\r').count(), 2, "{text:?}");
    }

    #[test]
    fn lines_of_a_string_keep_their_ends() {
        let document = "[[container]]\nname = \"c0\"\npublish = [\"1:1\", \"\"\"\n2:2\"\"\"]\n\
                        [[container]]\nname = \"c1\"\npublish = [\"5:5\"]\n"
            .replace('\n', "\r\n");
        let new = document.replace("2:2\"\"\"]", "2:2\"\"\", \"3:3\"]");
        assert_eq!(apply(&document, &[add()]).unwrap(), new);
        let mut opened = Opened::read(&document).unwrap();
        opened.apply(&add()).unwrap();
        assert_eq!(opened.text(), new);
    }

    #[test]
    fn what_can_not_be_read_is_not_handed_out() {
        let before = "a = 1\r\n";
        assert!(kept(before, "a = 1\n".to_owned()).is_ok());
        assert!(kept(before, "a = \"\n".to_owned()).is_err());
    }

    #[test]
    fn a_document_without_a_final_line_end_stays_without() {
        for end in ["\n", "\r\n"] {
            let spelt = |text: &str| text.trim_end().replace('\n', end);
            let plain = apply(DOCUMENT, &edits()).unwrap();
            let document = spelt(DOCUMENT);
            assert_eq!(apply(&document, &edits()).unwrap(), spelt(&plain));
        }
    }
}
