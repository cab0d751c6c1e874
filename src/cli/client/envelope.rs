//! A client's side of JSON-RPC 2.0: the request it sends, and the answer it reads, which keeps
//! its result and its error as the text that came.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use crate::call::Params;
use crate::json::{present, repair};

/// What a JSON-RPC answer says: the JSON text of a result or of an error, as it came.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer<'a> {
    /// The result.
    Result(&'a str),
    /// The `error`: an object, unless the service breaks the rules.
    Fault(&'a str),
}

/// A request that is answered. Params that are not given are left out; the id is a number that
/// every service gives back, which 0 and "" are not (WIRE 4.1).
pub fn call(method: &str, params: &Params) -> Bytes {
    request(method, params, ",\"id\":1")
}

/// A request that nobody waits for: without an id.
pub fn notification(method: &str, params: &Params) -> Bytes {
    request(method, params, "")
}

fn request(method: &str, params: &Params, id: &str) -> Bytes {
    let method = serde_json::Value::from(method);
    let params = match params {
        Params::None => String::new(),
        // The command line makes one or the other.
        Params::Array(json) | Params::Object(json) | Params::Both { named: json, .. } => {
            format!(",\"params\":{}", json.as_str())
        }
    };
    Bytes::from(format!("{{\"jsonrpc\":\"2.0\",\"method\":{method}{params}{id}}}"))
}

/// An answer's body with `null` where a Python service wrote `NaN` or `Infinity`, as a gateway passes it on;
/// unchanged where that does not make JSON of it.
pub fn mended(body: Bytes) -> Bytes {
    let is_json = |body: &[u8]| serde_json::from_slice::<&RawValue>(body).is_ok();
    if is_json(&body) {
        return body;
    }
    repair(&body).filter(|mended| is_json(mended)).map_or(body, Bytes::from)
}

/// Reads an answer. Services of Gemstone's kind answer with `result` and `error` both, one of
/// them null; the id is not looked at, because an HTTP exchange pairs its own (WIRE 4.7).
/// Fails, saying why, where the body is no JSON-RPC answer.
pub fn read(body: &[u8]) -> Result<Answer<'_>, String> {
    if body.trim_ascii().is_empty() {
        return Err("the body is empty".to_owned());
    }
    let envelope: &RawValue = serde_json::from_slice(body).map_err(|error| {
        // Where a page was sent instead, the place of its first `<` helps nobody.
        let is_near = body.trim_ascii_start().starts_with(b"{");
        format!(
            "the body is not JSON{}",
            if is_near { format!(": {error}") } else { String::new() }
        )
    })?;
    // Read as a struct, a JSON array would pass for one.
    if !envelope.get().starts_with('{') {
        return Err("the body is not a JSON object".to_owned());
    }
    let envelope: Envelope<'_> = serde_json::from_str(envelope.get())
        .map_err(|error| format!("the body is no JSON-RPC answer: {error}"))?;
    match (envelope.error.map(RawValue::get), envelope.result.map(RawValue::get)) {
        (Some(error), _) if error != "null" => Ok(Answer::Fault(error)),
        (_, Some(result)) => Ok(Answer::Result(result)),
        _ => Err("the body has neither a result nor an error".to_owned()),
    }
}

#[derive(Deserialize)]
struct Envelope<'a> {
    #[serde(borrow, default, deserialize_with = "present")]
    result: Option<&'a RawValue>,
    #[serde(borrow, default, deserialize_with = "present")]
    error: Option<&'a RawValue>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::call::Payload;

    #[test]
    fn requests() {
        let payload = Payload::from_validated(Bytes::from_static(b"{\"id\":9007199254740993}"));
        let cases = [
            (
                call("a.b", &Params::Object(payload)),
                r#"{"jsonrpc":"2.0","method":"a.b","params":{"id":9007199254740993},"id":1}"#,
            ),
            (call("a\"b", &Params::None), r#"{"jsonrpc":"2.0","method":"a\"b","id":1}"#),
            (notification("a.b", &Params::None), r#"{"jsonrpc":"2.0","method":"a.b"}"#),
        ];
        for (request, text) in cases {
            assert_eq!(request, text);
        }
    }

    #[test]
    fn what_a_python_service_writes_is_mended() {
        for (body, mended_body) in [
            (r#"{"result":[NaN,-Infinity,"NaN"]}"#, r#"{"result":[null,null,"NaN"]}"#),
            (r#"{"result":1e400}"#, r#"{"result":1e400}"#),
            ("NaN <html>", "NaN <html>"),
        ] {
            assert_eq!(mended(Bytes::from(body)), mended_body);
        }
    }

    #[test]
    fn answers() {
        use Answer::{Fault, Result as Returned};
        let cases = [
            (r#"{"jsonrpc":"2.0","result":1.10,"id":1}"#, Ok(Returned("1.10"))),
            (
                r#" {"id": 1, "result": {"a" : 1e400}, "error": null} "#,
                Ok(Returned(r#"{"a" : 1e400}"#)),
            ),
            (r#"{"result":null,"error":null}"#, Ok(Returned("null"))),
            (r#"{"result":null,"error":{"code":1}}"#, Ok(Fault(r#"{"code":1}"#))),
            (r#"{"error":"boom"}"#, Ok(Fault("\"boom\""))),
            (r#"{"result":"\ud800"}"#, Ok(Returned("\"\\ud800\""))),
            ("", Err("empty")),
            ("<html>", Err("not JSON")),
            ("[1]", Err("not a JSON object")),
            ("{}", Err("neither")),
            (r#"{"error":null}"#, Err("neither")),
            (r#"{"result":1} x"#, Err("not JSON")),
        ];
        for (body, expected) in cases {
            match (read(body.as_bytes()), expected) {
                (Ok(answer), Ok(expected)) => assert_eq!(answer, expected),
                (Err(why), Err(part)) => assert!(why.contains(part), "{body}: {why}"),
                (other, _) => panic!("{body}: {other:?}"),
            }
        }
        assert!(read(b"{\"result\":\"\xff\"}").is_err());
    }
}
