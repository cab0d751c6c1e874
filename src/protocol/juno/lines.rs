//! Cuts the bytes of a connection into lines, and bounds what half a line may hold. No I/O.

use memchr::memchr;

use super::wire::{Head, Skim};
use crate::budget::{Account, Exceeded, Share};

/// A line this many times longer than the limit is taken to have no end.
const ENDLESS: usize = 8;
/// Half a line's buffer that is larger gives its memory back.
const KEPT: usize = 1024;

/// What has come in of a line that has not ended.
pub(super) struct Lines {
    half: Vec<u8>,
    /// The memory of `half`.
    share: Share,
    passed_over: Option<Box<PassedOver>>,
}

/// A line that is not kept.
struct PassedOver {
    why: Unkept,
    length: usize,
    skim: Skim,
}

/// Why a line is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unkept {
    /// It is too long.
    TooLong,
    /// There is no memory for it.
    NoRoom(Exceeded),
}

impl PassedOver {
    fn pass(&mut self, bytes: &[u8]) {
        self.length += bytes.len();
        self.skim.pass(bytes);
    }
}

impl Lines {
    /// For a connection, which holds its half line's memory.
    pub(super) fn new(account: &Account) -> Self {
        Self { half: Vec::new(), share: account.share(), passed_over: None }
    }

    /// Whether a line has begun and not ended.
    pub(super) fn is_half(&self) -> bool {
        self.passed_over.is_some() || !self.half.is_empty()
    }

    /// Cuts bytes into lines; of one that is longer than `max`, or that there is no room for, only
    /// its head is told. False where a line seems to have no end.
    pub(super) fn take(
        &mut self,
        bytes: &[u8],
        max: usize,
        mut line: impl FnMut(Result<&[u8], (Unkept, Head)>),
    ) -> bool {
        let mut rest = bytes;
        while let Some(end) = memchr(b'\n', rest) {
            let whole = &rest[..end];
            rest = &rest[end + 1..];
            if self.passed_over.is_some() || self.half.len() + whole.len() > max {
                self.pass_over(whole, Unkept::TooLong);
                if let Some(passed_over) = self.passed_over.take() {
                    line(Err((passed_over.why, passed_over.skim.head())));
                }
            } else if self.half.is_empty() {
                line(Ok(whole));
            } else {
                self.half.extend_from_slice(whole);
                line(Ok(&self.half));
                self.half.clear();
                if self.half.capacity() > KEPT {
                    self.half = Vec::new();
                    self.share.shrink(usize::MAX);
                }
            }
        }
        if self.passed_over.is_some() || self.half.len() + rest.len() > max {
            self.pass_over(rest, Unkept::TooLong);
        } else if let Err(exceeded) = self.keep(rest, max) {
            self.pass_over(rest, Unkept::NoRoom(exceeded));
        }
        self.passed_over.as_ref().is_none_or(|line| line.length / ENDLESS <= max)
    }

    /// Keeps more of a line, whose buffer grows to twice of what it was, and to no more than `max`.
    fn keep(&mut self, bytes: &[u8], max: usize) -> Result<(), Exceeded> {
        let (length, room) = (self.half.len() + bytes.len(), self.half.capacity());
        if length > room {
            let larger = length.max((2 * room).min(max));
            self.share.grow(larger - room)?;
            self.half.reserve_exact(larger - self.half.len());
        }
        self.half.extend_from_slice(bytes);
        Ok(())
    }

    /// Passes over more of a line that is not kept.
    fn pass_over(&mut self, bytes: &[u8], why: Unkept) {
        let begun = std::mem::take(&mut self.half);
        self.share.shrink(usize::MAX);
        let line = self.passed_over.get_or_insert_with(|| {
            let mut line = Box::new(PassedOver { why, length: 0, skim: Skim::default() });
            line.pass(&begun);
            line
        });
        line.pass(bytes);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::budget::Budget;

    #[test]
    fn what_has_no_room_is_passed_over_and_given_back() {
        let budget = Budget::new(400);
        let (account, other) = (budget.connection(), budget.connection());
        let (mut lines, mut others) = (Lines::new(&account), Lines::new(&other));
        let mut told = Vec::new();
        assert!(lines.take(&[b'x'; 90], 1_000, |_| {}) && others.take(&[b'y'; 90], 1_000, |_| {}));
        assert_eq!((account.held(), budget.held()), (90, 180));
        // A quarter of the whole is a connection's part.
        let end = b"more than is left\n{\"type\":4,\"requestId\":\"g1\",";
        assert!(lines.take(&[b'x'; 20], 1_000, |_| {}));
        assert_eq!(account.held(), 0);
        lines.take(end, 1_000, |line| told.push(line.map(<[u8]>::to_vec).map_err(|(why, _)| why)));
        assert_eq!(told, [Err(Unkept::NoRoom(Exceeded::Message { cap: 100 }))]);
        // The next line fits again.
        let mut heads = Vec::new();
        assert!(lines.take(b"}\n", 1_000, |line| heads.push(line.is_ok())));
        assert_eq!(heads, [true]);
        drop((lines, others));
        assert_eq!(budget.held(), 0);
    }

    /// The lines that come of bytes that arrive in pieces; `None` for one that is too long.
    fn cut(pieces: &[&[u8]], max: usize) -> (Vec<Option<Vec<u8>>>, bool) {
        let account = Budget::new(1 << 20).connection();
        let (mut lines, mut got, mut within) = (Lines::new(&account), Vec::new(), true);
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
        assert_eq!(cut(&[b"\n", b"\r\n"], 4), (vec![some(b""), some(b"\r")], true));
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
