//! Text from elsewhere, fit to be shown: which characters are acted on instead of being shown.

/// Whether a terminal, an editor or a viewer of logs would act on the character: control characters
/// move the cursor or change the title, separators begin a line, and marks turn the reading
/// direction, so that what stands there reads as something else, or are not seen at all.
pub fn is_unprintable(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}'
                | '\u{200e}' | '\u{200f}' | '\u{61c}'
                // Nothing is seen of these.
                | '\u{ad}' | '\u{200b}'..='\u{200d}' | '\u{2060}'..='\u{2064}' | '\u{feff}'
                | '\u{e0000}'..='\u{e007f}'
        )
}

/// The text with such characters as `\u{1b}`. Line breaks stay.
pub fn printable(text: &str) -> String {
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c != '\n' && is_unprintable(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// The same, on one line.
pub fn printable_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// The beginning of a text, of `most` bytes at most, that ends with a whole character.
pub fn beginning(text: &str, most: usize) -> &str {
    let mut end = most.min(text.len());
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    &text[..end]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_would_be_acted_on_is_escaped() {
        assert_eq!(printable("a\x1b]0;title\x07b\nc"), "a\\u{1b}]0;title\\u{7}b\nc");
        assert_eq!(printable("\u{9b}31m \u{202e}"), "\\u{9b}31m \\u{202e}");
        assert_eq!(printable("\u{2028}\u{200f}\u{61c}\u{7f}"), r"\u{2028}\u{200f}\u{61c}\u{7f}");
        assert_eq!(
            printable("a\u{200b}d\u{ad}m\u{feff}in\u{e0041}"),
            r"a\u{200b}d\u{ad}m\u{feff}in\u{e0041}"
        );
        assert_eq!(printable("玄関 é"), "玄関 é");
        assert_eq!(printable_line("a\nb\r"), "a\\nb\\u{d}");
    }

    #[test]
    fn a_beginning_ends_with_a_whole_character() {
        assert_eq!(beginning("aé", 2), "a");
        assert_eq!(beginning("aé", 3), "aé");
        assert_eq!(beginning("", 3), "");
    }
}
