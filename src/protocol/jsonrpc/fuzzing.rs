//! What is fuzzed of JSON-RPC: bodies of requests, and what comes with them.

use bytes::Bytes;

use super::envelope::{self, Envelope};
use super::{http, upstream};
use crate::fuzzing::Target;

pub(in crate::protocol) const TARGETS: [Target; 4] = [
    ("envelope", envelope),
    ("http_headers", http::fuzzing::headers),
    ("websocket_frame", http::fuzzing::frame),
    ("jsonrpc_answer", upstream::fuzzing::answer),
];

fn envelope(data: &[u8]) {
    let body = Bytes::copy_from_slice(data);
    if let Ok(Envelope::Batch(entries)) = envelope::parse(&body, 100) {
        assert!(!entries.is_empty(), "an empty batch is refused");
    }
    if let Ok(params) = envelope::parse_bare(&body) {
        crate::fuzzing::are_json(&params);
    }
}
