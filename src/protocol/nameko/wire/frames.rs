//! AMQP frames as they come from the broker, made such that lapin can read them.
//!
//! A peer chooses what is in a message's properties, and RabbitMQ passes it on: keys and short
//! strings that are not UTF-8, tables that nest a thousand deep, a header that is larger than the
//! frames that we agreed upon. lapin gives the whole connection up for any of them, and with it
//! everybody's calls. So each content header is looked at before lapin sees it, and one that lapin
//! would not survive is written anew, with what a reply needs and no more. Must not: do I/O.
//!
//! ```text
//! type 1 | channel 2 | size 4 | payload (size) | 0xCE
//! ```

use std::str::from_utf8;

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
const FRAME_END: u8 = 0xCE;
/// What goes before a frame's payload.
const HEAD: usize = 7;
/// The same, and the octet behind it.
const AROUND: usize = HEAD + 1;
/// The longest content header that is kept until it is whole. RabbitMQ's own limit is 128 KiB.
const LONGEST: usize = 1 << 20;
/// How deep tables and arrays in headers may nest: lapin reads them recursively.
const DEEPEST: u32 = 32;
/// Class, weight and the body's size: what a content header begins with.
const FIXED: usize = 12;

/// The header by which a message says that it is not as it was sent, and why.
pub(in super::super) const MENDED: &str = "genkan.mended";
/// What [`MENDED`] says of a message whose body was left out, before the size of it.
pub(in super::super) const TOO_LARGE: &str = "larger than max_reply: ";
/// The headers that replies are read for.
const KEPT: [&[u8]; 2] = [b"compression", b"traceparent"];

/// What a connection's bytes are sifted with.
#[derive(Default)]
pub(in super::super) struct Sieve {
    /// How much of a frame that is not looked at is still to come.
    passing: u64,
    /// How much of a frame that is left out is still to come.
    skipping: u64,
    /// The largest frame that lapin takes; nothing is too large before that is agreed upon.
    frame_max: usize,
    /// What is agreed upon at the most.
    asked: usize,
    /// The largest message; 0 for no limit.
    largest: u64,
    /// Of a message that is too large: its channel, and how much of its body is still to come.
    dropping: ([u8; 2], u64),
}

/// What a look at some bytes has found.
#[derive(Debug, PartialEq, Eq)]
pub(in super::super) enum Found {
    /// All of them can go on.
    Clean,
    /// What follows can be judged only with more.
    More,
    /// What follows is to be replaced by these, and so many bytes of it are to be left out.
    Instead(Vec<u8>, usize),
}

impl Sieve {
    /// For a connection that asks for frames of at most `asked` bytes. The body of a message that is
    /// larger than `largest` is left out; 0 for no limit.
    pub(in super::super) fn new(asked: usize, largest: u64) -> Self {
        Self { asked, largest, ..Self::default() }
    }

    /// Looks at what has come, from the first byte that has not gone on. Tells how many bytes can
    /// go on as they are now, and what is behind them. Names that are not UTF-8 are made so in place.
    pub(in super::super) fn look(&mut self, bytes: &mut [u8]) -> (usize, Found) {
        let mut at = 0;
        loop {
            let rest = bytes.get_mut(at..).unwrap_or_default();
            if rest.is_empty() {
                return (at, Found::Clean);
            }
            if self.skipping > 0 {
                let skipped = length(self.skipping).min(rest.len());
                self.skipping -= skipped as u64;
                return (at, Found::Instead(Vec::new(), skipped));
            }
            if self.passing > 0 {
                let passed = length(self.passing).min(rest.len());
                self.passing -= passed as u64;
                at += passed;
                continue;
            }
            let Some((kind, size)) = head(rest) else { return (at, Found::More) };
            let whole = size + AROUND;
            match kind {
                METHOD if whole <= LONGEST => {
                    let Some(frame) = rest.get_mut(..whole) else { return (at, Found::More) };
                    self.method(&mut frame[HEAD..whole - 1]);
                    at += whole;
                }
                HEADER if whole <= LONGEST => {
                    let Some(frame) = rest.get(..whole) else { return (at, Found::More) };
                    let body = body_size(frame);
                    if self.largest > 0 && body > self.largest {
                        self.dropping = ([frame[1], frame[2]], body);
                        let mut bodiless = frame.to_vec();
                        bodiless[HEAD + 4..HEAD + FIXED].fill(0);
                        let why = format!("{TOO_LARGE}{body}");
                        return (at, Found::Instead(mended(&bodiless, &why), whole));
                    }
                    let why = match complaint(&frame[HEAD..whole - 1]) {
                        None if self.frame_max > 0 && whole > self.frame_max => "too large",
                        Some(why) => why,
                        None => {
                            at += whole;
                            continue;
                        }
                    };
                    return (at, Found::Instead(mended(frame, why), whole));
                }
                HEADER => {
                    let Some(begun) = rest.get(..HEAD + FIXED) else { return (at, Found::More) };
                    self.skipping = (whole - begun.len()) as u64;
                    return (at, Found::Instead(mended(begun, "too large"), begun.len()));
                }
                BODY if self.dropping.1 > 0 && self.dropping.0 == [rest[1], rest[2]] => {
                    self.dropping.1 = self.dropping.1.saturating_sub(size as u64);
                    self.skipping = whole as u64;
                }
                METHOD | BODY | HEARTBEAT => self.passing = whole as u64,
                // Not AMQP: lapin says so.
                _ => self.passing = u64::MAX,
            }
        }
    }

