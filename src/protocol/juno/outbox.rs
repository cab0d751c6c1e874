//! What waits to be sent over one connection: whole lines, bounded, in order. No I/O.
//!
//! Lines of its own are gathered into one buffer; lines that many share, a hook's, are kept as
//! they are. What is taken to be written ends at the end of a line, below the 64 KiB that a
//! Node module reads at once: it cannot put a line together again (WIRE 3.4).
//!
//! A call's line can be recalled until its first byte may be written. So its place is noted, counted
//! in bytes from the beginning of the connection, and what a socket did not take comes back here,
//! but for the rest of a line that was begun.

use std::collections::VecDeque;

use bytes::Bytes;
use memchr::memchr;

use super::wire::{CallId, OutgoingFrame};

/// At most so much is written at once, unless one line is longer.
const BATCH: usize = 60 * 1024;
/// An empty buffer that is larger gives its memory back.
const KEPT: usize = 2 * 1024;

/// A run of whole lines.
#[derive(Debug)]
pub(super) enum Piece {
    Own(Vec<u8>),
    Shared(Bytes),
}

impl Piece {
    pub(super) fn bytes(&self) -> &[u8] {
        match self {
            Piece::Own(bytes) => bytes,
            Piece::Shared(bytes) => bytes,
        }
    }
}

/// The bound was reached: whoever is at the other end does not read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Full;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Outbox {
    pieces: VecDeque<Piece>,
    bytes: usize,
    /// Those of them that are not shared.
    own: usize,
    /// A buffer to be used again.
    spare: Vec<u8>,
    /// How many of the first bytes were taken before, and came back.
    returned: usize,
    /// Where the first of the pieces begins.
    begin: u64,
    /// The lines of calls, in order. Those before `begin` have been taken.
    calls: VecDeque<CallLine>,
    /// Calls whose lines were dropped with everything.
    dropped: Vec<CallId>,
}

/// Where a call's line is.
#[derive(Debug)]
struct CallLine {
    id: CallId,
    begin: u64,
    length: usize,
}

impl Outbox {
    /// Adds a frame's line. `limit` bounds what waits; a line that waits alone may be longer.
    pub(super) fn push(&mut self, frame: &OutgoingFrame<'_>, limit: usize) -> Result<(), Full> {
        let has_room = |piece: &Piece| matches!(piece, Piece::Own(own) if own.len() < BATCH / 2);
        if !self.pieces.back().is_some_and(has_room) {
            self.pieces.push_back(Piece::Own(std::mem::take(&mut self.spare)));
        }
        let Some(Piece::Own(buffer)) = self.pieces.back_mut() else { return Ok(()) };
        let (waited, begin) = (self.bytes - self.returned, self.begin + self.bytes as u64);
        let before = buffer.len();
        frame.write(buffer);
        let length = buffer.len() - before;
        if let OutgoingFrame::Call { id, .. } = frame {
            self.calls.push_back(CallLine { id: *id, begin, length });
        }
        self.bytes += length;
        self.own += length;
        if before > 0 && buffer.len() > BATCH {
            let line = buffer.split_off(before);
            self.pieces.push_back(Piece::Own(line));
        }
        self.check(waited, limit)
    }

    /// Adds a line that others get too.
    pub(super) fn push_shared(&mut self, line: &Bytes, limit: usize) -> Result<(), Full> {
        let waited = self.bytes - self.returned;
        self.bytes += line.len();
        self.pieces.push_back(Piece::Shared(line.clone()));
        self.check(waited, limit)
    }

    fn check(&self, waited: usize, limit: usize) -> Result<(), Full> {
        if waited > 0 && self.bytes - self.returned > limit { Err(Full) } else { Ok(()) }
    }

    /// How many bytes wait, those not counted that are being written, or that came back from it.
    pub(super) fn len(&self) -> usize {
        self.bytes - self.returned
    }

    /// The same without the lines that others get too: who made those has counted them.
    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// Takes the oldest lines that may be written at once. All that was taken before has been written.
    pub(super) fn take(&mut self, to: &mut Vec<Piece>) {
        self.forget_begun();
        let mut taken = 0;
        while let Some(piece) = self.pieces.front() {
            let length = piece.bytes().len();
            if taken > 0 && taken + length > BATCH {
                break;
            }
            taken += length;
            if let Piece::Own(_) = piece {
                self.own -= length;
            }
            to.extend(self.pieces.pop_front());
        }
        self.bytes -= taken;
        self.begin += taken as u64;
        self.returned = self.returned.saturating_sub(taken);
        if self.pieces.is_empty() && self.pieces.capacity() > 16 {
            self.pieces = VecDeque::new();
        }
    }

    /// Takes a written buffer back, to be used again.
    pub(super) fn recycle(&mut self, piece: Piece) {
        if let Piece::Own(mut buffer) = piece
            && buffer.capacity() <= KEPT
            && self.spare.capacity() < buffer.capacity()
        {
            buffer.clear();
            self.spare = buffer;
        }
    }

