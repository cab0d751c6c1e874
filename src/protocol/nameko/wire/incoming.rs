//! What a request means that comes in: `{"args":…,"kwargs":…}`, its params sliced out of the message
//! and not parsed (WIRE 1.2, 1.4).
//!
//! What kills or silences a Nameko service is read here for what it is, or is a fault that names what
//! is wrong. What can be read is read, whatever its content type says.

use std::borrow::Cow;

use bytes::Bytes;
use lapin::BasicProperties;
use lapin::types::AMQPValue;

use super::compression::{self, Packed};
use super::content_header::{MENDED, TOO_LARGE, headers_left_out};
use super::tagged;
use crate::call::{Params, Payload};
use crate::fault::{Fault, FaultKind};
use crate::json::REQUEST_DEPTH;
use crate::json::lexer::Container;
use crate::json::members::{Members, Unreadable, foreign};
use crate::units::format_size;

/// A request's params, and whether `NaN` or `Infinity` had to become `null`.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) struct Read {
    pub(in super::super) params: Params,
    pub(in super::super) repaired: bool,
}

/// The method that a request of the service `name` asks for.
pub(in super::super) fn method<'a>(routing_key: &'a str, name: &str) -> &'a str {
    let method = routing_key.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
    // By another way into the queue than the service's own binding.
    method.unwrap_or_else(|| routing_key.rsplit('.').next().unwrap_or_default())
}

/// What is wrong with a message's properties, which were [mended](super::content_header); a fault where its
/// body or its headers were left out for their size: without those it would run for nobody, with no deadline, and
/// perhaps once more.
pub(in super::super) fn oddity(
    properties: &BasicProperties,
    largest: usize,
) -> Result<Option<String>, Fault> {
    let headers = properties.headers().as_ref();
    let why = match headers.and_then(|headers| headers.inner().get(MENDED)) {
        Some(AMQPValue::LongString(why)) => why.to_string(),
        _ => return Ok(None),
    };
    if let Some(size) = why.strip_prefix(TOO_LARGE) {
        return Err(too_large(&format!("is {size} bytes"), largest));
    }
    match headers_left_out(&why) {
        Some(why) => Err(Fault::not_sent(FaultKind::TooLarge, format!("the request {why}"))),
        None => Ok(Some(why)),
    }
}

/// Unpacks a body that its properties call compressed.
pub(in super::super) fn unpack(
    properties: &BasicProperties,
    body: Bytes,
    largest: usize,
) -> Result<Bytes, Fault> {
    compression::unpack(properties, body, largest).map_err(|packed| match packed {
        Packed::TooLarge => too_large("is larger when it is unpacked", largest),
        Packed::Broken(complaint) => {
            malformed(FaultKind::ParseError, format!("the request is {complaint}"))
        }
    })
}

fn too_large(what: &str, largest: usize) -> Fault {
    let message = format!(
        "the request {what}, and {} are taken at most: send less, or raise the upstream's \
         `max_request`",
        format_size(largest)
    );
    Fault::not_sent(FaultKind::TooLarge, message)
}

fn malformed(kind: FaultKind, message: impl Into<Cow<'static, str>>) -> Fault {
    Fault::not_sent(kind, message)
}

/// Reads the params out of a body that is not packed, and is said to be of that type.
pub(in super::super) fn read(
    body: &Bytes,
    content_type: Option<&str>,
    keep_tagged: bool,
) -> Result<Read, Fault> {
    let read = foreign(body, ["args", "kwargs"], REQUEST_DEPTH).map_err(|why| match why {
        Unreadable::TooDeep => too_deep(),
        Unreadable::NotText => unreadable("valid UTF-8", content_type),
        Unreadable::NotJson => unreadable("JSON", content_type),
    })?;
    let params = params(read.members, keep_tagged)?;
    Ok(Read { params, repaired: read.repaired })
}

/// The type comes from the peer: its beginning is enough to find it.
fn unreadable(expected: &str, content_type: Option<&str>) -> Fault {
    let message = match content_type.filter(|said| !said.starts_with("application/json")) {
        Some(said) => format!(
            "the request is {:?}, and no JSON, which alone is taken here: set the caller's serializer \
             to `json`",
            said.chars().take(40).collect::<String>()
        ),
        None => format!("the request is not {expected}"),
    };
    malformed(FaultKind::ParseError, message)
}

