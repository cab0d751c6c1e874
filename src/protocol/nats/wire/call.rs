//! Calls of exposed services as they come in: the method by the subject, the params, and what travels
//! in headers (WIRE 2.1, CONTRACT 6). It is the mirror of `request`.
//!
//! What kills or silences a service is read here for what it is, or is a fault that names what is wrong.

use std::time::Duration;

use bytes::Bytes;

use super::block::{is_header_value, names};
use super::headers::Headers;
use super::request::is_falsy;
use super::subject::last_token;
use super::{Dialect, Message};
use crate::call::{Context, Params, Payload};
use crate::exposer::Credence;
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::{BadKey, IdempotencyKey};
use crate::json::REQUEST_DEPTH;
use crate::json::lexer::Container;
use crate::json::members::{Unreadable, foreign};
use crate::trace::TraceParent;
use crate::units::parse_patience;

/// A request that was read.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) struct Read {
    pub(in crate::protocol::nats) params: Params,
    /// By what its caller knows the answer, where the dialect has ids; JSON.
    pub(in crate::protocol::nats) id: Option<Bytes>,
    /// Whether `NaN` or `Infinity` had to become `null`.
    pub(in crate::protocol::nats) repaired: bool,
}

/// The method that a message to the service `name` asks for. In Picom it is the last token, whatever
/// stands before.
pub(in crate::protocol::nats) fn method<'a>(
    dialect: Dialect,
    message: &'a Message,
    name: &str,
) -> &'a str {
    let subject = std::str::from_utf8(&message.subject).unwrap_or_default();
    match dialect {
        Dialect::Picom => last_token(subject),
        Dialect::Plain | Dialect::Micro | Dialect::Nest => {
            let method = subject.strip_prefix(name).and_then(|rest| rest.strip_prefix('.'));
            method.unwrap_or_default()
        }
    }
}

/// What travels with a request. Credentials, and who the caller says it is, go on only where they may.
pub(in crate::protocol::nats) fn context(message: &Message, credence: Credence) -> Context {
    let headers = Headers::new(&message.headers);
    let text = |name: &str| {
        let value = headers.get(name)?;
        is_header_value(&value).then(|| value.into_owned())
    };
    let trace = headers.get(names::TRACE_PARENT).and_then(|trace| TraceParent::parse(&trace));
    let mut context = Context::new(trace.unwrap_or_else(TraceParent::generate));
    // A state without its trace is nobody's.
    context.trace_state = trace.and_then(|_| text(names::TRACE_STATE));
    context.request_id = text(names::REQUEST_ID);
    context.language = text(names::LANGUAGE);
    context.user_agent = text(names::USER_AGENT);
    if credence.credentials {
        context.authorization = text(names::AUTHORIZATION);
    }
    if credence.user {
        context.user_id = text(names::USER_ID);
    }
    let hops =
        headers.get(names::HOPS).and_then(|hops| hops.trim().parse::<u64>().ok()).unwrap_or(0);
    context.hops = u8::try_from(hops).unwrap_or(u8::MAX);
    context
}

/// How long the caller will wait, where it says so. What is no time, or none that is left, is refused as it
/// is over HTTP: nothing is done for nobody.
pub(in crate::protocol::nats) fn limit(message: &Message) -> Result<Option<Duration>, Fault> {
    let headers = Headers::new(&message.headers);
    let Some(said) = headers.get(names::REQUEST_TIMEOUT) else { return Ok(None) };
    let several = headers.has_several(names::REQUEST_TIMEOUT);
    let limit = parse_patience(said.trim()).filter(|_| !several);
    limit.map(Some).ok_or_else(|| {
        let message =
            "the header X-Request-Timeout must be one duration such as `800ms` or `5s`, more than none";
        Fault::not_sent(FaultKind::InvalidRequest, message)
    })
}

/// By what the caller knows its call again. Who it says that it is tells it apart from others.
pub(in crate::protocol::nats) fn idempotency_key(
    message: &Message,
) -> Result<Option<IdempotencyKey>, Fault> {
    let headers = Headers::new(&message.headers);
    let Some(key) = headers.get(names::IDEMPOTENCY_KEY) else { return Ok(None) };
    // Which of two it is, nobody can say.
    let key = if headers.has_several(names::IDEMPOTENCY_KEY) {
        Err(BadKey::Several)
    } else {
        IdempotencyKey::from_header(key.as_bytes())
    };
    let key = key.map_err(|bad| bad.fault("the header Idempotency-Key"))?;
    Ok(Some(key.claimed_by(headers.get(names::USER_ID).as_deref())))
}

