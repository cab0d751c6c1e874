//! What leaves for a call or a notification: routing key, properties, headers, body (WIRE 1.2).

use std::fmt::Write as _;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldArray, FieldTable, LongString, ShortString};

use super::{baggage, context, tagged};
use crate::call::{Context, Params, Payload, Request, is_plain_name};
use crate::fault::{Fault, FaultKind};
use crate::idempotency_key::IdempotencyKey;

/// How many calls of a chain Nameko remembers (`parent_calls_tracked`).
pub(super) const CALL_IDS_TRACKED: usize = 10;
/// The longest short string of AMQP 0-9-1, which routing keys and queue names are.
pub(super) const SHORT_STRING: usize = 255;
/// AMQP's delivery modes. A call is transient: after the broker's crash its caller is gone.
const TRANSIENT: u8 = 1;
pub(super) const PERSISTENT: u8 = 2;
/// The prefix under which Nameko carries a context's values, and drops all other headers.
macro_rules! context_key {
    ($key:literal) => {
        concat!("nameko.", $key)
    };
}

/// Something that must not be sent, because it would harm the peer.
pub(in super::super) struct Unsendable {
    /// The label of `genkan_refused_total`.
    pub(in super::super) reason: &'static str,
    /// What the caller is told.
    pub(in super::super) fault: Fault,
}

/// The routing key of `service.method`, or why there is none: Nameko binds `service.*`, so a key
/// with an empty word, a wildcard or a blank reaches nobody, or somebody else; nor does a method with
/// a dot (WIRE 1.3).
pub(in super::super) fn routing_key(
    service: &str,
    method: &str,
) -> Result<ShortString, Unsendable> {
    if method.contains('.') {
        let shown: String = method.chars().take(80).collect();
        let message = format!(
            "the service {service:?} can have no method {shown:?}: Nameko's have no dots in their names"
        );
        let fault = Fault::not_sent(FaultKind::UnknownMethod, message);
        return Err(Unsendable { reason: "routing_key", fault });
    }
    let key = [service, ".", method].concat();
    if key.len() <= SHORT_STRING && is_plain_name(&key) {
        return Ok(ShortString::from(key));
    }
    let odd = |c: char| matches!(c, '*' | '#') || c.is_whitespace() || c.is_control();
    let complaint = if key.len() > SHORT_STRING {
        format!("is {} bytes long, and AMQP takes at most {SHORT_STRING}", key.len())
    } else if let Some(odd) = key.chars().find(|c| odd(*c)) {
        format!("holds {odd:?}, which has no place in a routing key")
    } else if key.split('.').any(str::is_empty) {
        "has an empty part between its dots".to_owned()
    } else {
        return Ok(ShortString::from(key));
    };
    let shown: String = key.chars().take(80).collect();
    let message = format!("the name {shown:?} {complaint}: nothing was sent");
    let fault = Fault::not_sent(FaultKind::InvalidRequest, message);
    Err(Unsendable { reason: "routing_key", fault })
}

/// Refuses params that kombu would read as something else than what the caller wrote.
pub(in super::super) fn check_params(params: &Params) -> Result<(), Unsendable> {
    let payloads: &[&Payload] = match params {
        Params::None => &[],
        Params::Array(payload) | Params::Object(payload) => &[payload],
        Params::Both { positional, named } => &[positional, named],
    };
    if !payloads.iter().any(|payload| tagged::holds_tagged_value(payload.as_bytes())) {
        return Ok(());
    }
    let message = "the params hold an object of exactly the keys `__type__` and `__value__`, \
                   which Nameko would turn into another type: add or rename a key";
    let fault = Fault::not_sent(FaultKind::InvalidParams, message);
    Err(Unsendable { reason: "tagged_value", fault })
}

