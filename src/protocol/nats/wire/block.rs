//! The headers that go out with a call or an event.

use std::fmt::{self, Write};
use std::time::Duration;

use crate::call::{Context, Request};

/// What travels beside a call, by the names of HTTP's headers where there are any.
pub(super) mod names {
    pub(in super::super) const TRACE_PARENT: &str = "traceparent";
    pub(in super::super) const TRACE_STATE: &str = "tracestate";
    pub(in super::super) const REQUEST_TIMEOUT: &str = "X-Request-Timeout";
    pub(in super::super) const HOPS: &str = "Genkan-Hops";
    pub(in super::super) const EVENT_ID: &str = "Genkan-Event-Id";
    pub(in super::super) const REQUEST_ID: &str = "X-Request-Id";
    pub(in super::super) const LANGUAGE: &str = "Accept-Language";
    pub(in super::super) const USER_AGENT: &str = "User-Agent";
    pub(in super::super) const AUTHORIZATION: &str = "Authorization";
    pub(in super::super) const USER_ID: &str = "X-User-Id";
    pub(in super::super) const IDEMPOTENCY_KEY: &str = "Idempotency-Key";
}

/// A block without headers.
pub(in crate::protocol::nats) const NO_HEADERS: &str = "NATS/1.0\r\n\r\n";

/// A block of headers, which are written one after the other.
pub(super) struct Block(String);

impl Block {
    pub(super) fn new() -> Self {
        let mut text = String::with_capacity(256);
        text.push_str("NATS/1.0\r\n");
        Self(text)
    }

    /// Writes one, whose value has no control characters.
    pub(super) fn push(&mut self, name: &str, value: &str) {
        for part in [name, ": ", value, "\r\n"] {
            self.0.push_str(part);
        }
    }

    /// The same with a value that is put together.
    pub(super) fn push_args(&mut self, name: &str, value: fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        write!(self.0, "{name}: {value}\r\n").unwrap_or_default();
    }

    /// All that were written.
    pub(super) fn end(mut self) -> String {
        self.0.push_str("\r\n");
        self.0
    }
}

/// The block of a request's headers.
pub(in crate::protocol::nats) fn headers(request: &Request<'_>) -> String {
    let mut block = Block::new();
    rows(request.context, request.deadline.remaining(), |name, value| block.push(name, value));
    block.end()
}

/// A request's headers as an operator may see them.
pub(in crate::protocol::nats) fn describe(request: &Request<'_>) -> Vec<(String, String)> {
    let mut shown = Vec::new();
    rows(request.context, request.deadline.remaining(), |name, value| {
        let value = if name == names::AUTHORIZATION { "***" } else { value };
        shown.push((name.to_owned(), value.to_owned()));
    });
    shown
}

/// Tells the headers of a request, one by one.
fn rows(context: &Context, remaining: Duration, mut row: impl FnMut(&'static str, &str)) {
    row(names::TRACE_PARENT, context.trace.as_str());
    let millis = u64::try_from(remaining.as_millis()).unwrap_or(u64::MAX).max(1);
    let mut digits = itoa::Buffer::new();
    row(names::REQUEST_TIMEOUT, &[digits.format(millis), "ms"].concat());
    row(names::HOPS, itoa::Buffer::new().format(context.next_hop()));
    given(context, &mut row);
    if let Some(key) = &context.idempotency_key {
        row(names::IDEMPOTENCY_KEY, &key.to_header());
    }
}

/// Tells what travels with calls and events alike.
pub(super) fn travelling(context: &Context, mut row: impl FnMut(&'static str, &str)) {
    row(names::TRACE_PARENT, context.trace.as_str());
    given(context, &mut row);
}

/// Tells what a context has, and has not to have.
fn given(context: &Context, row: &mut impl FnMut(&'static str, &str)) {
    let optional = [
        (names::TRACE_STATE, &context.trace_state),
        (names::REQUEST_ID, &context.request_id),
        (names::LANGUAGE, &context.language),
        (names::USER_AGENT, &context.user_agent),
        (names::AUTHORIZATION, &context.authorization),
        (names::USER_ID, &context.user_id),
    ];
    for (name, value) in optional {
        if let Some(value) = value.as_deref().filter(|value| is_header_value(value)) {
            row(name, value);
        }
    }
}

/// A line break in a value would begin a header of the caller's making.
pub(super) fn is_header_value(value: &str) -> bool {
    !value.is_empty() && !value.contains(char::is_control)
}

#[cfg(test)]
mod tests {
    use super::super::testing::Sample;
    use super::*;
    use crate::call::Params;
    use crate::trace::TraceParent;

    #[test]
    fn header_rows() {
        let trace = TraceParent::generate();
        let mut context = Context::new(trace);
        let told = |context: &Context, remaining| {
            let mut told = Vec::new();
            rows(context, remaining, |name, value| told.push((name, value.to_owned())));
            told
        };
        let found = told(&context, Duration::from_micros(800_900));
        let expected = [
            ("traceparent", trace.as_str().to_owned()),
            ("X-Request-Timeout", "800ms".to_owned()),
            ("Genkan-Hops", "1".to_owned()),
        ];
        assert_eq!(found, expected);

        context.trace_state = Some("a=b".to_owned());
        context.request_id = Some("r-1".to_owned());
        context.language = Some("de, ja;q=0.5".to_owned());
        context.user_agent = Some("curl\r\nX-User-Id: root".to_owned());
        context.authorization = Some("Bearer geheim".to_owned());
        context.user_id = Some(String::new());
        let found = told(&context, Duration::ZERO);
        let expected = [
            ("X-Request-Timeout", "1ms"),
            ("Genkan-Hops", "1"),
            ("tracestate", "a=b"),
            ("X-Request-Id", "r-1"),
            ("Accept-Language", "de, ja;q=0.5"),
            ("Authorization", "Bearer geheim"),
        ];
        assert_eq!(found[1..], expected.map(|(name, value)| (name, value.to_owned())));

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
}
