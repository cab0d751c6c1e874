//! What tells an event that Genkan hands over once more on purpose from one that comes again.
//!
//! Some places drop what they have already (JetStream). The event's id alone would make them drop what another
//! bridge brings there too, or the same one to another address, or a dead letter.

use std::fmt;

use crate::fnv::Fnv;

/// By which way a bridge's events go to a place.
#[derive(Clone, Copy, Debug)]
pub struct Passage(Fnv);

/// Which handing over of an event it is: the same where the same event goes the same way again, and another one
/// wherever it goes by another way. It tells nothing without the event's id.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DedupKey(u64);

impl Passage {
    /// That of events from a place to a target of theirs, as the configuration names both: no two bridges have it.
    pub fn of_events(from: &str, to: &str) -> Self {
        Self::of(["to", from, to])
    }

    /// That of a bridge's dead letters.
    pub fn of_letters(bridge: &str, to: &str) -> Self {
        Self::of(["dead_letter", bridge, to])
    }

    fn of(words: [&str; 3]) -> Self {
        Self(words.iter().fold(Fnv::NEW, |hash, word| hash.and(word.as_bytes()).and(b"\0")))
    }

    /// That of an event: its topic, and which message of its source it is, where that tells.
    pub fn key(&self, topic: &str, message: u64) -> DedupKey {
        DedupKey(self.0.and(topic.as_bytes()).and(&message.to_le_bytes()).get())
    }
}

impl fmt::Display for DedupKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_way_has_a_key_of_its_own_which_stays() {
        let way = Passage::of_events("bus:a.*", "bus:stream/S/b.$1");
        let key = way.key("a.x", 0);
        assert_eq!(key, Passage::of_events("bus:a.*", "bus:stream/S/b.$1").key("a.x", 0));
        assert_eq!(key.to_string(), "20f8c149c3c416c6", "another build has to have the same");
        for other in [
            Passage::of_events("bus:a.*", "bus:stream/S/c.$1").key("a.x", 0),
            Passage::of_events("bus:a.>", "bus:stream/S/b.$1").key("a.x", 0),
            Passage::of_letters("bus:a.*", "bus:stream/S/b.$1").key("a.x", 0),
            way.key("a.y", 0),
            way.key("a.x", 1),
        ] {
            assert_ne!(key, other);
        }
    }
}
