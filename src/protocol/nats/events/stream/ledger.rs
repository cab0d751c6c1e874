//! What was taken of a stream and is not forgotten yet. Must not: do I/O.
//!
//! Acks are not a connection's: what was handed over by one that was lost can be acked over the next one. So
//! it is remembered what is with the bridge, and what is settled, and whatever comes again is told from what
//! is new by its number in the stream and the time when it was stored. What the server has handed over and
//! nobody here has seen was lost on its way: that is asked for again before anything new, so that the order
//! stays (`sweep`).

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;

use super::super::super::wire::{Ack, ConsumerInfo, Position, Stored, StreamInfo};
use super::holes::Holes;

/// How many that are settled are remembered: a server that was killed has forgotten the latest acks.
const MOST_SETTLED: usize = 16_384;
/// How many are asked for again at once.
const MOST_SWEPT: u64 = 16_384;

/// A message of a stream: its number, and when it was stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) number: u64,
    pub(super) time: u64,
}

#[derive(Debug)]
struct Entry {
    time: u64,
    /// Where it is acked; `None` where it is settled, or that was another consumer's.
    reply: Option<Bytes>,
    /// How many bytes are with the bridge; `None` where it is settled.
    held: Option<usize>,
}

/// What is to be done with a message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Taken {
    /// The bridge is to have it.
    New,
    /// The bridge has it.
    Held,
    /// It is settled: it is to be acked again.
    Settled,
}

/// Where a consumer that is made anew has to begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Resumed {
    /// Nothing of the stream has come yet.
    Begins,
    /// With that message.
    At(u64),
    /// The stream is another one by the same name, or has lost its messages: with the first one that it has.
    Another,
    /// Something has come, and nobody says whether it was of this stream.
    Unknown,
}

#[derive(Debug, Default)]
pub(super) struct Ledger {
    entries: BTreeMap<u64, Entry>,
    held: usize,
    held_bytes: usize,
    /// What was asked for again, and has not come yet.
    missing: BTreeSet<u64>,
    /// What an earlier connection was handed ends there.
    swept: u64,
    /// The last one that came.
    last: u64,
    /// When the stream was made.
    stream: Option<String>,
    /// What it has discarded.
    pub(super) holes: Holes,
}

impl Ledger {
    /// How many are with the bridge.
    pub(super) fn held(&self) -> usize {
        self.held
    }

    /// How many bytes.
    pub(super) fn held_bytes(&self) -> usize {
        self.held_bytes
    }

    /// Where those that are with the bridge are acked.
    pub(super) fn held_replies(&self) -> impl Iterator<Item = &Bytes> {
        let held = self.entries.values().filter(|entry| entry.held.is_some());
        held.filter_map(|entry| entry.reply.as_ref())
    }

    /// Where a consumer that is made anew has to begin.
    pub(super) fn resume(&self, stream: &StreamInfo) -> Resumed {
        let has_come = self.last > 0;
        match &self.stream {
            _ if stream.created.is_empty() && has_come => Resumed::Unknown,
            Some(known) if *known == stream.created && self.last <= stream.state.last_seq => {
                let next = self.first_open().unwrap_or(self.last + 1);
                if has_come { Resumed::At(next) } else { Resumed::Begins }
            }
            Some(_) if !stream.created.is_empty() => Resumed::Another,
            None if has_come => Resumed::Unknown,
            _ => Resumed::Begins,
        }
    }

    /// A consumer was made that begins there.
    pub(super) fn begin(&mut self, stream: &StreamInfo, resumed: Resumed) {
        if let Resumed::At(number) = resumed {
            self.holes.begin(number);
            // What was acked over the old one is acked by nobody now.
            self.entries.values_mut().for_each(|entry| entry.reply = None);
        } else {
            let known = self.stream.take();
            let (held, held_bytes) = (self.held, self.held_bytes);
            *self = Self { held, held_bytes, stream: known, ..Self::default() };
        }
        self.see(stream);
    }

    fn see(&mut self, stream: &StreamInfo) {
        if !stream.created.is_empty() {
            self.stream = Some(stream.created.clone());
        }
    }

    /// What another consumer begins with that goes on where this one is.
    pub(super) fn successor(&self) -> Self {
        let last = self.first_open().map_or(self.last, |number| number.saturating_sub(1));
        Self { last, stream: self.stream.clone(), ..Self::default() }
    }

    /// The first one that is not settled, of those that have come or are to come again.
    fn first_open(&self) -> Option<u64> {
        let mut open = self.entries.iter().filter(|(_, entry)| entry.held.is_some());
        let held = open.next().map(|(number, _)| *number);
        held.into_iter().chain(self.missing.first().copied()).min()
    }

