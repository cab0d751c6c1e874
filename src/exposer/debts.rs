//! What is owed: calls that were taken and are not answered, and queues and subscriptions over which
//! more may come.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The counts. An exposer has them over all of its connections.
#[derive(Default)]
pub struct Debts {
    calls: Arc<AtomicUsize>,
    consumers: Arc<AtomicUsize>,
}

impl Debts {
    /// A call that has been taken, until that is dropped.
    pub fn call(&self) -> Debt {
        Debt::new(&self.calls)
    }

    /// A queue that is consumed or a subscription, until that is dropped.
    pub fn consumer(&self) -> Debt {
        Debt::new(&self.consumers)
    }

    /// How many calls are.
    pub fn calls(&self) -> usize {
        self.calls.load(Ordering::Acquire)
    }

    /// How many queues and subscriptions are.
    pub fn consumers(&self) -> usize {
        self.consumers.load(Ordering::Acquire)
    }
}

/// Something that is owed.
pub struct Debt(Arc<AtomicUsize>);

impl Debt {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::AcqRel);
        Self(Arc::clone(count))
    }
}

impl Drop for Debt {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}
