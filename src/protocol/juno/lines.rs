//! Cuts the bytes of a connection into lines, and bounds what half a line may hold. No I/O.

use memchr::memchr;

use super::wire::{Head, Skim};

/// A line this many times longer than the limit is taken to have no end.
const ENDLESS: usize = 8;
/// Half a line's buffer that is larger gives its memory back.
const KEPT: usize = 1024;

/// What has come in of a line that has not ended.
#[derive(Default)]
pub(super) struct Lines {
    half: Vec<u8>,
    long: Option<Box<Long>>,
}

/// A line that is too long, and is passed over.
struct Long {
    length: usize,
    skim: Skim,
}

impl Long {
    fn pass(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.skim.pass(bytes);
    }
}

impl Lines {
    /// Whether a line has begun and not ended.
    pub(super) fn is_half(&self) -> bool {
        self.long.is_some() || !self.half.is_empty()
    }

    /// Cuts bytes into lines; of one that is longer than `max`, only its head is told. False
    /// where a line seems to have no end.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        max: usize,
        mut line: impl FnMut(Result<&[u8], Head>),
    ) -> bool {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let whole = &rest[..end];
            rest = &rest[end + 1..];
            if self.long.is_some() || self.half.len() + whole.len() > max {
                self.pass(whole);
                if let Some(long) = self.long.take() {
                    line(Err(long.skim.head()));
                }
            } else if self.half.is_empty() {
                if !whole.trim_ascii().is_empty() {
                    line(Ok(whole));
                }
            } else {
                self.half.extend_from_slice(whole);
                line(Ok(&self.half));
                self.half.clear();
                if self.half.capacity() > KEPT {
                    self.half = Vec::new();
                }
            }
        }
        if self.long.is_some() || self.half.len() + rest.len() > max {
            self.pass(rest);
        } else {
            self.half.extend_from_slice(rest);
        }
        self.long.as_ref().is_none_or(|long| long.length / ENDLESS <= max)
    }

    /// Passes over more of a line that is too long.
    fn pass(&mut self, bytes: &[u8]) {
        let begun = std::mem::take(&mut self.half);
        let long = self.long.get_or_insert_with(|| {
            let mut long = Box::new(Long { length: 0, skim: Skim::default() });
            long.pass(&begun);
            long
        });
        long.pass(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The lines that come of bytes that arrive in pieces; `None` for one that is too long.
    fn cut(pieces: &[&[u8]], max: usize) -> (Vec<Option<Vec<u8>>>, bool) {
        let (mut lines, mut got, mut within) = (Lines::default(), Vec::new(), true);
        for piece in pieces {
            within &= lines.take(piece, max, |line| got.push(line.ok().map(<[u8]>::to_vec)));
        }
        (got, within)
    }

    #[test]
    fn lines_that_are_too_long_and_endless_ones() {
        let some = |text: &[u8]| Some(text.to_vec());
        assert_eq!(cut(&[b"1234\n12345\n12\n"], 4), (vec![some(b"1234"), None, some(b"12")], true));
        assert_eq!(cut(&[b"123", b"45678", b"9\n1\n"], 4), (vec![None, some(b"1")], true));
        assert_eq!(cut(&[b"\n", b"\r\n", b"  \n"], 4), (vec![], true));
        let endless = [b"12345678".as_slice(); 5];
        assert_eq!(cut(&endless, 4), (vec![], false));
    }

    proptest! {
        #[test]
        fn it_does_not_matter_where_bytes_are_split(
            text in "([a-c]{0,9}\n){0,6}[a-c]{0,9}", cuts in proptest::collection::vec(0_usize..70, 0..8),
        ) {
            let bytes = text.as_bytes();
            let mut cuts: Vec<usize> = cuts.into_iter().map(|cut| cut.min(bytes.len())).collect();
            cuts.extend([0, bytes.len()]);
            cuts.sort_unstable();
            let pieces: Vec<&[u8]> = cuts.windows(2).map(|pair| &bytes[pair[0]..pair[1]]).collect();
            prop_assert_eq!(cut(&pieces, 6), cut(&[bytes], 6));
        }
    }
}
