//! The inboxes that one connection carries: its own, and those of predecessors whose servers have
//! said goodbye, for as long as somebody waits there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::mailbox::{Carried, Mailbox};
use super::pending::Answer;
use super::wire;

/// The subscription's id of a connection's own inbox.
pub(super) const OWN: u64 = 1;
/// How many predecessors' inboxes are carried: each is a server that has gone within the time of
/// one call.
const MOST_INHERITED: usize = 16;

/// The inboxes.
pub(super) struct Inboxes {
    own: Arc<Mailbox>,
    carried: Mutex<Carrying>,
}

struct Carrying {
    /// The own one is the first.
    inboxes: Vec<Carried>,
    last_sid: u64,
}

impl Inboxes {
    /// Those of a connection that has subscribed to `own`.
    pub(super) fn new(own: Arc<Mailbox>) -> Self {
        let inboxes = vec![Carried::new(Arc::clone(&own), OWN)];
        Self { own, carried: Mutex::new(Carrying { inboxes, last_sid: OWN }) }
    }

    /// The connection's own.
    pub(super) fn own(&self) -> &Mailbox {
        &self.own
    }

    /// Hands an answer to who waits for it. False where nobody does (any more), and that means
    /// something: while two connections carry an inbox, each answer comes twice.
    pub(super) fn deliver(&self, subject: &[u8], answer: Answer) -> bool {
        if let Some(token) = self.own.token(subject) {
            return self.own.pending().answer(token, answer) || self.own.is_shared();
        }
        let Some(mailbox) = self.inherited(subject) else { return false };
        let token = mailbox.token(subject).unwrap_or_default();
        mailbox.pending().answer(token, answer) || mailbox.is_shared()
    }

    /// The subject of the call that waits for what comes to `subject`, and goes on waiting.
    pub(super) fn called(&self, subject: &[u8]) -> Option<Arc<str>> {
        let called = |mailbox: &Mailbox| mailbox.pending().subject(mailbox.token(subject)?);
        called(&self.own).or_else(|| called(&*self.inherited(subject)?))
    }

    fn inherited(&self, subject: &[u8]) -> Option<Arc<Mailbox>> {
        let carrying = self.carrying();
        let mut inherited = carrying.inboxes.iter().skip(1).map(|carried| &carried.mailbox);
        inherited.find(|mailbox| mailbox.token(subject).is_some()).map(Arc::clone)
    }

    /// Carries a predecessor's too. Gives the lines to write.
    pub(super) fn inherit(&self, predecessor: &Self) -> Vec<u8> {
        let theirs = predecessor.carrying();
        let is_awaited = |carried: &&Carried| {
            // A call may be about to enter that still sees the predecessor.
            carried.sid == OWN || !carried.mailbox.pending().is_empty()
        };
        let mailboxes: Vec<_> = theirs
            .inboxes
            .iter()
            .filter(is_awaited)
            .map(|carried| Arc::clone(&carried.mailbox))
            .take(MOST_INHERITED)
            .collect();
        drop(theirs);
        let mut lines = Vec::new();
        let mut carrying = self.carrying();
        for mailbox in mailboxes {
            carrying.last_sid += 1;
            let sid = carrying.last_sid;
            wire::subscribe(&mut lines, &mailbox.subscription(), None, sid);
            carrying.inboxes.push(Carried::new(mailbox, sid));
        }
        lines
    }

    /// Lets those go that nobody waits in any more, and no other connection carries. Gives the lines
    /// to write.
    pub(super) fn prune(&self) -> Vec<u8> {
        let mut lines = Vec::new();
        self.carrying().inboxes.retain(|Carried { mailbox, sid }| {
            let is_kept = *sid == OWN || mailbox.is_shared() || !mailbox.pending().is_empty();
            if !is_kept {
                wire::unsubscribe(&mut lines, *sid);
            }
            is_kept
        });
        lines
    }

    /// The server does not let us subscribe. False where that is the own inbox.
    pub(super) fn refused(&self, subscription: &str) -> bool {
        let mut carrying = self.carrying();
        let before = carrying.inboxes.len();
        carrying.inboxes.retain(|Carried { mailbox, sid }| {
            *sid == OWN || mailbox.subscription() != subscription
        });
        carrying.inboxes.len() < before
    }

    /// Whether nobody waits.
    pub(super) fn are_empty(&self) -> bool {
        self.carrying().inboxes.iter().all(|carried| carried.mailbox.pending().is_empty())
    }

    /// The connection has ended. What waits for a reply in an inbox that another one carries goes on
    /// waiting.
    pub(super) fn end(&self) {
        self.own.pending().disconnect();
        self.carrying().inboxes.clear();
    }

    fn carrying(&self) -> MutexGuard<'_, Carrying> {
        // Every use leaves the list whole.
        self.carried.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::super::pending::{Pending, Seat};
    use super::super::wire::Message;
    use super::*;
    use crate::call::Departure;

    fn inboxes(name: &str) -> Inboxes {
        Inboxes::new(Mailbox::new(format!("_INBOX.{name}.")))
    }

    fn call(inboxes: &Inboxes) -> (Seat<'_>, Vec<u8>) {
        let departure: &Departure = Box::leak(Box::default());
        let pending: &Pending = inboxes.own().pending();
        let seat = pending.register("a.b".into(), departure.hold()).expect("open");
        assert!(pending.sending(seat.key(), true));
        let subject = inboxes.own().reply_subject(seat.key());
        (seat, subject.into_bytes())
    }

    fn reply() -> Answer {
        Answer::Reply(Message::default())
    }

    #[tokio::test]
    async fn a_successor_brings_the_answers() {
        let (first, second, third) = (inboxes("1"), inboxes("2"), inboxes("3"));
        let ((seat, subject), (late, late_subject)) = (call(&first), call(&first));
        assert!(!second.deliver(&subject, reply()));
        assert_eq!(second.inherit(&first), b"SUB _INBOX.1.* 2\r\n");
        assert!(second.deliver(&subject, reply()));
        assert!(first.deliver(&subject, reply()), "the same answer by the other way");
        assert!(matches!(seat.answer().await, Answer::Reply(_)));
        assert_eq!(second.called(&late_subject).as_deref(), Some("a.b"));
        assert_eq!(second.prune(), b"", "the first one carries it too");
        first.end();
        assert_eq!(second.prune(), b"", "somebody waits there");
        assert!(!second.are_empty());
        // The successor's server goes too.
        assert_eq!(third.inherit(&second), b"SUB _INBOX.2.* 2\r\nSUB _INBOX.1.* 3\r\n");
        second.end();
        assert!(third.deliver(&late_subject, reply()));
        assert!(matches!(late.answer().await, Answer::Reply(_)));
        assert!(!third.deliver(&late_subject, reply()), "a late reply");
        assert_eq!(third.prune(), b"UNSUB 2\r\nUNSUB 3\r\n");
    }

    #[tokio::test]
    async fn what_nobody_carries_ends() {
        let (first, second) = (inboxes("1"), inboxes("2"));
        let ((seat, _), (own, _)) = (call(&first), call(&second));
        second.inherit(&first);
        assert!(!second.refused("_INBOX.2.*") && second.refused("_INBOX.1.*"));
        first.end();
        assert!(matches!(seat.answer().await, Answer::Lost { sent: true }));
        second.end();
        assert!(matches!(own.answer().await, Answer::Lost { sent: true }));
    }
}
