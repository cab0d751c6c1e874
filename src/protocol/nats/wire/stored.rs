//! What a consumer of a stream hands over, and what it is told.
//!
//! A message comes under the subject that it was stored with, and with a reply subject that says where in the
//! stream it is and takes its ack: `$JS.ACK.STREAM.CONSUMER.DELIVERIES.STREAM_SEQ.CONSUMER_SEQ.TIME.PENDING`,
//! or with the domain and the account's hash before the stream and something random at the end (ADR-15). What
//! has a status in its headers is the server's word on a pull (ADR-13, ADR-37).

use std::str;

use super::Message;
use super::consumer::Position;
use super::headers::Headers;
use crate::fnv::Fnv;

const ACKS: &str = "$JS.ACK.";
const LAST_CONSUMER: &str = "Nats-Last-Consumer";
const LAST_STREAM: &str = "Nats-Last-Stream";

/// Where a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::protocol::nats) struct Stored<'a> {
    pub(in crate::protocol::nats) stream: &'a str,
    /// How often it was handed over, this time included.
    pub(in crate::protocol::nats) deliveries: u64,
    /// Its number in the stream.
    pub(in crate::protocol::nats) number: u64,
    /// How many the consumer had handed over by then, to whoever reads it, this one included.
    pub(in crate::protocol::nats) count: u64,
    /// How many were to come.
    pub(in crate::protocol::nats) pending: u64,
    /// When it was stored, in nanoseconds since 1970: the number alone may be another stream's of that name.
    pub(in crate::protocol::nats) time: u64,
}

impl Stored<'_> {
    /// Which one of its stream's it is, as a number: another one of that place was stored at another time.
    pub(in crate::protocol::nats) fn mark(&self) -> u64 {
        Fnv::NEW.and(&self.number.to_le_bytes()).and(&self.time.to_le_bytes()).get()
    }
}

/// What a consumer is told of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Ack {
    /// It is where it was to go.
    Done,
    /// It is to come again.
    Again,
    /// It is still under way.
    Working,
}

impl Ack {
    /// The message's body.
    pub(in crate::protocol::nats) fn word(self) -> &'static str {
        match self {
            Self::Done => "+ACK",
            Self::Again => "-NAK",
            Self::Working => "+WPI",
        }
    }
}

/// What the server says of a pull.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum PullStatus {
    /// It still waits: nothing is there for it. How far the consumer has looked.
    Alive(Option<Position>),
    /// It has ended; another one may bring more.
    Ended,
    /// No other one would.
    Over(String),
}

/// Reads where a message is; `None` where it is none of a stream's.
pub(in crate::protocol::nats) fn stored(reply: &[u8]) -> Option<Stored<'_>> {
    let words: Vec<&str> = str::from_utf8(reply).ok()?.strip_prefix(ACKS)?.split('.').collect();
    let words = match words.len() {
        7 => &words[..],
        9.. => &words[2..],
        _ => return None,
    };
    let [stream, _, deliveries, number, count, time, pending, ..] = words else { return None };
    let number_of = |word: &str| word.parse().ok();
    Some(Stored {
        stream,
        deliveries: number_of(deliveries)?,
        number: number_of(number)?,
        count: number_of(count)?,
        pending: number_of(pending)?,
        time: number_of(time)?,
    })
}

/// The subject by which a consumer is told of a message that an earlier connection was handed: its own count
/// need only be within what it has delivered.
pub(in crate::protocol::nats) fn ack_subject(
    stream: &str,
    consumer: &str,
    number: u64,
    count: u64,
) -> String {
    format!("{ACKS}{stream}.{consumer}.1.{number}.{count}.0.0")
}

/// `PUB SUBJECT SIZE` and the word.
pub(in crate::protocol::nats) fn push_ack(out: &mut Vec<u8>, subject: &[u8], ack: Ack) {
    let word = ack.word();
    out.extend_from_slice(b"PUB ");
    out.extend_from_slice(subject);
    out.extend_from_slice(format!(" {}\r\n{word}\r\n", word.len()).as_bytes());
}

/// `PUB SUBJECT REPLY SIZE` and a pull.
pub(in crate::protocol::nats) fn push_pull(
    out: &mut Vec<u8>,
    subject: &str,
    reply: &str,
    body: &str,
) {
    let lines = format!("PUB {subject} {reply} {}\r\n{body}\r\n", body.len());
    out.extend_from_slice(lines.as_bytes());
}

