//! What the log is told of replies that the broker does not take: who is to be answered where, callers
//! say, and so as many lines as they like must not come of it.

use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::time::Instant;
use tracing::warn;

use super::replier::Refused;
use crate::flood::Flood;
use crate::trace::TraceParent;

/// How many services are told apart.
const MOST: usize = 256;
/// What stands for the others.
const OTHERS: &str = "others";

/// The replies that were not sent lately, by their services.
pub(super) struct Unsent {
    upstream: String,
    seen: Mutex<Flood<(String, Refused)>>,
}

impl Unsent {
    pub(super) fn new(upstream: &str) -> Self {
        Self { upstream: upstream.to_owned(), seen: Mutex::new(Flood::new(MOST)) }
    }

    /// A reply to a call of `service` cannot be sent.
    pub(super) fn tell(&self, service: &str, reply_to: &str, trace: &TraceParent, why: Refused) {
        let others = |(_, why)| (OTHERS.to_owned(), why);
        if !self.seen().admits((service.to_owned(), why), others, Instant::now()) {
            return;
        }
        let (upstream, trace_id) = (&self.upstream, trace.trace_id());
        let reply_to: String = reply_to.chars().take(80).collect();
        let (reason, mend) = (why.reason(), why.mend());
        warn!(
            upstream,
            service, reply_to, trace_id, reason, mend, "a reply could not be sent to its caller"
        );
    }

    /// Writes the sums of floods that have ended, of all of them where `all` is set. To be called every
    /// second or so.
    pub(super) fn sum_up(&self, all: bool) {
        let sums = self.seen().sums((!all).then(Instant::now));
        for ((service, why), more) in sums {
            let (upstream, reason) = (&self.upstream, why.reason());
            warn!(
                upstream,
                service, reason, more, "more replies could not be sent to their callers"
            );
        }
    }

    fn seen(&self) -> MutexGuard<'_, Flood<(String, Refused)>> {
        // Every use leaves the counts whole.
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Refused {
    fn reason(self) -> &'static str {
        match self {
            Self::TooLarge => "it is larger than rabbitmq takes",
            Self::NoWay => "rabbitmq does not permit to publish it there, or has no such place",
            Self::Full => "its caller's reply queue takes no more: rabbitmq has refused to keep it",
        }
    }

    fn mend(self) -> &'static str {
        match self {
            Self::TooLarge => "raise the broker's `max_message_size`",
            Self::NoWay => {
                "give Genkan's user permissions to write to the exchange and to the topic of the \
                 caller's `reply_to` (rabbitmqctl set_permissions, set_topic_permissions), or mend the \
                 caller"
            }
            Self::Full => {
                "see why the caller does not read its replies, or raise `max-length` where its queue has \
                 `reject-publish`; where it has none, look into rabbitmq's log"
            }
        }
    }
}
