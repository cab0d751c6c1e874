//! What travels through Genkan: a call, its params, context and deadline, and the reply.
//!
//! Plain values: no I/O, and no protocol's name or wire format. Payloads are JSON text that has
//! been validated once where it came in, and is never parsed again to be carried:
//! a 64-bit id, `1.10`, an escape and the order of keys leave as they came.

mod departure;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use tokio::time::Instant;

use crate::caller::Caller;
use crate::idempotency_key::IdempotencyKey;
use crate::trace::TraceParent;

pub use departure::{Departure, Held, Waits};

/// The text of exactly one JSON value, valid UTF-8, without surrounding white space.
///
/// Whoever makes one vouches for that; everyone else passes it on unread.
#[derive(Clone, PartialEq, Eq)]
pub struct Payload(Bytes);

impl Payload {
    /// The JSON value `null`.
    pub const NULL: Payload = Payload(Bytes::from_static(b"null"));

    /// Takes bytes that the caller has validated as one JSON value without surrounding space.
    pub fn from_validated(json: Bytes) -> Self {
        debug_assert!(serde_json::from_slice::<&serde_json::value::RawValue>(&json).is_ok());
        Self(json)
    }

    /// Encodes a string as a JSON string.
    pub fn from_text(text: &str) -> Self {
        Self(Bytes::from(serde_json::Value::from(text).to_string()))
    }

    /// The JSON text.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The JSON text, without copying it.
    pub fn into_bytes(self) -> Bytes {
        self.0
    }

    /// The same in bytes of its own: what it was cut out of need not be kept for it.
    #[must_use]
    pub fn detached(&self) -> Self {
        Self(Bytes::copy_from_slice(&self.0))
    }

    /// The JSON text as a string.
    pub fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl fmt::Debug for Payload {
    /// Shows the size alone: payloads hold what users send and do not belong in logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Payload({} bytes)", self.0.len())
    }
}

/// The params of a call, in one of the three forms that every protocol can tell apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Params {
    /// No params were given.
    None,
    /// Positional params: the payload is a JSON array.
    Array(Payload),
    /// Named params: the payload is a JSON object.
    Object(Payload),
    /// Both, which only some protocols know: neither is empty. Who takes an object alone gets one
    /// where the route names the positional ones.
    Both {
        /// A JSON array.
        positional: Payload,
        /// A JSON object.
        named: Payload,
    },
}

/// Whether somebody waits for the result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallKind {
    /// A result or a fault is awaited.
    Call,
    /// Nobody waits.
    Notification,
}

/// `service.method`, split at the last dot where nobody says otherwise; or a method alone, which a row
/// of the routing table gives to a service. What is there is not empty.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CallName {
    text: String,
    dot: Option<usize>,
}

impl CallName {
    /// Splits `service.method` at its last dot; gives the text back where either part would be
    /// empty.
    pub fn parse(text: String) -> Result<Self, String> {
        match text.rfind('.') {
            Some(dot) if dot > 0 && dot + 1 < text.len() => Ok(Self { text, dot: Some(dot) }),
            _ => Err(text),
        }
    }

    /// Joins a service and a method. `None` where either is empty or the method holds a dot,
    /// because the two could not be told apart again.
    pub fn join(service: &str, method: &str) -> Option<Self> {
        if method.contains('.') {
            return None;
        }
        Self::parse(format!("{service}.{method}")).ok()
    }

    /// A method of a service that is named apart from it, so that the method's dots are its own.
    /// `None` where either is empty.
    pub fn of(service: &str, method: &str) -> Option<Self> {
        let named = !service.is_empty() && !method.is_empty();
        named.then(|| Self { text: format!("{service}.{method}"), dot: Some(service.len()) })
    }

    /// The same, and a name without a dot is a method alone.
    pub fn parse_bare(text: String) -> Result<Self, String> {
        match text.contains('.') {
            false if !text.is_empty() => Ok(Self { text, dot: None }),
            _ => Self::parse(text),
        }
    }

    /// All of it: `service.method`.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What stands before the dot; empty where there is none.
    pub fn service(&self) -> &str {
        self.dot.map_or("", |dot| &self.text[..dot])
    }

