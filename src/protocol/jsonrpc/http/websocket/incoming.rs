//! Puts the frames of a client together to messages, and bounds what half of one may hold. No I/O.

use bytes::Bytes;

use super::closing::{Closing, LONGEST_CONTROL};
use super::frame::{Head, LONGEST_HEAD, Opcode, read_head, unmask};
use crate::budget::{Account, Exceeded, Share};
use crate::units::format_size;

/// Up to this size a whole message is not counted: the limit on calls in flight is enough.
const UNCOUNTED: usize = 1024;

/// What has come of a message that is not whole.
pub(super) struct Incoming {
    account: Account,
    /// The memory of `text`.
    share: Share,
    text: Vec<u8>,
    /// Some of a message has come, and its last frame is still to come.
    in_message: bool,
    frame: Option<Frame>,
    /// The beginning of a head, or what a control frame has held so far: they do not mix.
    start: [u8; LONGEST_CONTROL],
    started: usize,
}

/// A frame whose payload comes in.
struct Frame {
    head: Head,
    got: usize,
}

/// What a client said.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Said {
    /// A whole message, which is valid UTF-8.
    Text(Bytes),
    Ping(Bytes),
    Pong,
    Close(Bytes),
}

impl Incoming {
    /// For a connection, which holds what has come.
    pub(super) fn new(account: &Account) -> Self {
        Self {
            account: account.clone(),
            share: account.share(),
            text: Vec::new(),
            in_message: false,
            frame: None,
            start: [0; LONGEST_CONTROL],
            started: 0,
        }
    }

    /// Whether something has begun that is not whole.
    pub(super) fn is_half(&self) -> bool {
        self.in_message || self.frame.is_some() || self.started > 0
    }

    /// Takes bytes away from the front, up to the end of what the client says next; `None` where
    /// that has not all come. A message is at most `max` bytes long.
    pub(super) fn take(&mut self, bytes: &mut &[u8], max: usize) -> Result<Option<Said>, Closing> {
        loop {
            let Some(frame) = self.frame.as_mut() else {
                if self.begin(bytes, max)? {
                    continue;
                }
                return Ok(None);
            };
            let left = usize::try_from(frame.head.length).unwrap_or(usize::MAX) - frame.got;
            let (came, rest) = bytes.split_at(left.min(bytes.len()));
            *bytes = rest;
            let (Head { opcode, mask, is_final, .. }, at) = (frame.head, frame.got);
            frame.got += came.len();
            if opcode.is_control() {
                self.start[at..at + came.len()].copy_from_slice(came);
                unmask(&mut self.start[at..at + came.len()], mask, at);
            } else {
                let known = self.text.len() + left;
                self.keep(came, known)?;
                let new = self.text.len() - came.len();
                unmask(&mut self.text[new..], mask, at);
            }
            if came.len() < left {
                return Ok(None);
            }
            self.frame = None;
            if opcode.is_control() {
                return Ok(Some(self.control(opcode, at + came.len())));
            }
            if is_final {
                return self.message().map(Some);
            }
        }
    }

    /// Reads the head of the next frame. False where it has not all come.
    fn begin(&mut self, bytes: &mut &[u8], max: usize) -> Result<bool, Closing> {
        if bytes.is_empty() {
            return Ok(false);
        }
        let before = self.started;
        let found = if before == 0 {
            read_head(bytes)?
        } else {
            let more = bytes.len().min(LONGEST_HEAD - before);
            self.start[before..before + more].copy_from_slice(&bytes[..more]);
            read_head(&self.start[..before + more])?
        };
        let Some((head, size)) = found else {
            // Less than a head: all of it is kept.
            self.start[before..before + bytes.len()].copy_from_slice(bytes);
            self.started += bytes.len();
            *bytes = &[];
            return Ok(false);
        };
        *bytes = &bytes[size - before..];
        self.started = 0;
        match head.opcode {
            Opcode::Continuation if !self.in_message => {
                return Err(Closing::protocol("a message cannot begin with a continuation"));
            }
            Opcode::Text if self.in_message => {
                return Err(Closing::protocol("a message began before the last one's end"));
            }
            Opcode::Binary => return Err(Closing::binary()),
            Opcode::Close | Opcode::Ping | Opcode::Pong => {}
            Opcode::Continuation | Opcode::Text => {
                let room = max.saturating_sub(self.text.len());
                if head.length > room as u64 {
                    let limit = format_size(max);
                    return Err(Closing::too_big(format!(
                        "a message is {limit} at most (max_body)"
                    )));
                }
                self.in_message = true;
            }
        }
        self.frame = Some(Frame { head, got: 0 });
        Ok(true)
    }

    /// Keeps more of a message, of which `known` bytes are announced. The memory is got as bytes
    /// come, not as they are announced: twice of what there is at a time.
    fn keep(&mut self, bytes: &[u8], known: usize) -> Result<(), Closing> {
        let (length, room) = (self.text.len() + bytes.len(), self.text.capacity());
        if length > room {
            let larger = length.max((2 * room).min(known));
            self.share.grow(larger - room).map_err(no_place)?;
            self.text.reserve_exact(larger - self.text.len());
        }
        self.text.extend_from_slice(bytes);
        Ok(())
    }

    fn message(&mut self) -> Result<Said, Closing> {
        self.in_message = false;
        let text = std::mem::take(&mut self.text);
        let share = std::mem::replace(&mut self.share, self.account.share());
        if std::str::from_utf8(&text).is_err() {
            return Err(Closing::not_utf8());
        }
        let small = text.len() <= UNCOUNTED;
        let text = Bytes::from(text);
        Ok(Said::Text(if small { text } else { share.keep_with(text) }))
    }

