//! A context's other values, the ones that only Nameko services know: AMQP's types → JSON, and back.
//!
//! Nameko hands every `nameko.*` header on from call to call, so a call that goes through Genkan from
//! one Nameko service to another keeps them, with their types.

use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};
use serde_json::{Map, Number, Value};

use crate::call::Payload;

/// How long a key of an AMQP table may be.
const LONGEST_KEY: usize = 255;

/// A header's value as JSON; `None` for one that JSON has no form for, and for none at all.
pub(super) fn to_json(value: &AMQPValue) -> Option<Payload> {
    let json = json(value)?;
    Some(Payload::from_validated(json.to_string().into()))
}

fn json(value: &AMQPValue) -> Option<Value> {
    Some(match value {
        AMQPValue::Boolean(flag) => Value::Bool(*flag),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Timestamp(seconds) => (*seconds).into(),
        AMQPValue::Float(number) => Value::Number(Number::from_f64(f64::from(*number))?),
        AMQPValue::Double(number) => Value::Number(Number::from_f64(*number)?),
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => Value::from(std::str::from_utf8(text.as_bytes()).ok()?),
        AMQPValue::FieldArray(items) => items.as_slice().iter().filter_map(json).collect(),
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter();
            let entries = entries.filter_map(|(key, value)| Some((key.to_string(), json(value)?)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        AMQPValue::DecimalValue(_) | AMQPValue::ByteArray(_) | AMQPValue::Void => return None,
    })
}

/// JSON as a header's value; `None` for `null`, which Nameko leaves out.
pub(super) fn from_json(json: &Payload) -> Option<AMQPValue> {
    value(&serde_json::from_str(json.as_str()).ok()?)
}

fn value(json: &Value) -> Option<AMQPValue> {
    Some(match json {
        Value::Null => return None,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => AMQPValue::Double(number.as_f64()?),
        },
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Array(items) => {
            let mut array = FieldArray::default();
            items.iter().filter_map(value).for_each(|item| array.push(item));
            AMQPValue::FieldArray(array)
        }
        Value::Object(entries) => {
            let mut table = FieldTable::default();
            for (key, entry) in entries.iter().filter(|(key, _)| key.len() <= LONGEST_KEY) {
                if let Some(entry) = value(entry) {
                    table.insert(ShortString::from(key.as_str()), entry);
                }
            }
            AMQPValue::FieldTable(table)
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn there_and_back(text: &str) -> Option<String> {
        let payload = Payload::from_validated(text.to_owned().into());
        to_json(&from_json(&payload)?).map(|json| json.as_str().to_owned())
    }

    #[test]
    fn values_keep_their_types() {
        for text in [
            r#""tokyo""#,
            "7",
            "-9223372036854775808",
            "true",
            "1.5",
            r#"["a",1,[false]]"#,
            r#"{"a":{"b":[1]},"c":"d"}"#,
            r#""""#,
        ] {
            assert_eq!(there_and_back(text).as_deref(), Some(text), "{text}");
        }
        assert_eq!(there_and_back("null"), None);
        assert_eq!(there_and_back(r#"{"a":null}"#).as_deref(), Some("{}"));
    }

    #[test]
    fn what_json_has_no_form_for_is_left_out() {
        for value in [
            AMQPValue::Void,
            AMQPValue::Double(f64::NAN),
            AMQPValue::LongString(LongString::from(b"\xff".to_vec())),
        ] {
            assert_eq!(to_json(&value), None, "{value:?}");
        }
        let numbers = [
            (AMQPValue::ShortShortInt(-1), "-1"),
            (AMQPValue::LongUInt(4_000_000_000), "4000000000"),
            (AMQPValue::Timestamp(1_700_000_000), "1700000000"),
            (AMQPValue::Float(0.5), "0.5"),
        ];
        for (value, expected) in numbers {
            assert_eq!(to_json(&value).expect("a number").as_str(), expected);
        }
    }

    #[test]
    fn a_key_that_amqp_has_no_room_for_is_left_out() {
        let text = format!(r#"{{"{}":1,"b":2}}"#, "k".repeat(256));
        assert_eq!(there_and_back(&text).as_deref(), Some(r#"{"b":2}"#));
    }
}
