//! The environment's variables, laid over the file: `GENKAN__HTTP__LISTEN` sets `listen` in
//! `[http]`, `GENKAN__ROUTES__0__TIMEOUT` sets `timeout` in the first `[[routes]]` row.
//!
//! Names of variables are in capitals, so each part finds the file's name whatever its case.

use super::source::Places;
use super::value::{Table, Value};

/// What stands before and between the parts of a variable's name.
pub(super) const SEPARATOR: &str = "__";

/// One variable on its way to its key.
pub(super) struct Overlay<'a> {
    /// Where each key is set; the variable enters what it sets.
    pub(super) places: &'a mut Places,
    /// Its name, for the places.
    pub(super) variable: &'a str,
    /// What it holds.
    pub(super) text: &'a str,
    /// Whether the file could be read as a whole. Else tables may be missing and rows have other
    /// numbers, and nothing is made that would be judged without the rest of it.
    pub(super) whole: bool,
}

impl Overlay<'_> {
    /// Sets the key that `parts` lead to. Fails with what is wrong with the name.
    pub(super) fn set(&mut self, root: &mut Table, parts: &[&str]) -> Result<(), String> {
        self.set_in_table(root, "", parts)
    }

    fn set_in_table(
        &mut self,
        table: &mut Table,
        path: &str,
        parts: &[&str],
    ) -> Result<(), String> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        let key = key_for(table, part)?;
        let is_top = path.is_empty();
        let path = if is_top { key.clone() } else { format!("{path}.{key}") };
        if rest.is_empty() {
            self.places.note_variable(&path, self.variable);
            table.insert(key, Value::Variable(self.text.to_owned()));
            return Ok(());
        }
        if !table.contains_key(&key) {
            if !self.whole {
                return Ok(());
            }
            self.places.note_variable(&path, self.variable);
        }
        // Lists of tables stand at the top alone.
        let is_list = is_top && rest.len() > 1 && rest[0] == "0";
        let empty = || if is_list { Value::List(Vec::new()) } else { Value::Table(Table::new()) };
        self.set_below(table.entry(key).or_insert_with(empty), &path, rest)
    }

    fn set_below(&mut self, value: &mut Value, path: &str, parts: &[&str]) -> Result<(), String> {
        match value {
            Value::Table(table) => self.set_in_table(table, path, parts),
            Value::List(items) => self.set_in_list(items, path, parts),
            _ => Err(format!("sets a key of `{path}`, which is no table")),
        }
    }

    fn set_in_list(
        &mut self,
        items: &mut Vec<Value>,
        path: &str,
        parts: &[&str],
    ) -> Result<(), String> {
        let Some((part, rest)) = parts.split_first() else { return Ok(()) };
        if !self.whole {
            return Ok(());
        }
        let count = items.len();
        let index: usize = part.parse().ok().filter(|index| *index <= count).ok_or_else(|| {
            let last = match count {
                0 => "the first one is 0".to_owned(),
                count => format!("they count from 0 to {}, and {count} adds one", count - 1),
            };
            format!("names no item of `{path}` with `{part}`: {last}")
        })?;
        let path = format!("{path}[{index}]");
        if index == count {
            items.push(Value::Table(Table::new()));
            self.places.note_variable(&path, self.variable);
        }
        if rest.is_empty() {
            self.places.note_variable(&path, self.variable);
            items[index] = Value::Variable(self.text.to_owned());
            return Ok(());
        }
        self.set_below(&mut items[index], &path, rest)
    }
}

/// The key that a part of a variable's name means: one that is there, else a new one.
fn key_for(table: &Table, part: &str) -> Result<String, String> {
    let small = part.to_lowercase();
    if let Some(key) = [part, &small].into_iter().find(|key| table.contains_key(*key)) {
        return Ok(key.to_owned());
    }
    let mut alike = table.keys().filter(|key| key.to_lowercase() == small);
    match (alike.next(), alike.next()) {
        (None, _) => Ok(small),
        (Some(one), None) => Ok(one.clone()),
        (Some(one), Some(other)) => Err(format!(
            "may mean `{one}` or `{other}`: write `{one}` in the variable's name as it stands there"
        )),
    }
}

/// The order in which variables are laid over: rows in the order of their numbers, so that each
/// new one follows the last.
pub(super) fn order(name: &str) -> Vec<(Option<usize>, String)> {
    name.split(SEPARATOR).map(|part| (part.parse().ok(), part.to_owned())).collect()
}
