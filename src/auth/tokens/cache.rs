//! Tokens that were verified, by their hashes. Of two generations, of which the older one is forgotten
//! when the younger one is full: what is used stays, and nothing has to be sorted.

use std::collections::HashMap;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::caller::Identity;

/// How many each generation holds.
const LARGEST: usize = 8_192;

type Generation = HashMap<[u8; 32], Arc<Identity>>;

#[derive(Default)]
pub(super) struct Cache(Mutex<Generations>);

#[derive(Default)]
struct Generations {
    young: Generation,
    old: Generation,
}

impl Cache {
    /// Whom a token made known before.
    pub(super) fn get(&self, digest: &[u8; 32]) -> Option<Arc<Identity>> {
        let mut all = self.lock();
        if let Some(known) = all.young.get(digest) {
            return Some(Arc::clone(known));
        }
        let known = all.old.remove(digest)?;
        let forgotten = all.put(*digest, Arc::clone(&known));
        drop(all);
        drop(forgotten);
        Some(known)
    }

    /// Keeps whom a token makes known.
    pub(super) fn put(&self, digest: [u8; 32], identity: Arc<Identity>) {
        let forgotten = self.lock().put(digest, identity);
        // Thousands, which take a while to free: nobody waits for that.
        drop(forgotten);
    }

    fn lock(&self) -> MutexGuard<'_, Generations> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Generations {
    /// What is forgotten for it.
    fn put(&mut self, digest: [u8; 32], identity: Arc<Identity>) -> Generation {
        let mut forgotten = Generation::default();
        if self.young.len() >= LARGEST {
            // As many will come again.
            let young = Generation::with_capacity(LARGEST);
            forgotten = mem::replace(&mut self.old, mem::replace(&mut self.young, young));
        }
        self.young.insert(digest, identity);
        forgotten
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::caller::Scheme;

    #[test]
    fn what_is_used_stays_and_what_is_kept_is_bounded() {
        let cache = Cache::default();
        let digest = |number: usize| {
            let mut digest = [0; 32];
            digest[..8].copy_from_slice(&number.to_le_bytes());
            digest
        };
        let known = Arc::new(Identity::new(Scheme::Token, "x"));
        for number in 0..5 * LARGEST {
            cache.put(digest(number), Arc::clone(&known));
            assert!(cache.get(&digest(0)).is_some(), "used all the time: {number}");
        }
        let all = cache.lock();
        assert!(all.young.len() + all.old.len() <= 2 * LARGEST);
        assert!(!all.young.contains_key(&digest(1)) && !all.old.contains_key(&digest(1)));
    }
}
