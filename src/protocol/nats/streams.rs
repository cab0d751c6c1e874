//! Streams of JetStream that take requests in, and answer them with receipts in the place of a service.

use std::collections::BTreeSet;

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
    let (mut names, mut stored) = (Vec::new(), BTreeSet::new());
    for name in streams.unwrap_or_default() {
        let shown = shown(generation, &name).await;
        // Where nobody may ask, it does as nearly all do.
        if shown.as_ref().is_none_or(ShownStream::sends_receipts) {
            names.push(format!("`{name}`"));
            let spelt = shown.as_ref().and_then(|shown| shown.spelt_out(subject));
            let taken = spelt.filter(|taken| !taken.is_empty()).unwrap_or_else(|| vec![subject]);
            stored.extend(taken.into_iter().map(|subject| format!("`{subject}`")));
        }
    }
    if names.is_empty() {
        return None;
    }
    let stored = stored.into_iter().collect::<Vec<_>>().join(", ");
    let (streams, s) = (names.join(", "), if names.len() == 1 { "s" } else { "" });
    Some(format!(
        "JetStream's {streams} store{s} what is sent to {stored}, and answer{s} in the place of the \
         service: take the subject out of the stream, or set its `no_ack`"
    ))
}

/// A stream, where it may be looked at.
async fn shown(generation: &Generation, name: &str) -> Option<ShownStream> {
    let answer = ask(generation, &wire::stream_info(name), Bytes::new()).await.ok()?;
    wire::api_answer::<ShownStream>(&answer).ok()
}
