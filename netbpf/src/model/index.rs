//! Where in a list something of a name stands, so that a thousand networks are not gone through for
//! each of ten thousand containers.

use std::{collections::HashMap, sync::OnceLock};

/// Places by name, noted when the first one is asked for. It is never part of what is compared, and
/// a list that changed since is gone through.
#[derive(Debug, Default)]
pub struct Index(OnceLock<HashMap<String, usize>>);

impl Index {
    /// The first of `list` that has this name.
    pub fn find<'l, T>(
        &self,
        list: &'l [T],
        name: &str,
        name_of: impl Fn(&T) -> &str,
    ) -> Option<&'l T> {
        let places = self.0.get_or_init(|| {
            let all = list.iter().enumerate().rev();
            all.map(|(place, it)| (name_of(it).to_owned(), place))
                .collect()
        });
        let noted = places.get(name).and_then(|place| list.get(*place));
        match noted {
            Some(it) if name_of(it) == name => Some(it),
            None if places.len() == list.len() => None,
            _ => list.iter().find(|it| name_of(it) == name),
        }
    }
}

impl Clone for Index {
    fn clone(&self) -> Self {
        Self::default()
    }
}

impl PartialEq for Index {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Index {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_later_is_found_too() {
        let index = Index::default();
        let mut list = vec!["a", "b"];
        let find = |list: &[&'static str], name| index.find(list, name, |it| it).copied();
        assert_eq!(find(&list, "b"), Some("b"));
        assert_eq!(find(&list, "c"), None);
        list.push("c");
        assert_eq!(find(&list, "c"), Some("c"));
        list.remove(0);
        assert_eq!(find(&list, "a"), None);
        assert_eq!(find(&list, "b"), Some("b"));
    }
}
