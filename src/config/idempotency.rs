//! `[idempotency]`, and `idempotency` of a row: calls that are known again by a key.

use std::time::Duration;

use super::section::Section;
use super::validate::Rows;
use crate::route::idempotency::{Idempotency, Room};
use crate::units::format_duration;

/// How long an answer is kept where nobody says.
const TTL: Duration = Duration::from_secs(86_400);
/// A key takes some 300 bytes.
const MOST_KEYS: usize = 10_000_000;

/// Reads `idempotency` of a row whose calls take so long at most.
pub(super) fn read(section: &mut Section<'_>, timeout: Duration) -> Option<Idempotency> {
    let is_there = section.has("idempotency");
    let mut section = section.section("idempotency");
    let ttl = section.duration("ttl", TTL);
    let required = section.flag("required", false);
    if is_there && ttl < timeout {
        let message = format!(
            "`ttl` in {}: an answer is forgotten after {}, sooner than a call may take ({}): whoever \
             repeats one that took long runs it again: raise it",
            section.title(),
            format_duration(ttl),
            format_duration(timeout)
        );
        section.warn("ttl", message);
    }
    is_there.then_some(Idempotency { ttl, required })
}

/// Reads `[idempotency]`.
pub(super) fn read_room(root: &mut Section<'_>, rows: &Rows) -> Room {
    let Room { max_keys, max_bytes } = Room::default();
    let mut section = root.section("idempotency");
    let room = Room {
        max_keys: section.count("max_keys", max_keys, 1, MOST_KEYS),
        max_bytes: section.size("max_bytes", max_bytes),
    };
    drop(section);
    let uses = |rule: &crate::route::Rule| rule.idempotency.is_some();
    let is_used = rows.rules().iter().any(|rule| rule.as_ref().is_none_or(uses));
    if room != Room::default() && !is_used && root.is_of_a_whole() {
        let message = "[idempotency]: no [[routes]] row keeps answers: add [routes.idempotency] \
                       below those whose calls are to run once";
        root.warn("idempotency", message);
    }
    room
}
