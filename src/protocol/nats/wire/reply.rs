//! Replies: which dialect reads one, and what holds for all of them. Picom's and micro's own ways to
//! say an error are in their files.

use bytes::Bytes;

use super::block::names;
use super::headers::Headers;
use super::{Dialect, Message, micro, nest, picom, told};
use crate::call::{Payload, Reply, Request};
use crate::fault::{Fault, FaultKind, Outcome};
use crate::json::members::{Unreadable, foreign};
use crate::json::{self, REPLY_DEPTH};
use crate::trace::TraceParent;

/// The status of a reply that the server gives, because nobody listens.
const NO_RESPONDERS: u16 = 503;

/// What a reply says. The result is a part of the message's own bytes, unless it had to be
/// repaired, which sets `repaired`.
pub(in crate::protocol::nats) fn decode(
    dialect: Dialect,
    request: &Request<'_>,
    message: Message,
    repaired: &mut bool,
) -> Result<Reply, Fault> {
    if is_no_responders(&message) {
        return Err(no_responders(request));
    }
    let block = message.headers;
    let headers = Headers::new(&block);
    let body = &message.payload;
    // Nest's has it in its envelope.
    if dialect != Dialect::Nest
        && let Some(fault) = told::read(headers, &message.subject, body)
    {
        return Err(fault);
    }
    let payload = match dialect {
        Dialect::Picom => picom::result(request, body, repaired)?,
        Dialect::Nest => nest::result(request, (headers, &message.subject), body, repaired)?,
        Dialect::Plain | Dialect::Micro => match micro::error(headers, body) {
            Some(fault) => return Err(fault),
            None => plain(request, body, repaired)?,
        },
    };
    let trace = headers.get(names::TRACE_PARENT);
    Ok(Reply { payload, trace: trace.and_then(|trace| TraceParent::parse(&trace)) })
}

/// Whether the server itself has answered, because nobody listens.
pub(in crate::protocol::nats) fn is_no_responders(message: &Message) -> bool {
    message.payload.is_empty() && Headers::new(&message.headers).status() == Some(NO_RESPONDERS)
}

fn no_responders(request: &Request<'_>) -> Fault {
    let (service, method) = (request.service, request.method);
    let message = match request.subject {
        Some(subject) => format!(
            "nobody on this NATS listens to `{subject}`, where `{service}.{method}` is to be: is \
             `{service}` running, and does it listen there?"
        ),
        None => {
            format!("nobody on this NATS listens to `{service}.{method}`: is `{service}` running?")
        }
    };
    Fault::not_sent(FaultKind::UnknownService, message)
}

fn plain(request: &Request<'_>, body: &Bytes, repaired: &mut bool) -> Result<Payload, Fault> {
    if body.trim_ascii().is_empty() {
        return Ok(Payload::NULL);
    }
    let read = foreign(body, [], REPLY_DEPTH).map_err(|why| unreadable(request, body, why))?;
    *repaired = read.repaired;
    Ok(Payload::from_validated(read.value))
}

/// Which rule the reply breaks, without the parser's own words.
pub(super) fn unreadable(request: &Request<'_>, body: &[u8], why: Unreadable) -> Fault {
    let what = match why {
        Unreadable::TooDeep => format!("is nested more than {REPLY_DEPTH} levels deep"),
        Unreadable::NotText | Unreadable::NotJson => {
            format!("is not JSON from byte {} on", json::broken_at(body))
        }
    };
    bad_reply(request, &what)
}

pub(super) fn bad_reply(request: &Request<'_>, what: &str) -> Fault {
    let (service, method) = (request.service, request.method);
    Fault::new(
        FaultKind::Internal,
        Outcome::Executed,
        format!("`{service}` broke its protocol: its reply to `{service}.{method}` {what}"),
    )
}

#[cfg(test)]
mod tests {
    use super::super::testing::{Sample, decoded, reply_with, result};
    use super::*;
    use crate::call::Params;
    use crate::json::walks::bytes_walked;

