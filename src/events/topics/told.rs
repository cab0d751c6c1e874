//! An event as it is told: written out once.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::SystemTime;

use bytes::Bytes;

use crate::call::Payload;
use crate::units::format_timestamp;

/// What stands before an event's members in a notification of JSON-RPC's.
const HEAD: &str = r#"{"jsonrpc":"2.0","method":"event","params":"#;

/// What the numbers among all are raised by in a stream of events, so that none is taken for a topic's own id, whatever
/// the reader comes back to. None comes near it in this century, and JavaScript's numbers hold both.
pub(super) const AMONG_ALL: u64 = 1 << 52;

/// How many bytes all events take that are in rings, or wait for listeners: each once, however many those are.
#[derive(Clone, Debug, Default)]
pub(super) struct Alive(Arc<AtomicUsize>);

impl Alive {
    pub(super) fn bytes(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

/// An event of a topic.
pub struct Told {
    topic: Arc<str>,
    id: u64,
    number: u64,
    /// A notification of JSON-RPC's.
    notification: Bytes,
    /// An event of Server-Sent Events, under its topic's number, and under its number among all.
    frames: [OnceLock<Bytes>; 2],
    alive: Alive,
}

impl Drop for Told {
    fn drop(&mut self) {
        self.alive.0.fetch_sub(self.size(), Ordering::Relaxed);
    }
}

impl Told {
    /// An event that is the topic's `id`th, and `number`th of all.
    pub(super) fn new(
        topic: Arc<str>,
        (id, number): (u64, u64),
        data: &Payload,
        time: SystemTime,
        alive: &Alive,
    ) -> Self {
        let data = data.as_bytes();
        let mut text = Vec::with_capacity(HEAD.len() + data.len() + topic.len() + 80);
        text.extend_from_slice(HEAD.as_bytes());
        text.extend_from_slice(b"{\"topic\":");
        text.extend_from_slice(Payload::from_text(&topic).as_bytes());
        text.extend_from_slice(b",\"id\":");
        text.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
        text.extend_from_slice(b",\"data\":");
        text.extend_from_slice(data);
        text.extend_from_slice(b",\"time\":\"");
        text.extend_from_slice(format_timestamp(time).as_bytes());
        text.extend_from_slice(b"\"}}");
        let notification = Bytes::from(text);
        alive.0.fetch_add(notification.len(), Ordering::Relaxed);
        let (frames, alive) = ([const { OnceLock::new() }; 2], alive.clone());
        Self { topic, id, number, notification, frames, alive }
    }

    /// Its topic.
    pub fn topic(&self) -> &Arc<str> {
        &self.topic
    }

    /// Which event of its topic it is. They count up, one by one.
    pub fn id(&self) -> u64 {
        self.id
    }

    /// Which event it is among those of all topics. They count up.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// How many bytes it takes.
    pub fn size(&self) -> usize {
        self.notification.len()
    }

    /// It, as a notification of JSON-RPC's.
    pub fn notification(&self) -> Bytes {
        self.notification.clone()
    }

    /// It, as an event of a stream of them (HTML Living Standard, 9.2): `by_number` where the
    /// listener counts by the number among all.
    pub fn frame(&self, by_number: bool) -> Bytes {
        let frame = self.frames[usize::from(by_number)].get_or_init(|| {
            let members = &self.notification[HEAD.len()..self.notification.len() - 1];
            let id = if by_number { AMONG_ALL + self.number } else { self.id };
            let mut text = Vec::with_capacity(members.len() + 40);
            text.extend_from_slice(b"id: ");
            text.extend_from_slice(itoa::Buffer::new().format(id).as_bytes());
            // A line break is white space of JSON's, and ends a line of the stream.
            for line in members.split(|byte| matches!(byte, b'\n' | b'\r')) {
                text.extend_from_slice(b"\ndata: ");
                text.extend_from_slice(line);
            }
            text.extend_from_slice(b"\n\n");
            Bytes::from(text)
        });
        frame.clone()
    }
}