    /// Takes back what could not be written of lines that were taken, of whose first piece `offset` bytes
    /// were. The rest of a line that was begun stays.
    pub(super) fn put_back(&mut self, batch: &mut Vec<Piece>, offset: &mut usize) {
        for piece in batch.drain(1.min(batch.len())..).rev() {
            self.put_front(piece);
        }
        let Some(first) = batch.first_mut() else { return };
        let bytes = first.bytes();
        let is_begun = *offset > 0 && bytes[*offset - 1] != b'\n';
        let line = if is_begun {
            memchr(b'\n', &bytes[*offset..]).map_or(bytes.len(), |end| *offset + end + 1)
        } else {
            *offset
        };
        if line == bytes.len() {
            self.forget_begun();
            return;
        }
        let rest = match first {
            Piece::Own(bytes) => Piece::Own(bytes.split_off(line)),
            Piece::Shared(bytes) => Piece::Shared(bytes.split_off(line)),
        };
        self.put_front(rest);
        if !is_begun {
            batch.clear();
            *offset = 0;
        }
        self.forget_begun();
    }

    fn put_front(&mut self, piece: Piece) {
        let length = piece.bytes().len();
        self.bytes += length;
        self.returned += length;
        self.begin = self.begin.saturating_sub(length as u64);
        if let Piece::Own(_) = piece {
            self.own += length;
        }
        self.pieces.push_front(piece);
    }

    /// Forgets the places of lines of which bytes may have been written.
    fn forget_begun(&mut self) {
        while self.calls.front().is_some_and(|line| line.begin < self.begin) {
            self.calls.pop_front();
        }
        if self.calls.is_empty() && self.calls.capacity() > 16 {
            self.calls = VecDeque::new();
        }
    }