    /// Learns what frames may be, and makes names readable that a peer chose.
    fn method(&mut self, payload: &mut [u8]) {
        match payload {
            // connection.tune: channel_max, frame_max.
            [0, 10, 0, 30, _, _, a, b, c, d, ..] => {
                let offered = u32::from_be_bytes([*a, *b, *c, *d]) as usize;
                let limits = [offered, self.asked];
                self.frame_max = limits.into_iter().filter(|limit| *limit > 0).min().unwrap_or(0);
            }
            // basic.deliver: consumer tag, delivery tag (8), flags (1), exchange, routing key.
            [0, 60, 0, 60, names @ ..] => {
                let tag = 1 + names.first().copied().map_or(0, usize::from);
                let mut names = names.get_mut(tag + 9..).unwrap_or_default();
                while let Some((length, rest)) = names.split_first_mut() {
                    let Some((name, rest)) = rest.split_at_mut_checked(usize::from(*length)) else {
                        return;
                    };
                    if from_utf8(name).is_err() {
                        name.iter_mut()
                            .filter(|byte| !byte.is_ascii())
                            .for_each(|byte| *byte = b'?');
                    }
                    names = rest;
                }
            }
            _ => {}
        }
    }
}

/// How large the message is whose header this is.
fn body_size(frame: &[u8]) -> u64 {
    let size = frame.get(HEAD + 4..HEAD + FIXED).and_then(|size| size.try_into().ok());
    size.map_or(0, u64::from_be_bytes)
}

fn length(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap_or(usize::MAX)
}

/// A frame's type and its payload's size.
fn head(bytes: &[u8]) -> Option<(u8, usize)> {
    match *bytes {
        [kind @ (METHOD | HEADER | BODY | HEARTBEAT), _, _, a, b, c, d, ..] => {
            Some((kind, u32::from_be_bytes([a, b, c, d]) as usize))
        }
        [METHOD | HEADER | BODY | HEARTBEAT, ..] => None,
        [kind, ..] => Some((kind, 0)),
        [] => None,
    }
}

/// Takes bytes off the front.
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    fn short_uint(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    fn short_string(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    fn long_string(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }

    /// Takes a value of a table, and says whether lapin reads it. `None` where its end is not known.
    fn value(&mut self, levels: u32) -> Option<(u8, &'a [u8], bool)> {
        let kind = self.byte()?;
        let (value, readable) = match kind {
            b't' | b'b' | b'B' => (self.take(1)?, true),
            b's' | b'U' | b'u' => (self.take(2)?, true),
            b'I' | b'i' | b'f' => (self.take(4)?, true),
            b'D' => (self.take(5)?, true),
            b'L' | b'l' | b'd' | b'T' => (self.take(8)?, true),
            b'V' => (self.take(0)?, true),
            b'S' | b'x' => (self.long_string()?, true),
            b'F' | b'A' if levels == 0 => (self.long_string()?, false),
            b'F' => {
                let table = self.long_string()?;
                (table, table_is_readable(table, levels - 1))
            }
            b'A' => {
                let array = self.long_string()?;
                (array, array_is_readable(array, levels - 1))
            }
            _ => return None,
        };
        Some((kind, value, readable))
    }
}

fn table_is_readable(table: &[u8], levels: u32) -> bool {
    let mut reader = Reader(table);
    while !reader.0.is_empty() {
        let key = reader.short_string().is_some_and(|key| from_utf8(key).is_ok());
        if !key || !reader.value(levels).is_some_and(|(_, _, readable)| readable) {
            return false;
        }
    }
    true
}

fn array_is_readable(array: &[u8], levels: u32) -> bool {
    let mut reader = Reader(array);
    while !reader.0.is_empty() {
        if !reader.value(levels).is_some_and(|(_, _, readable)| readable) {
            return false;
        }
    }
    true
}

/// A message's properties, in the order of their flags' bits from the highest.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Property {
    Text,
    Table,
    Byte,
    Timestamp,
}

