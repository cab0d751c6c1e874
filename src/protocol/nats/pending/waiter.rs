//! Who waits in the table, how far its message has got, and how the wait ends.

use std::sync::Arc;

use tokio::sync::{mpsc, oneshot};

use super::super::wire::{Message, Unkept};

/// How a wait ends.
#[derive(Debug)]
pub(in super::super) enum Answer {
    /// With a reply.
    Reply(Message),
    /// With a reply that was not taken in.
    Unkept(Unkept),
    /// The server has read the notification, and let it pass.
    Taken,
    /// The server does not let us publish to the subject.
    Denied,
    /// The generation has ended.
    Lost {
        /// Whether the message may have reached the server.
        sent: bool,
    },
}

/// An entry of the table.
pub(super) struct Waiter {
    pub(super) subject: Arc<str>,
    pub(super) sender: Sender,
    pub(super) stage: Stage,
}

/// How far a message has got.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// It waits to be written.
    Held,
    /// It may have been, and a reply is waited for.
    AwaitsReply,
    /// It may have been, and the connection's server is to say that it has read it.
    AwaitsServer,
}

impl Waiter {
    /// Whether the message may have been written.
    pub(super) fn was_sent(&self) -> bool {
        self.stage != Stage::Held
    }

    /// Whether a part of the answer has come.
    pub(super) fn has_a_part(&self) -> bool {
        matches!(self.sender, Sender::Last(_, Some(_)))
    }

    /// Tells who waits that the connection has ended.
    pub(super) fn end(self) {
        let sent = self.was_sent();
        // Who has stopped waiting need not be told.
        let _told = self.sender.send(Answer::Lost { sent });
    }
}

/// Where the answer goes.
pub(super) enum Sender {
    /// For the one answer to a call.
    One(oneshot::Sender<Answer>),
    /// For as many answers to an inquiry as there is room for.
    Many(mpsc::Sender<Answer>),
    /// For the last value of an answer that has several.
    Last(oneshot::Sender<Answer>, Option<Box<Message>>),
}

impl Sender {
    /// False where nobody waits any more, or there is no room.
    pub(super) fn send(self, answer: Answer) -> bool {
        match self {
            Sender::One(sender) => sender.send(answer).is_ok(),
            Sender::Many(sender) => sender.try_send(answer).is_ok(),
            Sender::Last(sender, _) => sender.send(answer).is_ok(),
        }
    }
}