    #[test]
    fn nesting_is_limited() {
        let nest = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
        let picom = |part: &str| result(Dialect::Picom, &format!(r#"{{"{part}":{}}}"#, nest(512)));
        assert_eq!(picom("payload").ok(), Some(nest(512)));
        assert_eq!(picom("error").unwrap_err().kind(), FaultKind::Application);
        assert_eq!(result(Dialect::Plain, &nest(512)).ok(), Some(nest(512)));
        for depth in [513, 100_000] {
            let deep = nest(depth);
            for (dialect, body) in [
                (Dialect::Picom, format!(r#"{{"payload":{deep}}}"#)),
                (Dialect::Picom, format!(r#"{{"error":{deep}}}"#)),
                (Dialect::Plain, deep.clone()),
                (Dialect::Micro, deep),
            ] {
                let fault = result(dialect, &body).expect_err("too deep");
                assert_eq!(
                    (fault.kind(), fault.outcome()),
                    (FaultKind::Internal, Outcome::Executed)
                );
                assert!(fault.message().contains("more than 512 levels"), "{}", fault.message());
            }
        }
    }

    #[test]
    fn a_reply_is_walked_once() {
        let plain = r#" {"a":[1,"\"",{"b":null}]} "#;
        let picom = format!(r#"{{"payload":{plain},"error":null}}"#);
        for (dialect, body) in
            [(Dialect::Plain, plain), (Dialect::Micro, plain), (Dialect::Picom, &picom)]
        {
            let (result, walked) = bytes_walked(|| result(dialect, body));
            assert_eq!((result.ok().as_deref(), walked), (Some(plain.trim()), body.len()));
        }
    }

    #[test]
    fn replies_that_are_none() {
        let picom: [(&[u8], &str); 10] = [
            (b"", "is empty"),
            (b" \n", "is empty"),
            (b"null", "is not a JSON object"),
            (b"0", "is not a JSON object"),
            (b"[1]", "is not a JSON object"),
            (b"\"s\"", "is not a JSON object"),
            (b"{\"payload\":", "is not JSON"),
            (b"{\"payload\":1}x", "is not JSON"),
            (b"{\"payload\":\"\xff\"}", "is not JSON"),
            (b"oops", "is not JSON"),
        ];
        let plain: [(&[u8], &str); 3] =
            [(b"oops", "is not JSON"), (b"1 2", "is not JSON"), (b"\"\xff\"", "is not JSON")];
        let cases = picom.map(|case| (Dialect::Picom, case)).into_iter();
        let others = plain.map(|case| (Dialect::Plain, case)).into_iter();
        for (dialect, (body, what)) in cases.chain(others) {
            let fault = decoded(dialect, reply_with(body, &[])).expect_err("no reply");
            assert_eq!((fault.kind(), fault.outcome()), (FaultKind::Internal, Outcome::Executed));
            let message = fault.message();
            assert!(message.contains("`mailer`") && message.contains(what), "{message}");
            assert!(!message.contains("line"), "a parser's words: {message}");
        }
        let fault = decoded(Dialect::Plain, reply_with(b"[1, x]", &[])).expect_err("no JSON");
        assert!(fault.message().ends_with("byte 5 on"), "{}", fault.message());
    }

    #[test]
    fn python_numbers_are_repaired_and_told() {
        for dialect in [Dialect::Plain, Dialect::Micro] {
            for (body, expected, repairs) in [
                (r#"[NaN, 1, -Infinity, "NaN"]"#, Some(r#"[null, 1, null, "NaN"]"#), true),
                (" Infinity ", Some("null"), true),
                (r#"["NaN"]"#, Some(r#"["NaN"]"#), false),
                ("[NaN", None, false),
            ] {
                let (sample, mut repaired) = (Sample::new(Params::None), false);
                let message = reply_with(body.as_bytes(), &[]);
                let reply = decode(dialect, &sample.request(), message, &mut repaired);
                let found = reply.ok().map(|reply| reply.payload.as_str().to_owned());
                assert_eq!((found.as_deref(), repaired), (expected, repairs), "{body}");
            }
        }
    }

    #[test]
    fn a_python_service_behind_picom_is_repaired_too() {
        for (body, expected, repairs) in [
            (r#"{"payload":[NaN,1,"NaN"]}"#, Some(r#"[null,1,"NaN"]"#), true),
            (r#"{"payload":-Infinity,"error":null}"#, Some("null"), true),
            (r#"{"payload":1,"error":NaN}"#, Some("1"), true),
            (r#"{"payload":NaN"#, None, false),
        ] {
            let (sample, mut repaired) = (Sample::new(Params::None), false);
            let message = reply_with(body.as_bytes(), &[]);
            let reply = decode(Dialect::Picom, &sample.request(), message, &mut repaired);
            let found = reply.ok().map(|reply| reply.payload.as_str().to_owned());
            assert_eq!((found.as_deref(), repaired), (expected, repairs), "{body}");
        }
    }

    #[test]
    fn plain_and_micro_results() {
        for dialect in [Dialect::Plain, Dialect::Micro] {
            for (body, expected) in [
                ("", "null"),
                (" \r\n ", "null"),
                (" 1.10\n", "1.10"),
                (r#"{"error":"e"}"#, r#"{"error":"e"}"#),
                (r#"{"payload":1}"#, r#"{"payload":1}"#),
                ("\"\\ud800\"", "\"\\ud800\""),
            ] {
                let found = result(dialect, body).map_err(|fault| fault.message().to_owned());
                assert_eq!(found.as_deref(), Ok(expected), "{body:?}");
            }
        }
    }

    #[test]
    fn no_responders_are_an_unknown_service() {
        for dialect in [Dialect::Picom, Dialect::Plain, Dialect::Micro] {
            let headers = Bytes::from_static(b"NATS/1.0 503\r\n\r\n");
            let message = Message { headers, ..Message::default() };
            let fault = decoded(dialect, message).expect_err("nobody is there");
            assert_eq!(fault.kind(), FaultKind::UnknownService);
            assert_eq!(fault.outcome(), Outcome::NotSent);
            assert!(fault.message().contains("mailer.send"));
        }
    }

    #[test]
    fn a_trace_comes_back() {
        let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        for (header, expected) in [(trace, Some(trace)), ("nonsense", None)] {
            let message = reply_with(b"{}", &[("traceparent", header)]);
            let reply = decoded(Dialect::Picom, message).expect("a result");
            assert_eq!(reply.trace.as_ref().map(TraceParent::as_str), expected);
        }
    }
}
