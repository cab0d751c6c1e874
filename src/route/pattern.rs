//! Globs over `service.method`: `*` stands for any run of characters, dots too, `?` for one.

use std::fmt;

/// A compiled glob.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    shape: Shape,
}

/// The common shapes are compared directly.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Literal,
    /// One `*`, at the end.
    Prefix,
    Glob,
}

impl Pattern {
    /// Compiles a glob. Every text is one.
    pub fn new(text: &str) -> Self {
        let special = text.find(['*', '?']);
        let shape = match special {
            None => Shape::Literal,
            Some(at) if &text[at..] == "*" => Shape::Prefix,
            Some(_) => Shape::Glob,
        };
        Self { text: text.to_owned(), shape }
    }

    /// As the operator wrote it.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// Whether it names one thing alone, without `*` or `?`.
    pub fn is_literal(&self) -> bool {
        self.shape == Shape::Literal
    }

    /// The text before its first wildcard and the text behind its last one; `None` where it has
    /// none.
    pub fn ends(&self) -> Option<(&str, &str)> {
        let wildcard = ['*', '?'];
        let (first, last) = (self.text.find(wildcard)?, self.text.rfind(wildcard)?);
        Some((&self.text[..first], &self.text[last + 1..]))
    }

    /// Whether it matches all of `name`.
    pub fn matches(&self, name: &str) -> bool {
        match self.shape {
            Shape::Literal => self.text == name,
            Shape::Prefix => name.starts_with(&self.text[..self.text.len() - 1]),
            Shape::Glob => glob(self.text.as_bytes(), name.as_bytes(), |p, n| p == b'?' || p == n),
        }
    }

    /// Whether some name is matched by both. In time bounded by the product of the lengths.
    pub fn meets(&self, other: &Pattern) -> bool {
        let (mine, theirs): (Vec<char>, Vec<char>) =
            (self.text.chars().collect(), other.text.chars().collect());
        // What is left of `theirs` that can be met by what is left of `mine`, from the end on.
        let mut row: Vec<bool> = vec![false; theirs.len() + 1];
        for at in (0..=mine.len()).rev() {
            let mut above = row[theirs.len()];
            row[theirs.len()] = mine[at..].iter().all(|c| *c == '*');
            for other in (0..theirs.len()).rev() {
                let diagonal = above;
                above = row[other];
                row[other] = match (mine.get(at), theirs[other]) {
                    (None, their) => their == '*' && row[other + 1],
                    (Some('*'), _) | (Some(_), '*') => above || row[other + 1],
                    (Some(my), their) => (*my == their || *my == '?' || their == '?') && diagonal,
                };
            }
        }
        row[0]
    }

    /// Whether every name that `other` matches is matched by this one too. May say no where it
    /// would take a proof over several wildcards to say yes.
    pub fn covers(&self, other: &Pattern) -> bool {
        glob(self.text.as_bytes(), other.text.as_bytes(), |mine, theirs| {
            mine == theirs || (mine == b'?' && theirs != b'*')
        })
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

/// Matches with one step of memory: after a mismatch the last `*` takes one byte more. Time is
/// bounded by the product of the lengths. `?` counts bytes that start a character.
fn glob(pattern: &[u8], name: &[u8], one: impl Fn(u8, u8) -> bool) -> bool {
    let (mut p, mut n) = (0, 0);
    let mut star: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&byte) if one(byte, name[n]) => {
                let wide = byte == b'?' && name[n] != b'?';
                p += 1;
                n += 1;
                while wide && name.get(n).is_some_and(|next| next & 0xC0 == 0x80) {
                    n += 1;
                }
            }
            _ => match star {
                Some((star_p, star_n)) => {
                    p = star_p + 1;
                    n = star_n + 1;
                    star = Some((star_p, n));
                }
                None => return false,
            },
        }
    }
    pattern[p..].iter().all(|byte| *byte == b'*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn matching() {
        let cases = [
            ("orders.*", "orders.create", true),
            ("orders.*", "orders.eu.create", true),
            ("orders.*", "orders", false),
            ("orders.*", "xorders.create", false),
            ("*.health", "orders.health", true),
            ("*.health", "orders.health.x", false),
            ("*", "a.b", true),
            ("o?ders.create", "orders.create", true),
            ("o?ders.create", "oders.create", false),
            ("?.m", "é.m", true),
            ("a*b*c.m", "aXbXbYc.m", true),
            ("a*b*c.m", "aXcXb.m", false),
            ("orders.create", "orders.create", true),
            ("orders.create", "orders.creates", false),
            ("", "", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} on {name}");
        }
    }

    #[test]
    fn meeting() {
        let cases = [
            ("orders.*", "orders.create", true),
            ("orders.c*", "orders.*", true),
            ("*.health", "orders.*", true),
            ("orders.*", "mailer.*", false),
            ("o*s.x", "orders.*", true),
            ("o*s.x", "mailer.*", false),
            ("?rders.x", "orders.*", true),
            ("orders", "orders.*", false),
            ("*a*b*c", "*x*", true),
            ("", "*", true),
            ("", "?", false),
        ];
        for (one, other, expected) in cases {
            let (one, other) = (Pattern::new(one), Pattern::new(other));
            assert_eq!(
                (one.meets(&other), other.meets(&one)),
                (expected, expected),
                "{one} {other}"
            );
        }
    }

    #[test]
    fn what_takes_long_to_rule_out_takes_steps_in_proportion_to_the_name() {
        for pattern in ["*a*a*a*b", "*a?a*a?*b", "a*a*a*a*a*a*a*a*b", "*aa*aa*b*"] {
            let name = "a".repeat(1_000);
            let steps = std::cell::Cell::new(0);
            let one = |p: u8, n: u8| {
                steps.set(steps.get() + 1);
                p == b'?' || p == n
            };
            assert!(!glob(pattern.as_bytes(), name.as_bytes(), one), "{pattern}");
            assert!(steps.get() <= 3 * name.len(), "{pattern}: {} steps", steps.get());
        }
    }

    #[test]
    fn covering() {
        let cases = [
            ("orders.*", "orders.create", true),
            ("orders.*", "orders.*", true),
            ("*", "orders.*", true),
            ("*", "*", true),
            ("orders.*", "*", false),
            ("orders.create", "orders.*", false),
            ("?.m", "a.m", true),
            ("?.m", "*.m", false),
            ("*.m", "a?c.m", true),
            ("a.*", "b.*", false),
        ];
        for (mine, theirs, expected) in cases {
            let covers = Pattern::new(mine).covers(&Pattern::new(theirs));
            assert_eq!(covers, expected, "{mine} over {theirs}");
        }
    }
}
