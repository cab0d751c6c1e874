//! What a server sends, one operation at a time: `INFO`, `PING`, `PONG`, `+OK`, `-ERR`, `MSG` and
//! `HMSG`.
//!
//! A message's headers stay the bytes that its sender wrote: whatever stands in them is the matter
//! of the call that it answers, and of nobody else. Only a line that the *server* wrote wrong ends
//! the connection, for nobody could tell where the next one begins.

use bytes::{Buf, Bytes, BytesMut};
use memchr::memmem;
use serde::Deserialize;

use super::message::Message;
use crate::budget::{Account, Exceeded, Share};

/// A line that has no end: an `INFO` with all the servers of a large cluster is a tenth of this.
const LONGEST_LINE: usize = 256 * 1024;
/// From this size on a message counts against the budget.
const COUNTED: usize = 4 * 1024;
/// The ids of subscriptions from here on are those of exposed services.
pub(in crate::protocol::nats) const FIRST_EXPOSED: u64 = 1 << 32;
/// Those from here on are those of events.
pub(in crate::protocol::nats) const FIRST_EVENT: u64 = 1 << 33;
/// Those from here on are those of what streams hand over. Like all of them they have ten digits at most.
pub(in crate::protocol::nats) const FIRST_STREAM: u64 = 9_000_000_000;
/// This one is that of what streams say of events that are sent to them.
pub(in crate::protocol::nats) const RECEIPTS: u64 = 9_900_000_000;
/// What a server takes where it does not say.
const MAX_PAYLOAD: usize = 1024 * 1024;

/// One operation.
#[derive(Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Incoming {
    /// What the server is and can do, at the start and whenever that changes.
    Info(Box<Info>),
    /// It asks whether we live.
    Ping,
    /// It lives, and has read all that was written before our `PING`.
    Pong,
    /// It has taken something, where it was asked to say so.
    Ok,
    /// It complains.
    Error(String),
    /// A message for a subscription of ours.
    Message(Message),
    /// One that was not wanted; its bytes have been thrown away as they came.
    Unkept {
        /// What its line said; it has neither headers nor body.
        message: Message,
        /// Why.
        why: Unkept,
    },
}

/// Why a message was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::protocol::nats) enum Unkept {
    /// It has so many bytes, headers included, and that is too many.
    TooLarge(usize),
    /// The process or this upstream holds too much already.
    NoRoom(Exceeded),
}

/// What a server says of itself, as far as it matters here.
#[derive(Clone, Debug, Deserialize, PartialEq, Eq)]
#[serde(default)]
pub(in crate::protocol::nats) struct Info {
    /// The largest message, headers included, that it takes.
    pub(in crate::protocol::nats) max_payload: usize,
    /// It speaks nothing but TLS.
    pub(in crate::protocol::nats) tls_required: bool,
    /// It passes headers on.
    pub(in crate::protocol::nats) headers: bool,
    /// What a client with a key has to sign.
    pub(in crate::protocol::nats) nonce: String,
    /// It is about to go (lame duck mode).
    pub(in crate::protocol::nats) ldm: bool,
    /// The cluster that it is in; empty where it is alone.
    pub(in crate::protocol::nats) cluster: String,
    /// The addresses of the servers in it, as `HOST:PORT`, as far as it tells.
    pub(in crate::protocol::nats) connect_urls: Vec<String>,
}

impl Default for Info {
    fn default() -> Self {
        Self {
            max_payload: MAX_PAYLOAD,
            tls_required: false,
            headers: false,
            nonce: String::new(),
            ldm: false,
            cluster: String::new(),
            connect_urls: Vec::new(),
        }
    }
}

