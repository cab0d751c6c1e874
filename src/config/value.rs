//! A value of the configuration as it was written. Which type it has is for the key to say that
//! asks for it.

use std::collections::BTreeMap;

use config::{Map, Value as Merged, ValueKind};
use toml::de::{DeTable, DeValue};

use super::places::Places;

/// A table's keys and their values.
pub(super) type Table = BTreeMap<String, Value>;

/// What was written.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Value {
    /// A string of the file.
    Text(String),
    /// What an environment variable holds: text to the letter, whatever it looks like.
    Variable(String),
    /// A whole number.
    Integer(i64),
    /// `true` or `false`.
    Flag(bool),
    /// What no key takes, as it was written: a fraction, a date, a number without bounds.
    Other(String),
    /// A list.
    List(Vec<Value>),
    /// A table.
    Table(Table),
}

impl Value {
    /// The text, wherever it stands.
    pub(super) fn as_text(&self) -> Option<&str> {
        match self {
            Value::Text(text) | Value::Variable(text) => Some(text),
            _ => None,
        }
    }

    /// What it is, without what it says.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Value::Text(_) | Value::Variable(_) => "a string",
            Value::Integer(_) | Value::Other(_) => "a number",
            Value::Flag(_) => "true or false",
            Value::List(_) => "a list",
            Value::Table(_) => "a table",
        }
    }
}

/// What the `config` crate calls the environment, as the origin of a value.
pub(super) const ENVIRONMENT: &str = "the environment";

/// Takes a table over from its parser for the `config` crate, and notes the place of each key.
pub(super) fn convert(table: &DeTable<'_>, path: &str, places: &mut Places) -> Map<String, Merged> {
    let mut converted = Map::new();
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        places.note_offset(&path, key.span().start, Shape::of(value.get_ref()));
        let value = convert_value(value.get_ref(), &path, places);
        converted.insert(name.to_string(), Merged::new(None, value));
    }
    converted
}

fn convert_value(value: &DeValue<'_>, path: &str, places: &mut Places) -> ValueKind {
    match value {
        DeValue::String(text) => ValueKind::String(text.to_string()),
        DeValue::Integer(number) => {
            let (digits, radix) = (number.as_str(), number.radix());
            let small = i64::from_str_radix(digits, radix).map(ValueKind::I64);
            let large = small.or_else(|_| i128::from_str_radix(digits, radix).map(ValueKind::I128));
            // No key takes a number beyond that.
            large.unwrap_or(ValueKind::Float(f64::INFINITY))
        }
        DeValue::Float(number) => ValueKind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
        DeValue::Boolean(flag) => ValueKind::Boolean(*flag),
        DeValue::Datetime(date) => ValueKind::String(date.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let path = format!("{path}[{index}]");
                places.note_offset(&path, item.span().start, Shape::of(item.get_ref()));
                Merged::new(None, convert_value(item.get_ref(), &path, places))
            });
            ValueKind::Array(items.collect())
        }
        DeValue::Table(table) => ValueKind::Table(convert(table, path, places)),
    }
}

/// Takes back what the `config` crate has merged.
pub(super) fn table(merged: Map<String, Merged>) -> Table {
    merged.into_iter().map(|(key, value)| (key, value.into())).collect()
}

impl From<Merged> for Value {
    fn from(merged: Merged) -> Self {
        let is_variable = merged.origin() == Some(ENVIRONMENT);
        match merged.kind {
            ValueKind::String(text) if is_variable => Value::Variable(text),
            ValueKind::String(text) => Value::Text(text),
            ValueKind::I64(number) => Value::Integer(number),
            ValueKind::Boolean(flag) => Value::Flag(flag),
            ValueKind::Array(items) => Value::List(items.into_iter().map(Value::from).collect()),
            ValueKind::Table(map) => Value::Table(table(map)),
            other => Value::Other(other.to_string()),
        }
    }
}

/// What a key holds: what a variable's name may go on into.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shape {
    /// Neither of these.
    Plain,
    /// A table.
    Table,
    /// A list with so many items.
    List(usize),
}

impl Shape {
    fn of(value: &DeValue<'_>) -> Self {
        match value {
            DeValue::Table(_) => Shape::Table,
            DeValue::Array(items) => Shape::List(items.len()),
            _ => Shape::Plain,
        }
    }
}
