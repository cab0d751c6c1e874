//! AMQP tables as bytes: what lapin can read of one, found out without reading it itself. Must not: do
//! I/O.

use std::str::from_utf8;

/// Takes bytes off the front.
pub(super) struct Reader<'a>(pub(super) &'a [u8]);

impl<'a> Reader<'a> {
    pub(super) fn take(&mut self, count: usize) -> Option<&'a [u8]> {
        let (taken, rest) = self.0.split_at_checked(count)?;
        self.0 = rest;
        Some(taken)
    }

    pub(super) fn byte(&mut self) -> Option<u8> {
        self.take(1)?.first().copied()
    }

    pub(super) fn short_uint(&mut self) -> Option<u16> {
        Some(u16::from_be_bytes(self.take(2)?.try_into().ok()?))
    }

    pub(super) fn short_string(&mut self) -> Option<&'a [u8]> {
        let length = self.byte()?;
        self.take(usize::from(length))
    }

    pub(super) fn long_string(&mut self) -> Option<&'a [u8]> {
        let length = u32::from_be_bytes(self.take(4)?.try_into().ok()?);
        self.take(usize::try_from(length).ok()?)
    }

    /// Takes a value of a table, and says whether lapin reads it. `None` where its end is not known.
    pub(super) fn value(&mut self, levels: u32) -> Option<(u8, &'a [u8], bool)> {
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

/// Whether lapin reads a table, which may hold so many levels of others.
pub(super) fn table_is_readable(table: &[u8], levels: u32) -> bool {
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
