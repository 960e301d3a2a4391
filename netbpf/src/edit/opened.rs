//! A document that stays open between edits. Its text is cut and sewn where an edit of ports changed
//! it: to write all of it anew takes longer than everything else that such an edit is.

use memchr::memmem;
use toml_edit::{Array, DocumentMut, Value as TomlValue};

use super::{Edit, Kind, find, read, rendered};
use crate::error::Error;

/// A document that is open for edits.
#[derive(Clone, Debug)]
pub struct Opened {
    document: DocumentMut,
    text: String,
}

impl Opened {
    /// Opens the document `text`.
    ///
    /// # Errors
    ///
    /// [`Error::Host`]: it is none.
    pub fn read(text: &str) -> Result<Self, Error> {
        let document = read(text)?;
        Ok(Self {
            text: text.to_owned(),
            document,
        })
    }

    /// Makes an edit.
    ///
    /// # Errors
    ///
    /// As [`super::apply`].
    pub fn apply(&mut self, edit: &Edit) -> Result<(), Error> {
        let old = self.ports(edit);
        edit.apply(&mut self.document)?;
        let sewn = old.zip(self.ports(edit));
        if !sewn.is_some_and(|(old, new)| self.sew(&old, &new)) {
            let plain = read(&self.text)?.to_string();
            self.text = rendered(&self.text, &plain, &self.document)?;
        }
        Ok(())
    }

    /// The text that it has now.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The list that an edit of ports is about, as it is written.
    fn ports(&mut self, edit: &Edit) -> Option<String> {
        let (Edit::Publish { container, .. } | Edit::Unpublish { container, .. }) = edit else {
            return None;
        };
        let container = find(&mut self.document, Kind::Container, container).ok()?;
        written(container.get("publish")?.as_array()?)
    }

    /// Puts `new` in the place of `old`, if that is one place. Says whether it did.
    fn sew(&mut self, old: &str, new: &str) -> bool {
        // Lines that come or move get the ends of the others where all of it is written.
        if new.contains('\n') && self.text.contains('\r') {
            return false;
        }
        let text = self.text.as_bytes();
        let Some(first) = place(text, old.as_bytes()) else {
            return false;
        };
        if place(&text[first + 1..], old.as_bytes()).is_some() {
            return false;
        }
        self.text.replace_range(first..first + old.len(), new);
        true
    }
}

/// Where `part` stands in `text`, at first. It is looked for by its beginning: to prepare a search
/// takes longer than the search itself where what is sought is as long as a list of ports may be.
fn place(text: &[u8], part: &[u8]) -> Option<usize> {
    const BEGINNING: usize = 64;
    let beginning = memmem::Finder::new(&part[..part.len().min(BEGINNING)]);
    let mut from = 0;
    loop {
        let at = from + beginning.find(&text[from..])?;
        if text[at..].starts_with(part) {
            return Some(at);
        }
        from = at + 1;
    }
}

/// A list of strings as its document has it; `None` where there is something else in it.
fn written(list: &Array) -> Option<String> {
    let mut text = String::from("[");
    for (place, value) in list.iter().enumerate() {
        let TomlValue::String(string) = value else {
            return None;
        };
        let (comma, default) = if place == 0 { ("", "") } else { (",", " ") };
        let decor = string.decor();
        let prefix = decor.prefix().map_or(Some(default), |it| it.as_str())?;
        let suffix = decor.suffix().map_or(Some(""), |it| it.as_str())?;
        for part in [comma, prefix, &string.display_repr(), suffix] {
            text.push_str(part);
        }
    }
    if list.trailing_comma() && !list.is_empty() {
        text.push(',');
    }
    text.push_str(list.trailing().as_str()?);
    text.push(']');
    Some(text)
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;
    use crate::edit::{Value, apply};

    /// Two containers whose lists are alike, in many spellings.
    const DOCUMENT: &str = "# mine\n[[container]]\nname = \"c0\"\npublish = [\"1:1\", '2:2',\n  # two\n  \
         \"3:3\" , # three\n]\n[[container]] # next\nname = \"c1\"\npublish = [ \"80\" ]\n\
         [[container]]\nname = \"c2\"\npublish = [ \"80\" ]\n[[container]]\nname = \"c3\"\n\
         publish = [{ port = \"9:9\", allow = [] }, \"8:8\"]\n[[container]]\nname = \"c4\"\n";

    fn edits() -> impl Strategy<Value = Vec<Edit>> {
        let edit = (0..6, 1..5_u16, any::<bool>()).prop_map(|(container, port, comes)| {
            let container = format!("c{container}");
            let port = format!("{port}:{port}");
            if comes {
                let ports = vec![Value::Text(port)];
                Edit::Publish { container, ports }
            } else {
                let ports = vec![port];
                Edit::Unpublish { container, ports }
            }
        });
        vec(edit, 1..20)
    }

    proptest! {
        #[test]
        fn what_is_sewn_is_what_would_be_written(edits in edits()) {
            let mut opened = Opened::read(DOCUMENT).unwrap();
            let mut text = DOCUMENT.to_owned();
            for edit in edits {
                let done = opened.apply(&edit);
                match apply(&text, std::slice::from_ref(&edit)) {
                    Ok(after) => {
                        prop_assert!(done.is_ok());
                        text = after;
                        prop_assert_eq!(opened.text(), &text);
                    }
                    Err(_) => prop_assert!(done.is_err()),
                }
            }
        }
    }

    #[test]
    fn lists_that_begin_alike_are_told_apart() {
        let list = |last: u16| {
            let ports: Vec<String> = (1..100).map(|port| format!("\"{port}:{port}\"")).collect();
            format!("[{}, \"{last}:1\"]", ports.join(", "))
        };
        let text = format!(
            "a = {}\nb = {}\nc = {}\n",
            list(7000),
            list(8000),
            list(8000)
        );
        let place = |part: &str| place(text.as_bytes(), part.as_bytes());
        assert_eq!(place(&list(7000)), Some(4));
        assert_eq!(place(&list(8000)), Some(text.find("\nb").unwrap() + 5));
        assert_eq!(place(&list(9000)), None);
    }

    #[test]
    fn one_port_of_many_is_sewn() {
        let many: Vec<String> = (1..1000).map(|port| format!("\"{port}:{port}\"")).collect();
        let many = many.join(", ");
        let text = format!("[[container]]\nname = \"c\"\npublish = [{many}]\n");
        let mut opened = Opened::read(&text).unwrap();
        let list = opened.document["container"][0]["publish"].as_array();
        assert_eq!(list.and_then(written), Some(format!("[{many}]")));
        let ports = vec!["500:500".to_owned()];
        let container = "c".to_owned();
        opened.apply(&Edit::Unpublish { container, ports }).unwrap();
        assert_eq!(opened.text(), text.replace(" \"500:500\",", ""));
    }
}
