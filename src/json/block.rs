//! What stands in 64 bytes of text, as bits: JSON's marks are found in all of them at once.

use wide::u8x16;

/// How many bytes a block has.
pub(super) const SIZE: usize = u64::BITS as usize;
/// How many of them are looked at in one step.
const STEP: usize = 16;

/// A bit for each byte of a block, the lowest for its first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Marks {
    /// `"`
    pub(super) quotes: u64,
    /// `\`
    pub(super) backslashes: u64,
    /// Brackets, commas and colons.
    pub(super) structure: u64,
    /// What may stand between lexemes.
    pub(super) blanks: u64,
    /// What a string holds only escaped.
    pub(super) controls: u64,
}

impl Marks {
    /// The marks of a block.
    #[inline(always)]
    pub(super) fn of(block: &[u8; SIZE]) -> Self {
        let mut marks = Self::default();
        let (steps, _) = block.as_chunks::<STEP>();
        for (number, bytes) in steps.iter().enumerate() {
            let text = u8x16::new(*bytes);
            let is = |byte| text.simd_eq(u8x16::splat(byte));
            // Curly brackets differ from square ones by this bit alone.
            let curly = text | u8x16::splat(0x20);
            let is_curly = |byte| curly.simd_eq(u8x16::splat(byte));
            let bits = |found: u8x16| u64::from(found.to_bitmask()) << (number * STEP);
            marks.quotes |= bits(is(b'"'));
            marks.backslashes |= bits(is(b'\\'));
            marks.structure |= bits(is_curly(b'{') | is_curly(b'}') | is(b',') | is(b':'));
            marks.blanks |= bits(is(b' ') | is(b'\t') | is(b'\n') | is(b'\r'));
            marks.controls |= bits(text.min(u8x16::splat(b' ' - 1)).simd_eq(text));
        }
        marks
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_byte_has_its_marks_wherever_it_stands() {
        for byte in 0..=u8::MAX {
            for place in 0..SIZE {
                let mut block = [b'x'; SIZE];
                block[place] = byte;
                let bit = |is: bool| u64::from(is) << place;
                let expected = Marks {
                    quotes: bit(byte == b'"'),
                    backslashes: bit(byte == b'\\'),
                    structure: bit(b"[]{},:".contains(&byte)),
                    blanks: bit(b" \t\r\n".contains(&byte)),
                    controls: bit(byte < b' '),
                };
                assert_eq!(Marks::of(&block), expected, "{byte:#x} at {place}");
            }
        }
    }
}
