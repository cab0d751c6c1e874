//! What is fuzzed of the hub: the lines that modules send.

use std::hint::black_box;

use super::wire::{CallId, Frame, Key, Line, mend, scan};
use crate::fuzzing::Target;

pub(in crate::protocol) const TARGETS: [Target; 1] = [("hub_line", line)];

fn line(data: &[u8]) {
    match scan(data) {
        Line::Object(members) => {
            let frame = Frame::new(members);
            black_box((frame.frame_type().ok(), frame.request_id(), frame.object(Key::Arguments)));
            crate::fuzzing::is_json(frame.line().as_bytes());
        }
        Line::Broken(head) => {
            if let Some(mended) = mend(data, &head) {
                assert!(matches!(scan(&mended), Line::Object(_)), "it was mended to be one");
            }
        }
        Line::Other | Line::Blank | Line::TooDeep(_) => {}
    }
    if let Ok(text) = std::str::from_utf8(data) {
        black_box(CallId::parse(text));
    }
}
