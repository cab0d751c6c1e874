//! The exchanges and queues that are named by what publishers call their events: each is made, and stays. Must not:
//! do I/O.

use std::collections::HashSet;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::address::Target;

/// How many may be named so.
const MOST: usize = 4_096;

/// Those that were, over all connections.
#[derive(Default)]
pub(super) struct Named(Mutex<HashSet<String>>);

impl Named {
    /// Whether an event may go there; else why not.
    pub(super) fn admit(&self, target: &Target) -> Result<(), String> {
        let place = match target {
            Target::Queue(name) => ["queue/", name].concat(),
            Target::Exchange { exchange, .. } => exchange.clone(),
        };
        let mut named = self.lock();
        if named.len() < MOST || named.contains(&place) {
            named.insert(place);
            return Ok(());
        }
        let shown: String = place.chars().take(80).collect();
        Err(format!(
            "`{shown}` would be one of more than {MOST} exchanges and queues that names of events have made: let \
             `$1` stand in the event's name alone, or see who publishes such events"
        ))
    }

    /// Takes over what another one knows.
    pub(super) fn succeed(&self, before: &Self) {
        let known = std::mem::take(&mut *before.lock());
        self.lock().extend(known);
    }

    fn lock(&self) -> MutexGuard<'_, HashSet<String>> {
        // Every use leaves it whole.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn publishers_name_so_many_places_and_no_more() {
        let named = Named::default();
        let queue = |number: usize| Target::Queue(number.to_string());
        for number in 0..MOST {
            assert_eq!(named.admit(&queue(number)), Ok(()));
        }
        let refusal = named.admit(&queue(MOST)).expect_err("one too many");
        assert!(refusal.contains("$1"), "{refusal}");
        assert_eq!(named.admit(&queue(7)), Ok(()), "it is there");
        let next = Named::default();
        next.succeed(&named);
        assert!(next.admit(&queue(MOST)).is_err());
    }
}
