//! How much of what services tell is taken. A document of a few bytes can be a large one in memory (`[0,0,…]`), and one
//! that refers to a part of itself again and again larger than any memory.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// The largest answer that is looked at.
pub const LARGEST: usize = 1 << 20;
/// What one upstream may tell, in bytes of memory, about: 10,000 methods without schemas, or an answer of the largest
/// size as people write them.
const OF_ONE: usize = 8 << 20;
/// What a value takes, and a member of an object beside its value.
const VALUE: usize = 32;
const MEMBER: usize = 64;

/// Room for what one upstream tells.
#[derive(Debug)]
pub struct Room {
    left: usize,
    /// Something did not fit.
    is_spent: bool,
}

impl Default for Room {
    fn default() -> Self {
        Self { left: OF_ONE, is_spent: false }
    }
}

impl Room {
    /// For what the operator himself has written.
    pub fn endless() -> Self {
        Self { left: usize::MAX, is_spent: false }
    }

    /// Whether there was no room for something. Nothing more fits then.
    pub fn is_spent(&self) -> bool {
        self.is_spent
    }

    /// Takes room for something of that weight; false where there is not as much.
    pub fn take(&mut self, weight: usize) -> bool {
        match self.left.checked_sub(weight).filter(|_| !self.is_spent) {
            Some(left) => self.left = left,
            None => self.is_spent = true,
        }
        !self.is_spent
    }

    /// Reads JSON; `None` where it is none, or too large.
    pub fn parse(&self, text: &[u8]) -> Option<Value> {
        if text.len() > LARGEST {
            return None;
        }
        let mut json = serde_json::Deserializer::from_slice(text);
        let left = Cell::new(self.left);
        let value = Bounded(&left).deserialize(&mut json).ok()?;
        json.end().ok()?;
        Some(value)
    }
}

/// What a value takes, in bytes of memory, about.
pub(super) fn weight(value: &Value) -> usize {
    VALUE
        + match value {
            Value::Object(fields) => weight_of(fields),
            Value::Array(items) => items.iter().map(weight).sum(),
            Value::String(text) => text.len(),
            Value::Null | Value::Bool(_) | Value::Number(_) => 0,
        }
}

/// The same of an object's members.
pub(super) fn weight_of(fields: &Map<String, Value>) -> usize {
    fields.iter().map(|(key, value)| MEMBER + key.len() + weight(value)).sum()
}

/// A value of no more than so much weight, which becomes less as it is read.
#[derive(Clone, Copy)]
struct Bounded<'a>(&'a Cell<usize>);

impl Bounded<'_> {
    fn take<E: Error>(self, weight: usize) -> Result<(), E> {
        let left = self.0.get().checked_sub(weight);
        self.0.set(left.ok_or_else(|| E::custom("it is too large in memory"))?);
        Ok(())
    }

    fn plain<E: Error>(self, value: impl Into<Value>) -> Result<Value, E> {
        let value = value.into();
        self.take(weight(&value))?;
        Ok(value)
    }
}

impl<'de> DeserializeSeed<'de> for Bounded<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, json: D) -> Result<Value, D::Error> {
        json.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Bounded<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        self.plain(())
    }

    fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
        self.plain(value)
    }

    fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
        self.plain(value)
    }

    fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
        self.plain(value)
    }

    fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
        self.plain(value)
    }

    fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
        self.plain(value)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        self.take(VALUE)?;
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(self)? {
            items.push(item);
        }
        Ok(Value::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        self.take(VALUE)?;
        let mut fields = Map::new();
        while let Some(key) = map.next_key::<String>()? {
            self.take(MEMBER + key.len())?;
            fields.insert(key, map.next_value_seed(self)?);
        }
        Ok(Value::Object(fields))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_is_read_as_it_is_or_not_at_all() {
        let room = Room::default();
        for text in [
            "null",
            "true",
            "-7",
            "18446744073709551615",
            "1.5",
            r#""\u00e4""#,
            r#"{"a":[{},[],{"b":""}],"a":7}"#,
            "{",
            "[1e400]",
            "7 7",
            "",
        ] {
            let known: Option<Value> = serde_json::from_str(text).ok();
            assert_eq!(room.parse(text.as_bytes()), known, "{text}");
        }
        let deep = ["[".repeat(200), "]".repeat(200)].concat();
        assert_eq!(room.parse(deep.as_bytes()), None);
    }

    #[test]
    fn what_is_read_weighs_no_more_than_there_is_room_for() {
        let value = serde_json::json!({"a": [0, "text", {"b": null}]});
        let exact = weight(&value);
        for (left, fits) in [(exact, true), (exact - 1, false)] {
            let mut room = Room { left, is_spent: false };
            assert_eq!(room.parse(value.to_string().as_bytes()).is_some(), fits);
            assert_eq!(room.take(exact), fits);
            assert_eq!(room.take(0), fits, "what did not fit was the last");
        }
    }
}
