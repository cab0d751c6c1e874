//! Whether whoever vouches for somebody still does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};

use super::Identity;

/// Whether those who were known by one source still are. Shared by all of them.
#[derive(Clone, Debug, Default)]
pub struct Standing(Arc<Source>);

#[derive(Debug, Default)]
struct Source {
    is_withdrawn: AtomicBool,
    is_changed: AtomicBool,
    /// What it makes known now, where that has changed. Whoever keeps the source's table holds it.
    now: Mutex<Weak<Identity>>,
}

impl Standing {
    /// They are not, from now on.
    pub fn withdraw(&self) {
        self.0.is_withdrawn.store(true, Ordering::Relaxed);
    }

    /// Whether they are not.
    pub fn is_withdrawn(&self) -> bool {
        self.0.is_withdrawn.load(Ordering::Relaxed)
    }

    /// The same ones are known as this from now on, which shares the standing.
    pub fn change(&self, identity: &Arc<Identity>) {
        *self.0.now.lock().unwrap_or_else(PoisonError::into_inner) = Arc::downgrade(identity);
        self.0.is_changed.store(true, Ordering::Release);
    }

    /// Other rules are in force. What each of them is known as by those, what it showed has to tell.
    pub fn supersede(&self) {
        self.0.is_changed.store(true, Ordering::Release);
    }

    /// Whether they are to be looked at again.
    pub(super) fn is_changed(&self) -> bool {
        self.0.is_changed.load(Ordering::Acquire)
    }

    /// As what they are known now, where the source tells.
    pub(super) fn now(&self) -> Option<Arc<Identity>> {
        self.0.now.lock().unwrap_or_else(PoisonError::into_inner).upgrade()
    }
}
