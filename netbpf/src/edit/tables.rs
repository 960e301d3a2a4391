//! Lists of tables in a document, whichever of their two spellings it uses, and how they change
//! without a comment or a line break of somebody else's being lost.

use toml_edit::{
    Array, ArrayOfTables, Decor, DocumentMut, InlineTable, Item, RawString, Table, TableLike,
    Value as TomlValue,
};

/// A list of tables.
pub(super) enum Entries<'d> {
    /// `[[key]]`, again and again.
    Tables(&'d mut ArrayOfTables),
    /// `key = [{ … }, …]`; other values may stand between them.
    Inline(&'d mut Array),
}

/// The list under `key`, if it is one.
pub(super) fn entries<'d>(table: &'d mut dyn TableLike, key: &str) -> Option<Entries<'d>> {
    match table.get_mut(key)? {
        Item::ArrayOfTables(tables) => Some(Entries::Tables(tables)),
        Item::Value(TomlValue::Array(list)) => Some(Entries::Inline(list)),
        _ => None,
    }
}

/// The list under `key`, made when there is none.
pub(super) fn entries_or_new<'d>(
    table: &'d mut dyn TableLike,
    key: &str,
    new: fn() -> Item,
) -> Option<Entries<'d>> {
    if table.get(key).is_none_or(Item::is_none) {
        close_up(table);
        table.insert(key, new());
    }
    entries(table, key)
}

/// The string under `key`.
pub(super) fn name_of<'t>(table: &'t dyn TableLike, key: &str) -> Option<&'t str> {
    table.get(key)?.as_str()
}

/// The strings of the list under `key`.
pub(super) fn texts(table: &dyn TableLike, key: &str) -> Vec<String> {
    let list = table.get(key).and_then(Item::as_array);
    let texts = list.into_iter().flat_map(Array::iter);
    texts
        .filter_map(TomlValue::as_str)
        .map(str::to_owned)
        .collect()
}

/// Gives `key` a value; what stands around the old one stays.
pub(super) fn set(table: &mut dyn TableLike, key: &str, mut value: TomlValue) {
    match table.get_mut(key).and_then(Item::as_value_mut) {
        Some(old) => {
            *value.decor_mut() = old.decor().clone();
            *old = value;
        }
        None => {
            close_up(table);
            table.insert(key, Item::Value(value));
        }
    }
}

/// Takes the space away that stands between the last value and the end of its inline table: there
/// will be a comma.
fn close_up(table: &mut dyn TableLike) {
    let last = table.iter_mut().last();
    let Some(decor) = last.and_then(|(_, item)| Some(item.as_value_mut()?.decor_mut())) else {
        return;
    };
    if text_of(decor).1.trim().is_empty() {
        decor.set_suffix("");
    }
}

impl<'d> Entries<'d> {
    /// An empty list of the first kind.
    pub fn new_tables() -> Item {
        Item::ArrayOfTables(ArrayOfTables::new())
    }

    /// An empty list of the second kind.
    pub fn new_inline() -> Item {
        Item::Value(TomlValue::Array(Array::new()))
    }

    /// Every table in it.
    pub fn into_iter(self) -> Box<dyn Iterator<Item = &'d mut dyn TableLike> + 'd> {
        match self {
            Self::Tables(tables) => {
                Box::new(tables.iter_mut().map(|table| table as &mut dyn TableLike))
            }
            Self::Inline(list) => Box::new(
                list.iter_mut()
                    .filter_map(TomlValue::as_inline_table_mut)
                    .map(|table| table as &mut dyn TableLike),
            ),
        }
    }

    /// The table whose `field` is `name`.
    pub fn find(self, field: &str, name: &str) -> Option<&'d mut dyn TableLike> {
        self.into_iter()
            .find(|table| name_of(&**table, field) == Some(name))
    }

    /// Where that table stands among all values of the list.
    pub fn position(&self, field: &str, name: &str) -> Option<usize> {
        let is_it = |table: &dyn TableLike| name_of(table, field) == Some(name);
        match self {
            Self::Tables(tables) => tables.iter().position(|table| is_it(table)),
            Self::Inline(list) => list
                .iter()
                .position(|value| value.as_inline_table().is_some_and(|table| is_it(table))),
        }
    }

    /// How many values it has.
    pub fn len(&self) -> usize {
        match self {
            Self::Tables(tables) => tables.len(),
            Self::Inline(list) => list.len(),
        }
    }

    /// Appends a table with those keys.
    pub fn push<'k>(&mut self, keys: impl Iterator<Item = (&'k str, TomlValue)>) {
        match self {
            Self::Tables(tables) => {
                let mut table = Table::new();
                keys.for_each(|(key, value)| {
                    table.insert(key, Item::Value(value));
                });
                tables.push(table);
            }
            Self::Inline(list) => {
                append(list, TomlValue::InlineTable(keys.collect::<InlineTable>()));
            }
        }
    }

    /// Takes the value of that index away.
    pub fn remove(&mut self, index: usize) {
        match self {
            Self::Tables(tables) => {
                tables.remove(index);
            }
            Self::Inline(list) => take(list, index),
        }
    }
}

fn text_of(decor: &Decor) -> (&str, &str) {
    let prefix = decor.prefix().and_then(RawString::as_str);
    let suffix = decor.suffix().and_then(RawString::as_str);
    (prefix.unwrap_or_default(), suffix.unwrap_or_default())
}

