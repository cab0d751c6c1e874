//! `NaN` and `Infinity`, as Python writes them and JSON forbids them (WIRE 1.8, rule 7).

use super::lexer::{Kind, Lexer};

/// Replaces `NaN`, `Infinity` and `-Infinity` outside strings by `null`. `None` where there are
/// none. The result still has to be parsed: this only looks for the words.
pub(crate) fn repair(json: &[u8]) -> Option<Vec<u8>> {
    let mut repaired: Option<Vec<u8>> = None;
    let mut copied = 0;
    for lexeme in Lexer::new(json).filter(|lexeme| lexeme.kind == Kind::Scalar) {
        let word = &json[lexeme.start..lexeme.end];
        if python_word(word) != Some(word.len()) {
            continue;
        }
        let out = repaired.get_or_insert_with(|| Vec::with_capacity(json.len()));
        out.extend_from_slice(&json[copied..lexeme.start]);
        out.extend_from_slice(b"null");
        copied = lexeme.end;
    }
    let mut repaired = repaired?;
    repaired.extend_from_slice(&json[copied..]);
    Some(repaired)
}

/// How long the word of Python's is that the text begins with.
pub(super) fn python_word(text: &[u8]) -> Option<usize> {
    let words: [&[u8]; 3] = [b"NaN", b"Infinity", b"-Infinity"];
    words.into_iter().find(|word| text.starts_with(word)).map(<[u8]>::len)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn python_numbers_become_null() {
        let cases = [
            ("NaN", Some("null")),
            ("[NaN,Infinity,-Infinity]", Some("[null,null,null]")),
            (r#"{"a": NaN, "b": 1}"#, Some(r#"{"a": null, "b": 1}"#)),
            (r#"{"NaN": "Infinity -Infinity"}"#, None),
            (r#"["a\"NaN", NaN]"#, Some(r#"["a\"NaN", null]"#)),
            (r#"["a\\",NaN]"#, Some(r#"["a\\",null]"#)),
            ("[-1, -0, 1e-5]", None),
            ("[1e400, true]", None),
            (r#""unfinished NaN"#, None),
            (r#""\"#, None),
            ("", None),
        ];
        for (json, expected) in cases {
            let repaired = repair(json.as_bytes()).map(|text| String::from_utf8(text).unwrap());
            assert_eq!(repaired.as_deref(), expected, "{json}");
        }
    }
}
