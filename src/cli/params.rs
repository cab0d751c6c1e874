//! The PARAMs of a command line: `name=text`, `name:=json`, bare JSON, or `-` for standard input
//! (CONTRACT, section 2).
//!
//! JSON is checked and passed on as it was typed: `id:=9007199254740993` and `x:=1.10` reach the
//! service like that, and named params keep their order.

use std::io;

use bytes::Bytes;
use serde_json::value::RawValue;

use super::CommandError;
use crate::call::{Params, Payload};

/// What help says of a PARAM.
pub const PARAM_HELP: &str = "name=text (a string), name:=json (any JSON), bare JSON for \
    positional params, or - to read all params from standard input, an array or an object";

/// What is read from standard input at most.
const LARGEST_INPUT: u64 = 256 << 20;

/// Reads the params of a command line; standard input is touched only for `-`.
pub fn read(args: &[String]) -> Result<Params, CommandError> {
    parse(args, || {
        let mut text = Vec::new();
        io::Read::read_to_end(&mut io::Read::take(io::stdin().lock(), LARGEST_INPUT), &mut text)?;
        Ok(text)
    })
}

/// The same with any standard input.
fn parse(
    args: &[String],
    input: impl FnOnce() -> io::Result<Vec<u8>>,
) -> Result<Params, CommandError> {
    if args.iter().any(|arg| arg == "-") {
        if args.len() > 1 {
            return Err(usage("`-` reads all params from standard input: give no other beside it"));
        }
        let text = input().map_err(|e| usage(format!("cannot read standard input: {e}")))?;
        return whole(&text);
    }
    let mut named: Vec<(&str, String)> = Vec::new();
    let mut positional: Vec<&str> = Vec::new();
    for arg in args {
        match Param::parse(arg)? {
            Param::Named(name, _) if named.iter().any(|(other, _)| *other == name) => {
                return Err(usage(format!(
                    "the param `{name}` is given twice: keep one, or give a list: \
                     '{name}:=[…, …]'"
                )));
            }
            Param::Named(name, json) => named.push((name, json)),
            Param::Positional(json) => positional.push(json),
        }
    }
    match (named.first(), positional.first()) {
        (None, None) => Ok(Params::None),
        (Some((name, _)), Some(json)) => Err(usage(format!(
            "named and positional params cannot be mixed: `{name}` has a name and `{}` has none; \
             name all of them (name:=json) or none",
            shortened(json)
        ))),
        (Some(_), None) => {
            let members: Vec<_> =
                named.iter().map(|(name, json)| format!("{}:{json}", quoted(name))).collect();
            let object = format!("{{{}}}", members.join(","));
            Ok(Params::Object(Payload::from_validated(Bytes::from(object))))
        }
        (None, Some(_)) => {
            let array = format!("[{}]", positional.join(","));
            Ok(Params::Array(Payload::from_validated(Bytes::from(array))))
        }
    }
}

/// The params from standard input: one array or object.
fn whole(text: &[u8]) -> Result<Params, CommandError> {
    // Some programs begin a file with a mark of the byte order.
    let text = text.strip_prefix(b"\xef\xbb\xbf").unwrap_or(text);
    let json: &RawValue = serde_json::from_slice(text).map_err(|error| {
        if text.trim_ascii().is_empty() {
            usage("standard input is empty: write the params to it, an array or an object")
        } else {
            usage(format!("standard input is not JSON: {error}"))
        }
    })?;
    let payload = Payload::from_validated(Bytes::copy_from_slice(json.get().as_bytes()));
    match json.get().as_bytes().first() {
        Some(b'{') => Ok(Params::Object(payload)),
        Some(b'[') => Ok(Params::Array(payload)),
        _ => Err(usage(format!(
            "standard input must hold an array or an object, not {}",
            shortened(json.get())
        ))),
    }
}

