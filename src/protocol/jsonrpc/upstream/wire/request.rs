//! What is sent: one request, never a batch, with an id that no quirk of a service meets (WIRE 4.7).

use std::borrow::Cow;

use bytes::Bytes;
use http::header::{self, HeaderName};

use crate::call::{Params, Payload, Request, is_plain_name};
use crate::fault::Fault;
use crate::params;

const TRACEPARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACESTATE: HeaderName = HeaderName::from_static("tracestate");
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const REQUEST_TIMEOUT: HeaderName = HeaderName::from_static("x-request-timeout");
const USER_ID: HeaderName = HeaderName::from_static("x-user-id");
const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
const HOPS: HeaderName = HeaderName::from_static("genkan-hops");

/// The body of a call; without an id, of a notification. `qualified` says whether the method has
/// its service's name before it.
pub(in super::super) fn message(
    request: &Request<'_>,
    qualified: bool,
    id: Option<u64>,
) -> Result<Bytes, Fault> {
    let merged;
    let params = match request.params {
        Params::None => None,
        Params::Array(params) | Params::Object(params) => Some(params.as_bytes()),
        Params::Both { positional, named } => {
            let called = format_args!("{}.{}", request.service, request.method);
            let names = request.param_names;
            merged = params::merged(called, names, positional.as_str(), named.as_str())?;
            Some(merged.as_bytes())
        }
    };
    let length = params.map_or(0, <[u8]>::len) + request.service.len() + request.method.len();
    let mut out = Vec::with_capacity(length + 80);
    out.extend_from_slice(br#"{"jsonrpc":"2.0","method":"#);
    if qualified {
        write_name(&mut out, &[request.service, ".", request.method]);
    } else {
        write_name(&mut out, &[request.method]);
    }
    if let Some(params) = params {
        out.extend_from_slice(br#","params":"#);
        out.extend_from_slice(params);
    }
    if let Some(id) = id {
        out.extend_from_slice(br#","id":"#);
        out.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
    }
    out.push(b'}');
    Ok(Bytes::from(out))
}

fn write_name(out: &mut Vec<u8>, parts: &[&str]) {
    if !parts.iter().all(|part| *part == "." || is_plain_name(part)) {
        out.extend_from_slice(Payload::from_text(&parts.concat()).as_bytes());
        return;
    }
    out.push(b'"');
    parts.iter().for_each(|part| out.extend_from_slice(part.as_bytes()));
    out.push(b'"');
}

/// Gives what travels with a call, header by header.
pub(in super::super) fn context<'a>(
    request: &Request<'a>,
    mut put: impl FnMut(HeaderName, Cow<'a, str>),
) {
    let context = request.context;
    let remaining = request.deadline.remaining().as_millis();
    let millis = u64::try_from(remaining).unwrap_or(u64::MAX).max(1);
    let mut digits = itoa::Buffer::new();
    put(TRACEPARENT, context.trace.as_str().into());
    put(REQUEST_TIMEOUT, [digits.format(millis), "ms"].concat().into());
    put(HOPS, digits.format(context.next_hop()).to_owned().into());
    if let Some(key) = &context.idempotency_key {
        put(IDEMPOTENCY_KEY, key.to_header());
    }
    for (name, value) in [
        (TRACESTATE, &context.trace_state),
        (REQUEST_ID, &context.request_id),
        (header::ACCEPT_LANGUAGE, &context.language),
        (header::USER_AGENT, &context.user_agent),
        (header::AUTHORIZATION, &context.authorization),
        (USER_ID, &context.user_id),
    ] {
        if let Some(value) = value.as_deref().filter(|value| !value.is_empty()) {
            put(name, value.into());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::call::{Context, Deadline};
    use crate::trace::TraceParent;

    fn payload(json: &str) -> Payload {
        Payload::from_validated(Bytes::from(json.to_owned()))
    }

    fn made(
        name: (&str, &str),
        params: Params,
        qualified: bool,
        id: Option<u64>,
    ) -> Result<String, String> {
        let context = Context::new(TraceParent::generate());
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(5));
        let request = Request::new(name, &params, &context, deadline);
        let message = message(&request, qualified, id);
        message
            .map(|bytes| String::from_utf8(bytes.to_vec()).expect("UTF-8"))
            .map_err(|fault| fault.message().to_owned())
    }

    #[test]
    fn bodies() {
        let call = ("a.b", "f");
        let odd = payload(r#"{"b":1180591620717411303424,"a":1e400,"b":"\ud800"}"#);
        for (name, params, qualified, id, expected) in [
            (call, Params::None, false, Some(1), r#"{"jsonrpc":"2.0","method":"f","id":1}"#),
            (call, Params::None, true, None, r#"{"jsonrpc":"2.0","method":"a.b.f"}"#),
            (
                call,
                Params::Array(payload("[1, 2]")),
                false,
                Some(u64::MAX),
                r#"{"jsonrpc":"2.0","method":"f","params":[1, 2],"id":18446744073709551615}"#,
            ),
            (
                ("a", "f\"\u{e9}"),
                Params::Object(odd),
                false,
                Some(7),
                r#"{"jsonrpc":"2.0","method":"f\"é","params":{"b":1180591620717411303424,"a":1e400,"b":"\ud800"},"id":7}"#,
            ),
        ] {
            assert_eq!(made(name, params, qualified, id).as_deref(), Ok(expected));
        }
        let both = Params::Both { positional: payload("[1]"), named: payload(r#"{"a":1}"#) };
        assert!(made(call, both, false, Some(1)).expect_err("no names").contains("`params`"));
    }

    #[test]
    fn the_context_travels_in_headers() {
        let mut travels = Context::new(TraceParent::generate());
        travels.trace_state = Some("a=b".to_owned());
        travels.request_id = Some("r-1".to_owned());
        travels.language = Some("de".to_owned());
        travels.user_agent = Some("curl/8".to_owned());
        travels.authorization = Some("Bearer geheim".to_owned());
        travels.user_id = Some("7".to_owned());
        travels.hops = 3;
        let deadline = Deadline::after(Instant::now(), Duration::from_secs(3600));
        let request = Request::new(("a", "f"), &Params::None, &travels, deadline);
        let mut found = std::collections::BTreeMap::new();
        context(&request, |name, value| {
            found.insert(name.as_str().to_owned(), value.into_owned());
        });
        let timeout = found.remove("x-request-timeout").expect("a timeout");
        assert!(timeout.starts_with("35") && timeout.ends_with("ms"), "{timeout}");
        assert_eq!(found.remove("traceparent").as_deref(), Some(travels.trace.as_str()));
        let rest: Vec<_> =
            found.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        assert_eq!(
            rest,
            [
                ("accept-language", "de"),
                ("authorization", "Bearer geheim"),
                ("genkan-hops", "4"),
                ("tracestate", "a=b"),
                ("user-agent", "curl/8"),
                ("x-request-id", "r-1"),
                ("x-user-id", "7"),
            ]
        );
    }
}
