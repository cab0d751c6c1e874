//! The environment's variables, laid over the file: `GENKAN__HTTP__LISTEN` sets `listen` in
//! `[http]`, `GENKAN__ROUTES__0__TIMEOUT` sets `timeout` in the first `[[routes]]` row.
//!
//! Names of variables are in capitals, so each part finds the file's name whatever its case.

use config::{Map, Value as Merged, ValueKind};

use super::places::Places;
use super::value::Shape;

/// What stands before and between the parts of a variable's name.
pub(super) const SEPARATOR: &str = "__";

/// One variable on its way to its key.
pub(super) struct Overlay<'a> {
    /// What each key holds, and where it is set; the variable enters what it sets.
    pub(super) places: &'a mut Places,
    /// Its name, for the places.
    pub(super) variable: &'a str,
    /// Whether the file could be read as a whole. Else tables may be missing and rows have other
    /// numbers, and nothing is made that would be judged without the rest of it.
    pub(super) whole: bool,
}

impl Overlay<'_> {
    /// The path of the key that the parts of the name lead to; `None` where it hangs on what could
    /// not be read. Fails with what is wrong with the name.
    pub(super) fn path(&mut self, parts: &[&str]) -> Result<Option<String>, String> {
        let mut path = String::new();
        for (index, part) in parts.iter().enumerate() {
            let rest = &parts[index + 1..];
            let shape = if path.is_empty() { Some(Shape::Table) } else { self.places.shape(&path) };
            path = match shape {
                Some(Shape::Table) => {
                    let key = self.places.key_for(&path, part)?;
                    if !is_plain(&key) {
                        return Err(format!(
                            "cannot set `{key}`: a variable sets keys of ASCII letters, digits, \
                             `_` and `-`; set it in the file"
                        ));
                    }
                    if path.is_empty() { key } else { format!("{path}.{key}") }
                }
                Some(Shape::List(_)) if !self.whole => return Ok(None),
                Some(Shape::List(count)) => self.item(path, count, part)?,
                _ => return Err(format!("sets a key of `{path}`, which is no table")),
            };
            if rest.is_empty() {
                self.places.note_variable(&path, self.variable, Shape::Plain);
            } else if self.places.shape(&path).is_none() {
                if !self.whole {
                    return Ok(None);
                }
                // Lists of tables stand at the top, and in a table there: `[[auth.keys]]`.
                let is_list = index <= 1 && rest.len() > 1 && rest[0] == "0";
                let shape = if is_list { Shape::List(0) } else { Shape::Table };
                self.places.note_variable(&path, self.variable, shape);
            }
        }
        Ok(Some(path))
    }

    /// The path of an item of a list, an old one or the next.
    fn item(&mut self, list: String, count: usize, part: &str) -> Result<String, String> {
        let index: usize = part.parse().ok().filter(|index| *index <= count).ok_or_else(|| {
            let last = match count {
                0 => "the first one is 0".to_owned(),
                count => format!("they count from 0 to {}, and {count} adds one", count - 1),
            };
            format!("names no item of `{list}` with `{part}`: {last}")
        })?;
        if index == count {
            self.places.lengthen(&list);
        }
        Ok(format!("{list}[{index}]"))
    }
}

/// Whether the file says the same at a path as a variable's text does.
pub(super) fn says(document: &Map<String, Merged>, path: &str, text: &str) -> bool {
    let mut steps = path.split(['.', '[']).map(|step| step.trim_end_matches(']'));
    let first = steps.next().and_then(|step| document.get(step));
    let found = steps.try_fold(first, |value, step| match &value?.kind {
        ValueKind::Table(table) => Some(table.get(step)),
        ValueKind::Array(items) => Some(step.parse().ok().and_then(|at: usize| items.get(at))),
        _ => None,
    });
    let items = |text: &str| -> Vec<String> {
        text.split(',').map(|item| item.trim().to_owned()).filter(|item| !item.is_empty()).collect()
    };
    match found.flatten().map(|value| &value.kind) {
        Some(ValueKind::Array(all)) => all.iter().map(|item| item.kind.to_string()).eq(items(text)),
        Some(kind) => kind.to_string().trim() == text.trim(),
        None => false,
    }
}

/// The name of the variable that one may be meant for whose key nobody knows: with another underscore, behind one of
/// the tables that there are.
pub(super) fn nearly<'a>(
    variable: &str,
    key: &str,
    known: impl Iterator<Item = &'a str>,
) -> Option<String> {
    let begins = |table: &&str| {
        key.strip_prefix(*table).is_some_and(|rest| rest.len() > 1 && rest.starts_with('_'))
    };
    let table = known.filter(begins).max_by_key(|table| table.len())?;
    let parts = variable.split(SEPARATOR).map(|part| match part.eq_ignore_ascii_case(key) {
        true => [&part[..table.len()], SEPARATOR, &part[table.len() + 1..]].concat(),
        false => part.to_owned(),
    });
    Some(parts.collect::<Vec<_>>().join(SEPARATOR)).filter(|name| name != variable)
}

/// Whether the `config` crate takes a key for a part of a path.
fn is_plain(key: &str) -> bool {
    !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'))
}

/// The order in which variables are laid over: rows in the order of their numbers, so that each
/// new one follows the last.
pub(super) fn order(name: &str) -> Vec<(Option<usize>, String)> {
    name.split(SEPARATOR).map(|part| (part.parse().ok(), part.to_owned())).collect()
}
