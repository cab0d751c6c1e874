//! Juno's frames (WIRE, section 3), in and out: one JSON object a line.
//!
//! - `members` are a frame's keys and values, `scan` reads a line into them.
//! - `skim` tells whom a line is from that is not read, because it is too long or too deep.
//! - `frame` is what came in, its values still raw text.
//! - `outgoing` writes what goes out, straight into a connection's queue.
//! - `fault` is the two tables between faults and Juno's numbers.
//!
//! Payloads (`arguments`, `data`) and keys that nobody here knows pass as the bytes they came in.

pub(super) mod fault;
mod frame;
mod members;
pub(super) mod outgoing;
pub(super) mod scan;
mod skim;

pub(super) use frame::{Frame, FrameType, text};
pub(super) use members::Key;
pub(super) use outgoing::{CallId, OutgoingFrame, Rest};
pub(super) use scan::{Line, mend, scan};
pub(super) use skim::{Head, MAX_REQUEST_ID, Skim};

/// Juno's error numbers (WIRE 3.1).
pub(super) mod number {
    /// Malformed request.
    pub(in crate::protocol::juno) const MALFORMED: i64 = 0;
    /// The request's id is missing or no string.
    pub(in crate::protocol::juno) const INVALID_REQUEST_ID: i64 = 1;
    /// A request of a type that nobody knows. What has no number of its own has this one.
    pub(in crate::protocol::juno) const UNKNOWN_REQUEST: i64 = 2;
    /// The module has not registered, or waits for its dependencies.
    pub(in crate::protocol::juno) const UNREGISTERED: i64 = 3;
    /// No such module.
    pub(in crate::protocol::juno) const UNKNOWN_MODULE: i64 = 4;
    /// No such function.
    pub(in crate::protocol::juno) const UNKNOWN_FUNCTION: i64 = 5;
    /// The id is taken, or the connection has one already.
    pub(in crate::protocol::juno) const DUPLICATE_MODULE: i64 = 7;
}
