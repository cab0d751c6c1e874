//! What goes on, for whoever waits.

use std::io::{IsTerminal, Write, stderr};

/// Shows it, on a terminal only, in one line that the next one replaces.
pub(crate) fn note(text: &str) {
    let mut out = stderr().lock();
    if out.is_terminal() {
        // Progress that cannot be shown is no reason to end a run.
        let _shown = write!(out, "\r\x1b[K{text}").and_then(|()| out.flush());
    }
}
