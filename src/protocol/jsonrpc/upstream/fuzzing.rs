//! What is fuzzed of the answers of services.

use bytes::Bytes;
use http::{HeaderMap, StatusCode};

use super::wire;

pub(in super::super) fn answer(data: &[u8]) {
    let headers = HeaderMap::new();
    for status in [StatusCode::OK, StatusCode::INTERNAL_SERVER_ERROR] {
        let received = (status, &headers, Bytes::copy_from_slice(data));
        if let Ok(reply) = wire::decode("a.b", (7, "mark"), received).result {
            crate::fuzzing::is_json(reply.payload.as_bytes());
        }
        let received = (status, &headers, Bytes::copy_from_slice(data));
        drop(wire::decode_receipt("a.b", received).result);
    }
}
