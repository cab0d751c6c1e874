//! What a stream has discarded before it was taken, by its limits or a purge: told from the numbers that are left
//! out. Must not: do I/O.
//!
//! Each message has its number in the stream, and one by which the consumer has counted it, whoever reads it. Where
//! all of a stream is wanted, a number that was left out and not counted is gone; as many may be as were left out
//! before anybody began to read. Where some subjects of it are,
//! numbers are left out all the time; then it matters where the stream begins: what it had between the last one
//! that was taken and its first one may have been wanted. That is asked only where Genkan was away or had no room:
//! who takes what comes as it comes misses nothing.

use std::time::Duration;

use tokio::time::Instant;

use super::super::super::wire::{ConsumerConfig, Position, StreamInfo, StreamState};

/// How long it is kept at least until the next one is told.
const PAUSE: Duration = Duration::from_secs(1);
/// What begins the names of streams that keep the latest of each key.
const BUCKETS: [&str; 2] = ["KV_", "OBJ_"];

/// What the numbers that are left out say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Sight {
    /// All of the stream is wanted: that they were discarded.
    Whole,
    /// Some of it is: that they may have been.
    Part,
    /// Nothing: the stream replaces what it has, or nobody shows it.
    #[default]
    Nothing,
}

/// What was discarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Gap {
    /// So many.
    Lost(u64),
    /// Nobody knows how many, or whether any was wanted.
    Perhaps,
}

#[derive(Debug, Default)]
pub(super) struct Holes {
    sight: Sight,
    /// Up to where all was handed over or told; `None` until that is known.
    reached: Option<Position>,
    /// It was not taken as it came, and is not all taken yet.
    is_behind: bool,
    /// How many of the numbers to come were left out before this began; `None` until that is known.
    excused: Option<u64>,
    /// What is to be told.
    lost: u64,
    perhaps: bool,
    /// What came before numbers were left out, of which the stream's beginning tells more.
    suspect: Option<u64>,
    told: Option<Instant>,
    asked: Option<Instant>,
}

impl Sight {
    /// What a consumer sees of a stream.
    pub(super) fn of(name: &str, stream: &StreamInfo, consumer: &ConsumerConfig) -> Self {
        let config = &stream.config;
        let is_bucket = BUCKETS.iter().any(|begin| name.starts_with(begin));
        let replaces = is_bucket
            || config.max_msgs_per_subject == 1
            || consumer.deliver_policy == "last_per_subject";
        if stream.created.is_empty() || replaces {
            return Self::Nothing;
        }
        let takes_all = matches!(&*consumer.filter_subject, "" | ">");
        let is_whole = takes_all && consumer.filter_subjects.is_empty() && config.mirror.is_none();
        // From others than those of limits, what other consumers have taken goes, and makes room for nothing.
        let has_limits_alone = matches!(&*config.retention, "" | "limits");
        match (is_whole, has_limits_alone) {
            (true, _) => Self::Whole,
            (false, true) => Self::Part,
            (false, false) => Self::Nothing,
        }
    }
}

impl Holes {
    /// The next one that comes of a consumer that is made anew is that, or one behind it.
    pub(super) fn begin(&mut self, number: u64) {
        let reached = self.reached.map_or(0, |reached| reached.stream_seq);
        let stream_seq = reached.max(number.saturating_sub(1));
        (self.reached, self.excused) = (Some(Position { consumer_seq: 0, stream_seq }), None);
    }

    /// Reads how far the consumer is, how many are still to come over it, and what the stream has.
    pub(super) fn set_up(
        &mut self,
        sight: Sight,
        stream: &StreamState,
        delivered: Position,
        pending: u64,
    ) {
        let Position { consumer_seq: count, stream_seq: number } = delivered;
        let begins = stream.first_seq;
        let gone = begins.saturating_sub(1);
        self.excused.get_or_insert_with(|| {
            stream.last_seq.saturating_sub(number.max(gone)).saturating_sub(pending)
        });
        (self.sight, self.is_behind, self.suspect) = (sight, true, None);
        let reached = self.reached.unwrap_or(delivered);
        let handed = count.saturating_sub(reached.consumer_seq);
        // A purge moves the consumer on, and so does whoever else reads it.
        let others = if handed > 0 || number >= begins { number } else { 0 };
        let upto = reached.stream_seq.max(number).max(gone);
        // Another gateway has made it anew, and read it since.
        let is_anew = count < reached.consumer_seq;
        let from = if is_anew { reached.stream_seq.max(number) } else { reached.stream_seq };
        let left_out = self.excuse((upto - from).saturating_sub(handed));
        match sight {
            Sight::Whole => self.lost += left_out,
            Sight::Part => self.perhaps |= gone > reached.stream_seq.max(others),
            Sight::Nothing => {}
        }
        self.reached = Some(Position { consumer_seq: count, stream_seq: upto });
    }

    /// A message has come; how many are still to come, by then.
    pub(super) fn take(&mut self, at: Position, pending: u64) {
        let Some(reached) = &mut self.reached else { return };
        if at.stream_seq <= reached.stream_seq {
            // It comes again: one more that the consumer has counted.
            reached.consumer_seq = (reached.consumer_seq + 1).min(at.consumer_seq);
        } else {
            self.advance(at);
        }
        self.is_behind &= pending > 0;
    }

