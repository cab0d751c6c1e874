//! What is fuzzed of Nameko: AMQP's frames before lapin reads them, replies, and requests.

use bytes::Bytes;
use lapin::BasicProperties;

use super::wire::frames::{Found, Sieve};
use super::wire::incoming;
use super::wire::reply::{self, Delivered, Rules};
use crate::fuzzing::Target;

pub(in crate::protocol) const TARGETS: [Target; 3] =
    [("amqp_frames", frames), ("nameko_reply", reply), ("nameko_request", request)];

/// What lapin is handed grows by no more than what the mends of its headers take.
fn frames(data: &[u8]) {
    let mut sieve = Sieve::new(1 << 16, 1 << 16);
    let mut bytes = data.to_vec();
    let mut passed = 0;
    while !bytes.is_empty() {
        let (clean, found) = sieve.look(&mut bytes);
        passed += clean;
        bytes.drain(..clean);
        match found {
            Found::Clean | Found::More => break,
            Found::Instead(mended, left_out) => {
                assert!(left_out <= bytes.len() && (left_out > 0 || !mended.is_empty()));
                bytes.drain(..left_out);
            }
        }
    }
    assert!(passed <= data.len());
}

/// Results, exceptions and the values that kombu tags.
fn reply(data: &[u8]) {
    for keep_tagged in [false, true] {
        let delivered = Delivered {
            properties: BasicProperties::default(),
            body: Bytes::copy_from_slice(data),
        };
        let rules = Rules { keep_tagged, largest: 1 << 20 };
        if let Ok(reply) = reply::decode(delivered, "mailer", "send", rules).result {
            crate::fuzzing::is_json(reply.payload.as_bytes());
        }
    }
}

fn request(data: &[u8]) {
    for keep_tagged in [false, true] {
        if let Ok(read) = incoming::read(&Bytes::copy_from_slice(data), None, keep_tagged) {
            crate::fuzzing::are_json(&read.params);
        }
    }
}
