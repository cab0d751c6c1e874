//! An inbox and the calls that wait for what comes into it.
//!
//! A connection subscribes to an inbox of its own. One that takes over from a server that says
//! goodbye subscribes to its predecessor's too: a reply reaches it wherever in the cluster it is
//! published. So an inbox ends with the last connection that carries it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::pending::Pending;
use crate::token::Token;

/// The inbox's name, and who waits.
pub(super) struct Mailbox {
    /// The reply subjects' common part, which ends in a dot.
    prefix: String,
    pending: Pending,
    carriers: AtomicUsize,
}

impl Mailbox {
    /// One that nobody carries yet. `prefix` ends in a dot.
    pub(super) fn new(prefix: String) -> Arc<Self> {
        Arc::new(Self { prefix, pending: Pending::default(), carriers: AtomicUsize::new(0) })
    }

    /// The calls that wait.
    pub(super) fn pending(&self) -> &Pending {
        &self.pending
    }

    /// What a connection subscribes to.
    pub(super) fn subscription(&self) -> String {
        [&self.prefix, "*"].concat()
    }

    /// The reply subject of a call.
    pub(super) fn reply_subject(&self, key: u64) -> String {
        let mut subject = String::with_capacity(self.prefix.len() + Token::HEX);
        subject.push_str(&self.prefix);
        self.pending.token(key).push_hex(&mut subject);
        subject
    }

    /// The call's part of a subject in this inbox.
    pub(super) fn token<'a>(&self, subject: &'a [u8]) -> Option<&'a [u8]> {
        subject.strip_prefix(self.prefix.as_bytes())
    }

    /// Whether more than one connection carries it: then each reply comes more than once.
    pub(super) fn is_shared(&self) -> bool {
        self.carriers.load(Ordering::Relaxed) > 1
    }
}

/// A connection's part in an inbox.
pub(super) struct Carried {
    /// The inbox.
    pub(super) mailbox: Arc<Mailbox>,
    /// The subscription's id.
    pub(super) sid: u64,
}

impl Carried {
    /// Enters a connection that subscribes as `sid`.
    pub(super) fn new(mailbox: Arc<Mailbox>, sid: u64) -> Self {
        mailbox.carriers.fetch_add(1, Ordering::Relaxed);
        Self { mailbox, sid }
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        if self.mailbox.carriers.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.mailbox.pending.end();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::{Answer, Closed};
    use super::*;
    use crate::call::Departure;

    #[tokio::test]
    async fn it_ends_with_the_last_connection() {
        let mailbox = Mailbox::new("_INBOX.x.".to_owned());
        assert_eq!(mailbox.subscription(), "_INBOX.x.*");
        let departure = Departure::default();
        let seat = mailbox.pending().register("a.b".into(), departure.hold()).expect("open");
        assert!(mailbox.pending().sending(seat.key(), true));
        let subject = mailbox.reply_subject(seat.key());
        assert!(mailbox.token(b"_INBOX.y.1").is_none());
        assert_eq!(mailbox.token(subject.as_bytes()), subject.as_bytes().get(9..));

        let first = Carried::new(Arc::clone(&mailbox), 1);
        assert!(!mailbox.is_shared());
        let second = Carried::new(Arc::clone(&mailbox), 2);
        assert!(mailbox.is_shared());
        drop(first);
        assert!(!mailbox.is_shared() && !mailbox.pending().is_empty());
        drop(second);
        assert!(matches!(seat.answer().await, Answer::Lost { sent: true }));
        let closed = mailbox.pending().register("a.b".into(), departure.hold()).err();
        assert_eq!(closed, Some(Closed::Ended));
    }
}
