use super::*;
use crate::json::walks::bytes_walked;

fn single(text: &str) -> Entry {
    match parse(&Bytes::copy_from_slice(text.as_bytes()), 50).expect("an envelope") {
        Envelope::Single(entry) => entry,
        other => panic!("{other:?}"),
    }
}

fn kind(text: &[u8]) -> FaultKind {
    parse(&Bytes::copy_from_slice(text), 3).expect_err("a fault").kind()
}

#[test]
fn a_request_is_cut_out_byte_for_byte() {
    let entry = single(
        r#" {"id" : 9223372036854775807 , "params":{"b":1e400,"a":"\ud800","a":-0, "n":1.10},
            "jsonrpc":"2.0","method":"a.b\u0063","extra":[1e999]} "#,
    );
    assert_eq!(entry.id.expect("an id").as_str(), "9223372036854775807");
    let call = entry.request.expect("valid");
    assert_eq!(call.method, "a.bc");
    let Params::Object(params) = call.params else { panic!("an object") };
    assert_eq!(params.as_str(), r#"{"b":1e400,"a":"\ud800","a":-0, "n":1.10}"#);
}

#[test]
fn wrong_members() {
    let cases = [
        (r#"{"method":"m","id":1}"#, "1"),
        (r#"{"jsonrpc":"1.0","method":"m","id":1}"#, "1"),
        (r#"{"jsonrpc":2.0,"method":"m","id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":1,"id":"x"}"#, "\"x\""),
        (r#"{"jsonrpc":"2.0","method":"\ud800","id":1.5}"#, "1.5"),
        (r#"{"jsonrpc":"2.0","method":null,"id":null}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"m","params":"bar","id":1}"#, "1"),
        (r#"{"jsonrpc":"2.0","method":"m","params":1}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"m","id":{}}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"m","id":[1]}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"m","id":true}"#, "null"),
        (r#"{"jsonrpc":"2.0","method":"m","method":"n","id":1}"#, "1"),
        (r#"{"\ud800":1}"#, "null"),
        (r#"{}"#, "null"),
        ("1", "null"),
        ("\"s\"", "null"),
        ("null", "null"),
        ("1e999", "null"),
    ];
    for (text, id) in cases {
        let entry = single(text);
        let unfit = entry.request.expect_err(text);
        assert_eq!(unfit.fault.kind(), FaultKind::InvalidRequest, "{text}");
        assert_eq!(entry.id.expect("an id").as_str(), id, "{text}");
    }
}

#[test]
fn params_that_are_null_are_none() {
    let entry = single(r#"{"jsonrpc":"2.0","method":"m","params":null,"id":1}"#);
    assert_eq!(entry.request.expect("valid").params, Params::None);
}

#[test]
fn a_byte_order_mark_is_no_part_of_the_text() {
    let entry = single("\u{feff} {\"jsonrpc\":\"2.0\",\"method\":\"m\",\"id\":1}");
    assert_eq!(entry.id.expect("an id").as_str(), "1");
    let bare = |text: &str| parse_bare(&Bytes::copy_from_slice(text.as_bytes()));
    assert_eq!(bare("\u{feff}").expect("nothing"), Params::None);
    assert!(matches!(bare("\u{feff}[1]").expect("an array"), Params::Array(_)));
    assert!(bare("\u{feff}\u{feff}[1]").is_err(), "one is enough");
}

#[test]
fn a_batch_that_is_too_long_owes_every_id_an_answer() {
    let batch = |items: &[&str]| {
        let text = format!("[{}]", items.join(","));
        parse(&Bytes::from(text), 2)
    };
    let note = r#"{"jsonrpc":"2.0","method":"m"}"#;
    let ids = match batch(&[r#"{"id":"a"}"#, note, "7", r#"{"jsonrpc":"2.0","id":1.50}"#]) {
        Ok(Envelope::TooLong(ids, fault)) => {
            assert_eq!(fault.kind(), FaultKind::TooLarge);
            ids
        }
        other => panic!("{other:?}"),
    };
    let ids: Vec<&str> = ids.iter().map(Payload::as_str).collect();
    assert_eq!(ids, ["\"a\"", "null", "1.50"]);
    for whole in [vec![note; 3], vec!["1"; MAX_REFUSED + 1]] {
        assert_eq!(batch(&whole).expect_err("whole").kind(), FaultKind::TooLarge);
    }
}

#[test]
fn ids_of_every_type_come_back() {
    for id in ["1", "-0", "1.50", "1e3", "null", "\"\"", "\"\\u0031\\ud800\"", "\"é\"", "0"] {
        let entry = single(&format!(r#"{{"jsonrpc":"2.0","method":"m","id":{id}}}"#));
        assert!(entry.request.is_ok());
        assert_eq!(entry.id.expect("an id").as_str(), id);
    }
    assert!(single(r#"{"jsonrpc":"2.0","method":"m"}"#).id.is_none());
}

#[test]
fn whole_bodies_that_are_refused() {
    let deep = "[".repeat(129) + &"]".repeat(129);
    let cases: [(&[u8], FaultKind); 9] = [
        (b"", FaultKind::ParseError),
        (b"{\"jsonrpc\"", FaultKind::ParseError),
        (b"{\"jsonrpc\":\"2.0\",\"method\":\"m\"} x", FaultKind::ParseError),
        (b"\xff", FaultKind::ParseError),
        (b"{\"a\":\"\xc3\"}", FaultKind::ParseError),
        (b"[NaN]", FaultKind::ParseError),
        (b"[]", FaultKind::InvalidRequest),
        (br#"[1,{"jsonrpc":"2.0","method":"m"},"#, FaultKind::ParseError),
        (deep.as_bytes(), FaultKind::TooLarge),
    ];
    for (text, expected) in cases {
        assert_eq!(kind(text), expected, "{}", String::from_utf8_lossy(text));
    }
}

#[test]
fn depth_counts_brackets_outside_strings_alone() {
    let nested = |levels: usize| "[".repeat(levels) + &"]".repeat(levels);
    let quoted = format!(r#"["\"{}"]"#, "[".repeat(500));
    let flat = format!("[{}[]]", "[],".repeat(500));
    let bare = |text: String| parse_bare(&text.into()).map_err(|fault| fault.kind());
    assert!(matches!(bare(nested(128)), Ok(Params::Array(_))));
    assert_eq!(bare(nested(129)).expect_err("a fault"), FaultKind::TooLarge);
    assert!(matches!(bare(quoted), Ok(Params::Array(_))));
    assert!(matches!(bare(flat), Ok(Params::Array(_))));
}

#[test]
fn a_body_is_walked_once() {
    let request = r#"{"jsonrpc":"2.0","method":"m","params":[1,"\"",{"a":NUL}],"id":7}"#;
    let request = request.replace("NUL", "null");
    let bodies = [request.clone(), format!("[{request},\n{request},{{}},7]"), "[1]".to_owned()];
    for body in bodies.map(Bytes::from) {
        assert_eq!(bytes_walked(|| parse(&body, 50)).1, body.len());
        assert_eq!(bytes_walked(|| parse_bare(&body)).1, body.len());
    }
}
