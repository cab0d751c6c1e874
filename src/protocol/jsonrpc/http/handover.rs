//! What a connection goes on as, when HTTP has ended on it.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::events::Listener;
use super::websocket::Opening;

/// Where an answer leaves what its connection goes on as.
#[derive(Clone, Default)]
pub(super) struct Handover(Arc<Inside>);

#[derive(Default)]
struct Inside {
    next: Mutex<Option<Next>>,
    /// It is to be taken from hyper, which would go on for ever.
    is_under_way: AtomicBool,
}

/// What a connection goes on as.
pub(super) enum Next {
    /// When hyper has written the answer and ended.
    WebSocket(Opening),
    /// When hyper has written all that it was given of the answer.
    Events(Box<Listener>),
}

impl Handover {
    pub(super) fn leave(&self, next: Next) {
        let is_under_way = matches!(next, Next::Events(_));
        *self.0.next.lock().unwrap_or_else(PoisonError::into_inner) = Some(next);
        self.0.is_under_way.store(is_under_way, Ordering::Release);
    }

    /// Whether the answer goes on without hyper.
    pub(super) fn is_under_way(&self) -> bool {
        self.0.is_under_way.load(Ordering::Acquire)
    }

    pub(super) fn take(&self) -> Option<Next> {
        self.0.next.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}
