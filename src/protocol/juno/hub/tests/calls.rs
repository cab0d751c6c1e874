//! Calls: where they go, who may answer, and how each of them ends.

use super::super::super::wire::Rest;
use super::*;

#[test]
fn an_answer_may_escape_its_id_otherwise() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    talk.tell("m", call("c", "m.f"));
    let heard = talk.say("m", r#"{"type":4,"requestId":"\u00670","data":1}"#);
    assert_eq!(heard, [json!({"requestId": "c", "type": 4, "data": 1})]);
}

#[test]
fn calls_as_captured() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    let asked = r#"{"arguments":{"a":2,"b":5},"function":"math.add","requestId":"caller-1","type":3,"data":1,"x":[1.10],"caller":"boss"}"#;
    assert_eq!(talk.say("caller", asked), Vec::<Value>::new());
    let heard = talk.heard("math");
    assert_eq!(heard.len(), 1);
    let id = heard[0]["requestId"].as_str().expect("an id").to_owned();
    assert_ne!(id, "caller-1", "the callee sees an id of Genkan's own");
    let expected = json!({"requestId": id, "type": 3, "function": "add", "caller": "caller",
        "arguments": {"a": 2, "b": 5}, "data": 1, "x": [1.10]});
    assert_eq!(heard[0], expected);
    let answer = json!({"requestId": id, "type": 4, "data": 7.0, "message": "m", "more": true});
    assert_eq!(talk.tell("math", answer.clone()), Vec::<Value>::new());
    let expected =
        json!({"requestId": "caller-1", "type": 4, "data": 7.0, "message": "m", "more": true});
    assert_eq!(talk.heard("caller"), [expected]);
    // The same answer again has nobody to go to.
    talk.tell("math", answer);
    assert_eq!((talk.heard("caller").len(), talk.notes.late), (0, 1));
    assert_eq!(talk.notes.ended, [(1, "answer 7.0".to_owned())]);
}

/// WIRE 3.3, the rows about calls that go nowhere.
#[test]
fn calls_that_go_nowhere() {
    let mut talk = Talk::new();
    talk.serving("math", &["add", "my-fn"]);
    let cases = [
        ("add", 5),
        ("math.add.x", 5),
        ("math.my-fn", 5),
        ("math.sub", 5),
        ("math.", 5),
        ("nobody.add", 4),
        ("no-body.add", 4),
        (".add", 4),
        ("juno.nothing", 5),
        ("full.f", 2),
    ];
    for (function, number) in cases {
        assert_eq!(
            errors(&talk.tell("math", call("c", function))),
            [(number, "c".to_owned())],
            "{function}"
        );
    }
    let no_text = json!({"type": 3, "requestId": "c", "function": 5});
    assert_eq!(errors(&talk.tell("math", no_text)), [(0, "c".to_owned())]);
    let tickets = (1..=talk.notes.tickets).collect::<Vec<_>>();
    assert_eq!(talk.notes.ended.iter().map(|(ticket, _)| *ticket).collect::<Vec<_>>(), tickets);
}

#[test]
fn arguments_are_always_an_object() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    for arguments in [json!([1]), json!(null), json!("x"), json!(5)] {
        let frame = json!({"type": 3, "requestId": "c", "function": "m.f", "arguments": arguments});
        let heard = talk.tell("m", frame);
        assert_eq!((&heard[0]["arguments"], &heard[0]["caller"]), (&json!({}), &json!("m")));
    }
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    let heard = talk.tell("m", json!({"type": 3, "requestId": "c", "function": "m.f"}));
    assert_eq!(heard[0]["arguments"], json!({}));
    // A row may name positional ones.
    let mut talk = Talk::new();
    talk.serving("named", &["f"]);
    let line =
        |array| format!(r#"{{"type":3,"requestId":"c","function":"named.f","arguments":{array}}}"#);
    assert_eq!(talk.say("named", &line("[1.10]"))[0]["arguments"], json!({"x": 1.10}));
    let heard = talk.say("named", &line("[1,2]"));
    assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (0, &json!("invalid_params")));
    assert_eq!(talk.notes.ended, [(2, "invalid_params".to_owned())]);
}

