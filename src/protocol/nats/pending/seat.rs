//! A call's and an inquiry's place in the table: whoever drops it leaves nothing behind.

use tokio::sync::{mpsc, oneshot};

use super::Pending;
use super::waiter::Answer;
use crate::call::Held;

/// An inquiry's place in the table.
pub(in super::super) struct Gathering<'a> {
    pending: &'a Pending,
    key: u64,
    receiver: mpsc::Receiver<Answer>,
}

impl<'a> Gathering<'a> {
    /// Its inquiry was entered under that key.
    pub(super) fn new(pending: &'a Pending, key: u64, receiver: mpsc::Receiver<Answer>) -> Self {
        Self { pending, key, receiver }
    }

    /// The inquiry's place in the table.
    pub(in super::super) fn key(&self) -> u64 {
        self.key
    }

    /// The next answer; `None` after the end.
    pub(in super::super) async fn next(&mut self) -> Option<Answer> {
        self.receiver.recv().await
    }
}

impl Drop for Gathering<'_> {
    fn drop(&mut self) {
        self.pending.table().waiters.remove(&self.key);
    }
}

/// A call's place in the table.
pub(in super::super) struct Seat<'a> {
    pending: &'a Pending,
    key: u64,
    receiver: oneshot::Receiver<Answer>,
    /// There until the end is known.
    held: Option<Held<'a>>,
}

impl<'a> Seat<'a> {
    /// Its call, which `held` says has not left, was entered under that key.
    pub(super) fn new(
        pending: &'a Pending,
        key: u64,
        receiver: oneshot::Receiver<Answer>,
        held: Held<'a>,
    ) -> Self {
        Self { pending, key, receiver, held: Some(held) }
    }

    /// The call's place in the table.
    pub(in super::super) fn key(&self) -> u64 {
        self.key
    }

    /// Waits for the end.
    pub(in super::super) async fn answer(mut self) -> Answer {
        let answer = (&mut self.receiver).await;
        if let Some(held) = self.held.take() {
            held.release();
        }
        // The sender goes with an answer, always.
        answer.unwrap_or(Answer::Lost { sent: true })
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let Some(held) = self.held.take() else { return };
        let waiter = self.pending.table().waiters.remove(&self.key);
        match waiter {
            Some(waiter) if waiter.has_a_part() => held.release_answered(),
            // What was not written by now never will be.
            Some(waiter) if !waiter.was_sent() => {}
            _ => held.release(),
        }
    }
}
