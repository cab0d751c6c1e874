//! What a frame must hold: every row of WIRE 3.3, limits and odd texts.

use super::*;

#[test]
fn registration_as_captured() {
    let mut talk = Talk::new();
    let heard = talk.module("rmath", json!({}));
    assert_eq!(heard[0], json!({"requestId": "r", "type": 2}));
    assert_eq!((&heard[1]["type"], &heard[1]["hook"]), (&json!(8), &json!("juno.activated")));
    assert_eq!(heard[1]["data"], json!({}));
    assert!(heard[1]["requestId"].as_str().is_some_and(|id| id.starts_with("juno")));
    let declared = talk.tell("rmath", json!({"type": 9, "requestId": "d", "function": "add"}));
    assert_eq!(declared, [json!({"requestId": "d", "type": 10, "function": "add"})]);
}

/// WIRE 3.3, the rows about frames that are wrong in themselves.
#[test]
fn wrong_frames() {
    let undefined = "undefined";
    let cases = [
        (r#"{"requestId":"x"}"#, 2, undefined),
        (r#"{"requestId":"x","type":"1"}"#, 2, undefined),
        (r#"{"requestId":"x","type":1.5}"#, 2, undefined),
        (r#"{"type":3}"#, 1, undefined),
        (r#"{"type":3,"requestId":5}"#, 1, undefined),
        (r#"{"type":99,"requestId":"x"}"#, 2, "x"),
        (r#"{"type":0,"requestId":"x","error":5}"#, 2, "x"),
        (r#"{"type":2,"requestId":"x"}"#, 2, "x"),
        (r#"{"type":3,"requestId":"x","function":"a.b"}"#, 3, "x"),
        (r#"{"type":5,"requestId":"x","hook":"a.b"}"#, 3, "x"),
        (r#"{"type":7,"requestId":"x","hook":"b"}"#, 3, "x"),
        (r#"{"type":9,"requestId":"x","function":"b"}"#, 3, "x"),
        (r#"{"type":4,"requestId":"x"}"#, 0, "x"),
        (r#"{"type":1,"requestId":"x","version":"1.0.0"}"#, 0, "x"),
        (r#"{"type":1,"requestId":"x","moduleId":5,"version":"1.0.0"}"#, 0, "x"),
        (r#"{"type":1,"requestId":"x","moduleId":"m","version":"1"}"#, 0, "x"),
        (r#"{"type":1,"requestId":"x","moduleId":"m"}"#, 0, "x"),
        (
            r#"{"type":1,"requestId":"x","moduleId":"m","version":"1.0.0","dependencies":{"a":1}}"#,
            0,
            "x",
        ),
        (
            r#"{"type":1,"requestId":"x","moduleId":"m","version":"1.0.0","dependencies":{"a":"abc"}}"#,
            0,
            "x",
        ),
        (
            r#"{"type":1,"requestId":"x","moduleId":"m","version":"1.0.0","dependencies":["a"]}"#,
            0,
            "x",
        ),
        (r#"{"type":1,"requestId":"x","moduleId":"juno","version":"1.0.0"}"#, 7, "x"),
        (r#"{"type":1,"requestId":"x","moduleId":"genkan","version":"1.0.0"}"#, 7, "x"),
        (r#"{"type":1,"requestId":"x","moduleId":"m\ud800","version":"1.0.0"}"#, 0, "x"),
    ];
    let mut talk = Talk::new();
    talk.connect("c");
    for (line, number, id) in cases {
        let heard = talk.say("c", line);
        assert_eq!(errors(&heard), [(number, id.to_owned())], "{line}");
    }
    for line in ["", " \r", "{", "nonsense", "{\"type\":1,}", "[1]", "5", "\"text\"", "null"] {
        assert_eq!(talk.hand_in("c", line), Dealt::Unfit, "{line:?}");
    }
    assert_eq!(talk.notes.ignored, 0);
    let deep = "[".repeat(200);
    let closed = "]".repeat(200);
    let valid = format!(r#"{{"type":3,"arguments":{deep}{closed},"requestId":"x"}}"#);
    assert_eq!(errors(&talk.say("c", &valid)), [(0, "x".to_owned())]);
    // An array is none of the frames, however deep.
    assert_eq!(talk.hand_in("c", &format!("{deep}{closed}")), Dealt::Unfit);
    assert_eq!(talk.hand_in("c", &deep), Dealt::Unfit);
    // To a module that is said, as the daemon does.
    talk.serving("m", &[]);
    for line in ["[1]", "\"text\"", &format!("{deep}{closed}")] {
        assert_eq!(errors(&talk.say("m", line)), [(2, undefined.to_owned())], "{line}");
    }
}

/// What a module sends that is no JSON is ignored, whether its dependencies are met or not.
#[test]
fn modules_may_send_nonsense() {
    let mut talk = Talk::new();
    talk.serving("c", &[]);
    talk.connect("w");
    talk.tell("w", json!({"type": 1, "requestId": "r", "moduleId": "w", "version": "1.0.0", "dependencies": {"x": "*"}}));
    talk.heard("w");
    for module in ["c", "w"] {
        for line in ["", "{", "nonsense", "{\"type\":1,}", "POST / HTTP/1.1"] {
            assert_eq!(talk.say(module, line), Vec::<Value>::new(), "{line:?}");
        }
        // An answer to nothing is nobody's.
        let line = r#"{"type":4,"requestId":"x","data":nan}"#;
        assert_eq!(talk.say(module, line), Vec::<Value>::new());
        // What it asks for is refused under its id.
        let line = r#"{"type":3,"requestId":"x","function":"c.f","arguments":{"a":NaN}}"#;
        assert_eq!(errors(&talk.say(module, line)), [(0, "x".to_owned())]);
    }
    assert_eq!(talk.notes.ignored, 10, "blank lines are nothing");
}

#[test]
fn ids_are_taken_once_and_may_be_any_text() {
    let mut talk = Talk::new();
    assert_eq!(talk.module("we ird.id", json!(null)).len(), 2);
    talk.connect("second");
    let register =
        json!({"type": 1, "requestId": "x", "moduleId": "we ird.id", "version": "2.0.0"});
    assert_eq!(errors(&talk.tell("second", register.clone())), [(7, "x".to_owned())]);
    assert_eq!(errors(&talk.tell("we ird.id", register)), [(7, "x".to_owned())]);
    // The connection is kept and can try again.
    let other =
        json!({"type": 1, "requestId": "y", "moduleId": "é\u{0}\"", "version": "1.0.0-a+b"});
    assert_eq!(talk.tell("second", other)[0], json!({"requestId": "y", "type": 2}));
    talk.disconnect("we ird.id");
    assert_eq!(talk.module("we ird.id", json!({})).len(), 2);
}

#[test]
fn a_name_that_stands_for_no_text_is_told_from_an_empty_one() {
    let mut talk = Talk::new();
    talk.serving("m", &[]);
    for (frame_type, key) in [(3, "function"), (9, "function"), (5, "hook"), (7, "hook")] {
        let line =
            |name: &str| format!(r#"{{"type":{frame_type},"requestId":"x","{key}":{name}}}"#);
        for (name, hint) in [(r#""f\ud800""#, true), ("5", false)] {
            let heard = talk.say("m", &line(name));
            assert_eq!(errors(&heard), [(0, "x".to_owned())]);
            let message = heard[0]["message"].as_str().expect("a text");
            assert_eq!(message.contains("surrogate"), hint, "{message}");
        }
    }
}

#[test]
fn declarations() {
    let mut talk = Talk::new();
    talk.serving("m", &[]);
    for _ in 0..2 {
        let heard = talk.tell("m", json!({"type": 9, "requestId": "d", "function": "a.b"}));
        assert_eq!(heard, [json!({"requestId": "d", "type": 10, "function": "a.b"})]);
    }
    assert_eq!(
        errors(&talk.tell("m", json!({"type": 9, "requestId": "d"}))),
        [(0, "d".to_owned())]
    );
    assert_eq!(errors(&talk.tell("m", call("c", "m.a.b"))), [(5, "c".to_owned())]);
}

#[test]
fn lines_that_are_not_read_are_refused_by_their_head() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    let fault = || Fault::not_sent(FaultKind::TooLarge, "too long");
    let refuse = |talk: &mut Talk, peer: &'static str, frame_type, request_id: Option<&str>| {
        let head = Head { frame_type, request_id: request_id.map(str::to_owned) };
        talk.hub.refuse_line(talk.ids[peer], &head, fault(), &mut talk.notes);
        errors(&talk.heard(peer))
    };
    let call_type = Some(FrameType::Call);
    assert_eq!(refuse(&mut talk, "caller", call_type, Some("\"x\"")), [(0, "x".to_owned())]);
    assert_eq!(refuse(&mut talk, "caller", call_type, None), [(0, "undefined".to_owned())]);
    assert_eq!(refuse(&mut talk, "caller", None, Some("\"y\"")), [(0, "y".to_owned())]);
    // An answer takes its call with it, if it is the callee's.
    talk.tell("caller", call("c", "math.add"));
    let id = talk.heard("math")[0]["requestId"].to_string();
    let answer_type = Some(FrameType::Answer);
    refuse(&mut talk, "caller", answer_type, Some(&id));
    assert_eq!(talk.hub.waiting_calls(), 1);
    refuse(&mut talk, "math", answer_type, Some(&id));
    assert_eq!(errors(&talk.heard("caller")), [(0, "c".to_owned())]);
    assert_eq!(talk.hub.waiting_calls(), 0);
}

#[test]
fn names_and_ids_are_of_bearable_length() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    let long = "x".repeat(5_000);
    let cases = [
        (json!({"type": 3, "requestId": long, "function": "math.add"}), 1, "undefined"),
        (json!({"type": 3, "requestId": "x", "function": format!("math.{long}")}), 0, "x"),
        (json!({"type": 9, "requestId": "x", "function": long}), 0, "x"),
        (json!({"type": 5, "requestId": "x", "hook": long}), 0, "x"),
        (json!({"type": 7, "requestId": "x", "hook": long}), 0, "x"),
    ];
    for (frame, number, id) in cases {
        assert_eq!(errors(&talk.tell("math", frame)), [(number, id.to_owned())]);
    }
    talk.connect("new");
    for (id, version, needs) in [
        (long.as_str(), "1.0.0", json!({})),
        ("new", long.as_str(), json!({})),
        ("new", "1.0.0", json!({long.as_str(): "*"})),
        ("new", "1.0.0", json!({"a": "1 || ".repeat(1_000)})),
        ("", "1.0.0", json!({})),
    ] {
        let register = json!({"type": 1, "requestId": "x", "moduleId": id, "version": version,
            "dependencies": needs});
        let heard = talk.tell("new", register);
        assert_eq!(errors(&heard), [(0, "x".to_owned())]);
        assert!(heard[0]["message"].as_str().is_some_and(|text| text.len() < 200));
    }
}

#[test]
fn limits_have_clear_errors_and_keep_the_connection() {
    let mut talk = Talk::new();
    talk.serving("m", &["a", "b", "c"]);
    let heard = talk.tell("m", json!({"type": 9, "requestId": "d", "function": "d"}));
    assert_eq!(errors(&heard)[0].0, 0);
    assert!(
        heard[0]["message"].as_str().is_some_and(|text| text.contains("max_functions")),
        "{heard:?}"
    );
    for hook in ["x.1", "x.2", "x.3"] {
        talk.tell("m", json!({"type": 5, "requestId": "l", "hook": hook}));
    }
    talk.heard("m");
    assert_eq!(
        errors(&talk.tell("m", json!({"type": 5, "requestId": "l", "hook": "x.4"})))[0].0,
        0
    );
    talk.serving("n", &[]);
    for id in ["1", "2", "3", "4"] {
        assert!(talk.tell("n", call(id, "m.a")).is_empty());
    }
    let heard = talk.tell("n", call("5", "m.a"));
    assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (2, &json!("overloaded")));
    let heard = talk.tell("m", call("5", "m.a"));
    assert_eq!(heard.last().map(|frame| frame["data"]["kind"].clone()), Some(json!("overloaded")));
    for module in ["3", "4", "5", "6"] {
        assert!(!talk.module(module, json!({})).is_empty());
    }
    assert_eq!(errors(&talk.module("7", json!({})))[0].0, 2);
    talk.disconnect("6");
    let again = json!({"type": 1, "requestId": "r", "moduleId": "7", "version": "1.0.0"});
    assert_eq!(talk.tell("7", again)[0]["type"], 2);
    let long = json!({"type": 9, "requestId": "d", "function": "x".repeat(2_000)});
    assert_eq!(errors(&talk.tell("7", long))[0].0, 0);
}