/// Appends a value to a list: on a line of its own where the last one has one, and after the
/// comment that is about the last one.
pub(super) fn append(list: &mut Array, value: TomlValue) {
    let trailing = list.trailing().as_str().unwrap_or_default().to_owned();
    let (is_only, has_comma) = (list.len() == 1, list.trailing_comma());
    let Some(last) = list.iter_mut().last() else {
        list.push(value);
        return;
    };
    let (prefix, suffix) = text_of(last.decor());
    // What stands before the last comma is the last value's own.
    let (own, tail) = if has_comma {
        (suffix.to_owned(), trailing)
    } else {
        (String::new(), format!("{suffix}{trailing}"))
    };
    let (comment, end) = tail.split_at(tail.rfind('\n').unwrap_or_default());
    // A comma may begin the line that its value doesn't.
    let lead = [prefix, &own].into_iter().find(|it| it.contains('\n'));
    let space = space_before(lead.unwrap_or(prefix), comment, is_only);
    let prefix = format!("{comment}{space}");
    last.decor_mut().set_suffix(own);
    list.push_formatted(value.decorated(prefix, ""));
    list.set_trailing(end);
}

/// What parts a new value from the one before, whose own `prefix` is known, and its comment.
fn space_before(prefix: &str, comment: &str, is_only: bool) -> String {
    match prefix.rfind('\n') {
        Some(line) => prefix[line..].to_owned(),
        None if comment.contains('#') => "\n".to_owned(),
        None if is_only || prefix.is_empty() => " ".to_owned(),
        None => prefix.to_owned(),
    }
}

/// Takes a value out of a list, and with it the comment behind it: what stands behind the one
/// before, or behind the bracket that opens the list, stays.
fn take(list: &mut Array, index: usize) {
    let trailing = list.trailing().as_str().unwrap_or_default().to_owned();
    let has_comma = list.trailing_comma();
    let gone = list.remove(index);
    let (before, suffix) = text_of(gone.decor());
    let suffix = if has_comma { "" } else { suffix };
    let behind_previous = before.find('\n').map_or("", |line| &before[..line]);
    let rest = |text: &str| match text.find('\n') {
        Some(line) => format!("{behind_previous}{}", &text[line..]),
        None if behind_previous.contains('#') => format!("{behind_previous}\n{text}"),
        None => text.to_owned(),
    };
    match list.get_mut(index) {
        Some(next) => {
            let (prefix, _) = text_of(next.decor());
            let is_inline = index == 0 && !prefix.contains('\n');
            let prefix = if is_inline {
                before.to_owned()
            } else {
                rest(prefix)
            };
            next.decor_mut().set_prefix(prefix);
        }
        None => list.set_trailing(rest(&format!("{suffix}{trailing}"))),
    }
}

/// Takes the entry of that name out of a list of the document. The comment right above it goes
/// with it; what stands further above stays.
pub(super) fn remove_entry(document: &mut DocumentMut, key: &str, name: &str) {
    let Some(mut list) = entries(document.as_table_mut(), key) else {
        return;
    };
    let Some(index) = list.position("name", name) else {
        return;
    };
    let left = match &list {
        Entries::Tables(tables) => tables.get(index).and_then(left_behind),
        Entries::Inline(_) => None,
    };
    list.remove(index);
    if list.len() == 0 {
        document.remove(key);
    }
    if let Some((comment, position)) = left {
        hand_on(document, &comment, position);
    }
}

/// Which comments above a table are not its own, and where it stands.
fn left_behind(table: &Table) -> Option<(String, isize)> {
    // A line may end in a carriage return and a line feed here, which are written as a line feed.
    let prefix = text_of(table.decor()).0.replace('\r', "");
    let own = prefix.rfind("\n\n").map_or(0, |end| end + 1);
    let above = &prefix[..own];
    above
        .contains('#')
        .then(|| Some((above.to_owned(), table.position()?)))?
}

/// Gives a comment to the table after that position, or to the end of the document.
fn hand_on(document: &mut DocumentMut, comment: &str, position: isize) {
    let mut after = None;
    next_table(document.as_table(), position, &mut after);
    match after.and_then(|next| table_at(document.as_table_mut(), next)) {
        Some(table) => {
            let (prefix, _) = text_of(table.decor());
            let prefix = format!("{comment}{prefix}");
            table.decor_mut().set_prefix(prefix);
        }
        None => {
            let trailing = document.trailing().as_str().unwrap_or_default();
            let trailing = format!("{comment}{trailing}");
            document.set_trailing(trailing);
        }
    }
}

fn tables_in(item: &Item) -> Box<dyn Iterator<Item = &Table> + '_> {
    match item {
        Item::Table(table) => Box::new(std::iter::once(table)),
        Item::ArrayOfTables(tables) => Box::new(tables.iter()),
        Item::None | Item::Value(_) => Box::new(std::iter::empty()),
    }
}

/// The first position after `position` that a table has.
fn next_table(table: &Table, position: isize, next: &mut Option<isize>) {
    for table in table.iter().flat_map(|(_, item)| tables_in(item)) {
        let found = table.position().filter(|found| *found > position);
        *next = [*next, found].into_iter().flatten().min();
        next_table(table, position, next);
    }
}

fn table_at(table: &mut Table, position: isize) -> Option<&mut Table> {
    for (_, item) in table.iter_mut() {
        let tables: Box<dyn Iterator<Item = &mut Table>> = match item {
            Item::Table(table) => Box::new(std::iter::once(table)),
            Item::ArrayOfTables(tables) => Box::new(tables.iter_mut()),
            Item::None | Item::Value(_) => continue,
        };
        for table in tables {
            if table.position() == Some(position) {
                return Some(table);
            }
            if let Some(found) = table_at(table, position) {
                return Some(found);
            }
        }
    }
    None
}