    /// Nothing waits, and the server has looked up to there.
    pub(super) fn rest(&mut self, at: Option<Position>) {
        let reached = self.reached.map_or(u64::MAX, |reached| reached.stream_seq);
        if let Some(at) = at.filter(|at| at.stream_seq > reached) {
            self.advance(at);
        }
        self.is_behind = false;
    }

    /// There is no room for what comes.
    pub(super) fn falls_behind(&mut self) {
        self.is_behind = true;
    }

    fn advance(&mut self, at: Position) {
        let Some(reached) = self.reached.replace(at) else { return };
        let passed = at.stream_seq - reached.stream_seq;
        let left_out = passed.saturating_sub(at.consumer_seq.saturating_sub(reached.consumer_seq));
        let left_out = self.excuse(left_out);
        match self.sight {
            Sight::Whole => self.lost += left_out,
            Sight::Part if self.is_behind && left_out > 0 => {
                self.suspect.get_or_insert(reached.stream_seq);
            }
            Sight::Part | Sight::Nothing => {}
        }
    }

    /// What of that many that were left out was not before this began.
    fn excuse(&mut self, left_out: u64) -> u64 {
        let Some(excused) = &mut self.excused else { return left_out };
        let before = left_out.min(*excused);
        *excused -= before;
        left_out - before
    }

    /// What is to be told now: not a thousand times in a second.
    pub(super) fn due(&mut self) -> Option<Gap> {
        if (self.lost == 0 && !self.perhaps) || has_just_been(&mut self.told) {
            return None;
        }
        let lost = std::mem::take(&mut self.lost);
        let perhaps = std::mem::take(&mut self.perhaps);
        Some(if perhaps { Gap::Perhaps } else { Gap::Lost(lost) })
    }

    /// Whether it is to be asked now where the stream begins, for the sake of that number.
    pub(super) fn question(&mut self) -> Option<u64> {
        if self.suspect.is_none() || has_just_been(&mut self.asked) {
            return None;
        }
        self.suspect.take()
    }

    /// Behind that number it has left some out, and begins there now.
    pub(super) fn answer(&mut self, number: u64, begins: u64) {
        self.perhaps |= begins > number + 1;
    }
}

