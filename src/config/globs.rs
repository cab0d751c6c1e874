//! What somebody writes into a glob who has another kind of pattern in mind.

use super::section::Section;

/// Warns of a glob that ends in a wildcard of NATS's subjects, or of AMQP's topics: here it is a letter, which
/// nothing is called by.
pub(super) fn warn_of_foreign(section: &Section<'_>, key: &str, glob: &str) {
    let Some((wildcard, meant)) = meant(glob) else { return };
    let message = format!(
        "`{key}` in {}: `{wildcard}` is a letter here: `*` stands for any text, dots too: write `{meant}`",
        section.title()
    );
    section.warn(key, message);
}

/// The wildcard, and the glob that is meant.
fn meant(glob: &str) -> Option<(char, String)> {
    let wildcard = glob.chars().next_back().filter(|last| matches!(last, '>' | '#'))?;
    let before = glob.strip_suffix(wildcard)?;
    let is_word = before.is_empty() || before.ends_with(['.', ':', '=']);
    is_word.then(|| (wildcard, format!("{before}*")))
}
