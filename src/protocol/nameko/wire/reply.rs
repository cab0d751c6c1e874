//! What a reply means: `{"result":…,"error":…}` read leniently, its payload sliced out of the
//! message and not parsed (WIRE 1.3, 1.6).

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::{AMQPValue, ShortString};

use super::compression::Packed;
use super::content_header::{MENDED, NO_ROOM, TOO_LARGE};
use super::{compression, exception, tagged};
use crate::call::{Payload, Reply};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::json::REPLY_DEPTH;
use crate::json::lexer::Container;
use crate::json::members::{Foreign, Unreadable, foreign};
use crate::trace::TraceParent;
use crate::units::format_size;

/// A message from the reply queue.
#[derive(Debug)]
pub(in super::super) struct Delivered {
    /// Its properties.
    pub(in super::super) properties: BasicProperties,
    /// Its body.
    pub(in super::super) body: Bytes,
}

/// A reply that has been read.
pub(in super::super) struct Decoded {
    /// What the caller gets.
    pub(in super::super) result: Result<Reply, Fault>,
    /// Whether `NaN` or `Infinity` had to become `null`.
    pub(in super::super) repaired: bool,
    /// What was wrong with its properties, which were [mended](super::content_header).
    pub(in super::super) odd: Option<String>,
}

/// How replies are read.
#[derive(Clone, Copy)]
pub(in super::super) struct Rules {
    /// Whether tagged values stay as kombu wrote them.
    pub(in super::super) keep_tagged: bool,
    /// The largest reply, unpacked.
    pub(in super::super) largest: usize,
}

/// Reads a reply to `service.method`. The content type is not looked at: what can be read is.
pub(in super::super) fn decode(
    delivered: Delivered,
    service: &str,
    method: &str,
    rules: Rules,
) -> Decoded {
    let Delivered { properties, body } = delivered;
    let (mut repaired, odd) = (false, odd(&properties));
    let call = properties.correlation_id().as_ref().map(ShortString::as_str);
    if let Some(size) = odd.as_deref().and_then(|odd| odd.strip_prefix(TOO_LARGE)) {
        let size = format!("{size} bytes");
        let result = Err(too_large(service, method, &size, rules.largest));
        return Decoded { result, repaired, odd: None };
    }
    let parts = match compression::unpack(&properties, body, rules.largest) {
        Ok(body) => split(&body, &mut repaired)
            .map_err(|complaint| broken(service, method, &complaint, &properties)),
        Err(Packed::Broken(complaint)) => Err(broken(service, method, &complaint, &properties)),
        Err(Packed::TooLarge) => {
            Err(too_large(service, method, "more when it is unpacked", rules.largest))
        }
    };
    let result = parts.and_then(|parts| match parts {
        Parts::Error(error) => {
            Err(exception::fault(std::str::from_utf8(&error).unwrap_or_default(), method, call))
        }
        Parts::Result(result) => {
            let plain =
                if rules.keep_tagged { None } else { tagged::unwrap_tagged_values(&result) };
            let payload = Payload::from_validated(plain.map_or(result, Bytes::from));
            Ok(Reply { payload, trace: trace(&properties) })
        }
    });
    Decoded { result, repaired, odd }
}

/// The payload of a reply: exactly one JSON value, sliced out of the message.
enum Parts {
    Result(Bytes),
    Error(Bytes),
}

/// The envelope. Other keys are ignored.
fn split(body: &Bytes, repaired: &mut bool) -> Result<Parts, String> {
    let read = foreign(body, ["result", "error"], REPLY_DEPTH + 1);
    let Foreign { members, repaired: mended, .. } = read.map_err(complaint)?;
    if members.container != Some(Container::Object) {
        return Err("JSON, but no object".to_owned());
    }
    *repaired = mended;
    match members.values {
        [_, Some(error)] if truthy(&error) => Ok(Parts::Error(error)),
        [Some(result), _] => Ok(Parts::Result(result)),
        [None, _] => Err("without a result and without an error".to_owned()),
    }
}

fn complaint(why: Unreadable) -> String {
    match why {
        Unreadable::NotText => "not valid UTF-8".to_owned(),
        Unreadable::NotJson => "not JSON".to_owned(),
        Unreadable::TooDeep => format!("nested more than {REPLY_DEPTH} levels deep"),
    }
}

fn broken(service: &str, method: &str, complaint: &str, properties: &BasicProperties) -> Fault {
    let mut message =
        format!("the service {service:?} answered {method:?} with a reply that is {complaint}");
    // What it is instead. The type comes from the peer: its beginning is enough to find it.
    let says = properties.content_type().as_ref().map(ShortString::as_str);
    if let Some(says) = says.filter(|says| !says.starts_with("application/json")) {
        message.extend([" (it says ", &says.chars().take(40).collect::<String>(), ")"]);
    }
    Fault::new(FaultKind::Internal, Outcome::Executed, message)
}

