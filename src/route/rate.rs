//! How often something may happen: `100/s`.

use std::fmt;
use std::num::NonZeroU32;
use std::time::Duration;

/// So many calls in a time: as many at once where nobody has called before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many.
    pub count: NonZeroU32,
    /// In which time.
    pub per: Duration,
}

/// The times that can be said.
const UNITS: [(&str, u64); 4] = [("s", 1), ("m", 60), ("h", 3_600), ("d", 86_400)];

impl Rate {
    /// Reads `100/s`, `10/m`, `1000/h` or `5/d`; `None` where it is none of these, or never.
    pub fn parse(text: &str) -> Option<Self> {
        let (count, unit) = text.split_once('/')?;
        let (_, seconds) = UNITS.iter().find(|(word, _)| *word == unit.trim())?;
        let count = count.trim().parse().ok().and_then(NonZeroU32::new)?;
        Some(Self { count, per: Duration::from_secs(*seconds) })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.iter().find(|(_, seconds)| *seconds == self.per.as_secs());
        write!(f, "{}/{}", self.count, unit.map_or("?", |(word, _)| word))
    }
}

/// The limits on the calls of a row, of the whole gateway, or of an API key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// How often one caller may call.
    pub rate: Option<Rate>,
    /// How often all of them together may.
    pub total_rate: Option<Rate>,
    /// How many calls may be under way at once.
    pub max_in_flight: Option<usize>,
    /// How many more may wait for their turn.
    pub queue: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_read_and_shown() {
        for text in ["100/s", "1/m", "4294967295/h", "5/d"] {
            assert_eq!(Rate::parse(text).expect(text).to_string(), text);
        }
        assert_eq!(Rate::parse(" 7 / m ").expect("blanks").to_string(), "7/m");
        for text in ["", "0/s", "100", "100/", "/s", "1/ms", "-1/s", "1.5/s", "4294967296/s"] {
            assert_eq!(Rate::parse(text), None, "{text}");
        }
    }
}
