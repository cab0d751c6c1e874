//! What streams say of the events that they were to store, and who waits for that. Must not: do I/O.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::super::wire::{self, Message};
use super::letter::Seat;

/// From so many on, those that nobody waits for any more are looked for.
const MANY: usize = 1_024;

/// The events of one connection that streams are to confirm.
pub(in super::super) struct Receipts {
    /// The reply subjects' common part, which ends in a dot.
    inbox: String,
    table: Mutex<Table>,
}

#[derive(Default)]
struct Table {
    seats: HashMap<u64, Seat>,
    last: u64,
    is_subscribed: bool,
    has_ended: bool,
}

impl Receipts {
    /// None yet. Receipts come to subjects that begin so.
    pub(in super::super) fn new(inbox_prefix: &str) -> Self {
        let inbox = format!("{inbox_prefix}.{:032x}.", fastrand::u128(..));
        Self { inbox, table: Mutex::default() }
    }

    /// What is to be subscribed to, where it is not yet.
    pub(in super::super) fn subscribe(&self) -> Option<String> {
        let mut table = self.table();
        let was_subscribed = std::mem::replace(&mut table.is_subscribed, true);
        (!was_subscribed).then(|| format!("{}*", self.inbox))
    }

    /// Enters an event that is about to be written: where its receipt is to come to.
    pub(in super::super) fn enter(&self, seat: Seat) -> String {
        let mut table = self.table();
        if table.seats.len() >= MANY {
            table.seats.retain(|_, seat| seat.is_awaited());
        }
        table.last += 1;
        let number = table.last;
        if !table.has_ended {
            table.seats.insert(number, seat);
        }
        format!("{}{number}", self.inbox)
    }

    /// A receipt has come.
    pub(in super::super) fn take(&self, message: &Message) {
        let number = message.subject.strip_prefix(self.inbox.as_bytes());
        let number = number.and_then(|number| std::str::from_utf8(number).ok()?.parse().ok());
        let seat = number.and_then(|number: u64| self.table().seats.remove(&number));
        if let Some(seat) = seat {
            seat.receipt(|stream, subject| wire::confirmed(message, stream, subject));
        }
    }

    /// The server does not permit a subject. False where nobody waits for one.
    pub(in super::super) fn deny(&self, subject: &str) -> bool {
        self.table().seats.values_mut().any(|seat| seat.deny(subject))
    }

    /// Whether nobody waits.
    pub(in super::super) fn are_empty(&self) -> bool {
        !self.table().seats.values().any(Seat::is_awaited)
    }

    /// The connection has ended: nobody knows what became of them.
    pub(in super::super) fn end(&self) {
        let mut table = self.table();
        table.has_ended = true;
        table.seats.clear();
    }

    fn table(&self) -> MutexGuard<'_, Table> {
        // Every use leaves it whole.
        self.table.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
