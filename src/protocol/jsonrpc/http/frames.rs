//! HTTP/2's frames, as they pass on a connection below hyper: which requests are owed an answer, and
//! when some of an answer's body is taken. Pure, and no payload is looked at.
//!
//! ```text
//! length (24) | type (8) | flags (8) | R, stream (32) | payload
//! ```
//!
//! RFC 9113, section 4.1. hyper tells neither: it takes an answer's body before the peer does, and
//! takes a client that says no more for one that has left.

/// What a client's connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEAD: usize = 9;
const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const END_STREAM: u8 = 1;
/// More streams than hyper lets be open are not remembered.
const MOST_OPEN: usize = 256;

/// A PING (type 6) on the connection. Who has left answers it with a reset.
pub(super) const PING: &[u8] = b"\0\0\x08\x06\0\0\0\0\0genkan..";

/// The frames of one direction.
#[derive(Default)]
struct Frames {
    head: [u8; HEAD],
    /// How much of it has passed.
    has: usize,
    /// How much of the payload is to pass yet.
    left: usize,
}

/// What passes of a frame.
struct Part {
    kind: u8,
    flags: u8,
    stream: u32,
    /// How much of its payload.
    length: usize,
    /// Whether it ends with that.
    is_last: bool,
}

impl Part {
    fn ends_stream(&self) -> bool {
        matches!(self.kind, DATA | HEADERS) && self.flags & END_STREAM != 0 && self.is_last
    }
}

impl Frames {
    fn pass(&mut self, mut bytes: &[u8], mut each: impl FnMut(&Part)) {
        while !bytes.is_empty() {
            if self.has < HEAD {
                let part = bytes.len().min(HEAD - self.has);
                self.head[self.has..self.has + part].copy_from_slice(&bytes[..part]);
                (self.has, bytes) = (self.has + part, &bytes[part..]);
                if self.has < HEAD {
                    return;
                }
                let [a, b, c, ..] = self.head;
                self.left = u32::from_be_bytes([0, a, b, c]) as usize;
            }
            let length = bytes.len().min(self.left);
            bytes = &bytes[length..];
            self.left -= length;
            let [_, _, _, kind, flags, a, b, c, d] = self.head;
            let stream = u32::from_be_bytes([a & 0x7f, b, c, d]);
            each(&Part { kind, flags, stream, length, is_last: self.left == 0 });
            if self.left == 0 {
                self.has = 0;
            }
        }
    }
}

/// Both directions of a connection.
#[derive(Default)]
pub(super) struct Conversation {
    /// How much of the preface has come: all of it where it is HTTP/2.
    preface: usize,
    is_other: bool,
    said: Frames,
    answered: Frames,
    /// Streams that have no whole answer, and whether all of their request has come.
    open: Vec<(u32, bool)>,
    /// The last stream that the client has opened.
    last: u32,
}

impl Conversation {
    /// Whether HTTP/2 is spoken.
    pub(super) fn is_http2(&self) -> bool {
        self.preface == PREFACE.len()
    }

    /// The client has sent bytes.
    pub(super) fn has_read(&mut self, mut bytes: &[u8]) {
        if self.is_other {
            return;
        }
        if !self.is_http2() {
            let part = bytes.len().min(PREFACE.len() - self.preface);
            if bytes[..part] != PREFACE[self.preface..self.preface + part] {
                self.is_other = true;
                return;
            }
            (self.preface, bytes) = (self.preface + part, &bytes[part..]);
        }
        let Self { said, open, last, .. } = self;
        said.pass(bytes, |part| {
            if part.kind == HEADERS && part.stream > *last {
                *last = part.stream;
                if open.len() < MOST_OPEN {
                    open.push((part.stream, false));
                }
            }
            if part.kind == RST_STREAM {
                open.retain(|(stream, _)| *stream != part.stream);
            } else if part.ends_stream() {
                let ended = open.iter_mut().find(|(stream, _)| *stream == part.stream);
                ended.into_iter().for_each(|(_, is_whole)| *is_whole = true);
            }
        });
    }