/// Reads a body.
pub(in crate::protocol::nats) fn read(dialect: Dialect, body: &Bytes) -> Result<Read, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(Read { params: Params::None, id: None, repaired: false });
    }
    if dialect == Dialect::Nest {
        return nest(body);
    }
    let read = foreign(body, [], REQUEST_DEPTH).map_err(unreadable)?;
    let json = read.value;
    let params = match (dialect, read.members.container) {
        (_, Some(Container::Object)) => Params::Object(Payload::from_validated(json)),
        (Dialect::Picom, None) if is_falsy(&json) => return Err(falsy()),
        (Dialect::Picom, _) => one(&json),
        (_, Some(Container::Array)) => Params::Array(Payload::from_validated(json)),
        (_, None) if json == "null" => Params::None,
        (_, None) => one(&json),
    };
    Ok(Read { params, id: None, repaired: read.repaired })
}

/// Nest's envelope. What has neither a pattern nor data is all of it data, as Nest's servers have it; an
/// empty text is how its clients say nothing.
fn nest(body: &Bytes) -> Result<Read, Fault> {
    let names = ["pattern", "data", "id"];
    let read = foreign(body, names, REQUEST_DEPTH).map_err(unreadable)?;
    let [pattern, data, id] = read.members.values;
    let is_packet = pattern.is_some() || data.is_some();
    let data = if is_packet { data } else { Some(read.value) };
    let params = match data {
        None => Params::None,
        Some(data) => match data.first() {
            Some(b'{') => Params::Object(Payload::from_validated(data)),
            Some(b'[') => Params::Array(Payload::from_validated(data)),
            _ if data == "null" || data == "\"\"" => Params::None,
            _ => one(&data),
        },
    };
    let id = id.filter(|id| is_packet && id != "null");
    Ok(Read { params, id, repaired: read.repaired })
}

fn unreadable(why: Unreadable) -> Fault {
    match why {
        Unreadable::NotText => {
            Fault::not_sent(FaultKind::ParseError, "the message is not valid UTF-8")
        }
        Unreadable::NotJson => Fault::not_sent(FaultKind::ParseError, "the message is not JSON"),
        Unreadable::TooDeep => Fault::not_sent(
            FaultKind::InvalidRequest,
            format!("the message nests more than {REQUEST_DEPTH} levels deep"),
        ),
    }
}

/// Picom takes what JavaScript finds false for a broken request.
fn falsy() -> Fault {
    let message = "the message is null, false, 0 or an empty text, which Picom takes for a broken one: \
                   send an object, a list, a text or nothing";
    Fault::not_sent(FaultKind::InvalidRequest, message)
}

