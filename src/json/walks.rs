//! For tests: how much of text has been walked.

use std::cell::Cell;

thread_local! {
    static BYTES: Cell<usize> = const { Cell::new(0) };
}

/// A text of that many bytes is walked.
pub(super) fn add(bytes: usize) {
    BYTES.set(BYTES.get() + bytes);
}

/// How many bytes this thread has walked while it did that. A text that was walked twice counts
/// twice.
pub(crate) fn bytes_walked<T>(work: impl FnOnce() -> T) -> (T, usize) {
    let before = BYTES.get();
    let done = work();
    (done, BYTES.get() - before)
}