    /// Reads how far the consumer is. What is to be told of what an earlier connection was handed, in order.
    pub(super) fn sweep(
        &mut self,
        stream: &StreamInfo,
        consumer: &ConsumerInfo,
    ) -> Vec<(u64, Ack)> {
        self.see(stream);
        let (floor, last) = (consumer.ack_floor.stream_seq, consumer.delivered.stream_seq);
        self.missing.clear();
        self.swept = last;
        if consumer.num_ack_pending == 0 {
            // One that began with what is new goes on from there, though nothing has come yet.
            if self.last == 0 {
                self.last = last;
            }
            return Vec::new();
        }
        let mut told = Vec::new();
        for number in floor + 1..=last.min(floor.saturating_add(MOST_SWEPT)) {
            match self.entries.get(&number) {
                Some(Entry { held: Some(_), .. }) => {}
                Some(Entry { held: None, .. }) => told.push((number, Ack::Done)),
                None => {
                    self.missing.insert(number);
                    told.push((number, Ack::Again));
                }
            }
        }
        told
    }

    /// A message has come.
    pub(super) fn take(&mut self, stored: &Stored<'_>, reply: &Bytes, size: usize) -> Taken {
        let Stored { number, time, deliveries, count, pending, .. } = *stored;
        self.holes.take(Position { consumer_seq: count, stream_seq: number }, pending);
        self.missing.remove(&number);
        if deliveries == 1 && number > self.swept {
            // Those come first that come again.
            self.missing.clear();
        }
        self.last = self.last.max(number);
        if let Some(entry) = self.entries.get_mut(&number).filter(|entry| entry.time == time) {
            entry.reply = Some(reply.clone());
            return if entry.held.is_some() { Taken::Held } else { Taken::Settled };
        }
        self.held += 1;
        self.held_bytes += size;
        let entry = Entry { time, reply: Some(reply.clone()), held: Some(size) };
        self.entries.insert(number, entry);
        self.forget();
        Taken::New
    }

    /// Every target has it: where that is to be said.
    pub(super) fn settle(&mut self, Place { number, time }: Place, size: usize) -> Option<Bytes> {
        self.let_go(size);
        let entry = self.entries.get_mut(&number).filter(|entry| entry.time == time)?;
        entry.held = None;
        // It would keep the buffer that it came in.
        entry.reply.take()
    }

    /// Nobody vouches for it: it is to come again.
    pub(super) fn abandon(&mut self, Place { number, time }: Place, size: usize) {
        self.let_go(size);
        if self.entries.get(&number).is_some_and(|entry| entry.time == time) {
            self.entries.remove(&number);
            self.missing.insert(number);
        }
    }

    fn let_go(&mut self, size: usize) {
        self.held = self.held.saturating_sub(1);
        self.held_bytes = self.held_bytes.saturating_sub(size);
    }

