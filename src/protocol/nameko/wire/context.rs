//! What travels beside a call, in its headers: read where a call comes in (WIRE 1.2).
//!
//! What has a place of its own in [`Context`] goes there, and with it to every protocol; the other
//! values that Nameko hands from call to call go on to Nameko services alone.

use std::time::Duration;

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable, ShortString};

use super::baggage;
use super::request::CALL_IDS_TRACKED;
use crate::call::Context;
use crate::exposer::Credence;
use crate::fault::Fault;
use crate::idempotency_key::IdempotencyKey;
use crate::trace::TraceParent;

/// Under which Nameko carries a context's values; it drops all other headers.
pub(super) const PREFIX: &str = "nameko.";

/// The values that have a place of their own. What a caller says in their names elsewhere goes nowhere.
const PLACED: [&str; 11] = [
    "auth_token",
    "call_id_stack",
    "deadline",
    "genkan_hops",
    "idempotency_key",
    "language",
    "request_id",
    "traceparent",
    "tracestate",
    "user_agent",
    "user_id",
];

/// Whether a value of that name may travel with the others. One client library puts the broker's URL
/// there, password and all.
pub(super) fn may_travel(name: &str) -> bool {
    !PLACED.contains(&name) && !name.to_ascii_lowercase().contains("amqp_uri")
}

/// Reads what travels with a request. Credentials, and who the caller says it is, go on only where
/// they may.
pub(in super::super) fn read(properties: &BasicProperties, credence: Credence) -> Context {
    let headers = Headers(properties.headers().as_ref());
    let trace = ["traceparent", "nameko.traceparent"]
        .into_iter()
        .find_map(|key| Some((TraceParent::parse(&headers.text(key)?)?, key.starts_with(PREFIX))));
    let mut context = Context::new(trace.map_or_else(TraceParent::generate, |(trace, _)| trace));
    context.trace_state = trace.and_then(|(_, carried)| {
        headers.text(if carried { "nameko.tracestate" } else { "tracestate" })
    });
    context.request_id = headers.text("nameko.request_id");
    context.language = headers.text("nameko.language");
    context.user_agent = headers.text("nameko.user_agent");
    if credence.credentials {
        context.authorization = headers.text("nameko.auth_token");
    }
    if credence.user {
        context.user_id = headers.text("nameko.user_id");
    }
    context.call_ids = call_ids(headers.get("nameko.call_id_stack"));
    let hops = headers.number("nameko.genkan_hops").unwrap_or(0);
    context.hops = u8::try_from(hops.clamp(0, i64::from(u8::MAX))).unwrap_or(u8::MAX);
    let others = headers.0.into_iter().flat_map(FieldTable::inner).filter_map(|(key, value)| {
        let name = key.as_str().strip_prefix(PREFIX).filter(|name| may_travel(name))?;
        Some((name.to_owned(), baggage::to_json(value)?))
    });
    context.baggage = others.collect();
    context
}

/// By what the caller knows its call again. Who it says that it is tells it apart from others.
///
/// Nameko hands a context on to all calls that one leads to: there the key is that of another call.
pub(in super::super) fn idempotency_key(
    properties: &BasicProperties,
) -> Result<Option<IdempotencyKey>, Fault> {
    let headers = Headers(properties.headers().as_ref());
    let Some(value) = headers.get("nameko.idempotency_key") else { return Ok(None) };
    if matches!(value, AMQPValue::Void) || call_ids(headers.get("nameko.call_id_stack")).len() > 1 {
        return Ok(None);
    }
    let key = IdempotencyKey::new(&text(value).unwrap_or_default());
    let key = key.map_err(|bad| bad.fault("the header `nameko.idempotency_key`"))?;
    Ok(Some(key.claimed_by(headers.text("nameko.user_id").as_deref())))
}

/// How long the caller will wait, by its deadline and by how long it let the broker keep the message:
/// zero where that is over. `now` is in milliseconds since the Unix epoch.
pub(in super::super) fn limit(properties: &BasicProperties, now: u64) -> Option<Duration> {
    let headers = Headers(properties.headers().as_ref());
    let deadline = headers.number("nameko.deadline").map(|at| {
        let at = u64::try_from(at).unwrap_or(0);
        Duration::from_millis(at.saturating_sub(now))
    });
    let expiration = properties.expiration().as_ref().map(ShortString::as_str);
    let expiration = expiration.and_then(|millis| millis.trim().parse().ok());
    let expiration = expiration.map(Duration::from_millis);
    match (deadline, expiration) {
        (Some(deadline), Some(expiration)) => Some(deadline.min(expiration)),
        (deadline, expiration) => deadline.or(expiration),
    }
}

