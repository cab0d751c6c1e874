//! What waits to be sent over one connection: whole lines, bounded, in order. No I/O.
//!
//! Lines of its own are gathered into one buffer; lines that many share, a hook's, are kept as
//! they are. What is taken to be written ends at the end of a line, below the 64 KiB that a
//! Node module reads at once: it cannot put a line together again (WIRE 3.4).

use std::collections::VecDeque;

use bytes::Bytes;

use super::wire::OutgoingFrame;

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
}

impl Outbox {
    /// Adds a frame's line. `limit` bounds what waits; a line that waits alone may be longer.
    pub(super) fn push(&mut self, frame: &OutgoingFrame<'_>, limit: usize) -> Result<(), Full> {
        let has_room = |piece: &Piece| matches!(piece, Piece::Own(own) if own.len() < BATCH / 2);
        if !self.pieces.back().is_some_and(has_room) {
            self.pieces.push_back(Piece::Own(std::mem::take(&mut self.spare)));
        }
        let Some(Piece::Own(buffer)) = self.pieces.back_mut() else { return Ok(()) };
        let (waited, before) = (self.bytes, buffer.len());
        frame.write(buffer);
        self.bytes += buffer.len() - before;
        self.own += buffer.len() - before;
        if before > 0 && buffer.len() > BATCH {
            let line = buffer.split_off(before);
            self.pieces.push_back(Piece::Own(line));
        }
        self.check(waited, limit)
    }

    /// Adds a line that others get too.
    pub(super) fn push_shared(&mut self, line: &Bytes, limit: usize) -> Result<(), Full> {
        let waited = self.bytes;
        self.bytes += line.len();
        self.pieces.push_back(Piece::Shared(line.clone()));
        self.check(waited, limit)
    }

    fn check(&self, waited: usize, limit: usize) -> Result<(), Full> {
        if waited > 0 && self.bytes > limit { Err(Full) } else { Ok(()) }
    }

    /// How many bytes wait, those that are being written not counted.
    pub(super) fn len(&self) -> usize {
        self.bytes
    }

    /// The same without the lines that others get too: who made those has counted them.
    pub(super) fn own(&self) -> usize {
        self.own
    }

    /// Takes the oldest lines that may be written at once.
    pub(super) fn take(&mut self, to: &mut Vec<Piece>) {
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

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

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

    proptest! {
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
