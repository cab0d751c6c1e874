//! A value of the configuration as it was written. Which type it has is for the key to say that
//! asks for it.

use std::collections::BTreeMap;

use toml::de::{DeTable, DeValue};

use super::source::Places;

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

/// Takes a table over from its parser, and notes the place of each key.
pub(super) fn convert(table: &DeTable<'_>, path: &str, places: &mut Places) -> Table {
    let mut converted = Table::new();
    for (key, value) in table {
        let name = key.get_ref();
        let path = if path.is_empty() { name.to_string() } else { format!("{path}.{name}") };
        places.note_offset(&path, key.span().start);
        converted.insert(name.to_string(), convert_value(value.get_ref(), &path, places));
    }
    converted
}

fn convert_value(value: &DeValue<'_>, path: &str, places: &mut Places) -> Value {
    match value {
        DeValue::String(text) => Value::Text(text.to_string()),
        DeValue::Integer(number) => match i64::from_str_radix(number.as_str(), number.radix()) {
            Ok(number) => Value::Integer(number),
            Err(_) => Value::Other(number.to_string()),
        },
        DeValue::Float(number) => Value::Other(number.as_str().to_owned()),
        DeValue::Boolean(flag) => Value::Flag(*flag),
        DeValue::Datetime(date) => Value::Other(date.to_string()),
        DeValue::Array(items) => {
            let items = items.iter().enumerate().map(|(index, item)| {
                let path = format!("{path}[{index}]");
                places.note_offset(&path, item.span().start);
                convert_value(item.get_ref(), &path, places)
            });
            Value::List(items.collect())
        }
        DeValue::Table(table) => Value::Table(convert(table, path, places)),
    }
}
