//! Streams of JetStream that take requests in, and answer them with receipts in the place of a service.

use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;

use super::ask::ask;
use super::generation::Generation;
use super::wire::{self, ShownStream};

/// The answer of JetStream's API that names streams.
#[derive(Deserialize)]
struct Streams {
    #[serde(default)]
    streams: Option<Vec<String>>,
}

/// What is wrong where a stream takes requests in: its receipt comes back in the place of the
/// service's answer, and usually first (WIRE, section 8).
pub(super) async fn streams(generation: &Generation, subject: &str) -> Option<String> {
    let question = json!({"subject": subject}).to_string();
    let answer = ask(generation, "$JS.API.STREAM.NAMES", question).await.ok()?;
    let Streams { streams } = serde_json::from_slice(&answer.payload).ok()?;
    let mut names = Vec::new();
    for name in streams.unwrap_or_default() {
        if sends_receipts(generation, &name).await {
            names.push(format!("`{name}`"));
        }
    }
    if names.is_empty() {
        return None;
    }
    let (streams, s) = (names.join(", "), if names.len() == 1 { "s" } else { "" });
    Some(format!(
        "JetStream's {streams} store{s} what is sent to `{subject}`, and answer{s} in the place of the \
         service: take the subject out of the stream, or set its `no_ack`"
    ))
}

/// Whether a stream tells whoever sends something that it has it. Where nobody may ask, it does as
/// nearly all do.
async fn sends_receipts(generation: &Generation, name: &str) -> bool {
    let answer = ask(generation, &wire::stream_info(name), Bytes::new()).await.ok();
    let shown = answer.and_then(|it| wire::api_answer::<ShownStream>(&it).ok());
    shown.is_none_or(|shown| shown.sends_receipts())
}