/// The calls that led to this one, the latest of them. Some clients send the one as a text.
fn call_ids(value: Option<&AMQPValue>) -> Vec<String> {
    let ids: Vec<String> = match value {
        Some(AMQPValue::FieldArray(items)) => {
            let items = items.as_slice();
            let latest = items.len().saturating_sub(CALL_IDS_TRACKED);
            items[latest..].iter().filter_map(text).collect()
        }
        Some(one) => text(one).into_iter().collect(),
        None => Vec::new(),
    };
    ids
}

struct Headers<'a>(Option<&'a FieldTable>);

impl<'a> Headers<'a> {
    fn get(&self, key: &str) -> Option<&'a AMQPValue> {
        self.0?.inner().get(key)
    }

    /// A value of one line. A number, which Python's context may hold, is as good.
    fn text(&self, key: &str) -> Option<String> {
        self.get(key).and_then(text).filter(|text| !text.is_empty())
    }

    fn number(&self, key: &str) -> Option<i64> {
        let value = self.get(key)?;
        // In milliseconds, or a few: far below 2^53.
        integer(value).or_else(|| match value {
            AMQPValue::Double(number) if number.is_finite() => Some(*number as i64),
            AMQPValue::Float(number) if number.is_finite() => Some(*number as i64),
            value => text(value)?.trim().parse().ok(),
        })
    }
}

fn text(value: &AMQPValue) -> Option<String> {
    let text = match value {
        AMQPValue::LongString(text) => std::str::from_utf8(text.as_bytes()).ok()?.to_owned(),
        AMQPValue::ShortString(text) => text.to_string(),
        value => integer(value)?.to_string(),
    };
    (!text.contains(char::is_control)).then_some(text)
}