#[test]
fn one_request_id_twice_is_two_calls() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("a", &[]);
    talk.serving("b", &[]);
    for caller in ["a", "a", "b"] {
        talk.tell(caller, call("same", "math.add"));
    }
    let asked = talk.heard("math");
    let ids: std::collections::HashSet<_> =
        asked.iter().map(|frame| frame["requestId"].to_string()).collect();
    assert_eq!(ids.len(), 3);
    for (data, frame) in asked.iter().enumerate() {
        talk.tell("math", json!({"type": 4, "requestId": frame["requestId"], "data": data}));
    }
    let answer = |data: usize| json!({"requestId": "same", "type": 4, "data": data});
    assert_eq!(talk.heard("a"), [answer(0), answer(1)]);
    assert_eq!(talk.heard("b"), [answer(2)]);
}

#[test]
fn only_the_callee_can_answer() {
    let mut talk = Talk::new();
    for module in ["math", "caller", "thief"] {
        talk.serving(module, &["add"]);
    }
    talk.tell("caller", call("c", "math.add"));
    let id = talk.heard("math")[0]["requestId"].clone();
    for frame_type in [4, 0] {
        let stolen = json!({"type": frame_type, "requestId": id, "data": "stolen", "error": 2});
        let number = if frame_type == 4 { 0 } else { 2 };
        assert_eq!(errors(&talk.tell("thief", stolen))[0].0, number);
    }
    assert_eq!(talk.heard("caller"), Vec::<Value>::new());
    talk.tell("math", json!({"type": 4, "requestId": id}));
    assert_eq!(talk.heard("caller"), [json!({"requestId": "c", "type": 4})]);
}

#[test]
fn a_callees_error_ends_the_call() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    talk.tell("caller", call("c", "math.add"));
    let id = talk.heard("math")[0]["requestId"].clone();
    let error = json!({"type": 0, "requestId": id, "error": 5, "message": "no", "x": 1});
    assert_eq!(talk.tell("math", error), Vec::<Value>::new());
    // It had declared the function: what it passes on is what a call of its own got.
    let told = json!({"kind": "application", "outcome": "executed", "retryable": false, "code": 5});
    let expected =
        json!({"requestId": "c", "type": 0, "error": 5, "message": "no", "data": told, "x": 1});
    assert_eq!(talk.heard("caller"), [expected]);
    assert_eq!(talk.notes.ended, [(1, "application".to_owned())]);
}

#[test]
fn what_a_callees_error_leaves_out_is_given() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    for (error, number, message) in [
        (json!({"error": 7}), 7, "`math.add` answered with error 7"),
        (json!({}), 2, "`math.add` answered with an error"),
        (json!({"error": 0, "message": "m"}), 0, "m"),
        (json!({"error": -7}), -7, "`math.add` answered with error -7"),
        (json!({"error": "text"}), 2, "text"),
        (json!({"error": 1.5}), 2, "`math.add` answered with an error"),
        (json!({"error": null, "message": 5}), 2, "`math.add` answered with an error"),
        (json!({"error": {"code": -5}, "data": 1}), 2, "`math.add` answered with an error"),
    ] {
        talk.tell("caller", call("c", "math.add"));
        let mut error = error;
        error["type"] = json!(0);
        error["requestId"] = talk.heard("math")[0]["requestId"].clone();
        talk.tell("math", error);
        let heard = talk.heard("caller");
        assert_eq!(errors(&heard), [(number, "c".to_owned())]);
        assert_eq!(heard[0]["message"], message);
    }
}

/// With `errors = "data"` a caller is told the same as with frames.
#[test]
fn a_callees_error_is_the_same_as_a_frame_and_as_data() {
    let told = |errors_as_data| {
        let mut talk = Talk::with(Settings { errors_as_data, ..settings() });
        talk.serving("math", &["add"]);
        talk.serving("caller", &[]);
        talk.heard("caller");
        talk.tell("caller", call("c", "math.add"));
        let id = talk.heard("math")[0]["requestId"].clone();
        let error = json!({"type": 0, "requestId": id, "error": "bad", "data": {"k": 1}});
        talk.tell("math", error);
        talk.heard("caller").remove(0)
    };
    let (frame, data) = (told(false), told(true));
    let error = &data["data"]["error"];
    for key in ["error", "message", "data"] {
        assert_eq!(frame[key], error[key], "{key}");
    }
    let expected = json!({"kind": "application", "outcome": "executed", "retryable": false,
        "info": {"error": "bad", "data": {"k": 1}}});
    assert_eq!((&error["error"], &error["message"]), (&json!(2), &json!("bad")));
    assert_eq!(error["data"], expected);
}