fn too_large(service: &str, method: &str, size: &str, largest: usize) -> Fault {
    let message = format!(
        "the reply to `{service}.{method}` is {size}, and {} are taken at most: answer less, or raise \
         the upstream's `max_reply`",
        format_size(largest)
    );
    Fault::new(FaultKind::TooLarge, Outcome::Executed, message)
}

/// How large the body was that a reply has lost because there was no room for it.
pub(in super::super) fn lacked_room(properties: &BasicProperties) -> Option<u64> {
    odd(properties)?.strip_prefix(NO_ROOM)?.parse().ok()
}

fn odd(properties: &BasicProperties) -> Option<String> {
    match properties.headers().as_ref()?.inner().get(MENDED)? {
        AMQPValue::LongString(why) => Some(why.to_string()),
        _ => None,
    }
}

fn trace(properties: &BasicProperties) -> Option<TraceParent> {
    match properties.headers().as_ref()?.inner().get("traceparent")? {
        AMQPValue::LongString(text) => {
            TraceParent::parse(std::str::from_utf8(text.as_bytes()).ok()?)
        }
        _ => None,
    }
}

/// Whether Python takes a JSON value for an error that is there.
fn truthy(json: &[u8]) -> bool {
    match json {
        b"null" | b"false" | b"\"\"" => false,
        [b'[' | b'{', inside @ .., _] => !inside.trim_ascii().is_empty(),
        [b'-' | b'0'..=b'9', ..] => {
            let number = std::str::from_utf8(json).ok().and_then(|text| text.parse::<f64>().ok());
            number.is_some_and(|number| number != 0.0)
        }
        _ => true,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldTable;

    use super::*;
    use crate::json::walks::bytes_walked;

    fn decode_body(body: &[u8]) -> Decoded {
        decode_as(BasicProperties::default(), body, false)
    }

    fn decode_as(properties: BasicProperties, body: &[u8], keep_tagged: bool) -> Decoded {
        let body = Bytes::copy_from_slice(body);
        decode(
            Delivered { properties, body },
            "orders",
            "create",
            Rules { keep_tagged, largest: 1 << 20 },
        )
    }

    #[test]
    fn results_pass_byte_for_byte() {
        let results = [
            "3",
            "null",
            "9007199254740993",
            "1180591620717411303424",
            "1e400",
            "-0",
            "1.10",
            r#"{"b":1,"a":2,"b":3}"#,
            r#""\ud800\u00e9""#,
            "\"é\"",
            r#"[ 1 , {"x": "NaN Infinity"} ]"#,
            "0.1234567890123456789012345678901234567890",
        ];
        for result in results {
            for envelope in [
                format!(r#"{{"result": {result}, "error": null}}"#),
                format!(r#"{{"error":null,"result":{result},"extra":[{{}}]}}"#),
                format!(r#"{{"result":{result}}}"#),
                format!(r#"{{"result":1,"result":{result},"error":""}}"#),
                format!(r#" {{ "result" : {result} , "error" : {{ }} }} "#),
                format!(r#"{{"\u0072esult":{result},"error":0}}"#),
                format!(r#"{{"\ud800":1,"result":{result},"\udfff":[]}}"#),
            ] {
                let decoded = decode_body(envelope.as_bytes());
                assert!(!decoded.repaired, "{envelope}");
                assert_eq!(decoded.result.expect(&envelope).payload.as_str(), result, "{envelope}");
            }
        }
    }

    #[test]
    fn the_payload_is_a_slice_of_the_message() {
        let body = Bytes::from_static(br#"{"result": [1,2,3], "error": null}"#);
        let message = body.as_ptr() as usize;
        let delivered = Delivered { properties: BasicProperties::default(), body };
        let decoded =
            decode(delivered, "orders", "create", Rules { keep_tagged: false, largest: 1 << 20 });
        let payload = decoded.result.unwrap().payload.into_bytes();
        assert_eq!(payload.as_ptr() as usize - message, 11);
    }

    #[test]
    fn a_reply_is_walked_once() {
        let body = r#"{"result": [1,"\"",{"b":null}], "error": null}"#;
        let (decoded, walked) = bytes_walked(|| decode_body(body.as_bytes()));
        assert_eq!((decoded.result.is_ok(), walked), (true, body.len()));
    }

    #[test]
    fn errors_win_when_truthy() {
        let error = r#"{"exc_type":"ValueError","exc_path":"builtins.ValueError","exc_args":["bad"],"value":"bad"}"#;
        for envelope in [
            format!(r#"{{"result": null, "error": {error}}}"#),
            format!(r#"{{"error": {error}}}"#),
            format!(r#"{{"error": {error}, "result": 5}}"#),
        ] {
            let fault = decode_body(envelope.as_bytes()).result.unwrap_err();
            assert_eq!(fault.message(), "ValueError: bad");
            assert_eq!(
                (fault.kind(), fault.outcome()),
                (FaultKind::Application, Outcome::Executed)
            );
        }
        let fault = decode_body(br#"{"result":1,"error":"it broke"}"#).result.unwrap_err();
        assert_eq!(fault.message(), "it broke");
        for falsy in ["null", "false", "0", "-0.0", "0e5", "\"\"", "[]", "[ ]", "{}", "{ }"] {
            let envelope = format!(r#"{{"result":1,"error":{falsy}}}"#);
            assert!(decode_body(envelope.as_bytes()).result.is_ok(), "{falsy}");
        }
        for truthy in ["true", "1", "-1e-5", "\"x\"", "[0]", "1e400"] {
            let envelope = format!(r#"{{"result":1,"error":{truthy}}}"#);
            assert!(decode_body(envelope.as_bytes()).result.is_err(), "{truthy}");
        }
    }

    #[test]
    fn broken_replies_are_internal_faults_that_name_the_service() {
        let deep = format!(r#"{{"result":{}{}}}"#, "[".repeat(600), "]".repeat(600));
        let deeper = format!(r#"{{"result":{}"#, "[".repeat(200_000));
        let cases: [(&[u8], &str); 13] = [
            (b"", "not JSON"),
            (b"hello", "not JSON"),
            (b"{\"result\":", "not JSON"),
            (b"{\"result\":1}}", "not JSON"),
            (b"{\"result\":nan}", "not JSON"),
            (b"{'result':1}", "not JSON"),
            (b"[1]", "no object"),
            (b"7", "no object"),
            (b"{}", "without a result"),
            (b"{\"error\":null}", "without a result"),
            (b"{\"result\":\"\xff\"}", "UTF-8"),
            (deep.as_bytes(), "nested"),
            (deeper.as_bytes(), "nested"),
        ];
        for (body, complaint) in cases {
            let shown: String = String::from_utf8_lossy(body).chars().take(40).collect();
            let fault = decode_body(body).result.expect_err(&shown);
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Executed));
            assert!(fault.message().contains(complaint), "{shown}: {}", fault.message());
            assert!(fault.message().contains("\"orders\""), "{}", fault.message());
        }
    }

    #[test]
    fn python_numbers_are_repaired_and_counted() {
        let decoded = decode_body(br#"{"result": [NaN, 1, -Infinity, "NaN"], "error": null}"#);
        assert!(decoded.repaired);
        assert_eq!(decoded.result.unwrap().payload.as_str(), r#"[null, 1, null, "NaN"]"#);
        assert!(!decode_body(b"{\"result\": NaN").repaired);
    }

    #[test]
    fn tagged_results_are_unwrapped_unless_kept() {
        let body = br#"{"result":[{"__type__":"date","__value__":"2024-01-02"}],"error":null}"#;
        let plain = decode_body(body).result.unwrap().payload;
        assert_eq!(plain.as_str(), r#"["2024-01-02"]"#);
        let kept = decode_as(BasicProperties::default(), body, true).result.unwrap().payload;
        assert_eq!(kept.as_str(), r#"[{"__type__":"date","__value__":"2024-01-02"}]"#);
    }

    #[test]
    fn the_content_type_is_not_looked_at() {
        let properties = BasicProperties::default()
            .with_content_type("text/plain".into())
            .with_content_encoding("binary".into());
        assert!(decode_as(properties, br#"{"result":1}"#, false).result.is_ok());
    }

    #[test]
    fn what_cannot_be_read_is_named_by_its_content_type() {
        let pickle = BasicProperties::default()
            .with_content_type("application/x-python-serialize".into())
            .with_content_encoding("binary".into());
        let fault = decode_as(pickle, b"\x80\x04\x95", false).result.unwrap_err();
        assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Executed));
        let named = "not valid UTF-8 (it says application/x-python-serialize)";
        assert!(fault.message().ends_with(named), "{}", fault.message());
        let json = BasicProperties::default().with_content_type("application/json".into());
        let fault = decode_as(json, b"x", false).result.unwrap_err();
        assert!(fault.message().ends_with("not JSON"), "{}", fault.message());
    }

    #[test]
    fn compressed_replies() {
        let mut headers = FieldTable::default();
        headers.insert("compression".into(), AMQPValue::LongString("application/x-bz2".into()));
        let properties = BasicProperties::default().with_headers(headers);
        let fault = decode_as(properties, b"BZh", false).result.unwrap_err();
        assert_eq!(fault.kind(), FaultKind::Internal);
        assert!(fault.message().contains("application/x-bz2"), "{}", fault.message());
    }

    #[test]
    fn a_trace_in_the_reply_is_kept() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let mut headers = FieldTable::default();
        headers.insert("traceparent".into(), AMQPValue::LongString(text.into()));
        let properties = BasicProperties::default().with_headers(headers);
        let reply = decode_as(properties, br#"{"result":1}"#, false).result.unwrap();
        assert_eq!(reply.trace.unwrap().as_str(), text);
    }
}