const PROPERTIES: [Property; 14] = {
    use Property::{Byte, Table, Text, Timestamp};
    [Text, Text, Table, Byte, Byte, Text, Text, Text, Text, Timestamp, Text, Text, Text, Text]
};
/// The places of those that a reply is read for.
const CONTENT_TYPE: usize = 0;
const CONTENT_ENCODING: usize = 1;
const HEADERS: usize = 2;
const CORRELATION_ID: usize = 5;

const fn flag(place: usize) -> u16 {
    1 << (15 - place)
}

/// What keeps lapin from reading a content header's payload.
fn complaint(payload: &[u8]) -> Option<&'static str> {
    const CUT: Option<&str> = Some("cut off");
    let mut reader = Reader(payload);
    let (Some(_), Some(flags)) = (reader.take(FIXED), reader.short_uint()) else { return CUT };
    for (place, property) in PROPERTIES.iter().enumerate() {
        if flags & flag(place) == 0 {
            continue;
        }
        let (text, whole) = match property {
            Property::Text => match reader.short_string() {
                Some(text) => (from_utf8(text).is_ok(), true),
                None => (true, false),
            },
            Property::Table => match reader.long_string() {
                Some(table) if table_is_readable(table, DEEPEST) => (true, true),
                Some(_) => return Some("with headers that cannot be read"),
                None => (true, false),
            },
            Property::Byte => (true, reader.byte().is_some()),
            Property::Timestamp => (true, reader.take(8).is_some()),
        };
        if !whole {
            return CUT;
        }
        if !text {
            return Some("not in UTF-8");
        }
    }
    (!reader.0.is_empty()).then_some("with properties that AMQP does not know")
}

/// A content header's frame, written anew with what can be read of what a reply is read for. Of a
/// frame that is not whole, there is only the beginning.
fn mended(frame: &[u8], why: &str) -> Vec<u8> {
    let (head, payload) = frame.split_at(HEAD.min(frame.len()));
    let mut reader = Reader(payload.strip_suffix(&[FRAME_END]).unwrap_or(payload));
    let mut fixed = reader.take(FIXED).unwrap_or_default().to_vec();
    fixed.resize(FIXED, 0);
    let flags = reader.short_uint().unwrap_or(0);
    let (mut texts, mut headers) = ([None; CORRELATION_ID + 1], Vec::new());
    for (place, property) in PROPERTIES.iter().enumerate().take(CORRELATION_ID + 1) {
        let taken = match (flags & flag(place) != 0, property) {
            (false, _) => continue,
            (true, Property::Text) => reader.short_string(),
            (true, Property::Table) => reader.long_string(),
            (true, Property::Byte) => reader.take(1),
            (true, Property::Timestamp) => reader.take(8),
        };
        match taken {
            None => break,
            Some(table) if place == HEADERS => headers = kept(table),
            Some(text) => texts[place] = from_utf8(text).ok(),
        }
    }
    let entry = |out: &mut Vec<u8>, key: &[u8], value: &[u8]| {
        let lengths = (u8::try_from(key.len()), u32::try_from(value.len()));
        if let (Ok(of_key), Ok(of_value)) = lengths {
            out.push(of_key);
            out.extend([key, b"S", &of_value.to_be_bytes(), value].concat());
        }
    };
    let mut table = Vec::new();
    for (key, value) in headers {
        entry(&mut table, key, value);
    }
    entry(&mut table, MENDED.as_bytes(), why.as_bytes());
    let mut payload = fixed;
    let places = [CONTENT_TYPE, CONTENT_ENCODING, CORRELATION_ID];
    let flags = places.into_iter().filter(|place| texts[*place].is_some()).map(flag);
    payload.extend((flags.sum::<u16>() | flag(HEADERS)).to_be_bytes());
    let text = |payload: &mut Vec<u8>, place: usize| {
        if let Some(text) = texts[place] {
            payload.push(u8::try_from(text.len()).unwrap_or(0));
            payload.extend(text.as_bytes());
        }
    };
    text(&mut payload, CONTENT_TYPE);
    text(&mut payload, CONTENT_ENCODING);
    payload.extend(u32::try_from(table.len()).unwrap_or(0).to_be_bytes());
    payload.extend(table);
    text(&mut payload, CORRELATION_ID);
    let mut mended = head.get(..3).unwrap_or_default().to_vec();
    mended.extend(u32::try_from(payload.len()).unwrap_or(0).to_be_bytes());
    mended.extend(payload);
    mended.push(FRAME_END);
    mended
}