#[test]
fn errors_as_data_for_callers_that_hang_otherwise() {
    let mut talk = Talk::with(Settings { errors_as_data: true, ..settings() });
    talk.serving("math", &["add"]);
    let heard = talk.tell("math", call("c", "nobody.f"));
    assert_eq!((&heard[0]["type"], &heard[0]["requestId"]), (&json!(4), &json!("c")));
    let error = &heard[0]["data"]["error"];
    assert_eq!((&error["error"], &error["data"]["kind"]), (&json!(4), &json!("unknown_service")));
    let heard = talk.tell("math", call("c", "math.add"));
    let id = heard[0]["requestId"].clone();
    let heard = talk.tell("math", json!({"type": 0, "requestId": id, "error": 9, "message": "no"}));
    assert_eq!(heard[0]["data"]["error"]["error"], json!(9));
    assert_eq!(heard[0]["data"]["error"]["message"], json!("no"));
    // What is no call is answered with a frame even so.
    assert_eq!(errors(&talk.tell("math", json!({"type": 9, "requestId": "d"})))[0].0, 0);
}

#[test]
fn who_goes_ends_calls() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    talk.tell("caller", call("c", "math.add"));
    talk.tell("caller", call("d", "away.f"));
    talk.disconnect("math");
    let heard = talk.heard("caller");
    assert_eq!(errors(&heard), [(4, "c".to_owned())]);
    let data = json!({"kind": "unavailable", "outcome": "unknown", "retryable": false});
    assert_eq!(heard[0]["data"], data);
    talk.disconnect("caller");
    let expected = [(1, "unavailable".to_owned()), (2, "caller gone".to_owned())];
    assert_eq!(talk.notes.ended, expected);
    assert_eq!(talk.hub.waiting_calls(), 0);
}

#[test]
fn calls_to_who_does_not_read_are_refused() {
    let mut talk = Talk::new();
    talk.serving("deaf", &["f"]);
    talk.serving("caller", &[]);
    talk.notes.busy.push("deaf");
    let heard = talk.tell("caller", call("c", "deaf.f"));
    let heard = &heard[heard.len() - 1..];
    assert_eq!(errors(heard), [(2, "c".to_owned())]);
    let data = json!({"kind": "overloaded", "outcome": "not_sent", "retryable": true});
    assert_eq!(heard[0]["data"], data);
    let outside = OutsideCall {
        service: "deaf",
        method: "f",
        name: "deaf.f",
        arguments: "{}",
        timeout: None,
        rest: Rest::NONE,
    };
    assert!(talk.hub.call_from_outside(&outside, 70, talk.now, &mut talk.notes).is_none());
    let expected = [(1, "overloaded".to_owned()), (70, "overloaded".to_owned())];
    assert_eq!(talk.notes.ended, expected);
    assert_eq!((talk.hub.waiting_calls(), talk.notes.armed), (0, None));
}

#[test]
fn deadlines_pass() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.tell("math", call("c", "math.add"));
    let id = "g0";
    assert_eq!(talk.notes.armed, Some(talk.now + TIMEOUT));
    let (early, late) = (talk.now + TIMEOUT / 2, talk.now + TIMEOUT);
    talk.hub.expire(early, &mut talk.notes);
    assert_eq!((talk.heard("math").len(), talk.hub.next_deadline()), (0, Some(late)));
    talk.hub.expire(late, &mut talk.notes);
    let heard = talk.heard("math");
    assert_eq!(errors(&heard), [(2, "c".to_owned())]);
    assert_eq!(heard[0]["data"]["kind"], "timeout");
    assert_eq!(talk.hub.next_deadline(), None);
    // The answer that comes too late is dropped, and is no error of the callee's.
    assert_eq!(
        talk.tell("math", json!({"type": 4, "requestId": id, "data": 1})),
        Vec::<Value>::new()
    );
    assert_eq!(talk.notes.late, 1);
}

