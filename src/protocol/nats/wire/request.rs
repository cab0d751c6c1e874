//! The message of a request, made of a call's params.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::Dialect;
use crate::call::{Params, Payload, Request};
use crate::fault::{Fault, FaultKind};
use crate::params;

/// The body of a request (CONTRACT, section 6). Shares the params' bytes wherever it can.
pub(in crate::protocol::nats) fn message(
    dialect: Dialect,
    request: &Request<'_>,
) -> Result<Bytes, Fault> {
    let message = match request.params {
        Params::None => Bytes::new(),
        Params::Object(object) => object.clone().into_bytes(),
        Params::Array(array) => positional(array, request)?,
        Params::Both { positional, named } => {
            let called = format_args!("{}.{}", request.service, request.method);
            let names = request.param_names;
            Bytes::from(params::merged(called, names, positional.as_str(), named.as_str())?)
        }
    };
    if dialect == Dialect::Picom && is_falsy(&message) {
        let text = String::from_utf8_lossy(&message[..message.len().min(40)]);
        return Err(Fault::not_sent(
            FaultKind::InvalidParams,
            format!(
                "a Picom service takes {text} for a broken request, like everything that \
                 JavaScript finds false: send an object, a list, a non-empty string or no params"
            ),
        ));
    }
    Ok(message)
}

fn positional(array: &Payload, request: &Request<'_>) -> Result<Bytes, Fault> {
    let bytes = array.clone().into_bytes();
    let inner = bytes.get(1..bytes.len().saturating_sub(1)).unwrap_or_default().trim_ascii();
    if inner.is_empty() {
        return Ok(Bytes::new());
    }
    if !request.param_names.is_empty() {
        let called = format_args!("{}.{}", request.service, request.method);
        return params::by_name(called, request.param_names, array.as_str()).map(Bytes::from);
    }
    let first = <&RawValue>::deserialize(&mut serde_json::Deserializer::from_slice(inner))
        .map_err(|_| broken_params())?;
    if first.get().len() == inner.len() {
        return Ok(bytes.slice_ref(inner));
    }
    Ok(bytes)
}

fn broken_params() -> Fault {
    Fault::not_sent(FaultKind::InvalidParams, "the params are not one valid JSON list")
}

/// Whether JavaScript finds a JSON text false once it is parsed.
pub(super) fn is_falsy(json: &[u8]) -> bool {
    match json.first() {
        Some(b'n' | b'f') => true,
        Some(b'"') => json.len() == 2,
        // 1e-400 is 0 there, as it is here.
        Some(b'-' | b'0'..=b'9') => std::str::from_utf8(json)
            .is_ok_and(|number| number.parse::<f64>().is_ok_and(|number| number == 0.0)),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;

    fn payload(json: &str) -> Payload {
        Payload::from_validated(Bytes::from(json.to_owned()))
    }

    /// The message for params, as text, or the kind of the fault.
    fn made(dialect: Dialect, params: Params, names: &[&str]) -> Result<String, FaultKind> {
        let mut sample = Sample::new(params);
        sample.param_names = names.iter().map(|name| (*name).to_owned()).collect();
        match message(dialect, &sample.request()) {
            Ok(bytes) => Ok(String::from_utf8(bytes.to_vec()).unwrap()),
            Err(fault) => {
                assert_eq!(fault.outcome().as_str(), "not_sent");
                Err(fault.kind())
            }
        }
    }

    #[test]
    fn messages() {
        for dialect in [Dialect::Picom, Dialect::Plain, Dialect::Micro] {
            assert_eq!(made(dialect, Params::None, &["a"]), Ok(String::new()));
            for object in ["{}", r#"{"b":1e400,"a":9007199254740993,"a":"\ud800"}"#] {
                let params = Params::Object(payload(object));
                assert_eq!(made(dialect, params, &["x"]).as_deref(), Ok(object));
            }
            for (array, expected) in [
                ("[]", ""),
                ("[ \n ]", ""),
                (r#"[{"a": 1.10}]"#, r#"{"a": 1.10}"#),
                (r#"[ {"a":1} ]"#, r#"{"a":1}"#),
                ("[[]]", "[]"),
                ("[[1, 2]]", "[1, 2]"),
                ("[7]", "7"),
                ("[1e400]", "1e400"),
                ("[true]", "true"),
                (r#"["\ud800,]"]"#, r#""\ud800,]""#),
                ("[1, 2.50,\"x\"]", "[1, 2.50,\"x\"]"),
                ("[0,0]", "[0,0]"),
                ("[null, null]", "[null, null]"),
            ] {
                let params = Params::Array(payload(array));
                assert_eq!(made(dialect, params, &[]).as_deref(), Ok(expected), "{array}");
            }
        }
    }

    #[test]
    fn named_messages() {
        for (array, names, expected) in [
            ("[1, 2.50]", &["id", "size"][..], Ok(r#"{"id":1,"size":2.50}"#)),
            ("[null]", &["id", "size"], Ok(r#"{"id":null}"#)),
            ("[0]", &["a\"b\\"], Ok(r#"{"a\"b\\":0}"#)),
            ("[]", &["id"], Ok("")),
            ("[1,2]", &["id"], Err(FaultKind::InvalidParams)),
        ] {
            let made = made(Dialect::Picom, Params::Array(payload(array)), names);
            assert_eq!(made.as_deref(), expected.as_deref(), "{array}");
        }
    }

    #[test]
    fn picom_gets_nothing_that_javascript_finds_false() {
        for element in
            ["null", "false", "0", "-0", "0.0", "-0.0e5", "0e9999", "1e-400", "-1E-9999", r#""""#]
        {
            let params = || Params::Array(payload(&format!("[{element}]")));
            let refused = made(Dialect::Picom, params(), &[]);
            assert_eq!(refused, Err(FaultKind::InvalidParams), "{element}");
            assert_eq!(made(Dialect::Plain, params(), &[]).as_deref(), Ok(element));
            assert_eq!(made(Dialect::Micro, params(), &[]).as_deref(), Ok(element));
        }
        for element in ["1e-300", "\"0\"", "\" \"", "[]", "{}", "true", "-1", "1e400"] {
            let params = Params::Array(payload(&format!("[{element}]")));
            assert_eq!(made(Dialect::Picom, params, &[]).as_deref(), Ok(element));
        }
    }

    proptest::proptest! {
        #[test]
        fn a_single_param_keeps_its_bytes(text: String, space in "[ \t\n\r]{0,3}") {
            let element = serde_json::to_string(&text).unwrap();
            let params = Params::Array(payload(&format!("[{space}{element}{space}]")));
            let made = made(Dialect::Plain, params, &[]);
            proptest::prop_assert_eq!(made, Ok(element));
        }
    }
}