    fn control(&self, opcode: Opcode, size: usize) -> Said {
        let payload = || Bytes::copy_from_slice(&self.start[..size]);
        match opcode {
            Opcode::Close => Said::Close(payload()),
            Opcode::Ping => Said::Ping(payload()),
            _ => Said::Pong,
        }
    }
}

/// Told to a peer for whose message there is no place.
pub(super) fn no_place(exceeded: Exceeded) -> Closing {
    Closing::overloaded(exceeded.to_string())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    const MASK: [u8; 4] = [0xa1, 0x02, 0x33, 0x00];

    /// A frame as a client sends it.
    fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
        let mut bytes = vec![first];
        match payload.len() {
            short @ 0..126 => bytes.push(0x80 | short as u8),
            long => {
                bytes.push(0xfe);
                bytes.extend((long as u16).to_be_bytes());
            }
        }
        bytes.extend(MASK);
        bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
        bytes
    }

    /// What pieces of bytes come to, and why it ended if it did.
    fn said<'a>(
        pieces: impl IntoIterator<Item = &'a [u8]>,
        max: usize,
    ) -> (Vec<Said>, Option<u16>) {
        let account = Budget::new(1 << 20).connection();
        let (mut incoming, mut all) = (Incoming::new(&account), Vec::new());
        for mut piece in pieces {
            loop {
                match incoming.take(&mut piece, max) {
                    Ok(Some(said)) => all.push(said),
                    Ok(None) => break,
                    Err(closing) => return (all, Some(closing.code())),
                }
            }
        }
        (all, None)
    }

    fn text(text: &str) -> Said {
        Said::Text(Bytes::copy_from_slice(text.as_bytes()))
    }

    #[test]
    fn a_ping_may_come_in_the_middle_of_a_message() {
        let frames = [frame(0x01, b"{\"a"), frame(0x89, b"?"), frame(0x80, b"\":1}")].concat();
        let ping = Said::Ping(Bytes::from_static(b"?"));
        assert_eq!(said([&frames[..]], 100), (vec![ping, text("{\"a\":1}")], None));
    }

    #[test]
    fn what_cannot_be_a_message() {
        for (frames, code) in [
            (vec![frame(0x80, b"x")], 1002),
            (vec![frame(0x01, b"x"), frame(0x81, b"y")], 1002),
            (vec![frame(0x82, b"x")], 1003),
            (vec![frame(0x01, b"x"), frame(0x02, b"y")], 1003),
            (vec![frame(0x81, b"\xff")], 1007),
            (vec![frame(0x01, b"\xc3"), frame(0x80, b"x")], 1007),
            (vec![frame(0x81, &[b'x'; 11])], 1009),
            (vec![frame(0x01, &[b'x'; 6]), frame(0x80, &[b'x'; 5])], 1009),
        ] {
            assert_eq!(said([&frames.concat()[..]], 10), (vec![], Some(code)), "{frames:x?}");
        }
        // A letter may be broken off between two frames.
        let letter = [frame(0x01, b"\xc3"), frame(0x80, b"\xa9")].concat();
        assert_eq!(said([&letter[..]], 10), (vec![text("é")], None));
    }

    #[test]
    fn half_a_message_counts_as_it_comes_and_not_as_it_is_announced() {
        let budget = Budget::new(4_000);
        let (account, other) = (budget.connection(), budget.connection());
        let mut incoming = Incoming::new(&account);
        let message = frame(0x81, &[b'x'; 900]);
        assert_eq!(incoming.take(&mut &message[..50], 10_000), Ok(None));
        assert!(incoming.is_half());
        assert!((42..100).contains(&account.held()), "{}", account.held());
        let mut rest = &message[50..];
        assert!(matches!(incoming.take(&mut rest, 10_000), Ok(Some(Said::Text(_)))));
        assert_eq!((account.held(), incoming.is_half()), (0, false));
        // A quarter of the whole is a connection's part.
        let message = frame(0x81, &[b'x'; 1_100]);
        let closing = Incoming::new(&other).take(&mut &message[..1_050], 10_000);
        assert_eq!(closing.expect_err("no place").code(), 1013);
        assert_eq!(budget.held(), 0);
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            messages in proptest::collection::vec(("[a-c]{0,200}", any::<bool>(), 0..200_usize), 0..5),
            cuts in proptest::collection::vec(0_usize..1_500, 0..8),
        ) {
            let (mut bytes, mut expected) = (Vec::new(), Vec::new());
            for (message, ping, cut) in &messages {
                let cut = (*cut).min(message.len());
                bytes.extend(frame(0x01, &message.as_bytes()[..cut]));
                if *ping {
                    bytes.extend(frame(0x89, &message.as_bytes()[..cut.min(125)]));
                    expected.push(Said::Ping(Bytes::copy_from_slice(&message.as_bytes()[..cut.min(125)])));
                }
                bytes.extend(frame(0x80, &message.as_bytes()[cut..]));
                expected.push(text(message));
            }
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(said(pieces, 200), (expected, None));
        }

        #[test]
        fn whatever_comes_it_ends_well(
            bytes in proptest::collection::vec(any::<u8>(), 0..300), cut in 0..300_usize,
        ) {
            let cut = cut.min(bytes.len());
            let (whole, split) = (said([&bytes[..]], 100), said([&bytes[..cut], &bytes[cut..]], 100));
            prop_assert_eq!(whole, split);
        }
    }
}