#[test]
fn calls_leave_and_come_back() {
    let mut talk = Talk::new();
    talk.serving("m", &[]);
    for id in ["a", "b"] {
        talk.tell("m", call(id, "away.f"));
    }
    let away: Vec<CallId> = talk.notes.away.iter().map(|(id, _)| *id).collect();
    let data = Payload::from_validated("[1.10]".into());
    talk.hub.returned(away[1], (Ok(&data), false), &mut talk.notes);
    let fault = Fault::not_sent(FaultKind::UnknownMethod, "no");
    talk.hub.returned(away[0], (Err(&fault), false), &mut talk.notes);
    let heard = talk.heard("m");
    assert_eq!(heard[0], json!({"requestId": "b", "type": 4, "data": [1.10]}));
    assert_eq!(errors(&heard[1..]), [(5, "a".to_owned())]);
    talk.hub.returned(away[0], (Ok(&data), false), &mut talk.notes);
    assert_eq!(talk.heard("m"), Vec::<Value>::new());
}

#[test]
fn calls_from_outside() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    let outside = |method| OutsideCall {
        service: "math",
        method,
        name: "math.add",
        arguments: "{\"a\":1}",
        timeout: None,
        rest: Rest::NONE,
    };
    let id = talk.hub.call_from_outside(&outside("add"), 70, talk.now, &mut talk.notes);
    let heard = talk.heard("math");
    let expected = json!({"requestId": heard[0]["requestId"], "type": 3, "function": "add",
        "caller": "genkan", "arguments": {"a": 1}});
    assert_eq!(heard, [expected]);
    talk.tell("math", json!({"type": 4, "requestId": heard[0]["requestId"], "data": 5}));
    assert!(id.is_some());
    assert!(talk.hub.call_from_outside(&outside("sub"), 71, talk.now, &mut talk.notes).is_none());
    let id = talk.hub.call_from_outside(&outside("add"), 72, talk.now, &mut talk.notes);
    assert!(!talk.hub.forget(id.expect("sent"), &mut talk.notes));
    assert_eq!(talk.notes.ended, [(70, "answer 5".to_owned()), (71, "unknown_method".to_owned())]);
    assert_eq!(talk.hub.waiting_calls(), 0);
}

#[test]
fn a_row_renames() {
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    assert_eq!(talk.tell("math", call("c", "old.plus"))[0]["function"], "add");
}

#[test]
fn instances_share_the_calls() {
    let mut talk = Talk::with(Settings { share: true, ..settings() });
    for peer in ["i1", "i2"] {
        talk.connect(peer);
        talk.tell(
            peer,
            json!({"type": 1, "requestId": "r", "moduleId": "math", "version": "1.0.0"}),
        );
        talk.tell(peer, json!({"type": 9, "requestId": "d", "function": "add"}));
    }
    talk.serving("caller", &[]);
    talk.module("needy", json!({"math": "*"}));
    talk.tell("caller", json!({"type": 5, "requestId": "l", "hook": "juno.moduleDeactivated"}));
    talk.heard("caller");
    for id in ["1", "2", "3", "4"] {
        talk.tell("caller", call(id, "math.add"));
    }
    assert_eq!((talk.heard("i1").len(), talk.heard("i2").len()), (2, 2));
    talk.disconnect("i1");
    assert_eq!(errors(&talk.heard("caller")).len(), 2);
    assert!(talk.active("needy"));
    talk.disconnect("i2");
    assert!(!talk.active("needy"));
    let hooks = talk.hooks("caller");
    assert!(
        hooks.contains(&r#"juno.moduleDeactivated {"moduleId":"needy"}"#.to_owned()),
        "{hooks:?}"
    );
}

#[test]
fn instances_are_chosen_by_the_callers_range_and_in_turns() {
    let mut talk = Talk::with(Settings { share: true, ..settings() });
    for (peer, version) in [("v1", "1.0.0"), ("v2", "2.0.0"), ("v2.1", "2.1.0")] {
        talk.connect(peer);
        talk.tell(
            peer,
            json!({"type": 1, "requestId": "r", "moduleId": "math", "version": version}),
        );
        talk.tell(peer, json!({"type": 9, "requestId": "d", "function": "add"}));
    }
    talk.tell("v1", json!({"type": 9, "requestId": "d", "function": "old"}));
    talk.module("picky", json!({"math": "^2.0.0", "juno": "*"}));
    talk.serving("free", &[]);
    talk.heard("free");
    let called = |talk: &mut Talk, caller: &'static str| {
        talk.tell(caller, call("c", "math.add"));
        let peers = ["v1", "v2", "v2.1"];
        let found = peers.into_iter().find_map(|peer| Some((peer, talk.heard(peer).pop()?)));
        let (callee, frame) = found.expect("somebody is called");
        talk.tell(callee, json!({"type": 4, "requestId": frame["requestId"]}));
        talk.heard(caller);
        callee
    };
    for expected in ["v2", "v2.1", "v2", "v2.1"] {
        assert_eq!(called(&mut talk, "picky"), expected);
    }
    for expected in ["v1", "v2", "v2.1", "v1"] {
        assert_eq!(called(&mut talk, "free"), expected);
    }
    let told = talk.tell("picky", call("c", "math.old"));
    assert_eq!(errors(&told), [(5, "c".to_owned())]);
}

