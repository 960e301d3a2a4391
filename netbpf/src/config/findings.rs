//! What is wrong with a document, gathered while it is read. Knows lines, not meaning.

use std::{mem, ops::Range};

use super::{ConfigErrors, Fault};

/// A value and the line it stands on.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct At<T> {
    /// The line, from 1.
    pub line: usize,
    /// The value.
    pub value: T,
}

impl<T> At<T> {
    /// Another value of the same line.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> At<U> {
        At {
            line: self.line,
            value: convert(self.value),
        }
    }
}

/// The errors and warnings so far.
pub(super) struct Findings {
    path: String,
    line_starts: Vec<usize>,
    errors: Vec<At<String>>,
    warnings: Vec<At<String>>,
}

impl Findings {
    /// Nothing found yet in this text.
    pub fn new(path: &str, text: &str) -> Self {
        let line_starts = text
            .match_indices('\n')
            .map(|(offset, _)| offset + 1)
            .collect();
        Self {
            path: path.to_owned(),
            line_starts,
            errors: Vec::new(),
            warnings: Vec::new(),
        }
    }

    /// The line of a place in the text, from 1.
    pub fn line(&self, span: &Range<usize>) -> usize {
        self.line_starts
            .partition_point(|start| *start <= span.start)
            + 1
    }

    /// Notes an error.
    pub fn error(&mut self, line: usize, message: impl Into<String>) {
        self.errors.push(At {
            line,
            value: message.into(),
        });
    }

    /// Notes a warning.
    pub fn warn(&mut self, line: usize, message: impl Into<String>) {
        self.warnings.push(At {
            line,
            value: message.into(),
        });
    }

    /// The warnings, as they are shown and without their places.
    pub fn take_warnings(&mut self) -> (Vec<String>, Vec<String>) {
        let mut warnings = mem::take(&mut self.warnings);
        let lines = self.show(&mut warnings);
        let words = warnings.into_iter().map(|warning| warning.value);
        (lines, words.collect())
    }

    /// Whether there is an error so far.
    pub fn are_wrong(&self) -> bool {
        !self.errors.is_empty()
    }

    /// The errors, if there is one.
    pub fn finish(&mut self) -> Result<(), ConfigErrors> {
        if self.errors.is_empty() {
            return Ok(());
        }
        let mut errors = mem::take(&mut self.errors);
        let lines = self.show(&mut errors);
        Err(ConfigErrors {
            lines,
            words: errors.into_iter().map(|error| error.value).collect(),
            fault: Fault::Relation,
        })
    }

    fn show(&self, notes: &mut Vec<At<String>>) -> Vec<String> {
        notes.sort_by_key(|note| note.line);
        // One slip can make the parser say the same thing many times.
        notes.dedup();
        let shown = |note: &At<String>| format!("{}:{}: {}", self.path, note.line, note.value);
        notes.iter().map(shown).collect()
    }
}