enum Param<'a> {
    Named(&'a str, String),
    Positional(&'a str),
}

impl<'a> Param<'a> {
    fn parse(arg: &'a str) -> Result<Self, CommandError> {
        // A name never starts like a JSON string or container, which may well hold a `=`.
        let is_json = arg.trim_start().starts_with(['"', '{', '[']);
        let Some((name, value)) = arg.split_once('=').filter(|_| !is_json) else {
            return Self::positional(arg);
        };
        match name.strip_suffix(':') {
            Some("") => Err(nameless(arg)),
            None if name.is_empty() => Err(nameless(arg)),
            None => Ok(Param::Named(name, quoted(value))),
            Some(name) => match json(value) {
                Ok(json) => Ok(Param::Named(name, json.to_owned())),
                Err(error) => Err(usage(format!(
                    "`{}` is not JSON: {error}; write `{name}=…` for a string, or mend the JSON \
                     after `{name}:=`",
                    shortened(arg)
                ))),
            },
        }
    }

    fn positional(arg: &'a str) -> Result<Self, CommandError> {
        json(arg).map(Param::Positional).map_err(|error| {
            let word = shortened(arg);
            if arg.trim_start().starts_with(['"', '{', '[']) {
                return usage(format!("`{word}` is not JSON: {error}"));
            }
            // As a shell takes it: double quotes around, the inner ones escaped.
            usage(format!("`{word}` is not JSON: did you mean name={word}, or \"\\\"{word}\\\"\"?"))
        })
    }
}

fn nameless(arg: &str) -> CommandError {
    usage(format!("`{}` has no name before the `=`: write name=text or name:=json", shortened(arg)))
}

/// Checks JSON text without taking its value; without the white space around it.
fn json(text: &str) -> serde_json::Result<&str> {
    serde_json::from_str::<&RawValue>(text).map(RawValue::get)
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

fn shortened(text: &str) -> String {
    const LONGEST: usize = 60;
    let mut shown: String = text.chars().take(LONGEST).collect();
    if text.chars().nth(LONGEST).is_some() {
        shown.push('…');
    }
    shown
}

fn usage(message: impl Into<String>) -> CommandError {
    CommandError::Usage(message.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read_text(args: &[&str], input: &str) -> Result<String, String> {
        let args: Vec<String> = args.iter().map(|arg| (*arg).to_owned()).collect();
        match parse(&args, || Ok(input.as_bytes().to_vec())) {
            Ok(Params::None) => Ok("nothing".to_owned()),
            Ok(Params::Array(json) | Params::Object(json)) => Ok(json.as_str().to_owned()),
            Ok(Params::Both { .. }) => Err("one or the other".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    #[test]
    fn a_file_may_begin_with_a_mark_of_the_byte_order() {
        assert_eq!(read_text(&["-"], "\u{feff}{\"a\":1}\n").as_deref(), Ok(r#"{"a":1}"#));
        assert!(read_text(&["-"], "\u{feff}").is_err_and(|why| why.contains("is empty")));
    }

    #[test]
    fn params() {
        let cases: &[(&[&str], &str)] = &[
            (&[], "nothing"),
            (&["id=7"], r#"{"id":"7"}"#),
            (&["id:=7", "size=L"], r#"{"id":7,"size":"L"}"#),
            (&["z:=1", "a:=2"], r#"{"z":1,"a":2}"#),
            (&["id:=9007199254740993", "x:=1.10"], r#"{"id":9007199254740993,"x":1.10}"#),
            (&["a:=1e400", "b:=-0"], r#"{"a":1e400,"b":-0}"#),
            (&[r#"s:="\ud800""#], r#"{"s":"\ud800"}"#),
            (&[r#"o:={"k":1,"k":2}"#], r#"{"o":{"k":1,"k":2}}"#),
            (&["q=say \"hi\"\n"], r#"{"q":"say \"hi\"\n"}"#),
            (&["empty="], r#"{"empty":""}"#),
            (&["eq=a=b:=c"], r#"{"eq":"a=b:=c"}"#),
            (&["名前=玄関"], r#"{"名前":"玄関"}"#),
            (&["a\"b=1"], r#"{"a\"b":"1"}"#),
            (&["1", "\"two\"", "[3]", "null", "-1"], r#"[1,"two",[3],null,-1]"#),
            (&["1180591620717411303424"], "[1180591620717411303424]"),
            (&[" {\"a=b\": 1} "], r#"[{"a=b": 1}]"#),
            (&["\"a=b\""], r#"["a=b"]"#),
        ];
        for (args, expected) in cases {
            assert_eq!(read_text(args, "").as_deref(), Ok(*expected), "{args:?}");
        }
    }

    #[test]
    fn standard_input() {
        assert_eq!(read_text(&["-"], " [1.10, 2] \n").as_deref(), Ok("[1.10, 2]"));
        assert_eq!(read_text(&["-"], "{\"a\":\n1e400}").as_deref(), Ok("{\"a\":\n1e400}"));
        for (input, message) in [("", "is empty"), ("x", "is not JSON"), ("5", "not 5")] {
            let error = read_text(&["-"], input).expect_err("refused");
            assert!(error.contains(message), "{error}");
        }
    }

    #[test]
    fn slips_of_the_pen() {
        let cases: &[(&[&str], &str)] = &[
            (&["bob"], r#"`bob` is not JSON: did you mean name=bob, or "\"bob\""?"#),
            (&["a=1", "2"], "cannot be mixed: `a` has a name and `2` has none"),
            (&["id:=abc"], "write `id=…` for a string"),
            (&["id:="], "`id:=` is not JSON"),
            (&["=1"], "has no name"),
            (&[":=1"], "has no name"),
            (&["a=1", "a=2"], "`a` is given twice"),
            (&["{\"a\": }"], "is not JSON"),
            (&["-", "1"], "no other beside it"),
            (&["1 2"], "is not JSON"),
            (&[""], "is not JSON"),
        ];
        for (args, expected) in cases {
            let error = read_text(args, "").expect_err("refused");
            assert!(error.contains(expected), "{args:?}: {error}");
        }
    }
}
