//! A context's other values, the ones that only Nameko services know: AMQP's types → JSON, and back.
//!
//! Nameko hands every `nameko.*` header on from call to call, so a call that goes through Genkan from
//! one Nameko service to another keeps them, with their types. What JSON has no form for is an object
//! with one member, `TAG`, that says what it was: nobody but Nameko's side reads it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use lapin::types::{
    AMQPValue, ByteArray, DecimalValue, FieldArray, FieldTable, LongString, ShortString,
};
use serde_json::{Map, Value, json};

use crate::call::Payload;

/// How long a key of an AMQP table may be.
const LONGEST_KEY: usize = 255;
/// The key of a value that JSON has no form for; no key of a Python program's.
const TAG: &str = "\u{0}amqp";

/// A header's value as JSON; `None` for none at all, which Nameko leaves out.
pub(super) fn to_json(value: &AMQPValue) -> Option<Payload> {
    if matches!(value, AMQPValue::Void) {
        return None;
    }
    Some(Payload::from_validated(json(value).to_string().into()))
}

fn json(value: &AMQPValue) -> Value {
    match value {
        AMQPValue::Void => Value::Null,
        AMQPValue::Boolean(flag) => Value::Bool(*flag),
        AMQPValue::ShortShortInt(number) => (*number).into(),
        AMQPValue::ShortShortUInt(number) => (*number).into(),
        AMQPValue::ShortInt(number) => (*number).into(),
        AMQPValue::ShortUInt(number) => (*number).into(),
        AMQPValue::LongInt(number) => (*number).into(),
        AMQPValue::LongUInt(number) => (*number).into(),
        AMQPValue::LongLongInt(number) => (*number).into(),
        AMQPValue::Float(number) => double(f64::from(*number)),
        AMQPValue::Double(number) => double(*number),
        AMQPValue::ShortString(text) => Value::from(text.as_str()),
        AMQPValue::LongString(text) => match std::str::from_utf8(text.as_bytes()) {
            Ok(text) => Value::from(text),
            Err(_) => tagged("text", &json!(STANDARD.encode(text.as_bytes()))),
        },
        AMQPValue::FieldArray(items) => items.as_slice().iter().map(json).collect(),
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter();
            let entries = entries.map(|(key, value)| (key.to_string(), json(value)));
            Value::Object(entries.collect::<Map<_, _>>())
        }
        AMQPValue::Timestamp(seconds) => tagged("timestamp", &json!(seconds)),
        AMQPValue::DecimalValue(decimal) => {
            tagged("decimal", &json!([decimal.scale, decimal.value]))
        }
        AMQPValue::ByteArray(bytes) => tagged("bytes", &json!(STANDARD.encode(bytes.as_slice()))),
    }
}

/// A number that may be none, in Python.
fn double(number: f64) -> Value {
    let text = || tagged("double", &json!(number.to_string()));
    serde_json::Number::from_f64(number).map_or_else(text, Value::Number)
}

fn tagged(kind: &str, value: &Value) -> Value {
    json!({TAG: [kind, value]})
}

/// JSON as a header's value; `None` for `null`, which Nameko leaves out.
pub(super) fn from_json(json: &Payload) -> Option<AMQPValue> {
    let read = serde_json::from_str(json.as_str()).ok()?;
    Some(value(&read)).filter(|value| !matches!(value, AMQPValue::Void))
}

fn value(json: &Value) -> AMQPValue {
    match json {
        Value::Null => AMQPValue::Void,
        Value::Bool(flag) => AMQPValue::Boolean(*flag),
        Value::Number(number) => match number.as_i64() {
            Some(number) => AMQPValue::LongLongInt(number),
            None => number.as_f64().map_or(AMQPValue::Void, AMQPValue::Double),
        },
        Value::String(text) => AMQPValue::LongString(LongString::from(text.as_str())),
        Value::Array(items) => {
            let mut array = FieldArray::default();
            items.iter().map(value).for_each(|item| array.push(item));
            AMQPValue::FieldArray(array)
        }
        Value::Object(entries) => untagged(entries).unwrap_or_else(|| {
            let mut table = FieldTable::default();
            for (key, entry) in entries.iter().filter(|(key, _)| key.len() <= LONGEST_KEY) {
                table.insert(ShortString::from(key.as_str()), value(entry));
            }
            AMQPValue::FieldTable(table)
        }),
    }
}

/// What JSON had no form for.
fn untagged(entries: &Map<String, Value>) -> Option<AMQPValue> {
    let [kind, value] = entries.get(TAG)?.as_array()?.as_slice() else { return None };
    let text = || value.as_str();
    let bytes = || STANDARD.decode(text()?).ok();
    Some(match kind.as_str()? {
        "text" => AMQPValue::LongString(LongString::from(bytes()?)),
        "bytes" => AMQPValue::ByteArray(ByteArray::from(bytes()?)),
        "double" => AMQPValue::Double(text()?.parse().ok()?),
        "timestamp" => AMQPValue::Timestamp(value.as_u64()?),
        "decimal" => {
            let [scale, value] = value.as_array()?.as_slice() else { return None };
            let scale = u8::try_from(scale.as_u64()?).ok()?;
            let value = u32::try_from(value.as_u64()?).ok()?;
            AMQPValue::DecimalValue(DecimalValue { scale, value })
        }
        _ => return None,
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
            r#"{"a":null,"b":[1,null,{"c":null}]}"#,
        ] {
            assert_eq!(there_and_back(text).as_deref(), Some(text), "{text}");
        }
        assert_eq!(there_and_back("null"), None);
    }

    #[test]
    fn what_json_has_no_form_for_keeps_its_type_too() {
        let mut items = FieldArray::default();
        for value in [
            AMQPValue::Void,
            AMQPValue::Double(f64::INFINITY),
            AMQPValue::Double(-0.5),
            AMQPValue::Timestamp(1_700_000_000),
            AMQPValue::DecimalValue(DecimalValue { scale: 2, value: 125 }),
            AMQPValue::LongString(LongString::from(b"\xff".to_vec())),
            AMQPValue::ByteArray(ByteArray::from(b"\0\xff".to_vec())),
        ] {
            items.push(value);
        }
        let array = AMQPValue::FieldArray(items);
        assert_eq!(from_json(&to_json(&array).expect("a value")), Some(array));
        assert_eq!(to_json(&AMQPValue::Void), None);
    }

    #[test]
    fn numbers_of_all_widths_are_numbers() {
        let numbers = [
            (AMQPValue::ShortShortInt(-1), "-1"),
            (AMQPValue::LongUInt(4_000_000_000), "4000000000"),
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