    fn forget(&mut self) {
        while self.entries.len() > MOST_SETTLED + self.held {
            let oldest = self.entries.iter().find(|(_, entry)| entry.held.is_none());
            let Some(number) = oldest.map(|(number, _)| *number) else { return };
            self.entries.remove(&number);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::super::super::wire::{ConsumerConfig, StreamConfig, StreamState};
    use super::*;

    fn stream(created: &str, last_seq: u64) -> StreamInfo {
        let state = StreamState { first_seq: 1, last_seq };
        StreamInfo { created: created.to_owned(), state, config: StreamConfig::default() }
    }

    fn consumer(floor: u64, delivered: u64) -> ConsumerInfo {
        let at = |stream_seq| Position { consumer_seq: stream_seq, stream_seq };
        ConsumerInfo {
            config: ConsumerConfig::default(),
            delivered: at(delivered),
            ack_floor: at(floor),
            num_ack_pending: delivered - floor,
            num_pending: 0,
            num_waiting: 0,
        }
    }

    fn take(ledger: &mut Ledger, number: u64, deliveries: u64) -> Taken {
        let (count, pending, time) = (number, 0, number * 10);
        let stored = Stored { stream: "S", deliveries, number, count, pending, time };
        ledger.take(&stored, &Bytes::from(format!("reply.{number}")), 100)
    }

    fn place(number: u64) -> Place {
        Place { number, time: number * 10 }
    }

    /// Makes a consumer anew.
    fn resume(ledger: &mut Ledger, stream: &StreamInfo) -> Resumed {
        let resumed = ledger.resume(stream);
        ledger.begin(stream, resumed);
        resumed
    }

    #[test]
    fn what_comes_again_is_told_from_what_is_new() {
        let mut ledger = Ledger::default();
        assert_eq!(ledger.sweep(&stream("a", 0), &consumer(0, 0)), []);
        for number in 1..=3 {
            assert_eq!(take(&mut ledger, number, 1), Taken::New);
        }
        assert_eq!((ledger.held(), ledger.held_bytes()), (3, 300));
        assert_eq!(take(&mut ledger, 2, 2), Taken::Held);
        assert_eq!(ledger.settle(place(2), 100).as_deref(), Some(&b"reply.2"[..]));
        assert_eq!(take(&mut ledger, 2, 3), Taken::Settled);
        assert_eq!((ledger.held(), ledger.held_replies().count()), (2, 2));
        // Another message by the same number: the stream is another one.
        let other = Stored { stream: "S", deliveries: 1, number: 2, count: 5, pending: 0, time: 7 };
        assert_eq!(ledger.take(&other, &Bytes::new(), 1), Taken::New);
        assert_eq!(ledger.settle(place(2), 100), None, "that is the other one's now");
    }

    #[test]
    fn what_was_lost_on_its_way_comes_first() {
        let mut ledger = Ledger::default();
        let here = stream("a", 20);
        ledger.sweep(&here, &consumer(0, 0));
        (1..=3).for_each(|number| assert_eq!(take(&mut ledger, number, 1), Taken::New));
        ledger.settle(place(1), 100);
        ledger.settle(place(2), 100);
        // The connection is lost, and with it an ack and two messages.
        let told = ledger.sweep(&here, &consumer(1, 5));
        assert_eq!(told, [(2, Ack::Done), (4, Ack::Again), (5, Ack::Again)]);
        assert_eq!(resume(&mut ledger, &here), Resumed::At(3), "the first that is open");
        assert_eq!(take(&mut ledger, 4, 2), Taken::New);
        ledger.settle(place(3), 100);
        ledger.settle(place(4), 100);
        assert_eq!(resume(&mut ledger, &here), Resumed::At(5));
        assert_eq!(resume(&mut ledger.successor(), &here), Resumed::At(5));
        assert_eq!(take(&mut ledger, 6, 1), Taken::New);
        ledger.settle(place(6), 100);
        assert_eq!(resume(&mut ledger, &here), Resumed::At(7), "5 was not there any more");
    }

    #[test]
    fn another_stream_of_that_name_begins_anew() {
        let mut ledger = Ledger::default();
        assert_eq!(resume(&mut ledger, &stream("a", 20)), Resumed::Begins);
        take(&mut ledger, 8, 1);
        assert_eq!(resume(&mut ledger, &stream("a", 20)), Resumed::At(8));
        assert_eq!(resume(&mut ledger, &stream("b", 20)), Resumed::Another);
        assert_eq!(ledger.held(), 1, "the bridge still has one of the old one");
        assert_eq!(ledger.settle(place(8), 100), None);
        take(&mut ledger, 8, 1);
        assert_eq!(
            resume(&mut ledger, &stream("b", 3)),
            Resumed::Another,
            "it has lost its messages"
        );
        assert_eq!(
            resume(&mut ledger, &stream("c", 3)),
            Resumed::Another,
            "of which nothing has come"
        );
    }

    #[test]
    fn where_nobody_says_which_stream_it_is_nobody_knows_where_to_go_on() {
        let nameless = stream("", 0);
        let mut ledger = Ledger::default();
        assert_eq!(resume(&mut ledger, &nameless), Resumed::Begins);
        take(&mut ledger, 8, 1);
        assert_eq!(resume(&mut ledger, &nameless), Resumed::Unknown);
        take(&mut ledger, 9, 1);
        assert_eq!(resume(&mut ledger, &stream("a", 20)), Resumed::Unknown);
        assert_eq!(resume(&mut ledger, &nameless), Resumed::Begins);
        assert_eq!(resume(&mut ledger, &stream("a", 20)), Resumed::Begins);
    }

    #[test]
    fn one_that_began_with_what_is_new_goes_on_from_there() {
        let mut ledger = Ledger::default();
        ledger.sweep(&stream("a", 20), &consumer(20, 20));
        assert_eq!(resume(&mut ledger, &stream("a", 25)), Resumed::At(21));
    }

    #[test]
    fn what_is_abandoned_comes_again() {
        let mut ledger = Ledger::default();
        let here = stream("a", 20);
        ledger.sweep(&here, &consumer(0, 0));
        take(&mut ledger, 1, 1);
        take(&mut ledger, 2, 1);
        ledger.abandon(place(1), 100);
        assert_eq!(resume(&mut ledger, &here), Resumed::At(1));
        assert_eq!(ledger.sweep(&here, &consumer(0, 2)), [(1, Ack::Again)]);
        assert_eq!(take(&mut ledger, 1, 2), Taken::New);
    }

    #[test]
    fn what_is_remembered_is_bounded() {
        let mut ledger = Ledger::default();
        for number in 1..=3 * MOST_SETTLED as u64 {
            take(&mut ledger, number, 1);
            ledger.settle(place(number), 100);
        }
        assert!(ledger.entries.len() <= MOST_SETTLED + 1);
    }
}