/// The server broke the protocol: which rule.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("the server broke the protocol: {0}")]
pub(in crate::protocol::nats) struct Malformed(&'static str);

/// What is kept of messages of one sort.
pub(in crate::protocol::nats) struct Intake {
    /// The largest one that is, headers included.
    pub(in crate::protocol::nats) largest: usize,
    /// What they hold of the memory.
    pub(in crate::protocol::nats) account: Account,
}

/// Takes operations out of what has come in.
pub(in crate::protocol::nats) struct Parser {
    replies: Intake,
    requests: Intake,
    events: Intake,
    /// The message whose line has come, and not yet all of its bytes.
    begun: Option<Begun>,
}

struct Begun {
    /// What its line said.
    message: Message,
    headers: usize,
    size: usize,
    /// What the message holds, or why it may not.
    share: Result<Share, Unkept>,
    /// How many of its bytes are still to come, with the line break, where it may not.
    rest: usize,
}

impl Parser {
    /// Keeps replies, requests to exposed services, and events within their limits.
    pub(in crate::protocol::nats) fn new(
        replies: Intake,
        requests: Intake,
        events: Intake,
    ) -> Self {
        Self { replies, requests, events, begun: None }
    }

    fn begin(&self, message: Message, headers: usize, size: usize) -> Begun {
        let intake = match message.sid {
            FIRST_EVENT.. => &self.events,
            FIRST_EXPOSED.. => &self.requests,
            _ => &self.replies,
        };
        let share = if size > intake.largest {
            Err(Unkept::TooLarge(size))
        } else {
            let mut share = intake.account.share();
            // Small ones pass in a buffer of a fixed size.
            let counted = if size >= COUNTED { size } else { 0 };
            share.grow(counted).map(|()| share).map_err(Unkept::NoRoom)
        };
        Begun { message, headers, size, share, rest: size + 2 }
    }

    /// The next operation; `None` until more has come in.
    pub(in crate::protocol::nats) fn next(
        &mut self,
        buffer: &mut BytesMut,
    ) -> Result<Option<Incoming>, Malformed> {
        if self.begun.is_none() {
            let Some(end) = memmem::find(buffer, b"\r\n") else {
                return if buffer.len() > LONGEST_LINE {
                    Err(Malformed("a line without an end"))
                } else {
                    Ok(None)
                };
            };
            let mut line = buffer.split_to(end + 2);
            line.truncate(end);
            match operation(line.freeze())? {
                Line::Whole(operation) => return Ok(Some(operation)),
                Line::Message { message, headers, size } => {
                    self.begun = Some(self.begin(message, headers, size));
                }
            }
        }
        self.message(buffer)
    }

    fn message(&mut self, buffer: &mut BytesMut) -> Result<Option<Incoming>, Malformed> {
        let Some(begun) = &mut self.begun else { return Ok(None) };
        if begun.share.is_err() {
            let thrown = buffer.len().min(begun.rest);
            buffer.advance(thrown);
            begun.rest -= thrown;
            if begun.rest > 0 {
                return Ok(None);
            }
        } else if buffer.len() < begun.size + 2 {
            buffer.reserve(begun.size + 2 - buffer.len());
            return Ok(None);
        }
        let Some(Begun { message, headers, size, share, .. }) = self.begun.take() else {
            return Ok(None);
        };
        let share = match share {
            Ok(share) => share,
            Err(why) => return Ok(Some(Incoming::Unkept { message, why })),
        };
        let headers = buffer.split_to(headers).freeze();
        let payload = buffer.split_to(size - headers.len()).freeze();
        if !buffer.starts_with(b"\r\n") {
            return Err(Malformed("a message of another size than it said"));
        }
        buffer.advance(2);
        let payload = share.keep_with(payload);
        Ok(Some(Incoming::Message(Message { headers, payload, ..message })))
    }
}

enum Line {
    Whole(Incoming),
    Message { message: Message, headers: usize, size: usize },
}

fn operation(line: Bytes) -> Result<Line, Malformed> {
    let word_end = memchr::memchr2(b' ', b'\t', &line).unwrap_or(line.len());
    let rest = line.get(word_end + 1..).unwrap_or_default();
    Ok(Line::Whole(match &line[..word_end] {
        b"MSG" => return message_line(&line, rest, false),
        b"HMSG" => return message_line(&line, rest, true),
        b"PING" => Incoming::Ping,
        b"PONG" => Incoming::Pong,
        b"+OK" => Incoming::Ok,
        b"-ERR" => {
            let said = String::from_utf8_lossy(rest);
            Incoming::Error(said.trim().trim_matches('\'').to_owned())
        }
        b"INFO" => {
            let info = serde_json::from_slice(rest);
            Incoming::Info(info.map_err(|_| Malformed("an INFO that is no JSON object"))?)
        }
        _ => return Err(Malformed("an operation that there is not")),
    }))
}

/// `SUBJECT SID [REPLY] [HEADERS] SIZE`, with `HEADERS` in an `HMSG`.
fn message_line(line: &Bytes, rest: &[u8], has_headers: bool) -> Result<Line, Malformed> {
    const WRONG: Malformed = Malformed("a message with a wrong first line");
    let mut words = [&[][..]; 5];
    let mut count = 0;
    for word in rest.split(|byte| matches!(byte, b' ' | b'\t')).filter(|word| !word.is_empty()) {
        *words.get_mut(count).ok_or(WRONG)? = word;
        count += 1;
    }
    let fewest = if has_headers { 4 } else { 3 };
    if count != fewest && count != fewest + 1 {
        return Err(WRONG);
    }
    let size = number(words[count - 1]).ok_or(WRONG)?;
    let headers = if has_headers { number(words[count - 2]).ok_or(WRONG)? } else { 0 };
    if headers > size {
        return Err(WRONG);
    }
    // An id that is none of ours is nobody's.
    let sid = number(words[1]).map_or(0, |sid| sid as u64);
    let reply = if count > fewest { line.slice_ref(words[2]) } else { Bytes::new() };
    let message = Message { subject: line.slice_ref(words[0]), sid, reply, ..Message::default() };
    Ok(Line::Message { message, headers, size })
}

fn number(digits: &[u8]) -> Option<usize> {
    // Ten digits: no size is larger, and sums of two of them do not overflow.
    if digits.len() > 10 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::budget::Budget;

    fn parser(largest: usize) -> Parser {
        let intake = |largest| Intake { largest, account: Budget::new(1 << 20).upstream() };
        Parser::new(intake(largest), intake(largest / 2), intake(largest / 2))
    }

    /// All operations in a text, handed over in pieces of `piece` bytes.
    fn all(text: &[u8], piece: usize, largest: usize) -> Result<Vec<Incoming>, Malformed> {
        let (mut parser, mut buffer) = (parser(largest), BytesMut::new());
        let mut found = Vec::new();
        for piece in text.chunks(piece) {
            buffer.extend_from_slice(piece);
            while let Some(operation) = parser.next(&mut buffer)? {
                found.push(operation);
            }
        }
        assert!(buffer.is_empty() && parser.begun.is_none(), "something is left");
        Ok(found)
    }

    fn message(subject: &'static str, headers: &'static [u8], payload: &'static str) -> Incoming {
        Incoming::Message(Message {
            subject: subject.into(),
            sid: 1,
            headers: Bytes::from_static(headers),
            payload: payload.into(),
            ..Message::default()
        })
    }

    fn with_reply(incoming: Incoming, reply: &'static str) -> Incoming {
        let Incoming::Message(message) = incoming else { panic!("no message") };
        Incoming::Message(Message { reply: reply.into(), ..message })
    }

    #[test]
    fn operations_in_pieces_of_every_size() {
        let text = b"INFO {\"max_payload\":7,\"x\":[1],\"ldm\":true,\"nonce\":\"n\",\"cluster\":\"c\",\"connect_urls\":[\"h:1\"]}\r\n\
            PING\r\nPONG\r\n+OK\r\n-ERR 'Stale Connection'\r\n\
            MSG a.b 1 5\r\nhe\r\no\r\nMSG a.b  1 reply.to 0\r\n\r\n\
            HMSG a.b 1 16 16\r\nNATS/1.0 503\r\n\r\n\r\n\
            HMSG a 1 r 18 19\r\nNATS/1.0\r\nX: \xfc\r\n\r\n!\r\n";
        let info = || Info {
            max_payload: 7,
            ldm: true,
            nonce: "n".to_owned(),
            cluster: "c".to_owned(),
            connect_urls: vec!["h:1".to_owned()],
            ..Info::default()
        };
        for piece in 1..text.len() {
            let found = all(text, piece, 100).expect("well formed");
            let expected = [
                Incoming::Info(Box::new(info())),
                Incoming::Ping,
                Incoming::Pong,
                Incoming::Ok,
                Incoming::Error("Stale Connection".to_owned()),
                message("a.b", b"", "he\r\no"),
                with_reply(message("a.b", b"", ""), "reply.to"),
                message("a.b", b"NATS/1.0 503\r\n\r\n", ""),
                with_reply(message("a", b"NATS/1.0\r\nX: \xfc\r\n\r\n", "!"), "r"),
            ];
            assert_eq!(found, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn what_is_too_large_is_thrown_away_as_it_comes() {
        let text = b"MSG a.b 1 30\r\n012345678901234567890123456789\r\nPING\r\n";
        for piece in 1..text.len() {
            let why = Unkept::TooLarge(30);
            let message = Message { subject: "a.b".into(), sid: 1, ..Message::default() };
            let too_large = Incoming::Unkept { message, why };
            assert_eq!(all(text, piece, 29).expect("well formed"), [too_large, Incoming::Ping]);
        }
        let (mut parser, mut buffer) = (parser(10), BytesMut::from(&text[..40]));
        assert_eq!(parser.next(&mut buffer), Ok(None));
        assert!(buffer.is_empty(), "nothing is kept of it");
    }

    #[test]
    fn requests_have_a_limit_of_their_own() {
        let text = format!("MSG a.b {FIRST_EXPOSED} inbox.1 60\r\n{}\r\n", "x".repeat(60));
        let found = all(text.as_bytes(), 7, 100).expect("well formed");
        let [Incoming::Unkept { message, why: Unkept::TooLarge(60) }] = found.as_slice() else {
            panic!("{found:?}")
        };
        assert_eq!((message.sid, &message.reply[..]), (FIRST_EXPOSED, &b"inbox.1"[..]));
        for sid in [FIRST_EVENT, FIRST_STREAM, RECEIPTS] {
            let text = format!("MSG a.b {sid} 60\r\n{}\r\n", "x".repeat(60));
            let found = all(text.as_bytes(), 7, 100).expect("well formed");
            assert!(matches!(&found[..], [Incoming::Unkept { message, .. }] if message.sid == sid));
        }
    }

    #[test]
    fn what_there_is_no_room_for_is_thrown_away_too() {
        let budget = Budget::new(40_000);
        let intake = || Intake { largest: 1 << 20, account: budget.upstream() };
        let mut parser = Parser::new(intake(), intake(), intake());
        let mut next = |size: usize| {
            let text = format!("MSG a 1 {size}\r\n{}\r\n", "x".repeat(size));
            parser.next(&mut BytesMut::from(text.as_str())).expect("well formed")
        };
        let kept = next(15_000);
        assert!(matches!(kept, Some(Incoming::Message(_))));
        assert_eq!(budget.held(), 15_000);
        let refused = next(15_000);
        let no_room = |incoming: &Option<Incoming>| {
            matches!(incoming, Some(Incoming::Unkept { why: Unkept::NoRoom(_), .. }))
        };
        assert!(no_room(&refused), "half of the whole is an upstream's: {refused:?}");
        drop(kept);
        assert_eq!(budget.held(), 0);
        assert!(matches!(next(15_000), Some(Incoming::Message(_))));
    }

    #[test]
    fn what_a_server_must_not_say() {
        for text in [
            "MSG a.b 1\r\n",
            "MSG a.b 1 r x 5\r\n",
            "MSG a.b 1 -5\r\n",
            "MSG a.b 1 99999999999\r\n",
            "HMSG a.b 1 5\r\n",
            "HMSG a.b 1 20 10\r\n",
            "MSG a.b 1 1\r\nxy\r\n",
            "INFO [\r\n",
            "HELLO\r\n",
            "\r\n",
        ] {
            assert!(all(text.as_bytes(), 100, 1000).is_err(), "{text:?}");
        }
        let mut endless = BytesMut::from(vec![b'I'; LONGEST_LINE + 1].as_slice());
        assert!(parser(10).next(&mut endless).is_err());
    }
}