fn too_deep() -> Fault {
    let message = format!("the request nests more than {REQUEST_DEPTH} levels deep");
    malformed(FaultKind::InvalidRequest, message)
}

/// The params in the envelope. Other keys are ignored.
fn params(
    Members { container, values }: Members<Bytes, 2>,
    keep_tagged: bool,
) -> Result<Params, Fault> {
    if container != Some(Container::Object) {
        let message = "the request is JSON, but no object with `args` and `kwargs`";
        return Err(malformed(FaultKind::InvalidRequest, message));
    }
    let [Some(args), Some(kwargs)] = values else {
        // Nameko's own words.
        let message = "Message missing `args` or `kwargs`";
        return Err(malformed(FaultKind::InvalidRequest, message));
    };
    let wrong = |name, expected, found: &[u8]| {
        let message = format!("`{name}` must be {expected}, not {}", sort_of(found));
        malformed(FaultKind::InvalidParams, message)
    };
    if !args.starts_with(b"[") {
        return Err(wrong("args", "a list", &args));
    }
    if !kwargs.starts_with(b"{") {
        return Err(wrong("kwargs", "an object", &kwargs));
    }
    let untagged = |json: &[u8]| {
        if keep_tagged { None } else { tagged::unwrap_tagged_values(json).map(Bytes::from) }
    };
    let positional = |args: Bytes| Payload::from_validated(untagged(&args).unwrap_or(args));
    // Keywords stay an object, even such as kombu would take for a tagged value itself.
    let named = |kwargs: Bytes| {
        let object = untagged(&kwargs).filter(|json| json.starts_with(b"{"));
        Payload::from_validated(object.unwrap_or(kwargs))
    };
    Ok(match (is_empty(&args), is_empty(&kwargs)) {
        (true, true) => Params::None,
        (false, true) => Params::Array(positional(args)),
        (true, false) => Params::Object(named(kwargs)),
        (false, false) => Params::Both { positional: positional(args), named: named(kwargs) },
    })
}

fn is_empty(container: &[u8]) -> bool {
    container.get(1..container.len() - 1).is_some_and(|inside| inside.trim_ascii().is_empty())
}

