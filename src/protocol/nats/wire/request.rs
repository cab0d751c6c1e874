//! Requests: the subject, the message, the headers, and what is refused before it is sent.

use std::borrow::Cow;
use std::time::Duration;

use bytes::Bytes;
use serde::Deserialize;
use serde_json::value::RawValue;

use super::{Dialect, nest};
use crate::call::{Context, Params, Payload, Request, is_plain_name};
use crate::fault::{Fault, FaultKind};
use crate::params;

/// A NATS server ends a connection whose control line is over 4 KiB. The line holds the subject,
/// the reply subject and two numbers.
const LONGEST_SUBJECT: usize = 1024;

/// The members of JavaScript's Object.prototype. A Picom service finds them as handlers, calls
/// them, and dies (WIRE, section 2.3).
const OBJECT_PROTOTYPE: [&str; 12] = [
    "constructor",
    "toString",
    "toLocaleString",
    "valueOf",
    "hasOwnProperty",
    "isPrototypeOf",
    "propertyIsEnumerable",
    "__proto__",
    "__defineGetter__",
    "__defineSetter__",
    "__lookupGetter__",
    "__lookupSetter__",
];

/// A call that was refused because it would harm a peer.
#[derive(Debug)]
pub(in crate::protocol::nats) struct Unsendable {
    /// For the metric.
    pub(in crate::protocol::nats) reason: &'static str,
    /// For the caller.
    pub(in crate::protocol::nats) fault: Fault,
}

/// The subject of a call: its row's, or `service.method`. `inbox_prefix` is where replies come in:
/// nobody may call there.
pub(in crate::protocol::nats) fn subject(
    dialect: Dialect,
    inbox_prefix: &str,
    request: &Request<'_>,
) -> Result<String, Unsendable> {
    let subject = match request.subject {
        Some(subject) => written(dialect, subject),
        None => [request.service, ".", request.method].concat(),
    };
    if let Some((reason, flaw)) = flaw(&subject, inbox_prefix) {
        let message = format!("{} cannot be called over NATS: {flaw}", shown(&subject));
        return Err(Unsendable {
            reason,
            fault: Fault::not_sent(FaultKind::InvalidRequest, message),
        });
    }
    let method = last_token(&subject);
    if dialect == Dialect::Picom && OBJECT_PROTOTYPE.contains(&method) {
        let message = format!(
            "method not found: {} is a member of every JavaScript object, and calling it would \
             end the Picom service",
            shown(method)
        );
        let fault = Fault::not_sent(FaultKind::UnknownMethod, message);
        return Err(Unsendable { reason: "object_prototype", fault });
    }
    Ok(subject)
}

/// The subject that somebody wrote into a row: in Nest it may be an object.
pub(in crate::protocol::nats) fn written(dialect: Dialect, subject: &str) -> String {
    if dialect == Dialect::Nest { nest::subject(subject) } else { subject.to_owned() }
}

/// The token that Picom takes as the method.
pub(super) fn last_token(subject: &str) -> &str {
    subject.rsplit_once('.').map_or(subject, |(_, last)| last)
}

/// Why a subject must not be published to: the metric's reason, and the words for a person.
pub(super) fn flaw(subject: &str, inbox_prefix: &str) -> Option<(&'static str, &'static str)> {
    if subject.len() > LONGEST_SUBJECT {
        return Some(("long_subject", "its name is longer than 1024 bytes"));
    }
    if !is_plain_name(subject) {
        if subject.bytes().any(|b| matches!(b, b'*' | b'>')) {
            return Some(("wildcard", "its name holds a wildcard, `*` or `>`"));
        }
        let blank = |c: char| c.is_control() || c.is_whitespace();
        if subject.contains(blank) {
            return Some(("blank", "its name holds a blank or a control character"));
        }
        if subject.split('.').any(str::is_empty) {
            return Some(("empty_token", "its name has nothing between two dots, or at an end"));
        }
    }
    let in_inbox = |rest: &str| rest.is_empty() || rest.starts_with('.');
    if subject.starts_with('$')
        || subject.starts_with("_INBOX")
        || subject.strip_prefix(inbox_prefix).is_some_and(in_inbox)
    {
        return Some(("system_subject", "its name belongs to NATS itself"));
    }
    None
}

/// A caller's words in a message: quoted, without control characters, cut short.
fn shown(name: &str) -> String {
    let mut short: String = name.chars().take(80).flat_map(char::escape_debug).collect();
    if name.chars().nth(80).is_some() {
        short.push('…');
    }
    format!("`{short}`")
}

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

