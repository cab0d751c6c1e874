//! Topics that had to be forgotten though somebody listens to them by name: who does, for the day when they come
//! back. There are never many more than listeners have names.

use std::collections::HashMap;
use std::sync::{Arc, Weak};

use super::subscription::Listener;
use crate::route::pattern::Pattern;

/// From so many on, those whose listeners have gone are looked for.
const MANY: usize = 1_024;

/// Who listens to what is not known.
#[derive(Default)]
pub(super) struct Absent {
    listeners: HashMap<Arc<str>, Vec<Weak<Listener>>>,
    /// How many there were when those were taken out last whose listeners have gone.
    left: usize,
}

impl Absent {
    /// Somebody listens to a topic that is not known any more.
    pub(super) fn enter(
        &mut self,
        name: &Arc<str>,
        listeners: impl Iterator<Item = Weak<Listener>>,
    ) {
        let listeners: Vec<_> = listeners.collect();
        if listeners.is_empty() {
            return;
        }
        if self.listeners.len() >= MANY.max(2 * self.left) {
            self.retain(|_, listener| listener.strong_count() > 0);
            self.left = self.listeners.len();
        }
        self.listeners.entry(Arc::clone(name)).or_default().extend(listeners);
    }

    /// A topic comes back: who listens to it.
    pub(super) fn take(&mut self, name: &str) -> Vec<Arc<Listener>> {
        let listeners = self.listeners.remove(name).unwrap_or_default();
        listeners.iter().filter_map(Weak::upgrade).collect()
    }

    /// Somebody listens to these names no more.
    pub(super) fn leave(&mut self, listener: &Arc<Listener>, names: &[Pattern]) {
        for name in names.iter().filter(|name| name.is_literal()) {
            let Some(listeners) = self.listeners.get_mut(name.as_str()) else { continue };
            listeners.retain(|other| !std::ptr::eq(other.as_ptr(), Arc::as_ptr(listener)));
            if listeners.is_empty() {
                self.listeners.remove(name.as_str());
            }
        }
    }

    /// Keeps those who may listen on.
    pub(super) fn retain(&mut self, may: impl Fn(&str, &Weak<Listener>) -> bool) {
        self.listeners.retain(|name, listeners| {
            listeners.retain(|listener| may(name, listener));
            !listeners.is_empty()
        });
    }

    /// The topics, and who listens to them.
    pub(super) fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Vec<Weak<Listener>>)> {
        self.listeners.iter()
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.listeners.len()
    }
}
