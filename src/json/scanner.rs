//! Finds where the lexemes of JSON text begin, a block of it at a time, and checks the strings on
//! the way. Which lexemes may follow each other, [`super::outline`] knows.

use super::block::{Marks, SIZE};

/// Reads the beginnings of lexemes.
pub(super) struct Scanner<'a> {
    text: &'a [u8],
    /// Where the block begins whose lexemes are read.
    block: usize,
    /// Where the next one begins.
    next_block: usize,
    /// A bit for each lexeme of the block that was not read yet, where it begins.
    begins: u64,
    /// All ones where a string goes on from block to block.
    in_string: u64,
    /// One where a number or a word may.
    in_scalar: u64,
    /// One where the next block's first byte is escaped.
    escaped: u64,
    /// A string is none.
    broken: bool,
}

impl<'a> Scanner<'a> {
    pub(super) fn new(text: &'a [u8]) -> Self {
        #[cfg(test)]
        super::walks::add(text.len());
        Self {
            text,
            block: 0,
            next_block: 0,
            begins: 0,
            in_string: 0,
            in_scalar: 0,
            escaped: 0,
            broken: false,
        }
    }

    /// Where the next lexeme begins; `None` at the text's end, or where a string is none.
    #[inline(always)]
    pub(super) fn next(&mut self) -> Option<usize> {
        while self.begins == 0 {
            if self.next_block >= self.text.len() || self.broken {
                return None;
            }
            self.enter_block();
        }
        let at = self.block + self.begins.trailing_zeros() as usize;
        self.begins &= self.begins - 1;
        Some(at)
    }

    /// Whether each string that was passed is one, and has its end.
    pub(super) fn is_sound(&self) -> bool {
        !self.broken && self.in_string == 0
    }

    fn enter_block(&mut self) {
        self.block = self.next_block;
        self.next_block += SIZE;
        let rest = &self.text[self.block..];
        let Marks { mut quotes, backslashes, structure, blanks, controls } =
            match rest.first_chunk::<SIZE>() {
                Some(block) => Marks::of(block),
                None => {
                    let mut block = [b' '; SIZE];
                    block[..rest.len()].copy_from_slice(rest);
                    Marks::of(&block)
                }
            };
        if backslashes | self.escaped != 0 {
            quotes &= !self.pass_escapes(backslashes);
        }
        // A string's bytes, from its first quote to what stands before its last.
        let strings = parity(quotes) ^ self.in_string;
        self.in_string = 0_u64.wrapping_sub(strings >> (SIZE - 1));
        let scalars = !(strings | structure | blanks | quotes);
        let first_of_scalars = scalars & !(scalars << 1 | self.in_scalar);
        self.in_scalar = scalars >> (SIZE - 1);
        self.begins = structure & !strings | quotes & strings | first_of_scalars;
        self.broken |= controls & strings != 0;
        if self.broken {
            self.begins = 0;
        }
    }

    /// The bytes of the block that are escaped. Each escape is checked: outside of a string, where
    /// there is none, a backslash begins a lexeme that is none either.
    fn pass_escapes(&mut self, mut backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        backslashes &= !escaped;
        while backslashes != 0 {
            let place = backslashes.trailing_zeros() as usize;
            self.broken |= !is_escape(&self.text[self.block + place + 1..]);
            if place == SIZE - 1 {
                self.escaped = 1;
                break;
            }
            escaped |= 0b10 << place;
            backslashes &= !(0b11 << place);
        }
        escaped
    }
}

/// Whether what stands behind a backslash makes an escape with it.
fn is_escape(behind: &[u8]) -> bool {
    match behind {
        [b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't', ..] => true,
        [b'u', a, b, c, d, ..] => [a, b, c, d].into_iter().all(u8::is_ascii_hexdigit),
        _ => false,
    }
}

/// For each bit whether those up to and with it are an odd number.
#[inline]
fn parity(mut bits: u64) -> u64 {
    for distance in [1, 2, 4, 8, 16, 32] {
        bits ^= bits << distance;
    }
    bits
}

/// What stands behind the number or word that `text` begins with, if it does.
#[inline(always)]
pub(super) fn behind_scalar(text: &[u8]) -> Option<&[u8]> {
    match text {
        [b't', b'r', b'u', b'e', rest @ ..]
        | [b'n', b'u', b'l', b'l', rest @ ..]
        | [b'f', b'a', b'l', b's', b'e', rest @ ..] => Some(rest),
        _ => behind_number(text),
    }
}

#[inline(always)]
fn behind_number(text: &[u8]) -> Option<&[u8]> {
    let mut rest = match text.strip_prefix(b"-").unwrap_or(text) {
        [b'0', rest @ ..] => rest,
        text => behind_digits(text)?,
    };
    if let [b'.', fraction @ ..] = rest {
        rest = behind_digits(fraction)?;
    }
    if let [b'e' | b'E', b'+' | b'-', exponent @ ..] | [b'e' | b'E', exponent @ ..] = rest {
        rest = behind_digits(exponent)?;
    }
    Some(rest)
}

/// Behind at least one digit.
#[inline(always)]
fn behind_digits(text: &[u8]) -> Option<&[u8]> {
    let [b'0'..=b'9', rest @ ..] = text else { return None };
    let mut rest = rest;
    while let [b'0'..=b'9', more @ ..] = rest {
        rest = more;
    }
    Some(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What begins where, and whether all of it was sound.
    fn scanned(text: &str) -> (Vec<usize>, bool) {
        let mut scanner = Scanner::new(text.as_bytes());
        let begins = std::iter::from_fn(|| scanner.next()).collect();
        (begins, scanner.is_sound())
    }

    #[test]
    fn lexemes_begin_wherever_blocks_end() {
        for blanks in 0..=2 * SIZE {
            let text = " ".repeat(blanks) + r#"{"a\\\"b": [1.5e-3,true],"":null }"#;
            let begins = [0, 1, 9, 11, 12, 18, 19, 23, 24, 25, 27, 28, 33].map(|at| at + blanks);
            assert_eq!(scanned(&text), (begins.to_vec(), true), "{blanks}");
        }
    }

    #[test]
    fn strings_are_sound_or_not_wherever_blocks_end() {
        for length in 0..=2 * SIZE {
            let text = "x".repeat(length);
            for good in ["", r"\\", r#"\""#, r"\/\b\f\n\r\t", r"\u00e9", r"\ud800", "é", "\u{7f}"]
            {
                assert_eq!(scanned(&format!("\"{text}{good}\"")), (vec![0], true), "{good}");
            }
            for bad in ["\\", r"\x", r"\u00g9", r"\u00", r"\U0000", "\n", "\0", "\u{1f}"] {
                assert!(!scanned(&format!("\"{text}{bad}\"")).1, "{bad:?} behind {length}");
            }
            assert!(!scanned(&format!("\"{text}")).1, "{length}");
        }
    }

    #[test]
    fn numbers_and_words() {
        let left = |text: &'static str| behind_scalar(text.as_bytes()).map(<[u8]>::len);
        for good in ["-0", "0", "12.50", "1E+9", "1e-0", "-1.5e3", "true", "false", "null"] {
            assert_eq!(left(good), Some(0), "{good}");
        }
        for (text, behind) in [("01", 1), ("1.5x", 1), ("truex", 1), ("1 ", 1)] {
            assert_eq!(left(text), Some(behind), "{text}");
        }
        for bad in ["", "-", "1.", "1e", "1e+", ".5", "+1", "nul", "NaN", "-Infinity", "x", "-x"] {
            assert_eq!(left(bad), None, "{bad}");
        }
    }
}