/// Reads what the server says of a pull; `None` where it is a stored message.
pub(in crate::protocol::nats) fn pull_status(message: &Message) -> Option<PullStatus> {
    // A stored message may have a status of its publisher's; its reply subject is the server's.
    if message.reply.starts_with(ACKS.as_bytes()) {
        return None;
    }
    let headers = Headers::new(&message.headers);
    let words = headers.words();
    let goes_on = ["MaxBytes", "Batch Completed"].iter().any(|known| words.contains(known));
    Some(match headers.status()? {
        100 => PullStatus::Alive(looked(headers)),
        404 | 408 => PullStatus::Ended,
        409 if goes_on => PullStatus::Ended,
        503 => PullStatus::Over("there is no such consumer any more, or no JetStream".to_owned()),
        status => PullStatus::Over(format!("the server ends it: {status} {words}")),
    })
}

/// Up to where a consumer has looked, by its own count and by the stream's.
fn looked(headers: Headers<'_>) -> Option<Position> {
    let number = |name: &str| headers.get(name)?.trim().parse().ok();
    Some(Position { consumer_seq: number(LAST_CONSUMER)?, stream_seq: number(LAST_STREAM)? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_a_message_is() {
        let at = Stored { stream: "S", deliveries: 2, number: 30, count: 4, time: 99, pending: 5 };
        assert_eq!(stored(b"$JS.ACK.S.c.2.30.4.99.5"), Some(at));
        assert_eq!(stored(b"$JS.ACK.domain.hash.S.c.2.30.4.99.5"), Some(at));
        assert_eq!(stored(b"$JS.ACK.domain.hash.S.c.2.30.4.99.5.random"), Some(at));
        for other in
            ["", "_INBOX.x", "$JS.ACK.S.c.2.x.4.99.5", "$JS.ACK.S.c.2.30.4.99", "$JS.ACK.S"]
        {
            assert_eq!(stored(other.as_bytes()), None, "{other}");
        }
        let subject = ack_subject("S", "c", 30, 4);
        let read = stored(subject.as_bytes()).expect("one of its own");
        assert_eq!((read.stream, read.number), ("S", 30));
    }

    #[test]
    fn what_is_written() {
        let mut out = Vec::new();
        push_ack(&mut out, b"$JS.ACK.x", Ack::Done);
        push_ack(&mut out, b"$JS.ACK.y", Ack::Again);
        push_ack(&mut out, b"$JS.ACK.z", Ack::Working);
        push_pull(&mut out, "a", "b", "{}");
        let expected = "PUB $JS.ACK.x 4\r\n+ACK\r\nPUB $JS.ACK.y 4\r\n-NAK\r\nPUB $JS.ACK.z 4\r\n+WPI\r\n\
                        PUB a b 2\r\n{}\r\n";
        assert_eq!(String::from_utf8(out).unwrap(), expected);
    }

    #[test]
    fn what_the_server_says_of_a_pull() {
        let of = |line: &str, reply: &'static str| {
            let headers = format!("{line}\r\n\r\n").into();
            pull_status(&Message { headers, reply: reply.into(), ..Message::default() })
        };
        assert_eq!(of("NATS/1.0 100 Idle Heartbeat", ""), Some(PullStatus::Alive(None)));
        let heartbeat =
            "NATS/1.0 100 Idle Heartbeat\r\nNats-Last-Consumer: 4\r\nNats-Last-Stream: 30";
        let looked = Position { consumer_seq: 4, stream_seq: 30 };
        assert_eq!(of(heartbeat, ""), Some(PullStatus::Alive(Some(looked))));
        for ended in [
            "408 Request Timeout",
            "404 No Messages",
            "409 Message Size Exceeds MaxBytes",
            "409 Batch Completed",
        ] {
            assert_eq!(of(&format!("NATS/1.0 {ended}"), ""), Some(PullStatus::Ended), "{ended}");
        }
        for over in ["409 Consumer Deleted", "503", "409 Leadership Change", "400 Bad Request"] {
            let said = of(&format!("NATS/1.0 {over}"), "");
            assert!(matches!(said, Some(PullStatus::Over(_))), "{over}: {said:?}");
        }
        assert_eq!(of("NATS/1.0", ""), None);
        assert_eq!(
            of("NATS/1.0 503", "$JS.ACK.S.c.2.30.4.99.5"),
            None,
            "a message that was stored"
        );
    }
}