/// Whether it was a moment ago; else it is now.
fn has_just_been(last: &mut Option<Instant>) -> bool {
    let now = Instant::now();
    let is_early = last.is_some_and(|last| now.duration_since(last) < PAUSE);
    if !is_early {
        *last = Some(now);
    }
    is_early
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(first_seq: u64) -> StreamState {
        StreamState { first_seq, last_seq: 1_000 }
    }

    /// Sets up over one that is so far, of a stream that begins there and has left out nothing behind.
    fn set_up(holes: &mut Holes, sight: Sight, first_seq: u64, delivered: Position) {
        let pending = 1_000 - delivered.stream_seq.max(first_seq - 1);
        holes.set_up(sight, &stream(first_seq), delivered, pending);
    }

    fn at(consumer_seq: u64, stream_seq: u64) -> Position {
        Position { consumer_seq, stream_seq }
    }

    /// One that has had all up to that one, and is up to date.
    fn holes(sight: Sight, reached: Position) -> Holes {
        let mut holes = Holes::default();
        set_up(&mut holes, sight, 1, reached);
        holes.rest(None);
        assert_eq!(holes.due(), None);
        holes
    }

    #[test]
    fn what_is_left_out_of_a_whole_stream_was_discarded() {
        let mut all = holes(Sight::Whole, at(3, 3));
        all.take(at(4, 4), 0);
        assert_eq!(all.due(), None);
        all.take(at(5, 17), 2);
        assert_eq!(all.due(), Some(Gap::Lost(12)));
        // Another gateway was handed those.
        all.take(at(8, 20), 0);
        // One that comes again, and the next one.
        all.take(at(9, 18), 0);
        all.take(at(10, 21), 0);
        all.rest(Some(at(10, 21)));
        assert_eq!(all.due(), None);
        all.rest(Some(at(10, 22)));
        assert_eq!((all.lost, all.due()), (1, None), "not twice within a second");
        for sight in [Sight::Part, Sight::Nothing] {
            let mut some = holes(sight, at(3, 3));
            some.take(at(4, 17), 0);
            assert_eq!((some.due(), some.question()), (None, None), "{sight:?}");
        }
    }

    #[test]
    fn what_was_discarded_while_nobody_was_there() {
        let back = |sight, first, delivered| {
            let mut holes = holes(sight, at(3, 3));
            set_up(&mut holes, sight, first, delivered);
            holes.due()
        };
        let lost = |count| Some(Gap::Lost(count));
        assert_eq!(back(Sight::Whole, 16, at(3, 3)), lost(12), "by its limits");
        assert_eq!(
            back(Sight::Whole, 21, at(3, 20)),
            lost(17),
            "by a purge, which moves the consumer"
        );
        assert_eq!(back(Sight::Whole, 11, at(10, 10)), None, "another gateway has had them");
        assert_eq!(
            back(Sight::Whole, 2, at(8, 8)),
            None,
            "those were lost on their way, and come again"
        );
        assert_eq!(back(Sight::Whole, 2, at(1, 1)), None, "the server has forgotten");
        assert_eq!(back(Sight::Part, 16, at(3, 3)), Some(Gap::Perhaps));
        assert_eq!(back(Sight::Part, 21, at(3, 20)), Some(Gap::Perhaps));
        assert_eq!(back(Sight::Part, 4, at(3, 3)), None);
        assert_eq!(back(Sight::Part, 16, at(3, 20)), None, "another gateway is there");
        assert_eq!(back(Sight::Nothing, 16, at(3, 3)), None);
        // Genkan was started anew.
        let mut new = Holes::default();
        set_up(&mut new, Sight::Whole, 16, at(5, 10));
        assert_eq!(new.due(), lost(5));
        // Its consumer is made anew.
        let mut again = holes(Sight::Whole, at(3, 3));
        again.begin(4);
        set_up(&mut again, Sight::Whole, 6, at(0, 5));
        assert_eq!(again.due(), lost(2));
        again.take(at(1, 6), 0);
        assert_eq!(again.lost, 0);
    }

    #[test]
    fn what_was_gone_before_it_began_to_read_is_nobodys_loss() {
        // Of a thousand numbers, seven were left out.
        let mut new = Holes::default();
        new.set_up(Sight::Whole, &stream(1), at(0, 0), 993);
        new.take(at(1, 1), 900);
        new.take(at(2, 7), 800);
        assert_eq!(new.due(), None);
        // One that is lost on its way to a connection that ends.
        new.set_up(Sight::Whole, &stream(1), at(3, 10), 990);
        assert_eq!(new.due(), None);
        new.take(at(4, 13), 0);
        assert_eq!(new.due(), Some(Gap::Lost(2)));
        // Its consumer is made anew, before others that were left out before.
        let mut again = holes(Sight::Whole, at(3, 3));
        again.begin(4);
        again.set_up(Sight::Whole, &stream(1), at(0, 3), 990);
        again.take(at(1, 11), 0);
        assert_eq!(again.due(), None);
    }

    #[test]
    fn what_others_read_is_nobodys_loss() {
        // Another gateway has made the consumer anew, and read it.
        let mut behind = holes(Sight::Whole, at(35, 35));
        set_up(&mut behind, Sight::Whole, 1, at(5, 40));
        assert_eq!(behind.due(), None);
        set_up(&mut behind, Sight::Whole, 44, at(5, 40));
        assert_eq!(behind.due(), Some(Gap::Lost(3)));
        // A new leader has forgotten how far it was, and counts the same ones again.
        let mut same = holes(Sight::Whole, at(100, 100));
        for number in 96..=101 {
            same.take(at(number, number), 0);
        }
        assert_eq!(same.due(), None);
    }

    #[test]
    fn of_some_subjects_it_is_asked_where_the_stream_begins() {
        let mut some = holes(Sight::Part, at(3, 3));
        some.falls_behind();
        some.take(at(4, 10), 5);
        some.take(at(5, 20), 0);
        some.take(at(6, 30), 0);
        assert_eq!((some.question(), some.question()), (Some(3), None));
        some.answer(3, 4);
        assert_eq!(some.due(), None, "those that it has left out are there");
        some.answer(3, 5);
        assert_eq!(some.due(), Some(Gap::Perhaps));
    }

    #[test]
    fn what_a_consumer_sees() {
        let of = |name: &str, stream: &str, consumer: &str| {
            let stream: StreamInfo =
                serde_json::from_str(&format!("{{\"created\":\"a\",\"config\":{stream}}}"))
                    .unwrap();
            Sight::of(name, &stream, &serde_json::from_str(consumer).unwrap())
        };
        let whole = r#"{"ack_policy":"explicit"}"#;
        assert_eq!(of("S", r#"{"max_msgs_per_subject":-1}"#, whole), Sight::Whole);
        assert_eq!(of("S", "{}", r#"{"filter_subject":">"}"#), Sight::Whole);
        assert_eq!(of("S", "{}", r#"{"filter_subject":"a.*"}"#), Sight::Part);
        assert_eq!(of("S", "{}", r#"{"filter_subjects":["a.*"]}"#), Sight::Part);
        assert_eq!(of("S", r#"{"mirror":{"name":"O"}}"#, whole), Sight::Part);
        let queue = r#"{"retention":"workqueue"}"#;
        assert_eq!(of("S", queue, whole), Sight::Whole);
        assert_eq!(of("S", queue, r#"{"filter_subject":"a.*"}"#), Sight::Nothing);
        assert_eq!(of("KV_conf", r#"{"max_msgs_per_subject":5}"#, whole), Sight::Nothing);
        assert_eq!(of("S", r#"{"max_msgs_per_subject":1}"#, whole), Sight::Nothing);
        assert_eq!(of("S", "{}", r#"{"deliver_policy":"last_per_subject"}"#), Sight::Nothing);
    }
}