/// The body: `{"args":…,"kwargs":…}` with the params' own bytes inside.
pub(in super::super) fn body(params: &Params) -> Vec<u8> {
    let (before, payload, after): (&str, &[u8], &str) = match params {
        Params::None => (r#"{"args":[],"kwargs":{}}"#, b"", ""),
        Params::Array(array) => (r#"{"args":"#, array.as_bytes(), r#","kwargs":{}}"#),
        Params::Object(object) => (r#"{"args":[],"kwargs":"#, object.as_bytes(), "}"),
        Params::Both { positional, named } => {
            let (positional, named) = (positional.as_bytes(), named.as_bytes());
            let parts: [&[u8]; 5] = [br#"{"args":"#, positional, br#","kwargs":"#, named, b"}"];
            return parts.concat();
        }
    };
    [before.as_bytes(), payload, after.as_bytes()].concat()
}

/// A call's properties. `reply_to` is a routing key, not a queue's name; `expires` says whether it expires
/// in its service's queue.
pub(in super::super) fn call_properties(
    request: &Request<'_>,
    correlation_id: &str,
    reply_to: &str,
    expires: bool,
) -> BasicProperties {
    let mut headers = headers(request.context, correlation_id);
    // Absolute, because Nameko hands it on to nested calls as it is; a message that a worker
    // has prefetched does not expire any more, so a service can look at this. A double, exact in
    // milliseconds: the amqp of Nameko up to 2.8 reads a long, and dies of handing it on.
    let deadline = AMQPValue::Double(request.deadline.unix_millis() as f64);
    headers.insert(context_key!("deadline").into(), deadline);
    let properties = properties(headers, correlation_id, reply_to).with_delivery_mode(TRANSIENT);
    if !expires {
        return properties;
    }
    let remaining = u64::try_from(request.deadline.remaining().as_millis()).unwrap_or(u64::MAX);
    properties.with_expiration(ShortString::from(itoa::Buffer::new().format(remaining.max(1))))
}

/// A notification's properties: it waits for its service, however long, and its reply goes to
/// `reply_to`, to which nothing is bound. Without one, the service's process would die (WIRE 1.4).
pub(in super::super) fn notification_properties(
    request: &Request<'_>,
    correlation_id: &str,
    reply_to: &str,
) -> BasicProperties {
    properties(headers(request.context, correlation_id), correlation_id, reply_to)
        .with_delivery_mode(PERSISTENT)
}

fn properties(headers: FieldTable, correlation_id: &str, reply_to: &str) -> BasicProperties {
    BasicProperties::default()
        // To the letter: a service drops other content types, and dies of none (WIRE 1.4).
        .with_content_type(ShortString::from("application/json"))
        .with_content_encoding(ShortString::from("utf-8"))
        .with_priority(0)
        .with_correlation_id(ShortString::from(correlation_id))
        .with_reply_to(ShortString::from(reply_to))
        .with_headers(headers)
}

/// What travels beside a call or an event.
pub(super) fn headers(context: &Context, correlation_id: &str) -> FieldTable {
    let mut headers = FieldTable::default();
    let mut put = |key: &'static str, value: Option<&str>| {
        // Nameko drops what is None, and no header goes without a value.
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            headers.insert(ShortString::from(key), AMQPValue::LongString(value.into()));
        }
    };
    let trace = Some(context.trace.as_str());
    let trace_state = context.trace_state.as_deref();
    // Once where tracing libraries look, once where Nameko carries it on to nested calls.
    put("traceparent", trace);
    put(context_key!("traceparent"), trace);
    put("tracestate", trace_state);
    put(context_key!("tracestate"), trace_state);
    put(context_key!("request_id"), context.request_id.as_deref());
    put(context_key!("language"), context.language.as_deref());
    put(context_key!("user_agent"), context.user_agent.as_deref());
    put(AUTH_TOKEN, context.authorization.as_deref());
    put(context_key!("user_id"), context.user_id.as_deref());
    let key = context.idempotency_key.as_ref().map(IdempotencyKey::as_str);
    put(context_key!("idempotency_key"), key);
    let stack = call_id_stack(&context.call_ids, correlation_id);
    headers.insert(context_key!("call_id_stack").into(), AMQPValue::FieldArray(stack));
    let hops = i64::from(context.next_hop());
    headers.insert(context_key!("genkan_hops").into(), AMQPValue::LongLongInt(hops));
    for (name, json) in &context.baggage {
        let key = [context::PREFIX, name].concat();
        if key.len() <= SHORT_STRING
            && context::may_travel(name)
            && let Some(value) = baggage::from_json(json)
        {
            headers.insert(ShortString::from(key), value);
        }
    }
    headers
}

/// The header that holds credentials, and is never shown.
const AUTH_TOKEN: &str = context_key!("auth_token");

/// The calls that led here, and this one, as Nameko's own clients name theirs.
fn call_id_stack(call_ids: &[String], correlation_id: &str) -> FieldArray {
    let earlier = call_ids.len().saturating_sub(CALL_IDS_TRACKED - 1);
    let mut stack = FieldArray::default();
    for id in &call_ids[earlier..] {
        stack.push(AMQPValue::LongString(id.as_str().into()));
    }
    let mut own = String::with_capacity(12 + correlation_id.len());
    own.push_str("genkan.call.");
    own.push_str(correlation_id);
    stack.push(AMQPValue::LongString(own.into()));
    stack
}

/// The headers as an operator reads them, credentials hidden.
pub(in super::super) fn shown_headers(properties: &BasicProperties) -> Vec<(String, String)> {
    let table = properties.headers().as_ref().map(FieldTable::inner);
    let rows = table.into_iter().flatten().map(|(key, value)| {
        let shown = if key.as_str() == AUTH_TOKEN { "***".to_owned() } else { shown(value) };
        (key.to_string(), shown)
    });
    rows.collect()
}

fn shown(value: &AMQPValue) -> String {
    match value {
        AMQPValue::LongString(text) => LongString::to_string(text),
        AMQPValue::LongLongInt(number) => number.to_string(),
        AMQPValue::Double(number) => number.to_string(),
        AMQPValue::Boolean(flag) => flag.to_string(),
        AMQPValue::FieldArray(items) => {
            let mut list = String::from("[");
            for (index, item) in items.as_slice().iter().enumerate() {
                let comma = if index > 0 { ", " } else { "" };
                // Writing to a string cannot fail.
                write!(list, "{comma}\"{}\"", shown(item)).unwrap_or_default();
            }
            list + "]"
        }
        other => format!("{:?}", other.get_type()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use bytes::Bytes;
    use tokio::time::Instant;

    use super::*;
    use crate::call::{Deadline, Payload};
    use crate::trace::TraceParent;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn payload(json: &'static str) -> Payload {
        Payload::from_validated(Bytes::from_static(json.as_bytes()))
    }

    fn context() -> Context {
        Context::new(TraceParent::parse(TRACE).unwrap())
    }

    fn headers_of(context: &Context) -> Vec<(String, String)> {
        let properties = BasicProperties::default().with_headers(headers(context, "0123"));
        shown_headers(&properties)
    }

    #[test]
    fn bodies_hold_the_params_own_bytes() {
        let odd = r#"[9007199254740993, 1e400,-0,1.10,"\ud800",{"b":1,"a":2,"b":3}]"#;
        let cases = [
            (Params::None, r#"{"args":[],"kwargs":{}}"#.to_owned()),
            (Params::Array(payload(odd)), format!(r#"{{"args":{odd},"kwargs":{{}}}}"#)),
            (Params::Array(payload("[]")), r#"{"args":[],"kwargs":{}}"#.to_owned()),
            (
                Params::Object(payload(r#"{"k": 18446744073709551616}"#)),
                r#"{"args":[],"kwargs":{"k": 18446744073709551616}}"#.to_owned(),
            ),
        ];
        for (params, expected) in cases {
            assert_eq!(String::from_utf8(body(&params)).unwrap(), expected);
        }
    }

    #[test]
    fn routing_keys() {
        assert_eq!(routing_key("orders", "create").ok().unwrap().as_str(), "orders.create");
        assert!(routing_key("a.b", "c").is_ok());
        assert!(routing_key("überraschung", "größe").is_ok());
        let long = "x".repeat(254);
        let Err(dotted) = routing_key("orders", "a.b") else { panic!("nothing is bound to it") };
        assert_eq!(dotted.fault.kind(), FaultKind::UnknownMethod);
        let refused = [
            ("orders", "*"),
            ("#", "create"),
            ("or*ders", "create"),
            ("orders", "cre ate"),
            ("orders", "create\n"),
            ("orders", "a\u{a0}b"),
            ("orders\0", "create"),
            ("a..b", "create"),
            (".a", "create"),
            ("orders", ""),
            (long.as_str(), "m"),
        ];
        for (service, method) in refused {
            let Err(refused) = routing_key(service, method) else {
                panic!("{service:?}.{method:?} must be refused");
            };
            assert_eq!(refused.reason, "routing_key");
            assert_eq!(refused.fault.kind(), FaultKind::InvalidRequest);
            assert_eq!(refused.fault.outcome(), crate::fault::Outcome::NotSent);
            assert!(refused.fault.message().len() < 400);
        }
        assert!(routing_key(&"x".repeat(253), "m").is_ok());
    }

    #[test]
    fn tagged_params_are_refused() {
        let tagged = Params::Array(payload(r#"[{"__type__":"bytes","__value__":"x"}]"#));
        let refused = check_params(&tagged).err().unwrap();
        assert_eq!(
            (refused.reason, refused.fault.kind()),
            ("tagged_value", FaultKind::InvalidParams)
        );
        assert!(check_params(&Params::Object(payload(r#"{"__type__":1}"#))).is_ok());
        assert!(check_params(&Params::None).is_ok());
    }

    #[test]
    fn only_headers_with_a_value_go_out() {
        let expected = [
            ("nameko.call_id_stack", r#"["genkan.call.0123"]"#),
            ("nameko.genkan_hops", "1"),
            ("nameko.traceparent", TRACE),
            ("traceparent", TRACE),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(headers_of(&context()), expected);
        let empty = Context { language: Some(String::new()), ..context() };
        assert_eq!(headers_of(&empty), expected);
    }

    #[test]
    fn the_whole_context_goes_out_and_credentials_are_hidden() {
        let full = Context {
            trace_state: Some("a=1".into()),
            request_id: Some("r-1".into()),
            language: Some("de".into()),
            user_agent: Some("curl".into()),
            authorization: Some("Bearer secret".into()),
            user_id: Some("7".into()),
            call_ids: vec!["web.get.1".into()],
            hops: 2,
            baggage: vec![
                ("tenant".to_owned(), payload("\"tokyo\"")),
                ("level".to_owned(), payload("5")),
                ("dry".to_owned(), payload("true")),
                ("nothing".to_owned(), payload("null")),
                ("deadline".to_owned(), payload("1")),
                ("AMQP_URI".to_owned(), payload("\"amqp://guest:guest@h/\"")),
                ("k".repeat(250), payload("1")),
            ],
            ..context()
        };
        let expected = [
            ("nameko.auth_token", "***"),
            ("nameko.call_id_stack", r#"["web.get.1", "genkan.call.0123"]"#),
            ("nameko.dry", "true"),
            ("nameko.genkan_hops", "3"),
            ("nameko.language", "de"),
            ("nameko.level", "5"),
            ("nameko.request_id", "r-1"),
            ("nameko.tenant", "tokyo"),
            ("nameko.traceparent", TRACE),
            ("nameko.tracestate", "a=1"),
            ("nameko.user_agent", "curl"),
            ("nameko.user_id", "7"),
            ("traceparent", TRACE),
            ("tracestate", "a=1"),
        ];
        let expected = expected.map(|(key, value)| (key.to_owned(), value.to_owned()));
        assert_eq!(headers_of(&full), expected);
        let sent = headers(&full, "0123");
        let token = sent.inner().get(AUTH_TOKEN);
        assert_eq!(token, Some(&AMQPValue::LongString("Bearer secret".into())));
    }

    #[test]
    fn the_call_stack_keeps_the_last_ten() {
        let ids: Vec<String> = (0..12).map(|n| format!("s.m.{n}")).collect();
        let stack = call_id_stack(&ids, "x");
        let texts: Vec<String> = stack.as_slice().iter().map(shown).collect();
        assert_eq!(texts.len(), 10);
        assert_eq!((texts[0].as_str(), texts[9].as_str()), ("s.m.3", "genkan.call.x"));
    }

    #[tokio::test(start_paused = true)]
    async fn properties_are_as_nameko_sends_them() {
        let context = context();
        let deadline = Deadline::after(Instant::now(), Duration::from_millis(800));
        let request = Request::new(("orders", "create"), &Params::None, &context, deadline);
        let call = call_properties(&request, "c-1", "r-1", true);
        assert_eq!(call.content_type().as_ref().unwrap().as_str(), "application/json");
        assert_eq!(call.content_encoding().as_ref().unwrap().as_str(), "utf-8");
        assert_eq!(call.correlation_id().as_ref().unwrap().as_str(), "c-1");
        assert_eq!(call.reply_to().as_ref().unwrap().as_str(), "r-1");
        assert_eq!(call.expiration().as_ref().unwrap().as_str(), "800");
        assert_eq!((*call.priority(), *call.delivery_mode()), (Some(0), Some(1)));
        let deadline = call.headers().as_ref().unwrap().inner().get("nameko.deadline").cloned();
        let Some(AMQPValue::Double(deadline)) = deadline else { panic!("{deadline:?}") };
        assert_eq!(deadline as u64 / 10_000, request.deadline.unix_millis() / 10_000);

        let notification = notification_properties(&request, "c-2", "nobody");
        assert_eq!(*notification.delivery_mode(), Some(2));
        assert_eq!(*notification.expiration(), None);
        assert_eq!(notification.reply_to().as_ref().unwrap().as_str(), "nobody");
        let headers = notification.headers().as_ref().unwrap();
        assert!(!headers.contains_key("nameko.deadline"));

        tokio::time::advance(Duration::from_secs(1)).await;
        let late = call_properties(&request, "c-3", "r-1", true);
        assert_eq!(late.expiration().as_ref().unwrap().as_str(), "1");
        assert_eq!(*call_properties(&request, "c-4", "r-1", false).expiration(), None);
    }
}
