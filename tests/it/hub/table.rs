//! WIRE 3.3's table, row by row, through real sockets.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::Gateway;

/// Who sends a line.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Sender {
    /// A connection that has not registered.
    Stranger,
    /// A module whose dependencies are unmet.
    Waiting,
    /// A module at work.
    Caller,
}
use Sender::{Caller, Stranger, Waiting};

const UNDEFINED: &str = "undefined";

/// A register frame with these members.
fn register(rest: &str) -> String {
    format!(r#"{{"type":1,"requestId":"x"{rest}}}"#)
}

fn call(function: &str) -> String {
    format!(r#"{{"type":3,"requestId":"x","function":{function}}}"#)
}

const ANYBODY: [Sender; 3] = [Stranger, Waiting, Caller];

/// Lines, and the errors that answer them: number and request id.
#[derive(Default)]
struct Rows(Vec<(Sender, String, i64, &'static str)>);

impl Rows {
    fn row(&mut self, from: &[Sender], line: &str, number: i64, id: &'static str) {
        self.0.extend(from.iter().map(|from| (*from, line.to_owned(), number, id)));
    }
}

fn frames_that_are_none(rows: &mut Rows) {
    // No or non-integer `type`; array or string.
    for line in [
        r#"{}"#,
        r#"{"requestId":"x"}"#,
        r#"{"requestId":"x","type":null}"#,
        r#"{"requestId":"x","type":"3"}"#,
        r#"{"requestId":"x","type":3.5}"#,
        r#"{"requestId":"x","type":3.0}"#,
        r#"{"requestId":"x","type":[3]}"#,
        r#"{"requestId":"x","type":true}"#,
        "[]",
        r#"[{"type":3,"requestId":"x"}]"#,
        r#""text""#,
        "7",
        "null",
    ] {
        // Of a stranger, what is no object ends the connection.
        let from = if line.starts_with('{') { &ANYBODY[..] } else { &ANYBODY[1..] };
        rows.row(from, line, 2, UNDEFINED);
    }
    // `type` ok but requestId missing or no string.
    for line in [
        r#"{"type":3}"#,
        r#"{"type":1,"moduleId":"m","version":"1.0.0"}"#,
        r#"{"type":3,"requestId":7,"function":"math.add"}"#,
        r#"{"type":5,"requestId":null,"hook":"a.b"}"#,
        r#"{"type":7,"requestId":{},"hook":"a"}"#,
        r#"{"type":9,"requestId":["x"],"function":"a"}"#,
        r#"{"type":4,"requestId":1,"data":1}"#,
    ] {
        rows.row(&ANYBODY, line, 1, UNDEFINED);
    }
    // Unknown type 99; a module sending type 0. Nor what only the hub sends.
    for number in ["99", "0", "2", "6", "8", "10", "-1", "11", "99999999999999999999"] {
        rows.row(&ANYBODY, &format!(r#"{{"type":{number},"requestId":"x","error":5}}"#), 2, "x");
    }
    // 3, 5, 7, 9 before registration, or while dependencies are unmet.
    for line in [
        call(r#""math.add""#),
        r#"{"type":5,"requestId":"x","hook":"math.changed"}"#.to_owned(),
        r#"{"type":7,"requestId":"x","hook":"changed"}"#.to_owned(),
        r#"{"type":9,"requestId":"x","function":"add"}"#.to_owned(),
    ] {
        rows.row(&[Stranger, Waiting], &line, 3, "x");
    }
}

fn registrations(rows: &mut Rows) {
    // Register: no moduleId / version not full SemVer / dependency not a string or no range.
    for rest in [
        r#","version":"1.0.0""#,
        r#","moduleId":7,"version":"1.0.0""#,
        r#","moduleId":"new""#,
        r#","moduleId":"new","version":"1""#,
        r#","moduleId":"new","version":"1.0""#,
        r#","moduleId":"new","version":"v1.0.0""#,
        r#","moduleId":"new","version":1"#,
        r#","moduleId":"new","version":"1.0.0","dependencies":{"a":5}"#,
        r#","moduleId":"new","version":"1.0.0","dependencies":{"a":null}"#,
        r#","moduleId":"new","version":"1.0.0","dependencies":{"a":"one"}"#,
        // What a module says that it needs is not passed over.
        r#","moduleId":"new","version":"1.0.0","dependencies":["a"]"#,
        r#","moduleId":"new","version":"1.0.0","dependencies":"a""#,
        r#","moduleId":"new","version":"1.0.0","dependencies":7"#,
    ] {
        rows.row(&[Stranger], &register(rest), 0, "x");
    }
    // Register: id in use, or second register on one connection.
    for id in ["math", "juno"] {
        let line = register(&format!(r#","moduleId":"{id}","version":"1.0.0""#));
        rows.row(&ANYBODY, &line, 7, "x");
    }
    rows.row(&[Waiting, Caller], &register(r#","moduleId":"another","version":"1.0.0""#), 7, "x");
}

fn requests(rows: &mut Rows) {
    // Declare: function missing.
    rows.row(&[Caller], r#"{"type":9,"requestId":"x"}"#, 0, "x");
    rows.row(&[Caller], r#"{"type":9,"requestId":"x","function":7}"#, 0, "x");
    rows.row(&[Caller], r#"{"type":5,"requestId":"x"}"#, 0, "x");
    rows.row(&[Caller], r#"{"type":7,"requestId":"x","data":{}}"#, 0, "x");
    // Call: no dot, two dots, `-` in function part, undeclared.
    for function in ["add", "math.add.x", "math.a.b", "math.my-fn", "math.sub", "math.", "", "."] {
        rows.row(&[Caller], &call(&json!(function).to_string()), 5, "x");
    }
    // Unknown module (also "" before the dot), or one that waits; function no string.
    for function in ["nobody.add", "no-body.add", ".add", "waiting.add"] {
        rows.row(&[Caller], &call(&json!(function).to_string()), 4, "x");
    }
    for function in ["7", "null", r#"["math.add"]"#] {
        rows.row(&[Caller], &call(function), 0, "x");
    }
    rows.row(&[Caller], r#"{"type":3,"requestId":"x"}"#, 0, "x");
    // Unknown requestId in a response.
    rows.row(&ANYBODY, r#"{"type":4,"requestId":"x","data":1}"#, 0, "x");
    rows.row(&ANYBODY, r#"{"type":4,"requestId":"g0"}"#, 0, "g0");
}

#[tokio::test]
async fn wrong_frames_are_answered_and_the_connection_kept() {
    let gateway = Gateway::start(HUB).await;
    let _math = Peer::module(&gateway, "math", &["add", "a.b", "my-fn"]).await;
    let mut stranger = Peer::connect(&gateway).await;
    let mut waiting = Peer::connect(&gateway).await;
    waiting.register("waiting", "1.0.0", json!({"none": "*"})).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let mut rows = Rows::default();
    frames_that_are_none(&mut rows);
    registrations(&mut rows);
    requests(&mut rows);
    assert!(rows.0.len() > 120, "{}", rows.0.len());
    for (from, line, number, id) in rows.0 {
        let peer = match from {
            Stranger => &mut stranger,
            Waiting => &mut waiting,
            Caller => &mut caller,
        };
        peer.write(format!("{line}\n")).await;
        let answer = peer.receive().await;
        let told = (error(&answer), &answer["requestId"]);
        assert_eq!(told, (number, &json!(id)), "{from:?}: {line}: {answer}");
    }
    // The stranger may still come in.
    assert_eq!(stranger.register("stranger", "1.0.0", json!({})).await["type"], 2);
}

/// An id that is the hub's own is not free in some seconds.
#[tokio::test]
async fn whoever_asks_for_an_id_of_the_hubs_own_is_told_that_it_is() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::connect(&gateway).await;
    for (id, whose) in [("juno", "the hub itself"), ("genkan", "callers from outside of the hub")] {
        let told = peer.register(id, "1.0.0", json!({})).await;
        assert_eq!(error(&told), 7);
        let message = told["message"].as_str().expect("a text");
        assert!(message.contains(whose) && message.contains("another id"), "{message}");
    }
}

#[tokio::test]
async fn ids_are_of_any_text() {
    let gateway = Gateway::start(HUB).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    for id in ["we ird.id", "玄関", "a\"b\\c\n", "-", "a.b.c", "juno.x", "\u{0}", " "] {
        let mut peer = Peer::connect(&gateway).await;
        peer.request(json!({"type": 1, "moduleId": id, "version": "1.0.0-a.1+b"})).await;
        assert_eq!(peer.receive().await["type"], 2, "{id:?}");
        assert_eq!(peer.receive().await["hook"], "juno.activated");
        assert_eq!(peer.ask(json!({"type": 9, "function": "f"})).await["type"], 10);
        caller.ask(json!({"type": 5, "hook": format!("{id}.h")})).await;
        peer.ask(json!({"type": 7, "hook": "h"})).await;
        assert_eq!(caller.receive().await["hook"], json!(format!("{id}.h")));
        caller.request(json!({"type": 3, "function": format!("{id}.f")})).await;
        let call = peer.receive().await;
        peer.answer(&call, json!(id)).await;
        assert_eq!(caller.receive().await["data"], json!(id));
        // As a caller it is told by its name, too.
        peer.request(json!({"type": 3, "function": format!("{id}.f")})).await;
        let call = peer.receive().await;
        assert_eq!(call["caller"], json!(id));
        peer.answer(&call, json!(1)).await;
        assert_eq!(peer.receive().await["data"], 1);
        let page = gateway.page("/hub/modules").await.json();
        assert_eq!(page["modules"][1]["id"], json!(id));
        let info = caller.call("juno.getModuleInfo", json!({"moduleId": id})).await;
        assert_eq!(info["data"]["version"], "1.0.0-a.1+b");
        drop(peer);
        gateway.wait_for_modules(1).await;
    }
}

#[tokio::test]
async fn what_is_declared_twice_is_there_once() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f", "f", "größe"]).await;
    let page = gateway.page("/hub/modules").await.json();
    assert_eq!(page["modules"][0]["functions"], json!(["f", "größe"]));
    m.request(json!({"type": 3, "function": "m.größe"})).await;
    assert_eq!(m.receive().await["function"], "größe");
}

/// The daemon takes them, and its clients wait for ever where it does not.
#[tokio::test]
async fn functions_that_no_call_can_name_are_taken_and_offered_to_nobody() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f", "a.b", "my-fn"]).await;
    let warning = gateway.wait_for_log(0, "nobody can call this function").await;
    assert_eq!((&warning["module"], &warning["function"]), (&json!("m"), &json!("a.b")));
    for function in ["a.b", "my-fn"] {
        let why = format!("the module `m` has declared `{function}`, which no call can name");
        let name = format!("m.{function}");
        let told = m.call(&name, json!({})).await;
        assert_eq!(error(&told), 5, "{told}");
        assert!(told["message"].as_str().is_some_and(|told| told.contains(&why)), "{told}");
        let fault = gateway.fault(&name, json!({})).await;
        assert!(fault.is("unknown_method", "not_sent").message.contains(&why), "{fault:?}");
        let bare = gateway.post(&format!("/call/m/{function}"), &[], "{}").await;
        assert_eq!(bare.status, 404);
        assert!(bare.text().contains(&why), "{}", bare.text());
    }
    let page = gateway.page("/hub/modules").await.json();
    let shown = (&page["modules"][0]["functions"], &page["modules"][0]["uncallable"]);
    assert_eq!(shown, (&json!(["f"]), &json!(["a.b", "my-fn"])));
    let call = r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#;
    for (path, name) in [("/api", "m.f"), ("/api/m", "f")] {
        let document = gateway.post(path, &[], call).await.json();
        let methods = document["result"]["methods"].as_array().expect("a list");
        let names: Vec<_> = methods.iter().map(|method| &method["name"]).collect();
        assert_eq!(names, [name], "{path}");
    }
    // To a module it is told as the daemon does.
    let info = m.call("juno.getModuleInfo", json!({"moduleId": "m"})).await;
    assert_eq!(info["data"]["declaredFunctions"], json!(["f", "a.b", "my-fn"]));
}

/// What may be left out may be empty, as some versions of the libraries send it.
#[tokio::test]
async fn members_that_say_nothing_are_as_good_as_none() {
    let gateway = Gateway::start(HUB).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    for nothing in ["null", "[]", "[ ]", "{}", r#""""#, "false"] {
        let mut peer = Peer::connect(&gateway).await;
        let rest = format!(
            r#","moduleId":"m","version":"1.0.0","dependencies":{nothing},"token":null,"meta":null"#
        );
        peer.write(format!("{}\n", register(&rest))).await;
        assert_eq!(peer.receive().await["type"], 2, "{nothing}");
        assert_eq!(peer.receive().await["hook"], "juno.activated", "{nothing}");
        peer.ask(json!({"type": 9, "function": "f"})).await;
        caller.ask(json!({"type": 5, "hook": "m.h"})).await;
        peer.write(format!(
            "{{\"type\":7,\"requestId\":\"x\",\"hook\":\"h\",\"data\":{nothing}}}\n"
        ))
        .await;
        assert_eq!(peer.receive().await["type"], 8, "{nothing}");
        assert_eq!(caller.receive().await["data"], json!({}), "{nothing}");
        caller.write(format!(
            "{{\"type\":3,\"requestId\":\"x\",\"function\":\"m.f\",\"arguments\":{nothing},\"meta\":{nothing}}}\n"
        ))
        .await;
        let call = peer.receive().await;
        assert_eq!(call["arguments"], json!({}), "{nothing}");
        peer.answer(&call, json!(1)).await;
        assert_eq!(caller.receive().await["data"], 1);
        drop(peer);
        gateway.wait_for_modules(1).await;
    }
}

#[tokio::test]
async fn calls_and_answers_pass_with_all_their_keys() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let cases = [
        // `arguments` missing or no object.
        (json!({}), json!({"arguments": {}})),
        (json!({"arguments": null}), json!({"arguments": {}})),
        (json!({"arguments": [1]}), json!({"arguments": {}})),
        (json!({"arguments": "text"}), json!({"arguments": {}})),
        // A `data` key is passed through and is not the arguments.
        (json!({"data": {"a": 1}}), json!({"arguments": {}, "data": {"a": 1}})),
        // Extra keys pass, `caller` is the real one.
        (
            json!({"arguments": {"a": 1}, "caller": "boss", "x": [1], "hook": 7, "trace": {"id": 1}}),
            json!({"arguments": {"a": 1}, "x": [1], "hook": 7, "trace": {"id": 1}}),
        ),
    ];
    for (extra, expected) in cases {
        let mut frame = json!({"type": 3, "function": "m.f"});
        merge(&mut frame, &extra);
        let id = caller.request(frame).await;
        let call = m.receive().await;
        let mut whole =
            json!({"type": 3, "function": "f", "caller": "caller", "requestId": call["requestId"]});
        merge(&mut whole, &expected);
        assert_eq!(call, whole, "{extra}");
        // The response with all of its keys, also without `data`.
        for answer in
            [json!({}), json!({"data": null}), json!({"data": {"a": 7.0}, "error": 1, "x": "y"})]
        {
            let call = if answer == json!({}) {
                call.clone()
            } else {
                caller.request(json!({"type": 3, "function": "m.f"})).await;
                m.receive().await
            };
            let mut frame = json!({"type": 4, "requestId": call["requestId"]});
            merge(&mut frame, &answer);
            m.send(&frame).await;
            let mut got = caller.receive().await;
            if answer == json!({}) {
                assert_eq!(got["requestId"], json!(id));
            }
            got["requestId"] = json!(0);
            let mut expected = json!({"type": 4, "requestId": 0});
            merge(&mut expected, &answer);
            assert_eq!(got, expected);
        }
    }
}

fn merge(frame: &mut Value, more: &Value) {
    for (key, value) in more.as_object().expect("an object") {
        frame[key] = value.clone();
    }
}

#[tokio::test]
async fn request_ids_are_each_modules_own() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut one = Peer::module(&gateway, "one", &[]).await;
    let mut two = Peer::module(&gateway, "two", &[]).await;
    let call =
        |n: i32| json!({"type": 3, "requestId": "same", "function": "m.f", "arguments": {"n": n}});
    // The same from one module again, and from another one: all are delivered and answered.
    one.send(&call(1)).await;
    one.send(&call(2)).await;
    let mut calls = vec![m.receive().await, m.receive().await];
    two.send(&call(3)).await;
    calls.push(m.receive().await);
    for call in calls.iter().rev() {
        m.answer(call, call["arguments"]["n"].clone()).await;
    }
    let answer = |n: i32| json!({"requestId": "same", "type": 4, "data": n});
    assert_eq!(two.receive().await, answer(3));
    assert_eq!((one.receive().await, one.receive().await), (answer(2), answer(1)));
    // An answer given twice goes nowhere the second time, even when its place is taken again.
    m.answer(&calls[0], json!("again")).await;
    one.send(&call(4)).await;
    let fourth = m.receive().await;
    assert!(calls.iter().all(|call| call["requestId"] != fourth["requestId"]));
    for old in &calls {
        m.answer(old, json!("stale")).await;
        m.send(&json!({"type": 0, "requestId": old["requestId"], "error": 2})).await;
    }
    one.is_silent().await;
    m.answer(&fourth, json!(4)).await;
    assert_eq!(one.receive().await, answer(4));
    m.is_served().await;
    two.is_silent().await;
    let late = gateway.metric("genkan_late_replies_total", &[("upstream", "hub")]).await;
    assert_eq!(late, 7.0);
}

#[tokio::test]
async fn what_a_callee_says_wrongly_harms_no_caller() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut thief = Peer::module(&gateway, "thief", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let id = caller.request(json!({"type": 3, "function": "m.f"})).await;
    let call = m.receive().await;
    let stranger = &mut Peer::connect(&gateway).await;
    for (frame_type, number) in [(4, 0), (0, 2)] {
        let stolen = json!({"type": frame_type, "requestId": call["requestId"], "error": 9, "data": "stolen"});
        for peer in [&mut thief, stranger] {
            peer.send(&stolen).await;
            let told = peer.receive().await;
            assert_eq!((error(&told), &told["requestId"]), (number, &call["requestId"]));
        }
        // The caller's own id is no way to its call either.
        thief.send(&json!({"type": frame_type, "requestId": id, "data": "stolen"})).await;
        assert_eq!(error(&thief.receive().await), number);
    }
    caller.is_silent().await;
    // The callee's error ends the call, with `error`, `message` and `data` beside each other.
    for (sent, number, message) in [
        (json!({"error": 5}), 5, None),
        (json!({"error": 77, "message": "no", "data": {"kind": "k"}}), 77, Some("no")),
        (json!({}), 2, None),
    ] {
        let call = if number == 5 {
            call.clone()
        } else {
            caller.request(json!({"type": 3, "function": "m.f"})).await;
            m.receive().await
        };
        let mut frame = json!({"type": 0, "requestId": call["requestId"]});
        merge(&mut frame, &sent);
        m.send(&frame).await;
        let told = caller.receive().await;
        assert_eq!(error(&told), number);
        assert!(message.is_none_or(|message| told["message"] == message), "{told}");
    }
    m.is_served().await;
}

#[tokio::test]
async fn a_module_calls_itself_and_hears_its_own_hooks() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    m.request(json!({"type": 3, "function": "m.f"})).await;
    let call = m.receive().await;
    assert_eq!((&call["type"], &call["caller"]), (&json!(3), &json!("m")));
    m.answer(&call, json!(1)).await;
    assert_eq!(m.receive().await["data"], 1);
    for _ in 0..2 {
        assert_eq!(m.ask(json!({"type": 5, "hook": "m.h"})).await["type"], 6);
    }
    let id = m.request(json!({"type": 7, "hook": "h", "data": {"n": 1}})).await;
    let hook = m.receive().await;
    assert_eq!((&hook["hook"], &hook["data"]), (&json!("m.h"), &json!({"n": 1})));
    assert_eq!(m.receive().await, json!({"type": 8, "requestId": id}));
    m.is_silent().await;
}
