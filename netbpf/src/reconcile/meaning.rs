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
    let old = || {
        let old = config::load_on(&before.path, &before.text, earlier, surroundings);
        let old = old.map_err(|refusal| Error::host(refusal.errors()))?;
        Ok::<Document, Error>(old.0)
    };
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::edit::Value;

    /// Containers that take ports of ranges which overlap, and one that publishes nothing.
    fn source(containers: &[(&str, &str)]) -> Source {
        let mut text = "[[network]]\nname = \"front\"\nsubnets = [\"172.28.0.0/24\"]\n\
                        [[container]]\nname = \"h\"\nmode = \"host\"\n"
            .to_owned();
        for (name, port) in containers {
            text.push_str(&format!(
                "[[container]]\nname = \"{name}\"\nnetworks = [{{ name = \"front\" }}]\n\
                 publish = [\"{port}\"]\n"
            ));
        }
        let path = "desired.toml".to_owned();
        Source { path, text }
    }

    #[test]
    fn what_only_earlier_choices_allow_can_be_edited() {
        let all = [
            ("a", "8000-8001:80"),
            ("b", "8001-8002:80"),
            ("c", "8000-8001:80"),
        ];
        let mut earlier = Allocations::default();
        // As verbs bring them: the last one first.
        for those in [&all[2..], &[all[0], all[2]], &all[..]] {
            let now = resolve(&source(those), &earlier, Surroundings::UNKNOWN);
            earlier = now.unwrap_or_else(|error| panic!("{error}")).allocations;
        }
        let source = source(&all);
        assert!(config::load(&source.path, &source.text).is_err());
        let without_effect = Edit::Publish {
            container: "h".to_owned(),
            ports: vec![Value::Text("9000:90".to_owned())],
        };
        let edited = resolve_edited(&source, &[without_effect], &earlier, Surroundings::UNKNOWN);
        let edited = edited.unwrap_or_else(|error| panic!("{error}"));
        assert_eq!(edited.warnings.len(), 1, "{:?}", edited.warnings);
        assert_eq!(edited.allocations.mappings, earlier.mappings);
    }
}
