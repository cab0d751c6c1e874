//! Globs by their first words: which of many another one may meet, without trying them all.

use std::collections::HashMap;

/// Where a name's first word ends.
const ENDS: [char; 2] = ['.', '/'];
/// What makes a word another one than it reads.
const WILD: [char; 5] = ['*', '?', '>', '#', '$'];

/// Many globs, by numbers that count up from zero.
#[derive(Default)]
pub(crate) struct FirstWords<'a> {
    by_word: HashMap<&'a str, Vec<usize>>,
    /// Those whose first word may be any.
    wild: Vec<usize>,
    count: usize,
}

impl<'a> FirstWords<'a> {
    /// Numbers them in their order.
    pub(crate) fn of(globs: impl Iterator<Item = &'a str>) -> Self {
        let mut words = Self::default();
        for (number, glob) in globs.enumerate() {
            match first_word(glob) {
                Some(word) => words.by_word.entry(word).or_default().push(number),
                None => words.wild.push(number),
            }
            words.count = number + 1;
        }
        words
    }

    /// Those that may meet the glob, in ascending order: all others certainly do not.
    pub(crate) fn may_meet(&self, glob: &str) -> Vec<usize> {
        let Some(word) = first_word(glob) else { return (0..self.count).collect() };
        let alike = self.by_word.get(word).map_or(&[][..], Vec::as_slice);
        let mut found = [alike, &self.wild].concat();
        found.sort_unstable();
        found
    }
}

/// The word that every name begins with that the glob matches.
fn first_word(glob: &str) -> Option<&str> {
    let word = glob.split(ENDS).next().unwrap_or(glob);
    (!word.contains(WILD)).then_some(word)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_that_may_meet() {
        let globs = ["a.b", "a", "*", "a*.b", "b.*", "stream/A", "a.*", ">"];
        let words = FirstWords::of(globs.into_iter());
        for (glob, numbers) in [
            ("a.c", &[0, 1, 2, 3, 6, 7][..]),
            ("a", &[0, 1, 2, 3, 6, 7]),
            ("b.x", &[2, 3, 4, 7]),
            ("stream/A/x.y", &[2, 3, 5, 7]),
            ("c", &[2, 3, 7]),
            ("*.c", &[0, 1, 2, 3, 4, 5, 6, 7]),
            ("$1.c", &[0, 1, 2, 3, 4, 5, 6, 7]),
        ] {
            assert_eq!(words.may_meet(glob), numbers, "{glob}");
        }
    }
}
