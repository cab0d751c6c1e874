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

/// What a text takes beside its bytes: what counts who holds it.
const BESIDE_TEXT: usize = 32;

/// What an event takes beside its texts: itself, counted, and its place in a ring, which has room for some more.
const BESIDE: usize =
    room(size_of::<Told>() + 2 * size_of::<usize>()) + size_of::<Arc<Told>>() * 3 / 2;

/// What the allocator gives for so many bytes: it has four sizes between each power of two and the next, and none
/// nearer to another than 16.
const fn room(bytes: usize) -> usize {
    let step = bytes.next_power_of_two() / 8;
    bytes.next_multiple_of(if step > 16 { step } else { 16 })
}

/// How many bytes all events take that are in rings, or wait for listeners: each once, however many those are.
#[derive(Clone, Debug, Default)]
pub(super) struct Alive(Arc<Taken>);

#[derive(Debug, Default)]
struct Taken {
    /// As [costs](Told::cost).
    events: AtomicUsize,
    /// Beside those, once somebody listens to a stream of events.
    frames: AtomicUsize,
}

impl Alive {
    /// By the events.
    pub(super) fn bytes(&self) -> usize {
        self.0.events.load(Ordering::Relaxed)
    }

    /// By what is written out of them for streams of events.
    pub(super) fn frames(&self) -> usize {
        self.0.frames.load(Ordering::Relaxed)
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
        let frames =
            self.frames.iter().filter_map(OnceLock::get).map(|frame| text_cost(frame.len()));
        self.alive.0.frames.fetch_sub(frames.sum(), Ordering::Relaxed);
        self.alive.0.events.fetch_sub(self.cost(), Ordering::Relaxed);
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
        let notification = exact(text);
        let (frames, alive) = ([const { OnceLock::new() }; 2], alive.clone());
        let told = Self { topic, id, number, notification, frames, alive };
        told.alive.0.events.fetch_add(told.cost(), Ordering::Relaxed);
        told
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

    /// How many bytes are told of it.
    pub fn size(&self) -> usize {
        self.notification.len()
    }

    /// How many bytes of memory it takes to keep it, but for what is written out of it for streams of events.
    pub(super) fn cost(&self) -> usize {
        BESIDE + text_cost(self.size())
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
            let frame = exact(text);
            self.alive.0.frames.fetch_add(text_cost(frame.len()), Ordering::Relaxed);
            frame
        });
        frame.clone()
    }
}

/// A text without the room that was left for more.
fn exact(text: Vec<u8>) -> Bytes {
    Bytes::from(text.into_boxed_slice())
}

/// What a text takes.
fn text_cost(length: usize) -> usize {
    room(length) + BESIDE_TEXT
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn room_is_that_of_the_allocators_sizes() {
        let sizes = [1, 16, 17, 128, 129, 168, 193, 257, 513, 5_000];
        assert_eq!(sizes.map(room), [16, 16, 32, 128, 160, 192, 224, 320, 640, 5_120]);
    }
}