/// Of a table, as far as it can be read, what replies are read for.
fn kept(table: &[u8]) -> Vec<(&[u8], &[u8])> {
    /// More than either of them takes.
    const LONGEST: usize = 128;
    let (mut reader, mut kept) = (Reader(table), Vec::new());
    while kept.len() < KEPT.len()
        && let Some(key) = reader.short_string()
        && let Some((kind, value, _)) = reader.value(0)
    {
        if kind == b'S' && value.len() <= LONGEST && KEPT.contains(&key) {
            kept.push((key, value));
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, payload: &[u8]) -> Vec<u8> {
        let size = u32::try_from(payload.len()).unwrap().to_be_bytes();
        [&[kind, 0, 1][..], &size, payload, &[FRAME_END]].concat()
    }

    fn short(text: &[u8]) -> Vec<u8> {
        [&[u8::try_from(text.len()).unwrap()][..], text].concat()
    }

    fn long(text: &[u8]) -> Vec<u8> {
        [&u32::try_from(text.len()).unwrap().to_be_bytes()[..], text].concat()
    }

    fn header(properties: &[u8]) -> Vec<u8> {
        frame(HEADER, &[&[0, 60, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2][..], properties].concat())
    }

    /// A reply's header with these headers.
    fn reply(table: &[u8]) -> Vec<u8> {
        let (kind, coding) = (short(b"application/json"), short(b"utf-8"));
        header(&[&[0xfc, 0][..], &kind, &coding, &long(table), &[2, 0], &short(b"id-7")].concat())
    }

    fn tune(frame_max: u32) -> Vec<u8> {
        frame(METHOD, &[&[0, 10, 0, 30, 7, 255][..], &frame_max.to_be_bytes(), &[0, 10]].concat())
    }

    /// What comes out of a connection over which these bytes come, so many at a time.
    fn sifted(bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut sieve, mut held, mut out) = (Sieve::new(16_384, 100_000), Vec::new(), Vec::new());
        for come in bytes.chunks(step) {
            held.extend_from_slice(come);
            loop {
                let (clean, found) = sieve.look(&mut held);
                out.extend(held.drain(..clean));
                let Found::Instead(instead, left_out) = found else { break };
                out.extend(instead);
                held.drain(..left_out);
            }
        }
        out
    }

    fn complaint_of(frame: &[u8]) -> Option<&'static str> {
        complaint(&frame[HEAD..frame.len() - 1])
    }

    #[test]
    fn what_lapin_reads_is_not_touched_however_it_comes() {
        let every = [
            &b"\x01at\x01\x01bI\0\0\0\x01\x01cl\0\0\0\0\0\0\0\x01\x01dV\x01eD\0\0\0\0\x01"[..],
            &[&b"\x01fS"[..], &long(b"\xff\xfe")].concat(),
            &[&b"\x01gF"[..], &long(&[&b"\x01hA"[..], &long(b"t\x01t\0")].concat())].concat(),
        ];
        let stream = [
            frame(METHOD, b"\0\x0a\0\x0a"),
            tune(131_072),
            frame(HEARTBEAT, b""),
            reply(b""),
            frame(BODY, b"{}"),
            reply(&every.concat()),
            frame(BODY, &[b'x'; 70_000]),
            header(&[0, 0]),
        ];
        let stream = stream.concat();
        for step in [1, 2, 7, 8, 100, 4_096, stream.len()] {
            assert_eq!(sifted(&stream, step), stream, "{step}");
        }
    }

    #[test]
    fn what_it_would_not_survive_is_mended_and_keeps_its_id() {
        let deep = |levels| {
            (0..levels).fold(Vec::new(), |inside, _| [&b"\x01kF"[..], &long(&inside)].concat())
        };
        let fits = reply(&[&b"\x01aS"[..], &long(&[b'x'; 16_000])].concat());
        assert_eq!(sifted(&[tune(0), fits.clone()].concat(), 999)[tune(0).len()..], fits);
        let headers = "with headers that cannot be read";
        for (odd, why, has_id) in [
            (reply(&[&b"\x01aS"[..], &long(&[b'x'; 16_400])].concat()), "too large", true),
            (reply(b"\x01\xfft\x01"), headers, true),
            (reply(b"\x01a?"), headers, true),
            (reply(b"\x09a"), headers, true),
            (reply(&deep(DEEPEST as usize + 1)), headers, true),
            (reply(&deep(20_000)), headers, true),
            (header(&[&[0x84, 0][..], &short(b"\xff"), &short(b"id-7")].concat()), "UTF-8", true),
            (header(&[&[0x04, 0][..], &short(b"\xff")].concat()), "UTF-8", false),
            (header(&[0x80, 0, 9]), "cut off", false),
            (header(&[&[0x04, 0][..], &short(b"id-7"), b"more"].concat()), "not know", true),
            (frame(HEADER, b"\0"), "cut off", false),
        ] {
            let behind = frame(BODY, b"{}");
            let stream = [tune(131_072), odd.clone(), behind.clone()].concat();
            let whole = sifted(&stream, stream.len());
            for step in [1, 7, 1_000] {
                assert_eq!(sifted(&stream, step), whole, "{why}");
            }
            let mended = &whole[tune(0).len()..whole.len() - behind.len()];
            assert!(whole.ends_with(&behind), "{why}");
            assert_eq!(complaint_of(mended), None, "{why}");
            assert!(mended.len() <= 16_384 && odd != mended, "{why}");
            let holds = |words: &str| mended.windows(words.len()).any(|it| it == words.as_bytes());
            assert!(holds(why), "{why}: {}", String::from_utf8_lossy(mended));
            assert_eq!(holds("id-7"), has_id, "{why}");
        }
    }

    #[test]
    fn what_a_reply_is_read_for_is_kept() {
        let table =
            [&b"\x01aS"[..], &long(b"1"), b"\x0bcompressionS", &long(b"gzip"), b"\x01\xfft\x01"];
        let mended = sifted(&reply(&table.concat()), 5);
        let text = String::from_utf8_lossy(&mended).into_owned();
        assert!(text.contains("compressionS\0\0\0\u{4}gzip"), "{text}");
        assert!(text.contains("application/json") && text.contains("utf-8"), "{text}");
    }

    #[test]
    fn a_header_that_is_longer_than_can_be_kept_is_left_out() {
        let huge = reply(&[&b"\x01aS"[..], &long(&vec![b'x'; 2 * LONGEST])].concat());
        let stream = [huge, frame(BODY, b"{}")].concat();
        let out = sifted(&stream, 10_000);
        assert!(out.len() < 100 && out.ends_with(&frame(BODY, b"{}")), "{}", out.len());
        let header = &out[..out.len() - frame(BODY, b"{}").len()];
        assert_eq!(complaint_of(header), None);
    }

    #[test]
    fn the_body_of_a_message_that_is_too_large_is_left_out() {
        let sized = |size: u64| {
            let fixed = [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[4, 0], &short(b"id-7")];
            frame(HEADER, &fixed.concat())
        };
        let large = [sized(150_000), frame(BODY, &[b'x'; 90_000]), frame(BODY, &[b'x'; 60_000])];
        let fits = [sized(90_000), frame(BODY, &[b'x'; 90_000])].concat();
        let stream = [large.concat(), frame(HEARTBEAT, b""), fits.clone()].concat();
        for step in [999, 70_000, stream.len()] {
            let out = sifted(&stream, step);
            assert!(out.ends_with(&[frame(HEARTBEAT, b""), fits.clone()].concat()), "{step}");
            let header = &out[..out.len() - fits.len() - AROUND];
            assert_eq!((complaint_of(header), body_size(header)), (None, 0), "{step}");
            let text = String::from_utf8_lossy(header).into_owned();
            assert!(
                text.contains("larger than max_reply: 150000") && text.contains("id-7"),
                "{text}"
            );
        }
    }

    #[test]
    fn an_exchange_that_a_peer_named_is_made_readable() {
        let deliver = |exchange: &[u8]| {
            let names = [&short(b"ctag")[..], &[0; 9], &short(exchange), &short(b"key")].concat();
            frame(METHOD, &[&[0, 60, 0, 60][..], &names].concat())
        };
        assert_eq!(sifted(&deliver(b"a\xff\xfeb"), 3), deliver(b"a??b"));
        assert_eq!(sifted(&deliver("é".as_bytes()), 3), deliver("é".as_bytes()));
        let broken = frame(METHOD, &[0, 60, 0, 60, 200, 1]);
        assert_eq!(sifted(&broken, 3), broken);
    }

    #[test]
    fn what_is_not_amqp_goes_on_as_it_is() {
        assert_eq!(sifted(b"AMQP\0\0\x09\x01 and so on", 4), b"AMQP\0\0\x09\x01 and so on");
    }
}
