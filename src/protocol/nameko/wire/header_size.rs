//! Whether a message's header fits into one frame, which AMQP cannot split it over.

use lapin::BasicProperties;
use lapin::types::{AMQPValue, FieldTable};

use super::request::{Unsendable, call_properties};
use crate::call::{Context, Request};
use crate::fault::{Fault, FaultKind};

/// Refuses headers that do not fit into one frame: AMQP cannot split them, and the broker would
/// hang up on everybody. `frame_max` is the largest frame, with what AMQP puts around its content.
pub(in super::super) fn check_headers(
    request: &Request<'_>,
    frame_max: usize,
) -> Result<(), Unsendable> {
    if longest_header(request.context) <= frame_max {
        return Ok(());
    }
    let id = "00000000-0000-0000-0000-000000000000";
    let size = header_frame(&call_properties(request, id, id, true));
    if size <= frame_max {
        return Ok(());
    }
    let message = format!(
        "the call's headers take {size} bytes, and an AMQP frame {frame_max} at most: send shorter \
         ones, or raise `frame_max` in the upstream's `url`; nothing was sent"
    );
    let fault = Fault::not_sent(FaultKind::TooLarge, message);
    Err(Unsendable { reason: "large_headers", fault })
}

/// What AMQP puts around a frame's content.
const FRAME: usize = 8;
/// More than all of a header but the context's own values takes.
const HEADER_WITHOUT_VALUES: usize = 1_024;

/// A bound on what the header of a message takes, found without making it.
fn longest_header(context: &Context) -> usize {
    let length = |value: &Option<String>| value.as_ref().map_or(0, String::len);
    let stack: usize = context.call_ids.iter().map(|id| id.len() + 5).sum();
    // A number of one digit takes nine bytes, and each element of a list its type.
    let baggage = context.baggage.iter().map(|(name, json)| name.len() + 9 * json.as_bytes().len());
    let baggage: usize = baggage.map(|size| size + 32).sum();
    HEADER_WITHOUT_VALUES
        + stack
        + baggage
        + 2 * (context.trace.as_str().len() + length(&context.trace_state))
        + length(&context.request_id)
        + length(&context.language)
        + length(&context.user_agent)
        + length(&context.authorization)
        + length(&context.user_id)
}

/// How many bytes the frame of a message's header takes.
pub(in super::super) fn header_frame(properties: &BasicProperties) -> usize {
    FRAME + header_size(properties)
}

/// How many bytes a content header takes.
fn header_size(properties: &BasicProperties) -> usize {
    let texts = [
        properties.content_type(),
        properties.content_encoding(),
        properties.correlation_id(),
        properties.reply_to(),
        properties.expiration(),
        properties.message_id(),
    ];
    let texts = texts.into_iter().flatten().map(|text| 1 + text.as_str().len());
    let table = properties.headers().iter().flat_map(FieldTable::inner);
    let table = table.map(|(key, value)| 1 + key.as_str().len() + value_size(value));
    let timestamp = properties.timestamp().map_or(0, |_| 8);
    // Class, weight, size of the body, flags; delivery mode and priority; the table's own length.
    2 + 2 + 8 + 2 + 2 + 4 + timestamp + texts.sum::<usize>() + table.sum::<usize>()
}

/// How many bytes a value takes in a table or an array, its type included.
fn value_size(value: &AMQPValue) -> usize {
    1 + match value {
        AMQPValue::LongString(text) => 4 + text.as_bytes().len(),
        AMQPValue::FieldArray(items) => 4 + items.as_slice().iter().map(value_size).sum::<usize>(),
        AMQPValue::FieldTable(table) => {
            let entries = table.inner().iter();
            4 + entries
                .map(|(key, value)| 1 + key.as_str().len() + value_size(value))
                .sum::<usize>()
        }
        AMQPValue::ByteArray(bytes) => 4 + bytes.as_slice().len(),
        AMQPValue::ShortString(text) => 1 + text.as_str().len(),
        AMQPValue::DecimalValue(_) => 5,
        AMQPValue::LongLongInt(_) | AMQPValue::Double(_) | AMQPValue::Timestamp(_) => 8,
        AMQPValue::LongInt(_) | AMQPValue::LongUInt(_) | AMQPValue::Float(_) => 4,
        AMQPValue::ShortInt(_) | AMQPValue::ShortUInt(_) => 2,
        AMQPValue::Boolean(_) | AMQPValue::ShortShortInt(_) | AMQPValue::ShortShortUInt(_) => 1,
        AMQPValue::Void => 0,
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tokio::time::Instant;

    use super::*;
    use crate::call::{Deadline, Params};
    use crate::trace::TraceParent;

    /// AMQP 0-9-1, section 4.2.1, with RabbitMQ's own `x`.
    #[test]
    fn a_value_takes_what_its_type_takes() {
        let bytes = AMQPValue::ByteArray(vec![0; 1_000].into());
        assert_eq!(value_size(&bytes), 1_005);
        assert_eq!(value_size(&AMQPValue::FieldArray(vec![bytes, AMQPValue::Void].into())), 1_011);
        assert_eq!(value_size(&AMQPValue::ShortString("four".into())), 6);
    }

    #[tokio::test(start_paused = true)]
    async fn the_bound_on_a_header_is_one() {
        let trace = TraceParent::generate();
        let full = |text: &str| Context {
            trace_state: Some(text.to_owned()),
            request_id: Some(text.to_owned()),
            language: Some(text.to_owned()),
            user_agent: Some(text.to_owned()),
            authorization: Some(text.to_owned()),
            user_id: Some(text.to_owned()),
            call_ids: vec![text.to_owned(); 12],
            ..Context::new(trace)
        };
        for context in [Context::new(trace), full("x"), full(&"y".repeat(900))] {
            let deadline = Deadline::after(Instant::now(), Duration::from_secs(100_000_000));
            let name = ("orders", "create");
            let request = Request::new(name, &Params::None, &context, deadline);
            let id = "00000000-0000-0000-0000-000000000000";
            let size = header_size(&call_properties(&request, id, id, true));
            let bound = longest_header(&context);
            assert!(size <= bound, "{size} {bound}");
            assert!(check_headers(&request, size + FRAME).is_ok());
            let refused = check_headers(&request, size + FRAME - 1).err();
            assert_eq!(refused.map(|refused| refused.reason), Some("large_headers"));
        }
    }
}
