//! What is fuzzed of WebSocket: the heads of frames.

use super::frame::read_head;

pub(in super::super::super) fn frame(data: &[u8]) {
    if let Ok(Some((_, length))) = read_head(data) {
        assert!(length <= data.len(), "it read beyond the end");
    }
}