    /// Drops a call's line, if none of it can have been written. False where some may have been.
    pub(super) fn recall(&mut self, id: CallId) -> bool {
        if let Some(index) = self.dropped.iter().position(|dropped| *dropped == id) {
            self.dropped.swap_remove(index);
            return true;
        }
        let here = |line: &CallLine| line.id == id && line.begin >= self.begin;
        let Some(index) = self.calls.iter().position(here) else { return false };
        let Some(CallLine { begin, length, .. }) = self.calls.remove(index) else { return false };
        for behind in self.calls.range_mut(index..) {
            behind.begin -= length as u64;
        }
        // The outbox holds less than a machine's memory.
        let mut at = usize::try_from(begin - self.begin).unwrap_or(usize::MAX);
        if at < self.returned {
            self.returned -= length;
        }
        let found = self.pieces.iter().position(|piece| {
            let size = piece.bytes().len();
            let inside = at < size;
            at -= if inside { 0 } else { size };
            inside
        });
        let Some(index) = found else { return true };
        if let Some(Piece::Own(bytes)) = self.pieces.get_mut(index) {
            bytes.drain(at..at + length);
            self.bytes -= length;
            self.own -= length;
            if bytes.is_empty() {
                self.pieces.remove(index);
            }
        }
        true
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        let unsent = self.calls.iter().filter(|line| line.begin >= self.begin);
        let dropped = unsent.map(|line| line.id).collect();
        *self = Self { dropped, ..Self::default() };
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::wire::Rest;
    use super::*;

    fn text(pieces: &[Piece]) -> String {
        let bytes: Vec<u8> = pieces.iter().flat_map(|piece| piece.bytes().to_vec()).collect();
        String::from_utf8(bytes).expect("UTF-8")
    }

    #[test]
    fn the_bound_holds() {
        let mut outbox = Outbox::default();
        let line = Bytes::from_static(b"0123456789\n");
        assert_eq!(outbox.push_shared(&line, 20), Ok(()));
        assert_eq!(outbox.push_shared(&line, 20), Err(Full));
        outbox.clear();
        assert_eq!(outbox.len(), 0);
        assert_eq!(outbox.push_shared(&line, 5), Ok(()), "nothing waited before it");
    }

    fn call(outbox: &mut Outbox, index: u32, length: usize) -> CallId {
        let id = CallId { index, generation: 0 };
        let arguments = format!("\"{}\"", "x".repeat(length));
        let (function, caller, rest) = ("f", "\"m\"", Rest::NONE);
        let frame = OutgoingFrame::Call { id, function, caller, arguments: &arguments, rest };
        assert_eq!(outbox.push(&frame, usize::MAX), Ok(()));
        id
    }

    #[test]
    fn what_a_socket_did_not_take_can_be_recalled() {
        for (written, recalled) in [(0, [true; 3]), (10, [false, true, true])] {
            let mut outbox = Outbox::default();
            let ids = [0, 1, 2].map(|index| call(&mut outbox, index, 100));
            let whole = outbox.len();
            let (mut batch, mut offset) = (Vec::new(), written);
            outbox.take(&mut batch);
            assert!(!outbox.recall(ids[2]), "it may be being written");
            outbox.put_back(&mut batch, &mut offset);
            assert_eq!(ids.map(|id| outbox.recall(id)), recalled);
            assert_eq!(ids.map(|id| outbox.recall(id)), [false; 3], "once");
            assert_eq!((outbox.bytes, outbox.len(), outbox.own()), (0, 0, 0));
            let rest: usize = batch.iter().map(|piece| piece.bytes().len()).sum();
            assert_eq!((rest, offset), if written == 0 { (0, 0) } else { (whole / 3, written) });
        }
    }

    #[test]
    fn what_is_dropped_with_everything_was_not_sent() {
        let mut outbox = Outbox::default();
        let first = call(&mut outbox, 0, 10);
        let mut batch = Vec::new();
        outbox.take(&mut batch);
        let second = call(&mut outbox, 1, 10);
        outbox.clear();
        assert_eq!([first, second].map(|id| outbox.recall(id)), [false, true]);
    }

    proptest! {
        /// Whatever is recalled, and however little a socket takes: what was not recalled comes out
        /// whole and in order, and what was does not come out at all.
        #[test]
        fn recalled_lines_never_leave(
            steps in proptest::collection::vec((0_u8..4, 0_usize..70_000), 1..60),
        ) {
            let (mut outbox, mut sent) = (Outbox::default(), Vec::new());
            let (mut batch, mut offset): (Vec<Piece>, usize) = (Vec::new(), 0);
            let mut waiting: Vec<(CallId, Vec<u8>)> = Vec::new();
            let mut expected: Vec<Vec<u8>> = Vec::new();
            for (index, (step, number)) in (0..).zip(steps) {
                match step {
                    0 => {
                        let id = call(&mut outbox, index, number / 4);
                        let mut line = Vec::new();
                        let arguments = format!("\"{}\"", "x".repeat(number / 4));
                        let (function, caller, rest) = ("f", "\"m\"", Rest::NONE);
                        OutgoingFrame::Call { id, function, caller, arguments: &arguments, rest }
                            .write(&mut line);
                        expected.push(line.clone());
                        waiting.push((id, line));
                    }
                    1 => {
                        let line = Bytes::from(format!("{{\"hook\":{index}}}\n"));
                        prop_assert_eq!(outbox.push_shared(&line, usize::MAX), Ok(()));
                        expected.push(line.to_vec());
                    }
                    2 if !waiting.is_empty() => {
                        let (id, line) = waiting.remove(number % waiting.len());
                        if outbox.recall(id) {
                            expected.retain(|other| *other != line);
                        }
                    }
                    _ => {
                        if batch.is_empty() {
                            outbox.take(&mut batch);
                        }
                        let left = batch.iter().map(|piece| piece.bytes().len()).sum::<usize>();
                        let mut taken = offset + number.min(left - offset);
                        let mut begun = offset;
                        while let Some(piece) = batch.first() {
                            let end = taken.min(piece.bytes().len());
                            sent.extend_from_slice(&piece.bytes()[begun..end]);
                            (begun, offset) = (0, end);
                            if end < piece.bytes().len() {
                                break;
                            }
                            taken -= end;
                            offset = 0;
                            batch.remove(0);
                        }
                        outbox.put_back(&mut batch, &mut offset);
                    }
                }
            }
            if let Some(piece) = batch.first() {
                sent.extend_from_slice(&piece.bytes()[offset..]);
            }
            batch.clear();
            while outbox.bytes > 0 {
                outbox.take(&mut batch);
                batch.drain(..).for_each(|piece| sent.extend_from_slice(piece.bytes()));
            }
            prop_assert_eq!(sent, expected.concat());
        }

        #[test]
        fn lines_come_out_whole_and_in_order(
            lines in proptest::collection::vec((any::<bool>(), 1_usize..40_000), 0..30),
        ) {
            let mut outbox = Outbox::default();
            let mut expected = String::new();
            for (index, (shared, length)) in lines.iter().enumerate() {
                let id = format!("\"{index}{}\"", "x".repeat(*length));
                let frame = OutgoingFrame::Listening { request_id: &id };
                let mut line = Vec::new();
                frame.write(&mut line);
                expected.push_str(std::str::from_utf8(&line).expect("UTF-8"));
                let pushed = if *shared {
                    outbox.push_shared(&Bytes::from(line), usize::MAX)
                } else {
                    outbox.push(&frame, usize::MAX)
                };
                prop_assert_eq!(pushed, Ok(()));
            }
            prop_assert_eq!(outbox.len(), expected.len());
            let mut got = String::new();
            while outbox.len() > 0 {
                let mut batch = Vec::new();
                outbox.take(&mut batch);
                let batch_text = text(&batch);
                prop_assert!(batch_text.ends_with('\n'));
                prop_assert!(batch_text.len() <= BATCH || batch_text.matches('\n').count() == 1);
                got.push_str(&batch_text);
                for piece in batch {
                    outbox.recycle(piece);
                }
            }
            prop_assert_eq!(got, expected);
        }
    }
}
