//! What a document, or an edit of the committed one, comes to.

use serde::{Deserialize, Serialize};

use crate::{
    allocations::Allocations,
    config::{self, Document, Fault as Wrong, Refusal, Surroundings},
    edit::{self, Edit},
    error::Error,
    model::Model,
};

/// A document to be applied.
#[derive(Clone, Debug, Eq, PartialEq, Deserialize, Serialize)]
pub struct Source {
    /// How errors name it.
    pub path: String,
    /// Its text.
    pub text: String,
}

/// The document that the host is to match.
pub(super) enum Wanted<'a> {
    /// Another one.
    Given(&'a Source),
    /// The committed one.
    Committed,
    /// The committed one after some edits.
    Edited(&'a [Edit]),
}

/// What a document means.
pub(super) struct Resolved {
    pub(super) text: String,
    pub(super) document: Document,
    pub(super) model: Model,
    pub(super) allocations: Allocations,
    /// What an edit brought that is most likely not meant.
    pub(super) warnings: Vec<String>,
}

pub(super) fn resolve(
    source: &Source,
    earlier: &Allocations,
    surroundings: Surroundings<'_>,
) -> Result<Resolved, Error> {
    let loaded = config::load_on(&source.path, &source.text, earlier, surroundings);
    let (document, model, allocations) = loaded.map_err(|refusal| match refusal {
        Refusal::Document(errors) => Error::from(errors),
        // What it meets are earlier choices, and those are the state's, or the host.
        Refusal::Choices(errors) => Error::host(errors),
    })?;
    Ok(Resolved {
        text: source.text.clone(),
        document,
        model,
        allocations,
        warnings: Vec::new(),
    })
}

/// As [`resolve`], in words that name no line: whoever edits by a verb has not seen the document.
pub(super) fn resolve_edited(
    before: &Source,
    edits: &[Edit],
    earlier: &Allocations,
    surroundings: Surroundings<'_>,
) -> Result<Resolved, Error> {
    // What is wrong already is said as it is, with its line, for it has to be mended there.
    let old = || config::load(&before.path, &before.text).map_err(Error::host);
    let text = match edit::apply(&before.text, edits) {
        Ok(text) => text,
        Err(error) => return old().and(Err(error)),
    };
    let (new, model, allocations) =
        match config::load_on(&before.path, &text, earlier, surroundings) {
            Ok(meaning) => meaning,
            Err(refusal) => return old().and(Err(edited(&refusal))),
        };
    let mut warnings = new.warned().to_vec();
    if !warnings.is_empty() {
        let old = old()?;
        warnings.retain(|warning| !old.warned().contains(warning));
    }
    Ok(Resolved {
        document: new,
        model,
        allocations,
        warnings,
        text,
    })
}

/// A wrong value is a wrong command line; what doesn't go together with the rest is the state's.
pub(super) fn edited(refusal: &Refusal) -> Error {
    let errors = refusal.errors();
    let words = errors.words().join("; ");
    match (refusal, errors.fault()) {
        (Refusal::Document(_), Wrong::Value) => Error::usage(words),
        (Refusal::Document(_), Wrong::Relation) | (Refusal::Choices(_), _) => Error::host(words),
    }
}