fn sort_of(json: &[u8]) -> &'static str {
    match json.first() {
        Some(b'{') => "an object",
        Some(b'[') => "a list",
        Some(b'"') => "text",
        Some(b't' | b'f') => "a flag",
        Some(b'n') => "null",
        _ => "a number",
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use lapin::types::FieldTable;
    use proptest::prelude::*;

    use super::super::content_header::NO_HEADERS;
    use super::*;

    fn read_text(text: &str) -> Result<Read, Fault> {
        read(&Bytes::copy_from_slice(text.as_bytes()), None, false)
    }

    fn payload(text: &str) -> Payload {
        Payload::from_validated(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[track_caller]
    fn params(text: &str) -> Params {
        let read = read_text(text).expect(text);
        assert!(!read.repaired, "{text}");
        read.params
    }

    #[test]
    fn params_keep_their_bytes() {
        let cases = [
            (r#"{"args": [], "kwargs": {}}"#, Params::None),
            (r#" { "kwargs" : { } , "args" : [ ] } "#, Params::None),
            (
                r#"{"args": [1, "\u00e9", null], "kwargs": {}}"#,
                Params::Array(payload(r#"[1, "\u00e9", null]"#)),
            ),
            (
                r#"{"args":[],"kwargs":{"k":[1.10,true]}}"#,
                Params::Object(payload(r#"{"k":[1.10,true]}"#)),
            ),
            (
                r#"{"args":[1180591620717411303424,1e400],"kwargs":{}}"#,
                Params::Array(payload("[1180591620717411303424,1e400]")),
            ),
            (
                r#"{"args":[1],"kwargs":{"b":2},"more":[{"args":[3]}]}"#,
                Params::Both { positional: payload("[1]"), named: payload(r#"{"b":2}"#) },
            ),
            (r#"{"args":[1],"args":[2],"kwargs":{}}"#, Params::Array(payload("[2]"))),
            (r#"{"\u0061rgs":[1],"kwargs":{}}"#, Params::Array(payload("[1]"))),
            (r#"{"args":["\ud800"],"kwargs":{}}"#, Params::Array(payload(r#"["\ud800"]"#))),
        ];
        for (text, expected) in cases {
            assert_eq!(params(text), expected, "{text}");
        }
    }

    #[test]
    fn a_payload_is_a_slice_of_the_message() {
        let body = Bytes::from_static(br#"{"args":["long enough"],"kwargs":{}}"#);
        let Params::Array(args) = read(&body, None, false).expect("valid").params else { panic!() };
        let within = body.as_ptr_range();
        assert!(within.contains(&args.as_bytes().as_ptr()));
    }

    #[test]
    fn tagged_values_become_plain() {
        let text = r#"{"args":[{"__type__":"date","__value__":"2024-02-29"}],"kwargs":{"d":{"__type__":"decimal","__value__":"1.10"}}}"#;
        let expected = Params::Both {
            positional: payload(r#"["2024-02-29"]"#),
            named: payload(r#"{"d":"1.10"}"#),
        };
        assert_eq!(params(text), expected);
        let kept =
            read(&Bytes::copy_from_slice(text.as_bytes()), None, true).expect("valid").params;
        let Params::Both { positional, .. } = kept else { panic!() };
        assert_eq!(positional.as_str(), r#"[{"__type__":"date","__value__":"2024-02-29"}]"#);
        let keywords = r#"{"args":[],"kwargs":{"__type__":"date","__value__":"2024-02-29"}}"#;
        assert_eq!(
            params(keywords),
            Params::Object(payload(r#"{"__type__":"date","__value__":"2024-02-29"}"#))
        );
    }

    #[test]
    fn pythons_numbers_become_null() {
        let read =
            read_text(r#"{"args": [NaN, "NaN"], "kwargs": {"a": -Infinity}}"#).expect("valid");
        assert!(read.repaired);
        let expected = Params::Both {
            positional: payload(r#"[null, "NaN"]"#),
            named: payload(r#"{"a": null}"#),
        };
        assert_eq!(read.params, expected);
    }

    #[test]
    fn what_is_no_request_is_told() {
        use FaultKind::{InvalidParams, InvalidRequest, ParseError};
        let deep = format!(r#"{{"args":{}{},"kwargs":{{}}}}"#, "[".repeat(128), "]".repeat(128));
        let cases = [
            ("", ParseError, "not JSON"),
            ("oops", ParseError, "not JSON"),
            (r#"{"args":[],"kwargs":{}"#, ParseError, "not JSON"),
            (r#"{"args":[NaN],"kwargs":"#, ParseError, "not JSON"),
            ("[]", InvalidRequest, "no object"),
            ("null", InvalidRequest, "no object"),
            ("{}", InvalidRequest, "missing `args` or `kwargs`"),
            (r#"{"args":[]}"#, InvalidRequest, "missing `args` or `kwargs`"),
            (r#"{"kwargs":{}}"#, InvalidRequest, "missing `args` or `kwargs`"),
            (r#"{"args":[],"kwargs":null}"#, InvalidParams, "an object, not null"),
            (r#"{"args":[],"kwargs":[1]}"#, InvalidParams, "an object, not a list"),
            (r#"{"args":{"a":1},"kwargs":{}}"#, InvalidParams, "a list, not an object"),
            (r#"{"args":"ab","kwargs":{}}"#, InvalidParams, "a list, not text"),
            (r#"{"args":1,"kwargs":{}}"#, InvalidParams, "a list, not a number"),
            (deep.as_str(), InvalidRequest, "128 levels"),
        ];
        for (text, kind, words) in cases {
            let fault = read_text(text).expect_err(text);
            assert_eq!(fault.kind(), kind, "{text}");
            assert!(fault.message().contains(words), "{text}: {}", fault.message());
            assert!(!fault.outcome().may_have_run());
        }
        let latin = Bytes::from_static(b"{\"args\":[\"\xe9\"],\"kwargs\":{}}");
        for said in [None, Some("application/json; charset=latin-1")] {
            let fault = read(&latin, said, false).expect_err("latin-1");
            assert_eq!(fault.message(), "the request is not valid UTF-8");
        }
    }

    #[test]
    fn what_is_said_to_be_no_json_is_told_to_be_json() {
        for (said, body) in [
            ("application/x-python-serialize", &b"\x80\x04\x95"[..]),
            ("application/x-msgpack", b"\x82\xa4args\x90\xa6kwargs\x80"),
            ("application/x-yaml", b"args: []\nkwargs: {}\n"),
        ] {
            let fault = read(&Bytes::from_static(body), Some(said), false).expect_err(said);
            assert_eq!(fault.kind(), FaultKind::ParseError);
            let named = fault.message().contains(said) && fault.message().contains("`json`");
            assert!(named, "{}", fault.message());
        }
        let plain = Bytes::from_static(br#"{"args":[],"kwargs":{}}"#);
        assert!(read(&plain, Some("text/plain"), false).is_ok(), "what can be read is");
    }

    #[test]
    fn methods_by_their_keys() {
        for (key, name, expected) in [
            ("mailer.send", "mailer", "send"),
            ("eu.mailer.send", "eu.mailer", "send"),
            ("rpc-mailer", "mailer", "rpc-mailer"),
            ("other.send", "mailer", "send"),
            ("mailer.", "mailer", ""),
            ("", "mailer", ""),
        ] {
            assert_eq!(method(key, name), expected, "{key}");
        }
    }

    #[test]
    fn a_body_is_unpacked_within_its_limit() {
        let pack = |plain: &[u8]| {
            let mut encoder =
                flate2::write::ZlibEncoder::new(Vec::new(), flate2::Compression::default());
            encoder.write_all(plain).expect("memory");
            Bytes::from(encoder.finish().expect("memory"))
        };
        let gzip = BasicProperties::default().with_content_encoding("gzip".into());
        assert_eq!(unpack(&gzip, pack(b"{}"), 9).expect("fits"), "{}");
        let bomb = unpack(&gzip, pack(&[b' '; 100_000]), 1_024).expect_err("a bomb");
        assert_eq!(bomb.kind(), FaultKind::TooLarge);
        assert!(bomb.message().contains("1KiB are taken at most"), "{}", bomb.message());
        let broken = unpack(&gzip, Bytes::from_static(b"{}"), 9).expect_err("not packed");
        assert_eq!(broken.kind(), FaultKind::ParseError);
    }

    #[test]
    fn what_was_mended_says_why() {
        let with = |why: &str| {
            let mut headers = FieldTable::default();
            headers.insert(MENDED.into(), AMQPValue::LongString(why.into()));
            oddity(&BasicProperties::default().with_headers(headers), 1_024)
        };
        assert_eq!(with("not in UTF-8").expect("readable").as_deref(), Some("not in UTF-8"));
        let fault = with(&format!("{TOO_LARGE}5000")).expect_err("too large");
        assert_eq!(fault.kind(), FaultKind::TooLarge);
        assert!(fault.message().contains("is 5000 bytes"), "{}", fault.message());
        let fault = with(&format!("{NO_HEADERS}20000 bytes, and 16384 are taken at most"))
            .expect_err("too large");
        assert_eq!(fault.kind(), FaultKind::TooLarge);
        assert!(
            fault.message().contains("20000 bytes, and 16384 are taken"),
            "{}",
            fault.message()
        );
        assert_eq!(oddity(&BasicProperties::default(), 9).expect("nothing"), None);
    }

    proptest! {
        #[test]
        fn nothing_that_comes_in_is_a_panic(text in any::<Vec<u8>>()) {
            drop(read(&Bytes::from(text), None, false));
        }

        #[test]
        fn nearly_a_request_is_none_either(
            args in "[\\[\\]{}\",:a-z0-9 \\\\_]{0,20}",
            kwargs in "[\\[\\]{}\",:a-z0-9 \\\\_]{0,20}",
        ) {
            let text = format!(r#"{{"args":{args},"kwargs":{kwargs}}}"#);
            if let Ok(read) = read_text(&text) {
                let valid = serde_json::from_str::<serde_json::Value>(&text).is_ok();
                prop_assert!(valid || read.repaired || text.contains("\\"), "{}", text);
            }
        }
    }
}