/// An array of one.
fn one(json: &[u8]) -> Params {
    Params::Array(Payload::from_validated([b"[", json, b"]"].concat().into()))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fault::Outcome;

    fn params_of(dialect: Dialect, body: &[u8]) -> Result<String, FaultKind> {
        let read = read(dialect, &Bytes::copy_from_slice(body));
        let text = |payload: &Payload| payload.as_str().to_owned();
        read.map_err(|fault| fault.kind()).map(|read| match read.params {
            Params::None => String::new(),
            Params::Array(array) => text(&array),
            Params::Object(object) => text(&object),
            Params::Both { .. } => panic!("a message has one sort of params"),
        })
    }

    #[test]
    fn messages_are_params() {
        use FaultKind::{InvalidRequest, ParseError};
        let deep = [[b'['; 129], [b']'; 129]].concat();
        let cases: [(&[u8], Result<&str, _>, Result<&str, _>); 16] = [
            (b"", Ok(""), Ok("")),
            (b" \r\n", Ok(""), Ok("")),
            (b" {\"a\":1.10,\"a\":2} ", Ok("{\"a\":1.10,\"a\":2}"), Ok("{\"a\":1.10,\"a\":2}")),
            (b"[1, 2]", Ok("[[1, 2]]"), Ok("[1, 2]")),
            (b"[]", Ok("[[]]"), Ok("[]")),
            (b"\"text\"", Ok("[\"text\"]"), Ok("[\"text\"]")),
            (b"7", Ok("[7]"), Ok("[7]")),
            (
                b"1180591620717411303424",
                Ok("[1180591620717411303424]"),
                Ok("[1180591620717411303424]"),
            ),
            (b"[NaN]", Ok("[[null]]"), Ok("[null]")),
            (b"null", Err(InvalidRequest), Ok("")),
            (b"0", Err(InvalidRequest), Ok("[0]")),
            (b"false", Err(InvalidRequest), Ok("[false]")),
            (b"\"\"", Err(InvalidRequest), Ok("[\"\"]")),
            (b"{\"a\":", Err(ParseError), Err(ParseError)),
            (b"\"ung\xfcltig\"", Err(ParseError), Err(ParseError)),
            (&deep, Err(InvalidRequest), Err(InvalidRequest)),
        ];
        for (body, picom, others) in cases {
            let shown = String::from_utf8_lossy(body);
            assert_eq!(params_of(Dialect::Picom, body).as_deref(), picom.as_deref(), "{shown}");
            for dialect in [Dialect::Plain, Dialect::Micro] {
                assert_eq!(params_of(dialect, body).as_deref(), others.as_deref(), "{shown}");
            }
        }
    }

    #[test]
    fn nests_packets() {
        for (body, params, id) in [
            (r#"{"pattern":"a.b","data":{"n":1.10},"id":"x"}"#, r#"{"n":1.10}"#, Some("\"x\"")),
            (r#"{"pattern":{"cmd":"a"},"data":[1,2],"id":"x"}"#, "[1,2]", Some("\"x\"")),
            (r#"{"data":7}"#, "[7]", None),
            (r#"{"pattern":"a.b","data":"","id":7}"#, "", Some("7")),
            (r#"{"pattern":"a.b","data":null}"#, "", None),
            (r#"{"pattern":"a.b"}"#, "", None),
            (r#"{"n":1,"id":"x"}"#, r#"{"n":1,"id":"x"}"#, None),
            ("[1]", "[1]", None),
            ("", "", None),
        ] {
            assert_eq!(params_of(Dialect::Nest, body.as_bytes()).as_deref(), Ok(params), "{body}");
            let found = read(Dialect::Nest, &body.into()).expect("readable").id;
            assert_eq!(found.as_deref(), id.map(str::as_bytes), "{body}");
        }
        assert_eq!(params_of(Dialect::Nest, b"{"), Err(FaultKind::ParseError));
    }

    #[test]
    fn methods_by_their_subjects() {
        for (subject, picom, others) in
            [("mailer.send", "send", "send"), ("mailer.a.b.m", "m", "a.b.m"), ("mailer.", "", "")]
        {
            let message = Message { subject: subject.into(), ..Message::default() };
            assert_eq!(method(Dialect::Picom, &message, "mailer"), picom, "{subject}");
            assert_eq!(method(Dialect::Plain, &message, "mailer"), others, "{subject}");
        }
        let odd = Message { subject: Bytes::from_static(b"mailer.\xff"), ..Message::default() };
        assert_eq!(method(Dialect::Picom, &odd, "mailer"), "");
    }

    #[test]
    fn headers_are_the_context() {
        const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let block = format!(
            "NATS/1.0\r\nTraceparent: {TRACE}\r\ntracestate: a=b\r\nX-Request-Id: r-1\r\n\
             Accept-Language: de\r\nUser-Agent: till/2\r\nAuthorization: Bearer geheim\r\n\
             X-User-Id: 7\r\nX-Request-Timeout: 250ms\r\nGenkan-Hops: 3\r\n\r\n"
        );
        let message = Message { headers: block.into(), ..Message::default() };
        let read = context(&message, Credence::NONE);
        assert_eq!((read.trace.as_str(), read.trace_state.as_deref()), (TRACE, Some("a=b")));
        assert_eq!(
            (read.request_id.as_deref(), read.language.as_deref()),
            (Some("r-1"), Some("de"))
        );
        assert_eq!((read.user_agent.as_deref(), read.hops), (Some("till/2"), 3));
        assert_eq!((read.authorization, read.user_id), (None, None));
        let read = context(&message, Credence::ALL);
        assert_eq!(read.authorization.as_deref(), Some("Bearer geheim"));
        assert_eq!(read.user_id.as_deref(), Some("7"));
        assert_eq!(limit(&message).ok().flatten(), Some(Duration::from_millis(250)));
    }

    #[test]
    fn a_time_limit_is_one_duration() {
        for said in ["soon", "0", "0ms", "-5ms", "", "5s\r\nX-Request-Timeout: 6s"] {
            let block = format!("NATS/1.0\r\nX-Request-Timeout: {said}\r\n\r\n");
            let fault = limit(&Message { headers: block.into(), ..Message::default() });
            let fault = fault.expect_err(said);
            assert_eq!(
                (fault.kind(), fault.outcome()),
                (FaultKind::InvalidRequest, Outcome::NotSent)
            );
            assert!(fault.message().contains("X-Request-Timeout"), "{}", fault.message());
        }
        for said in ["25h", "2147483647ms"] {
            let block = format!("NATS/1.0\r\nX-Request-Timeout: {said}\r\n\r\n");
            let limit = limit(&Message { headers: block.into(), ..Message::default() });
            let day = Duration::from_secs(86_400);
            assert!(limit.ok().flatten().is_some_and(|limit| limit >= day), "{said}");
        }
    }

    #[test]
    fn headers_that_say_nothing_are_none() {
        let block: &[u8] =
            b"NATS/1.0\r\ntraceparent: 00-no\r\ntracestate: a=b\r\nAccept-Language: \xfc\r\n\
            User-Agent: a\tb\r\nGenkan-Hops: 99999\r\n\r\n";
        let message = Message { headers: Bytes::from_static(block), ..Message::default() };
        let read = context(&message, Credence::NONE);
        assert_eq!((read.trace_state, read.user_agent, read.hops), (None, None, u8::MAX));
        assert_eq!(read.language.as_deref(), Some("\u{fc}"), "Latin-1");
        assert!(limit(&message).is_ok_and(|limit| limit.is_none()));
        let read = context(&Message::default(), Credence::NONE);
        assert_eq!((read.hops, read.request_id), (0, None));
    }
}