/// What travels beside a call, by the names of HTTP's headers where there are any.
pub(super) mod names {
    pub(in super::super) const TRACE_PARENT: &str = "traceparent";
    pub(in super::super) const TRACE_STATE: &str = "tracestate";
    pub(in super::super) const REQUEST_TIMEOUT: &str = "X-Request-Timeout";
    pub(in super::super) const HOPS: &str = "Genkan-Hops";
    pub(in super::super) const REQUEST_ID: &str = "X-Request-Id";
    pub(in super::super) const LANGUAGE: &str = "Accept-Language";
    pub(in super::super) const USER_AGENT: &str = "User-Agent";
    pub(in super::super) const AUTHORIZATION: &str = "Authorization";
    pub(in super::super) const USER_ID: &str = "X-User-Id";
    pub(in super::super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
}

/// A header: its name, and its value without control characters.
pub(super) type HeaderRow<'a> = (&'static str, Cow<'a, str>);

/// A block without headers.
pub(in crate::protocol::nats) const NO_HEADERS: &str = "NATS/1.0\r\n\r\n";

/// The block of a request's headers.
pub(in crate::protocol::nats) fn headers(request: &Request<'_>) -> String {
    block(rows(request.context, request.deadline.remaining()))
}

/// A block of headers.
pub(super) fn block<'a>(rows: impl Iterator<Item = HeaderRow<'a>>) -> String {
    let mut block = String::with_capacity(256);
    block.push_str("NATS/1.0\r\n");
    for (name, value) in rows {
        block.push_str(name);
        block.push_str(": ");
        block.push_str(&value);
        block.push_str("\r\n");
    }
    block.push_str("\r\n");
    block
}

/// The headers of a request, one by one.
fn rows<'a>(context: &'a Context, remaining: Duration) -> impl Iterator<Item = HeaderRow<'a>> {
    let millis = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut digits = itoa::Buffer::new();
    let timeout = [digits.format(millis), "ms"].concat();
    let required = [
        trace(context),
        (names::REQUEST_TIMEOUT, Cow::Owned(timeout)),
        (names::HOPS, Cow::Owned(context.next_hop().to_string())),
    ];
    let key = context.idempotency_key.as_ref();
    let key = key.map(|key| (names::IDEMPOTENCY_KEY, key.to_header()));
    required.into_iter().chain(given(context)).chain(key)
}

/// What travels with calls and events alike.
pub(super) fn travelling(context: &Context) -> impl Iterator<Item = HeaderRow<'_>> {
    std::iter::once(trace(context)).chain(given(context))
}

fn trace(context: &Context) -> HeaderRow<'_> {
    (names::TRACE_PARENT, Cow::Borrowed(context.trace.as_str()))
}

/// What a context has, and has not to have.
fn given(context: &Context) -> impl Iterator<Item = HeaderRow<'_>> {
    let optional = [
        (names::TRACE_STATE, &context.trace_state),
        (names::REQUEST_ID, &context.request_id),
        (names::LANGUAGE, &context.language),
        (names::USER_AGENT, &context.user_agent),
        (names::AUTHORIZATION, &context.authorization),
        (names::USER_ID, &context.user_id),
    ];
    optional.into_iter().filter_map(|(name, value)| {
        let value = value.as_deref().filter(|value| is_header_value(value))?;
        Some((name, Cow::Borrowed(value)))
    })
}

/// A line break in a value would begin a header of the caller's making.
pub(super) fn is_header_value(value: &str) -> bool {
    !value.is_empty() && !value.contains(char::is_control)
}