    /// What stands after the dot.
    pub fn method(&self) -> &str {
        self.dot.map_or(&self.text, |dot| &self.text[dot + 1..])
    }
}

/// Whether a name is words of ASCII letters, digits, `_` and `-`, with one dot between two: nearly
/// every name is, and no protocol finds fault with such a one.
pub fn is_plain_name(name: &str) -> bool {
    let mut before = b'.';
    for byte in name.bytes() {
        let word = byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
        if !word && (byte != b'.' || before == b'.') {
            return false;
        }
        before = byte;
    }
    before != b'.'
}

/// When a call ends at the latest. One point in time for the whole call: it is handed down
/// through every layer, and no layer starts a timer of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Deadline {
    at: Instant,
    timeout: Duration,
}

impl Deadline {
    /// The deadline `timeout` after `start`.
    pub fn after(start: Instant, timeout: Duration) -> Self {
        Self { at: start + timeout, timeout }
    }

    /// The point in time.
    pub fn at(&self) -> Instant {
        self.at
    }

    /// The length that the caller or the route asked for, for messages.
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// What is left of it, zero once it has passed.
    pub fn remaining(&self) -> Duration {
        self.at.saturating_duration_since(Instant::now())
    }

    /// The deadline as milliseconds since the Unix epoch, for peers on other machines.
    pub fn unix_millis(&self) -> u64 {
        let at = SystemTime::now() + self.remaining();
        let since_epoch = at.duration_since(UNIX_EPOCH).unwrap_or_default();
        u64::try_from(since_epoch.as_millis()).unwrap_or(u64::MAX)
    }
}

/// What travels with a call beside its params. Each protocol carries it in headers of its own.
pub struct Context {
    /// The trace that the call belongs to.
    pub trace: TraceParent,
    /// The caller's `tracestate`, passed on unread.
    pub trace_state: Option<String>,
    /// The id by which the caller knows the request.
    pub request_id: Option<String>,
    /// The languages that the caller reads, as in `Accept-Language`.
    pub language: Option<String>,
    /// The program that calls, as in `User-Agent`.
    pub user_agent: Option<String>,
    /// The caller's credentials, where the configuration allows them to travel. Never logged.
    pub authorization: Option<String>,
    /// The verified user.
    pub user_id: Option<String>,
    /// The ids of the calls that led to this one, oldest first.
    pub call_ids: Vec<String>,
    /// What else the caller's world carries from call to call, as names and JSON values: handed on
    /// where the service's world has a place for it.
    pub baggage: Vec<(String, Payload)>,
    /// Headers of the caller's that some service is to have, by their names in small letters.
    pub headers: Vec<(Arc<str>, String)>,
    /// How many gateways the call has come through before this one.
    pub hops: u8,
    /// By what its caller knows the call again: of this call alone, and not of those that it leads to.
    pub idempotency_key: Option<IdempotencyKey>,
}

impl Context {
    /// A context that holds a trace alone.
    pub fn new(trace: TraceParent) -> Self {
        Self {
            trace,
            trace_state: None,
            request_id: None,
            language: None,
            user_agent: None,
            authorization: None,
            user_id: None,
            call_ids: Vec::new(),
            baggage: Vec::new(),
            headers: Vec::new(),
            hops: 0,
            idempotency_key: None,
        }
    }

    /// The same, with one hop more.
    pub fn forwarded(&self) -> Self {
        Self {
            trace: self.trace,
            trace_state: self.trace_state.clone(),
            request_id: self.request_id.clone(),
            language: self.language.clone(),
            user_agent: self.user_agent.clone(),
            authorization: self.authorization.clone(),
            user_id: self.user_id.clone(),
            call_ids: self.call_ids.clone(),
            baggage: self.baggage.clone(),
            headers: self.headers.clone(),
            hops: self.next_hop(),
            idempotency_key: None,
        }
    }

    /// The same, of a call that has a key.
    pub fn keyed(&self, key: IdempotencyKey) -> Self {
        Self { idempotency_key: Some(key), hops: self.hops, ..self.forwarded() }
    }

    /// The same, of another user.
    pub fn of_user(&self, user_id: Option<&str>) -> Self {
        Self { user_id: user_id.map(str::to_owned), hops: self.hops, ..self.forwarded() }
    }