fn integer(value: &AMQPValue) -> Option<i64> {
    match value {
        AMQPValue::ShortShortInt(number) => Some((*number).into()),
        AMQPValue::ShortShortUInt(number) => Some((*number).into()),
        AMQPValue::ShortInt(number) => Some((*number).into()),
        AMQPValue::ShortUInt(number) => Some((*number).into()),
        AMQPValue::LongInt(number) => Some((*number).into()),
        AMQPValue::LongUInt(number) => Some((*number).into()),
        AMQPValue::LongLongInt(number) => Some(*number),
        AMQPValue::Timestamp(seconds) => i64::try_from(*seconds).ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use lapin::types::FieldArray;

    use super::*;

    const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    const OTHER: &str = "00-1af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

    fn long(text: &str) -> AMQPValue {
        AMQPValue::LongString(text.into())
    }

    fn with(headers: &[(&str, AMQPValue)]) -> BasicProperties {
        let mut table = FieldTable::default();
        for (key, value) in headers {
            table.insert((*key).into(), value.clone());
        }
        BasicProperties::default().with_headers(table)
    }

    fn list(ids: impl IntoIterator<Item = AMQPValue>) -> AMQPValue {
        let mut array = FieldArray::default();
        ids.into_iter().for_each(|id| array.push(id));
        AMQPValue::FieldArray(array)
    }

    #[test]
    fn values_find_their_places() {
        let properties = with(&[
            ("nameko.traceparent", long(OTHER)),
            ("nameko.tracestate", long("x=1")),
            ("traceparent", long(TRACE)),
            ("tracestate", long("a=b")),
            ("nameko.request_id", AMQPValue::LongInt(42)),
            ("nameko.language", long("de")),
            ("nameko.user_agent", long("curl/8")),
            ("nameko.auth_token", long("Bearer geheim")),
            ("nameko.user_id", AMQPValue::LongLongInt(7)),
            ("nameko.genkan_hops", AMQPValue::LongLongInt(3)),
            ("nameko.call_id_stack", list([long("a.b.1"), long("c.d.2")])),
            ("nameko.tenant", long("tokyo")),
            ("nameko.level", AMQPValue::LongInt(5)),
            ("nameko.AMQP_URI", long("amqp://guest:guest@h/")),
            ("x-other", long("dropped")),
        ]);
        let context = read(&properties, Credence::NONE);
        assert_eq!(context.trace.as_str(), TRACE, "the standard's own goes first");
        assert_eq!(context.trace_state.as_deref(), Some("a=b"));
        assert_eq!(context.request_id.as_deref(), Some("42"));
        assert_eq!(context.language.as_deref(), Some("de"));
        assert_eq!(context.user_agent.as_deref(), Some("curl/8"));
        assert_eq!((context.authorization.as_deref(), context.user_id.as_deref()), (None, None));
        assert_eq!(
            (context.hops, &context.call_ids[..]),
            (3, &["a.b.1", "c.d.2"].map(String::from)[..])
        );
        let others: Vec<_> =
            context.baggage.iter().map(|(name, json)| (name.as_str(), json.as_str())).collect();
        assert_eq!(others, [("level", "5"), ("tenant", "\"tokyo\"")]);
        let context = read(&properties, Credence::ALL);
        assert_eq!(context.authorization.as_deref(), Some("Bearer geheim"));
        assert_eq!(context.user_id.as_deref(), Some("7"));
    }

    #[test]
    fn a_trace_that_nameko_carried_is_as_good() {
        let carried = [("nameko.traceparent", long(TRACE)), ("nameko.tracestate", long("a=b"))];
        let context = read(&with(&carried), Credence::NONE);
        assert_eq!((context.trace.as_str(), context.trace_state.as_deref()), (TRACE, Some("a=b")));
        let broken = [("traceparent", long("00-no")), ("nameko.traceparent", long(TRACE))];
        assert_eq!(read(&with(&broken), Credence::NONE).trace.as_str(), TRACE);
        let none = read(&with(&[("tracestate", long("a=b"))]), Credence::NONE);
        assert_eq!(none.trace_state, None, "a state without its trace is nobody's");
    }

    #[test]
    fn call_ids_are_a_list_or_one_text_and_the_latest_are_kept() {
        let ids = |value| read(&with(&[("nameko.call_id_stack", value)]), Credence::NONE).call_ids;
        assert_eq!(ids(long("standalone_rpc_proxy.call.bar")), ["standalone_rpc_proxy.call.bar"]);
        let many = ids(list((0..25).map(|number| long(&format!("a.b.{number}")))));
        assert_eq!((many.len(), many[0].as_str(), many[9].as_str()), (10, "a.b.15", "a.b.24"));
        assert_eq!(ids(AMQPValue::Void), Vec::<String>::new());
        assert_eq!(
            read(&BasicProperties::default(), Credence::NONE).call_ids,
            Vec::<String>::new()
        );
    }

    #[test]
    fn hops_are_counted_whatever_they_say() {
        let hops = |value| read(&with(&[("nameko.genkan_hops", value)]), Credence::NONE).hops;
        for (value, expected) in [
            (AMQPValue::ShortShortUInt(2), 2),
            (AMQPValue::LongLongInt(i64::MAX), 255),
            (AMQPValue::LongLongInt(-5), 0),
            (long("7"), 7),
            (long("many"), 0),
            (AMQPValue::Double(3.9), 3),
            (AMQPValue::Double(f64::NAN), 0),
        ] {
            assert_eq!(hops(value.clone()), expected, "{value:?}");
        }
    }

    #[test]
    fn a_value_of_several_lines_is_no_header() {
        let context = read(&with(&[("nameko.language", long("de\r\nEvil: 1"))]), Credence::ALL);
        assert_eq!(context.language, None);
    }

    #[test]
    fn how_long_the_caller_waits() {
        let now = 1_700_000_000_000;
        let deadline = |millis: i64| ("nameko.deadline", AMQPValue::LongLongInt(millis));
        let at = |millis: i64, expiration: Option<&str>| {
            let mut properties = with(&[deadline(millis)]);
            if let Some(expiration) = expiration {
                properties = properties.with_expiration(expiration.into());
            }
            limit(&properties, now)
        };
        let millis = |count| Some(Duration::from_millis(count));
        assert_eq!(limit(&BasicProperties::default(), now), None);
        assert_eq!(at(1_700_000_000_800, None), millis(800));
        assert_eq!(at(1_700_000_000_800, Some("500")), millis(500));
        assert_eq!(at(1_700_000_000_800, Some("soon")), millis(800));
        assert_eq!(at(1_699_999_999_999, Some("500")), millis(0), "it is over");
        assert_eq!(at(-1, None), millis(0));
        let text = with(&[("nameko.deadline", long("1700000000250"))]);
        assert_eq!(limit(&text, now), millis(250));
        let float = with(&[("nameko.deadline", AMQPValue::Double(1_700_000_000_250.7))]);
        assert_eq!(limit(&float, now), millis(250));
    }
}