/// A request's headers as an operator may see them.
pub(in crate::protocol::nats) fn describe(request: &Request<'_>) -> Vec<(String, String)> {
    let rows = rows(request.context, request.deadline.remaining());
    rows.map(|(name, value)| {
        let value = if name == names::AUTHORIZATION { Cow::Borrowed("***") } else { value };
        (name.to_owned(), value.into_owned())
    })
    .collect()
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;
    use crate::trace::TraceParent;

    #[test]
    fn subjects() {
        for (service, method, expected) in [
            ("mailer", "send", Ok("mailer.send")),
            ("a.b.c", "d", Ok("a.b.c.d")),
            ("カート", "追加", Ok("カート.追加")),
            ("mailer", "s*", Err("wildcard")),
            ("*", "send", Err("wildcard")),
            ("mailer", ">", Err("wildcard")),
            ("mailer", "se nd", Err("blank")),
            ("mailer", "send\r\nPUB x 0", Err("blank")),
            ("mailer", "send\t", Err("blank")),
            ("mailer", "send\0", Err("blank")),
            ("mailer", "send\u{7f}", Err("blank")),
            ("mailer", "send\u{a0}", Err("blank")),
            ("mailer", "send\u{2028}", Err("blank")),
            ("", "send", Err("empty_token")),
            ("mailer", "", Err("empty_token")),
            (".mailer", "send", Err("empty_token")),
            ("mail..er", "send", Err("empty_token")),
            ("mailer.", "send", Err("empty_token")),
            ("$SRV", "PING", Err("system_subject")),
            ("$SYS.REQ", "USER", Err("system_subject")),
            ("$JS.API", "INFO", Err("system_subject")),
            ("$other", "x", Err("system_subject")),
            ("_INBOX.abc", "1", Err("system_subject")),
            ("_INBOX_other", "1", Err("system_subject")),
            ("own.inbox", "1", Err("system_subject")),
            ("own.inboxes", "1", Ok("own.inboxes.1")),
            ("mailer.$SYS", "x", Ok("mailer.$SYS.x")),
        ] {
            let mut sample = Sample::new(Params::None);
            (sample.service, sample.method) = (service.to_owned(), method.to_owned());
            for dialect in [Dialect::Picom, Dialect::Plain, Dialect::Micro] {
                let made = subject(dialect, "own.inbox", &sample.request());
                let found = made.as_deref().map_err(|refusal| refusal.reason);
                assert_eq!(found, expected, "{service:?} {method:?}");
                let Err(refusal) = made else { continue };
                assert_eq!(refusal.fault.kind(), FaultKind::InvalidRequest);
                assert_eq!(refusal.fault.outcome().as_str(), "not_sent");
                assert!(!refusal.fault.message().contains(char::is_control));
            }
        }
    }

    #[test]
    fn a_subject_fits_the_control_line() {
        let mut sample = Sample::new(Params::None);
        sample.service = "s".repeat(5000);
        let refusal =
            subject(Dialect::Plain, "_INBOX", &sample.request()).expect_err("it is too long");
        assert_eq!(refusal.reason, "long_subject");
        assert!(refusal.fault.message().len() < 200);
    }

    #[test]
    fn members_of_every_object_never_reach_picom() {
        for member in OBJECT_PROTOTYPE {
            for (service, method) in [("mailer", member), ("mailer", &format!("a.{member}"))] {
                let mut sample = Sample::new(Params::None);
                (sample.service, sample.method) = (service.to_owned(), method.to_owned());
                let request = sample.request();
                let refusal = subject(Dialect::Picom, "_INBOX", &request).expect_err("refused");
                assert_eq!(refusal.reason, "object_prototype");
                assert_eq!(refusal.fault.kind(), FaultKind::UnknownMethod);
                assert_eq!(refusal.fault.outcome().as_str(), "not_sent");
                assert!(subject(Dialect::Plain, "_INBOX", &request).is_ok());
                assert!(subject(Dialect::Micro, "_INBOX", &request).is_ok());
            }
        }
    }

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

    #[test]
    fn header_rows() {
        let trace = TraceParent::generate();
        let mut context = Context::new(trace);
        let found: Vec<_> = rows(&context, Duration::from_micros(800_900)).collect();
        let expected = [
            ("traceparent", trace.as_str().into()),
            ("X-Request-Timeout", "800ms".into()),
            ("Genkan-Hops", "1".into()),
        ];
        assert_eq!(found, expected);

        context.trace_state = Some("a=b".to_owned());
        context.request_id = Some("r-1".to_owned());
        context.language = Some("de, ja;q=0.5".to_owned());
        context.user_agent = Some("curl\r\nX-User-Id: root".to_owned());
        context.authorization = Some("Bearer geheim".to_owned());
        context.user_id = Some(String::new());
        let found: Vec<_> = rows(&context, Duration::ZERO).skip(1).collect();
        let expected: [HeaderRow<'_>; 6] = [
            ("X-Request-Timeout", "1ms".into()),
            ("Genkan-Hops", "1".into()),
            ("tracestate", "a=b".into()),
            ("X-Request-Id", "r-1".into()),
            ("Accept-Language", "de, ja;q=0.5".into()),
            ("Authorization", "Bearer geheim".into()),
        ];
        assert_eq!(found, expected);

        let mut sample = Sample::new(Params::None);
        sample.context = context;
        let shown = describe(&sample.request());
        assert!(shown.contains(&("Authorization".to_owned(), "***".to_owned())));
        assert!(!format!("{shown:?}").contains("geheim"));
    }

    #[test]
    fn the_block_of_headers() {
        let mut sample = Sample::new(Params::None);
        sample.context.language = Some("de".to_owned());
        let block = headers(&sample.request());
        let trace = sample.context.trace;
        let begin = format!("NATS/1.0\r\ntraceparent: {}\r\nX-Request-Timeout: ", trace.as_str());
        assert!(block.starts_with(&begin), "{block}");
        assert!(block.ends_with("ms\r\nGenkan-Hops: 1\r\nAccept-Language: de\r\n\r\n"), "{block}");
    }

    proptest::proptest! {
        #[test]
        fn whatever_a_caller_writes_is_one_subject_or_refused(name in "\\PC{0,12}|[a.$*> _-]{0,9}") {
            let mut sample = Sample::new(Params::None);
            sample.service = name;
            if let Ok(subject) = subject(Dialect::Picom, "_INBOX", &sample.request()) {
                let tokens_are_whole = subject.split('.').all(|token| !token.is_empty());
                proptest::prop_assert!(tokens_are_whole);
                let harmless = !subject.contains([' ', '\r', '\n', '\t', '*', '>']);
                proptest::prop_assert!(harmless && !subject.starts_with('$'));
            }
        }

        #[test]
        fn a_single_param_keeps_its_bytes(text: String, space in "[ \t\n\r]{0,3}") {
            let element = serde_json::to_string(&text).unwrap();
            let params = Params::Array(payload(&format!("[{space}{element}{space}]")));
            let made = made(Dialect::Plain, params, &[]);
            proptest::prop_assert_eq!(made, Ok(element));
        }
    }
}