    /// What the next gateway on the way is told: how many it has come through by then.
    pub fn next_hop(&self) -> u8 {
        self.hops.saturating_add(1)
    }
}

/// One request for `service.method`, as it came in, before it is routed. Cheap to copy.
#[derive(Clone)]
pub struct Call {
    /// What is called, in the caller's words.
    pub name: CallName,
    /// The params.
    pub params: Params,
    /// Call or notification.
    pub kind: CallKind,
    /// Who calls.
    pub caller: Caller,
    /// What travels with it; the calls of a batch share one.
    pub context: Arc<Context>,
    /// When it had come in: deadlines count from here. What a client takes to send it does not count, what it takes to
    /// know who calls does.
    pub received: Instant,
    /// The caller's own limit, which can shorten the route's timeout and never lengthen it.
    pub timeout: Option<Duration>,
    /// It was delivered before, and may have run then.
    pub may_have_run: bool,
}

/// A call that has been routed: what an upstream is asked to carry out.
pub struct Request<'a> {
    /// The service, after the route's renaming.
    pub service: &'a str,
    /// The method, after the route's renaming.
    pub method: &'a str,
    /// The route's own subject, for an upstream that has subjects.
    pub subject: Option<&'a str>,
    /// The params as they came in.
    pub params: &'a Params,
    /// The route's names for positional params; empty where it gives none.
    pub param_names: &'a [String],
    /// What travels with the call.
    pub context: &'a Context,
    /// When the call ends at the latest.
    pub deadline: Deadline,
    /// Whether the call has left, where its deadline passes before its answer.
    pub departure: Departure,
    /// How long calls of its row run lately; nothing where nobody knows.
    pub usual: Duration,
}

impl<'a> Request<'a> {
    /// A request of a route that gives neither a subject nor names.
    pub fn new(
        (service, method): (&'a str, &'a str),
        params: &'a Params,
        context: &'a Context,
        deadline: Deadline,
    ) -> Self {
        Self {
            service,
            method,
            subject: None,
            params,
            param_names: &[],
            context,
            deadline,
            departure: Departure::default(),
            usual: Duration::ZERO,
        }
    }

    /// Until when it is worth sending, where that is known: behind it there would be no time for its run.
    pub fn latest(&self) -> Option<Instant> {
        let known = Some(self.usual).filter(|usual| !usual.is_zero());
        known.map(|usual| self.deadline.at().checked_sub(usual).unwrap_or_else(Instant::now))
    }
}

/// A service's result. Cheap to copy.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The bare result.
    pub payload: Payload,
    /// The trace that the service answered with, where its protocol has a place for one.
    pub trace: Option<TraceParent>,
}

impl Reply {
    /// A result alone.
    pub fn new(payload: Payload) -> Self {
        Self { payload, trace: None }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_names() {
        for name in ["orders.create", "a.b-c.d_1", "x"] {
            assert!(is_plain_name(name), "{name}");
        }
        for name in ["", ".", ".a", "a.", "a..b", "a b.c", "a.*", "a.#", "\u{e9}.a", "a.b\n"] {
            assert!(!is_plain_name(name), "{name:?}");
        }
    }

    #[test]
    fn names_split_at_the_last_dot() {
        let name = CallName::parse("hello.world.greet".to_owned()).expect("valid");
        assert_eq!((name.service(), name.method()), ("hello.world", "greet"));
        for text in ["greet", ".greet", "hello.", ".", ""] {
            assert_eq!(CallName::parse(text.to_owned()), Err(text.to_owned()));
        }
        assert_eq!(CallName::join("a.b", "c").expect("valid").as_str(), "a.b.c");
        assert!(CallName::join("a", "b.c").is_none());
        let bare = CallName::parse_bare("greet".to_owned()).expect("valid");
        assert_eq!((bare.service(), bare.method()), ("", "greet"));
        for text in [".greet", "hello.", ".", ""] {
            assert_eq!(CallName::parse_bare(text.to_owned()), Err(text.to_owned()));
        }
        let apart = CallName::of("a.b", "c.d").expect("valid");
        assert_eq!((apart.service(), apart.method(), apart.as_str()), ("a.b", "c.d", "a.b.c.d"));
        assert!(CallName::of("a", "").or(CallName::of("", "a")).is_none());
    }
}