    /// Bytes have gone to the client. True where some of them are of an answer's body.
    pub(super) fn has_written(&mut self, bytes: &[u8]) -> bool {
        if !self.is_http2() {
            return false;
        }
        let mut of_body = false;
        let Self { answered, open, .. } = self;
        answered.pass(bytes, |part| {
            of_body |= part.kind == DATA && part.length > 0;
            if part.ends_stream() || part.kind == RST_STREAM {
                open.retain(|(stream, _)| *stream != part.stream);
            }
        });
        of_body
    }

    /// Whether the client has asked for something, and has no whole answer to it.
    pub(super) fn is_owed(&self) -> bool {
        self.open.iter().any(|(_, is_whole)| *is_whole)
    }

    /// Whether a frame may be sent to the client now: no other one is half sent.
    pub(super) fn is_between_frames(&self) -> bool {
        self.answered.has == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let length = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let head = [&length[1..], &[kind, flags], &stream.to_be_bytes()[..]];
        [&head.concat()[..], payload].concat()
    }

    /// Passes bytes one by one, or all at once.
    fn each_way(check: impl Fn(&dyn Fn(&[u8], &mut dyn FnMut(&[u8])))) {
        check(&|bytes, pass| pass(bytes));
        check(&|bytes, pass| bytes.chunks(1).for_each(pass));
    }

    #[test]
    fn who_is_owed_what() {
        each_way(|cut| {
            let mut talk = Conversation::default();
            let settings = frame(4, 0, 0, b"");
            let says = [PREFACE, &settings, &frame(HEADERS, 4, 1, b"head")].concat();
            cut(&says, &mut |bytes| talk.has_read(bytes));
            assert!(talk.is_http2() && !talk.is_owed(), "its body is to come");
            cut(&frame(DATA, END_STREAM, 1, b"body"), &mut |bytes| talk.has_read(bytes));
            cut(&frame(HEADERS, 5, 3, b"head"), &mut |bytes| talk.has_read(bytes));
            assert!(talk.is_owed());
            let mut taken = 0;
            let mut answers = |bytes: &[u8], talk: &mut Conversation| {
                cut(bytes, &mut |bytes| taken += usize::from(talk.has_written(bytes)));
                std::mem::take(&mut taken)
            };
            // Frames of its own are nothing that a reader has taken.
            assert_eq!(answers(&[settings, PING.to_vec()].concat(), &mut talk), 0);
            assert_eq!(answers(&frame(HEADERS, 4, 1, b"head"), &mut talk), 0);
            assert!(answers(&frame(DATA, 0, 1, b"some"), &mut talk) > 0);
            assert!(answers(&frame(DATA, END_STREAM, 1, b"more"), &mut talk) > 0);
            assert!(talk.is_owed() && talk.is_between_frames(), "the other one");
            cut(&frame(RST_STREAM, 0, 3, &[0; 4]), &mut |bytes| talk.has_read(bytes));
            assert!(!talk.is_owed(), "it does not want it any more");
            cut(&frame(HEADERS, 5, 5, b"head"), &mut |bytes| talk.has_read(bytes));
            assert_eq!(answers(&frame(HEADERS, 5, 5, b"no body"), &mut talk), 0);
            assert!(!talk.is_owed());
            answers(&frame(DATA, 0, 7, b"half")[..11], &mut talk);
            assert!(!talk.is_between_frames());
        });
    }

    #[test]
    fn what_is_no_http2_is_not_looked_at() {
        let mut talk = Conversation::default();
        talk.has_read(b"PROPFIND / HTTP/1.1\r\n");
        talk.has_read(PREFACE);
        assert!(!talk.is_http2() && !talk.is_owed() && !talk.has_written(b"HTTP/1.1 200 OK"));
    }
}