#[test]
fn draining_takes_no_new_calls_but_those_that_answers_need() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    talk.serving("n", &["g"]);
    talk.serving("idle", &[]);
    assert!(talk.tell("n", call("1", "m.f")).is_empty());
    let outer = talk.heard("m")[0]["requestId"].clone();
    talk.hub.drain();
    for (module, id) in [("idle", "2"), ("n", "3")] {
        let heard = talk.tell(module, call(id, "m.f"));
        assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (4, &json!("unavailable")));
    }
    let heard = talk.module("late", json!({}));
    assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (4, &json!("unavailable")));
    // `m` owes an answer, and needs one for it.
    assert!(talk.tell("m", call("4", "n.g")).is_empty());
    let inner = talk.heard("n")[0]["requestId"].clone();
    talk.tell("n", json!({"type": 4, "requestId": inner, "data": 1}));
    assert_eq!(talk.heard("m"), [json!({"requestId": "4", "type": 4, "data": 1})]);
    talk.tell("m", json!({"type": 4, "requestId": outer, "data": 2}));
    assert_eq!(talk.heard("n"), [json!({"requestId": "1", "type": 4, "data": 2})]);
    assert_eq!(errors(&talk.tell("m", call("5", "n.g")))[0].0, 4, "now it owes none");
    assert_eq!(talk.hub.waiting_calls(), 0);
}

#[test]
fn the_end_ends_what_is_left() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    talk.tell("m", call("1", "m.f"));
    talk.hub.drain();
    talk.hub.end_all_calls(&mut talk.notes);
    assert_eq!(talk.hub.waiting_calls(), 0);
}

#[test]
fn a_call_that_has_not_left_never_does() {
    let mut talk = Talk::new();
    for peer in ["caller", "other"] {
        talk.module(peer, json!({}));
        talk.heard(peer);
    }
    talk.serving("math", &["add"]);
    talk.heard("math");
    talk.notes.unread.push("math");
    // Its deadline passes.
    talk.tell("caller", call("c", "math.add"));
    talk.now += TIMEOUT;
    talk.hub.expire(talk.now, &mut talk.notes);
    let told = talk.heard("caller");
    assert_eq!(told[0]["data"]["outcome"], "not_sent", "{told:?}");
    // Its caller goes.
    talk.tell("other", call("c", "math.add"));
    talk.disconnect("other");
    assert_eq!(talk.heard("math"), [json!(null); 0]);
    // Its callee goes.
    talk.tell("caller", call("d", "math.add"));
    talk.disconnect("math");
    let told = talk.heard("caller");
    assert_eq!(told[0]["data"]["outcome"], "not_sent", "{told:?}");
    let ended: Vec<_> = talk.notes.ended.iter().map(|(_, how)| how.as_str()).collect();
    assert_eq!(ended, ["timeout", "caller gone", "unavailable"]);
}
