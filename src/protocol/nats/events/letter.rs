//! Events that wait to be written to one connection, in the order in which they were handed over.
//!
//! They are as many as bridges have under way together, which bounds them. One that goes to a subject is
//! written once: the server's `PONG` says that it has read it, and a connection that ends before has lost it,
//! at most once. One that goes to a stream is confirmed by that, and is handed over again where it is not.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::timeout;

use super::super::outbox::Publication;
use super::super::wire::{Confirmed, Unstored};
use crate::event::Undelivered;

/// How long a stream may take to say that it has stored an event: then it is sent again, by the same id.
const CONFIRM: Duration = Duration::from_secs(10);

/// An event on its way to the writer.
pub(in super::super) struct Letter {
    publication: Publication,
    seat: Seat,
}

/// Who waits for an event's end. Dropped, the event has gone if it was written, and goes to no stream.
pub(in super::super) struct Seat {
    subject: Arc<str>,
    /// The stream that is to have it.
    stream: Option<Arc<str>>,
    is_written: bool,
    sender: Option<oneshot::Sender<Result<Confirmed, Unstored>>>,
}

/// What will be said of an event.
pub(in super::super) struct Vouched {
    told: oneshot::Receiver<Result<Confirmed, Unstored>>,
    stream: Option<Arc<str>>,
}

impl Letter {
    /// An event, and what will be said of it: by a stream, where it is for one.
    pub(in super::super) fn new(
        publication: Publication,
        stream: Option<Arc<str>>,
    ) -> (Self, Vouched) {
        let (sender, told) = oneshot::channel();
        let subject = Arc::clone(&publication.subject);
        let seat =
            Seat { subject, stream: stream.clone(), is_written: false, sender: Some(sender) };
        (Self { publication, seat }, Vouched { told, stream })
    }

    /// Whether it is still to be written: who has dropped the future will hand it over again.
    pub(in super::super) fn is_awaited(&self) -> bool {
        self.seat.is_awaited()
    }

    /// It is written from now on, and is not taken back.
    pub(in super::super) fn written(mut self) -> (Publication, Seat) {
        self.seat.is_written = true;
        (self.publication, self.seat)
    }
}

impl Seat {
    /// Whether a stream is to confirm it.
    pub(in super::super) fn is_for_stream(&self) -> bool {
        self.stream.is_some()
    }

    /// Whether somebody waits.
    pub(in super::super) fn is_awaited(&self) -> bool {
        self.sender.as_ref().is_some_and(|sender| !sender.is_closed())
    }

    /// A stream has answered: what it says of its name and the subject.
    pub(super) fn receipt(mut self, read: impl FnOnce(&str, &str) -> Result<Confirmed, Unstored>) {
        if let (Some(stream), Some(sender)) = (&self.stream, self.sender.take()) {
            // Who has stopped waiting need not be told.
            let _told = sender.send(read(stream, &self.subject));
        }
    }

    /// The server does not permit its subject. False where it is another one's.
    pub(in super::super) fn deny(&mut self, subject: &str) -> bool {
        if *self.subject != *subject {
            return false;
        }
        let Some(sender) = self.sender.take() else { return false };
        let reason =
            format!("NATS does not permit Genkan to publish to `{subject}`: allow its user to");
        // Who has stopped waiting need not be told.
        let _told = sender.send(Err(Undelivered::Refused(reason).into()));
        true
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let has_gone = self.is_written && self.stream.is_none();
        if let Some(sender) = self.sender.take().filter(|_| has_gone) {
            let _told = sender.send(Ok(Confirmed::New));
        }
    }
}

impl Vouched {
    /// Waits for it.
    pub(in super::super) async fn wait(self) -> Result<Confirmed, Unstored> {
        let lost = || Undelivered::Unreachable("the connection to NATS was lost".to_owned()).into();
        let Some(stream) = &self.stream else {
            return self.told.await.unwrap_or_else(|_| Err(lost()));
        };
        match timeout(CONFIRM, self.told).await {
            Ok(told) => told.unwrap_or_else(|_| Err(lost())),
            Err(_) => Err(Undelivered::Unreachable(format!(
                "the stream `{stream}` has not confirmed it within {CONFIRM:?}: is it there, and without \
                 `no_ack`?"
            ))
            .into()),
        }
    }
}
