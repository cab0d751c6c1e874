//! What somebody writes into a glob who has another kind of pattern in mind.

use super::section::Section;

/// So many of a list are named.
const MOST_TOLD: usize = 5;

/// Warns of globs that end in a wildcard of NATS's subjects, or of AMQP's topics: here it is a letter, which
/// nothing is called by. Of all that a key holds at once.
pub(super) fn warn_of_foreign<'a>(
    section: &Section<'_>,
    key: &str,
    globs: impl IntoIterator<Item = &'a str>,
) {
    let (mut wildcards, mut all_meant) = (Vec::new(), Vec::new());
    for (wildcard, meant) in globs.into_iter().filter_map(meant) {
        if !wildcards.contains(&wildcard) {
            wildcards.push(wildcard);
        }
        all_meant.push(meant);
    }
    let letters = match wildcards.as_slice() {
        [] => return,
        [one] => format!("`{one}` is a letter here"),
        several => {
            let several: Vec<_> = several.iter().map(|one| format!("`{one}`")).collect();
            format!("{} are letters here", several.join(" and "))
        }
    };
    let more = all_meant.len().saturating_sub(MOST_TOLD);
    let told: Vec<_> = all_meant.iter().take(MOST_TOLD).map(|meant| format!("`{meant}`")).collect();
    let more = if more > 0 { format!(", and so on: {more} more") } else { String::new() };
    let message = format!(
        "`{key}` in {}: {letters}: `*` stands for any text, dots too: write {}{more}",
        section.title(),
        told.join(", ")
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
