//! AMQP frames as they come from the broker, made such that lapin can read them.
//!
//! A peer chooses what is in a message's properties, and RabbitMQ passes it on: keys and short
//! strings that are not UTF-8, tables that nest a thousand deep, a header that is larger than the
//! frames that we agreed upon. lapin gives the whole connection up for any of them, and with it
//! everybody's calls. So each content header is looked at before lapin sees it, and one that lapin
//! would not survive is written anew, with what a call or a reply needs and no more. Must not: do I/O.
//!
//! ```text
//! type 1 | channel 2 | size 4 | payload (size) | 0xCE
//! ```

use std::str::from_utf8;

use super::content_header::{
    FIXED, NO_HEADERS, NO_ROOM, TOO_LARGE, bodiless, body_size, complaint, mended,
};

const METHOD: u8 = 1;
const HEADER: u8 = 2;
const BODY: u8 = 3;
const HEARTBEAT: u8 = 8;
pub(super) const FRAME_END: u8 = 0xCE;
/// The length of what goes before a frame's payload.
pub(super) const HEAD: usize = 7;
/// The same, and the octet behind it.
const AROUND: usize = HEAD + 1;
/// The longest content header that is kept until it is whole. RabbitMQ's own limit is 128 KiB.
const LONGEST: usize = 1 << 20;

/// Asked for each message with a body, once: whether there is room for so many bytes that come over
/// a channel.
pub(in super::super) type Admits = Box<dyn FnMut(u16, u64) -> bool + Send>;

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
    /// Whether there is room for a message of so many bytes.
    admits: Option<Admits>,
    /// Of a message whose body is left out: its channel, and how much of its body is still to come.
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

    /// Leaves out the bodies too for which there is no room.
    pub(in super::super) fn admitting(self, admits: Admits) -> Self {
        Self { admits: Some(admits), ..self }
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
                HEADER => {
                    let is_kept = whole <= LONGEST;
                    let taken = if is_kept { whole } else { HEAD + FIXED };
                    let Some(frame) = rest.get(..taken) else { return (at, Found::More) };
                    let body = body_size(frame);
                    let channel = u16::from_be_bytes([frame[1], frame[2]]);
                    if let Some(why) = self.objection(channel, body) {
                        self.dropping = ([frame[1], frame[2]], body);
                        self.skipping = (whole - taken) as u64;
                        return (at, Found::Instead(mended(&bodiless(frame), &why), taken));
                    }
                    let fits = self.frame_max == 0 || whole <= self.frame_max;
                    let why = match is_kept.then(|| complaint(&frame[HEAD..whole - 1])) {
                        Some(None) if fits => {
                            at += whole;
                            continue;
                        }
                        Some(Some(why)) => why.to_owned(),
                        _ => {
                            format!(
                                "{NO_HEADERS}{whole} bytes, and {} are taken at most",
                                self.frame_max
                            )
                        }
                    };
                    self.skipping = (whole - taken) as u64;
                    return (at, Found::Instead(mended(frame, &why), taken));
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

    /// Why a body of so many bytes is to be left out.
    fn objection(&mut self, channel: u16, body: u64) -> Option<String> {
        if self.largest > 0 && body > self.largest {
            return Some(format!("{TOO_LARGE}{body}"));
        }
        let admitted = body == 0 || self.admits.as_mut().is_none_or(|admits| admits(channel, body));
        (!admitted).then(|| format!("{NO_ROOM}{body}"))
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

#[cfg(test)]
mod tests {
    use super::super::content_header::DEEPEST;
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
        through(&mut Sieve::new(16_384, 100_000), bytes, step)
    }

    fn through(sieve: &mut Sieve, bytes: &[u8], step: usize) -> Vec<u8> {
        let (mut held, mut out) = (Vec::new(), Vec::new());
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
            (
                reply(&[&b"\x01aS"[..], &long(&[b'x'; 16_400])].concat()),
                "16384 are taken at most",
                true,
            ),
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
        assert!(out.len() < 200 && out.ends_with(&frame(BODY, b"{}")), "{}", out.len());
        let header = &out[..out.len() - frame(BODY, b"{}").len()];
        assert_eq!(complaint_of(header), None);
    }

    #[test]
    fn the_body_of_a_message_that_is_too_large_is_left_out() {
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
                text.contains("larger than it may be: 150000") && text.contains("id-7"),
                "{text}"
            );
        }
    }

    /// The header of a message of that size, with an id.
    fn sized(size: u64) -> Vec<u8> {
        let fixed = [&[0, 60, 0, 0][..], &size.to_be_bytes(), &[4, 0], &short(b"id-7")];
        frame(HEADER, &fixed.concat())
    }

    #[test]
    fn a_message_for_which_there_is_no_room_loses_its_body_and_is_asked_about_once() {
        let (sender, asked) = std::sync::mpsc::channel();
        let admits = move |_, size| {
            sender.send(size).unwrap();
            size != 70_000
        };
        let mut sieve = Sieve::new(0, 100_000).admitting(Box::new(admits));
        let fits = [sized(60_000), frame(BODY, &[b'x'; 60_000])].concat();
        let large = [sized(150_000), frame(BODY, &[b'x'; 150_000])].concat();
        let no_room = [sized(70_000), frame(BODY, &[b'~'; 70_000])].concat();
        let stream = [fits.clone(), no_room, large, fits.clone(), sized(0)].concat();
        let out = through(&mut sieve, &stream, 999);
        assert_eq!(asked.try_iter().collect::<Vec<_>>(), [60_000, 70_000, 60_000]);
        assert!(out.starts_with(&fits) && out.ends_with(&[fits, sized(0)].concat()));
        assert!(!out.contains(&b'~') && out.len() < 121_000, "{}", out.len());
        let text = String::from_utf8_lossy(&out);
        assert!(text.contains("no room for it: 70000"), "it says why");
    }

    #[test]
    fn a_body_that_is_too_large_is_left_out_behind_a_header_that_is_too() {
        let table = [&b"\x01aS"[..], &long(&vec![b'x'; 2 * LONGEST])].concat();
        let payload =
            [&[0, 60, 0, 0][..], &150_000_u64.to_be_bytes(), &[0x20, 0], &long(&table)].concat();
        let behind = frame(HEARTBEAT, b"");
        let stream = [frame(HEADER, &payload), frame(BODY, &[b'y'; 150_000]), behind.clone()];
        let out = sifted(&stream.concat(), 10_000);
        assert!(out.len() < 200 && out.ends_with(&behind), "{}", out.len());
        assert_eq!(body_size(&out), 0);
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
