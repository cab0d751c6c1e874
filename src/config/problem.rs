//! What is wrong with a configuration: the place, the words, the mend.

use std::fmt;

/// Whether Genkan can start with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It cannot.
    Error,
    /// It can, and something is probably not as meant.
    Warning,
    /// It can, and it is as meant: but the world is bad.
    Advice,
}

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    /// A line of a file, counted from 1.
    Line(String, usize),
    /// A file as a whole.
    File(String),
    /// An environment variable.
    Environment(String),
}

impl Place {
    /// The line, 0 where it has none: for sorting.
    pub fn line(&self) -> usize {
        match self {
            Place::Line(_, line) => *line,
            Place::File(_) | Place::Environment(_) => 0,
        }
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Line(file, line) => write!(f, "{file}:{line}"),
            Place::File(file) => f.write_str(file),
            Place::Environment(variable) => write!(f, "environment variable {variable}"),
        }
    }
}

/// One problem. Its message names what is wrong and what to write instead.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// How bad.
    pub severity: Severity,
    /// Where.
    pub place: Place,
    /// What, and the mend.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.place, self.message)
    }
}

/// `: did you mean `x`?` for the candidate that a slip of the pen may have turned into `word`,
/// or nothing. A word in capitals is near.
pub fn did_you_mean<'a>(word: &str, candidates: impl Iterator<Item = &'a str>) -> String {
    let word = word.to_lowercase();
    let near = candidates
        .map(|candidate| (strsim::damerau_levenshtein(&word, &candidate.to_lowercase()), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + candidate.chars().count() / 4)
        .min();
    near.map(|(_, candidate)| format!(": did you mean `{candidate}`?")).unwrap_or_default()
}
