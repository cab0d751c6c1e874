//! The hub in a world that only writes down: every row of WIRE 3.3, and what Genkan adds.

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::wire::{CallId, Frame, FrameType, Head, Outgoing, scan};
use super::*;
use crate::call::Payload;

/// How long a call may take in these tests.
pub(super) const TIMEOUT: Duration = Duration::from_secs(1);

/// Writes down what the hub does. Peers are names.
#[derive(Default)]
pub(super) struct Notes {
    /// The frames for each peer.
    pub(super) sent: HashMap<&'static str, Vec<Value>>,
    /// The calls that left.
    pub(super) away: Vec<(CallId, String)>,
    /// The tickets that came back, and how.
    pub(super) ended: Vec<(u32, String)>,
    /// Tickets given out.
    pub(super) tickets: u32,
    /// When the hub wants to be called.
    pub(super) armed: Option<Instant>,
    pub(super) ignored: usize,
    pub(super) late: usize,
    pub(super) refused: usize,
    /// Who has hung up: is it being served, or to be forgotten?
    pub(super) hung_up: HashMap<&'static str, Presence>,
    /// Who does not read.
    pub(super) busy: Vec<&'static str>,
    /// Whose connections are to end.
    pub(super) forgotten: Vec<&'static str>,
}

impl Notes {
    fn write(&mut self, to: &'static str, line: &[u8]) {
        let text = std::str::from_utf8(line).expect("UTF-8");
        assert!(text.ends_with('\n') && !text.trim_end().contains('\n'), "one line: {text:?}");
        self.sent.entry(to).or_default().push(serde_json::from_str(text).expect("JSON"));
    }
}

impl World for Notes {
    type Peer = &'static str;
    type Ticket = u32;

    fn send(&mut self, to: &&'static str, frame: &Outgoing<'_>) {
        let mut line = Vec::new();
        frame.write(&mut line);
        self.write(to, &line);
    }

    fn call(&mut self, to: &&'static str, frame: &Outgoing<'_>) -> bool {
        let busy = self.busy.contains(to);
        if !busy {
            self.send(to, frame);
        }
        !busy
    }

    fn deliver(&mut self, to: &&'static str, line: &Bytes) {
        self.write(to, line);
    }

    fn way(&mut self, name: &str) -> Way<u32> {
        let service = name.rsplit_once('.').map_or("", |(service, _)| service);
        if service == "full" {
            return Way::Refused(Fault::not_sent(FaultKind::Overloaded, "full"));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        match service {
            "away" => Way::Away(ticket),
            "old" => Way::Here {
                service: Some("math".to_owned()),
                method: Some("add".to_owned()),
                timeout: TIMEOUT,
                ticket,
            },
            _ => Way::Here { service: None, method: None, timeout: TIMEOUT, ticket },
        }
    }

    fn named(&self, _: &u32, name: &str, array: &str) -> Result<Option<String>, Fault> {
        match (name, array) {
            ("named.f", "[1.10]") => Ok(Some(r#"{"x":1.10}"#.to_owned())),
            ("named.f", _) => Err(Fault::not_sent(FaultKind::InvalidParams, "too many")),
            _ => Ok(None),
        }
    }

    fn away(&mut self, id: CallId, name: &str, _frame: &Frame<'_>) {
        self.away.push((id, name.to_owned()));
    }

    fn ended(&mut self, ticket: u32, _name: &str, end: End<'_>) {
        let end = match end {
            End::Answer(data) => format!("answer {}", data.unwrap_or("nothing")),
            End::Fault(fault) => fault.kind().as_str().to_owned(),
            End::CallerGone => "caller gone".to_owned(),
        };
        self.ended.push((ticket, end));
    }

    fn presence(&self, peer: &&'static str) -> Presence {
        self.hung_up.get(peer).copied().unwrap_or(Presence::There)
    }

    fn forgotten(&mut self, peer: &&'static str) {
        self.forgotten.push(peer);
    }

    fn arm(&mut self, at: Instant) {
        self.armed = Some(at);
    }

    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Ignored => self.ignored += 1,
            Note::Late => self.late += 1,
            Note::CallRefused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        limits: Limits { modules: 6, functions: 3, hooks: 3, calls: 4 },
        share: false,
        errors_as_data: false,
        tokens: HashMap::new(),
    }
}

/// A hub to talk to.
struct Talk {
    hub: Hub<&'static str, u32>,
    notes: Notes,
    ids: HashMap<&'static str, SessionId>,
    now: Instant,
}

impl Talk {
    fn with(settings: Settings) -> Self {
        let (hub, notes) = (Hub::new(settings), Notes::default());
        Self { hub, notes, ids: HashMap::new(), now: Instant::now() }
    }

    fn new() -> Self {
        Self::with(settings())
    }

    fn connect(&mut self, peer: &'static str) {
        let id = self.hub.connect(peer, &mut self.notes);
        self.ids.insert(peer, id);
    }

    fn disconnect(&mut self, peer: &'static str) {
        self.hub.disconnect(self.ids[peer], &mut self.notes);
    }

    /// Sends a line, and returns what its sender is sent.
    fn say(&mut self, peer: &'static str, line: &str) -> Vec<Value> {
        let line = scan(line.as_bytes());
        let dealt = self.hub.line(self.ids[peer], line, self.now, &mut self.notes);
        assert_eq!(dealt, Dealt::Done);
        self.heard(peer)
    }

    fn tell(&mut self, peer: &'static str, frame: Value) -> Vec<Value> {
        self.say(peer, &frame.to_string())
    }

    /// What a peer was sent since this was last asked.
    fn heard(&mut self, peer: &'static str) -> Vec<Value> {
        self.notes.sent.remove(peer).unwrap_or_default()
    }

    fn module(&mut self, peer: &'static str, dependencies: Value) -> Vec<Value> {
        self.connect(peer);
        self.tell(
            peer,
            json!({"type": 1, "requestId": "r", "moduleId": peer, "version": "1.0.0", "dependencies": dependencies}),
        )
    }

    /// A module without dependencies, with functions.
    fn serving(&mut self, peer: &'static str, functions: &[&str]) {
        self.module(peer, json!({}));
        for function in functions {
            self.tell(peer, json!({"type": 9, "requestId": "d", "function": function}));
        }
    }

    fn hooks(&mut self, peer: &'static str) -> Vec<String> {
        let frames = self.heard(peer).into_iter().filter(|frame| frame.get("hook").is_some());
        frames
            .map(|frame| format!("{} {}", frame["hook"].as_str().expect("text"), frame["data"]))
            .collect()
    }

    fn active(&self, peer: &'static str) -> bool {
        self.hub.active_module(self.ids[peer]).is_some()
    }
}

fn call(id: &str, function: &str) -> Value {
    json!({"type": 3, "requestId": id, "function": function, "arguments": {"a": 2}})
}

/// The error numbers and request ids of the frames.
fn errors(frames: &[Value]) -> Vec<(i64, String)> {
    let one = |frame: &Value| {
        assert_eq!(frame["type"], 0, "{frame}");
        assert!(frame["message"].is_string() && frame["data"]["kind"].is_string(), "{frame}");
        let id = frame["requestId"].as_str().expect("an id").to_owned();
        (frame["error"].as_i64().expect("a number"), id)
    };
    frames.iter().map(one).collect()
}

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
        (r#"[1]"#, 2, undefined),
        (r#""text""#, 2, undefined),
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
            r#"{"type":1,"requestId":"x","moduleId":"m","version":"1.0.0","dependencies":[]}"#,
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
    for line in ["", "{", "nonsense", "{\"type\":1,}"] {
        assert_eq!(talk.say("c", line), Vec::<Value>::new(), "{line:?}");
    }
    assert_eq!(talk.notes.ignored, 4);
    let deep = "[".repeat(200);
    let closed = "]".repeat(200);
    let valid = format!(r#"{{"type":3,"arguments":{deep}{closed},"requestId":"x"}}"#);
    assert_eq!(errors(&talk.say("c", &valid)), [(0, "x".to_owned())]);
    // An array is none of the frames, however deep; what is no JSON is ignored.
    assert_eq!(errors(&talk.say("c", &format!("{deep}{closed}"))), [(2, "undefined".to_owned())]);
    assert_eq!(talk.say("c", &deep), Vec::<Value>::new());
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
fn an_answer_may_escape_its_id_otherwise() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    talk.tell("m", call("c", "m.f"));
    let heard = talk.say("m", r#"{"type":4,"requestId":"\u00670","data":1}"#);
    assert_eq!(heard, [json!({"requestId": "c", "type": 4, "data": 1})]);
}

#[test]
fn whoever_has_hung_up_holds_no_id() {
    let register = json!({"type": 1, "requestId": "x", "moduleId": "math", "version": "1.0.0"});
    let mut talk = Talk::new();
    talk.serving("math", &["add"]);
    talk.serving("caller", &[]);
    talk.module("needy", json!({"math": "*"}));
    talk.tell("caller", call("c", "math.add"));
    for peer in ["caller", "needy", "math"] {
        talk.heard(peer);
    }
    talk.connect("again");
    // It is served first; nothing is done meanwhile.
    talk.notes.hung_up.insert("math", Presence::Doubtful);
    let line = register.to_string();
    let dealt = talk.hub.line(talk.ids["again"], scan(line.as_bytes()), talk.now, &mut talk.notes);
    assert_eq!((dealt, talk.heard("again").len()), (Dealt::Later, 0));
    assert_eq!(talk.hub.counts(), Counts { unregistered: 1, active: 3, waiting: 0 });
    // Then it leaves as it would by itself.
    talk.notes.hung_up.insert("math", Presence::Gone);
    assert_eq!(talk.tell("again", register.clone())[0], json!({"requestId": "x", "type": 2}));
    assert_eq!(talk.notes.forgotten, ["math"]);
    assert_eq!(errors(&talk.heard("caller")), [(4, "c".to_owned())]);
    assert_eq!(talk.hooks("needy"), ["juno.deactivated {}", "juno.activated {}"]);
    talk.disconnect("math");
    assert_eq!(talk.hub.counts(), Counts { unregistered: 0, active: 3, waiting: 0 });
    // Whoever registers twice has one answer, though it has hung up itself.
    talk.notes.hung_up.insert("again", Presence::Gone);
    assert_eq!(errors(&talk.tell("again", register)), [(7, "x".to_owned())]);
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
    let told =
        json!({"kind": "unknown_method", "outcome": "rejected", "retryable": false, "code": 5});
    let expected =
        json!({"requestId": "c", "type": 0, "error": 5, "message": "no", "data": told, "x": 1});
    assert_eq!(talk.heard("caller"), [expected]);
    assert_eq!(talk.notes.ended, [(1, "unknown_method".to_owned())]);
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
    talk.hub.returned(away[1], Ok(&data), &mut talk.notes);
    let fault = Fault::not_sent(FaultKind::UnknownMethod, "no");
    talk.hub.returned(away[0], Err(&fault), &mut talk.notes);
    let heard = talk.heard("m");
    assert_eq!(heard[0], json!({"requestId": "b", "type": 4, "data": [1.10]}));
    assert_eq!(errors(&heard[1..]), [(5, "a".to_owned())]);
    talk.hub.returned(away[0], Ok(&data), &mut talk.notes);
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
    talk.hub.forget(id.expect("sent"));
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
fn hooks_reach_those_who_listen() {
    let mut talk = Talk::new();
    for module in ["nmath", "listener", "other"] {
        talk.serving(module, &[]);
        talk.heard(module);
    }
    for _ in 0..2 {
        let heard =
            talk.tell("listener", json!({"type": 5, "requestId": "l", "hook": "nmath.changed"}));
        assert_eq!(heard, [json!({"requestId": "l", "type": 6})]);
    }
    talk.tell("nmath", json!({"type": 5, "requestId": "l", "hook": "nmath.changed"}));
    talk.heard("nmath");
    for (data, delivered) in [
        (json!({"u": 1}), json!({"u": 1})),
        (json!(5), json!({})),
        (json!([1]), json!({})),
        (json!(null), json!({})),
    ] {
        let heard = talk
            .tell("nmath", json!({"type": 7, "requestId": "t", "hook": "changed", "data": data}));
        assert_eq!(heard.len(), 2, "its own hook, and the ok: {heard:?}");
        assert_eq!(heard[1], json!({"requestId": "t", "type": 8}));
        let heard = talk.heard("listener");
        assert_eq!(heard.len(), 1, "once: {heard:?}");
        assert_eq!((&heard[0]["hook"], &heard[0]["data"]), (&json!("nmath.changed"), &delivered));
        assert!(talk.heard("other").is_empty());
    }
    assert_eq!(errors(&talk.tell("nmath", json!({"type": 7, "requestId": "t"})))[0].0, 0);
    assert_eq!(errors(&talk.tell("nmath", json!({"type": 5, "requestId": "t"})))[0].0, 0);
}

#[test]
fn dependencies_in_a_chain() {
    let mut talk = Talk::new();
    assert_eq!(talk.module("c", json!({"b": "^1.0.0"})), [json!({"requestId": "r", "type": 2})]);
    assert_eq!(
        errors(&talk.tell("c", json!({"type": 9, "requestId": "d", "function": "f"})))[0].0,
        3
    );
    talk.module("b", json!({"a": ">=1.0.0 <2.0.0", "juno": "*"}));
    assert!(!talk.active("b") && !talk.active("c"));
    talk.module("a", json!({}));
    assert!(talk.active("a") && talk.active("b") && talk.active("c"));
    assert_eq!(talk.hooks("c"), ["juno.activated {}"]);
    talk.tell("c", json!({"type": 9, "requestId": "d", "function": "f"}));
    talk.disconnect("a");
    assert!(!talk.active("b") && !talk.active("c"));
    assert_eq!(talk.hooks("c"), ["juno.deactivated {}"]);
    // Its functions are unknown meanwhile, and are there again without being declared again.
    talk.serving("d", &[]);
    assert_eq!(errors(&talk.tell("d", call("x", "c.f"))), [(4, "x".to_owned())]);
    talk.module("a", json!({}));
    assert_eq!(talk.hooks("c"), ["juno.activated {}"]);
    talk.tell("d", call("x", "c.f"));
    assert_eq!(talk.heard("c")[0]["function"], "f");
}

#[test]
fn dependencies_in_a_circle() {
    let mut talk = Talk::new();
    talk.module("a", json!({"b": "*"}));
    talk.module("b", json!({"c": "*", "b": "*"}));
    assert!(!talk.active("a") && !talk.active("b"));
    talk.module("c", json!({"a": "*"}));
    assert!(talk.active("a") && talk.active("b") && talk.active("c"));
    talk.disconnect("b");
    assert!(!talk.active("a") && !talk.active("c"));
}

#[test]
fn a_version_that_does_not_fit_is_none() {
    let mut talk = Talk::new();
    talk.module("a", json!({}));
    talk.module("b", json!({"a": "^2.0.0"}));
    talk.module("c", json!({"juno": "^9.0.0"}));
    assert!(!talk.active("b") && !talk.active("c"));
    assert_eq!(talk.hub.counts(), Counts { unregistered: 0, active: 1, waiting: 2 });
}

#[test]
fn life_cycle_hooks_for_those_who_listen() {
    let mut talk = Talk::new();
    talk.serving("w", &[]);
    for hook in ["juno.moduleActivated", "juno.moduleDeactivated", "juno.moduleConnected"] {
        talk.tell("w", json!({"type": 5, "requestId": "l", "hook": hook}));
    }
    talk.module("a", json!({}));
    talk.module("b", json!({"a": "*"}));
    talk.disconnect("a");
    let expected = [
        r#"juno.moduleConnected {"connectionId":"2"}"#,
        r#"juno.moduleActivated {"moduleId":"a"}"#,
        r#"juno.moduleConnected {"connectionId":"3"}"#,
        r#"juno.moduleActivated {"moduleId":"b"}"#,
        // As with the real daemon, not for the one that left.
        r#"juno.moduleDeactivated {"moduleId":"b"}"#,
    ];
    assert_eq!(talk.hooks("w"), expected);
}

#[test]
fn the_hubs_own_functions() {
    let mut talk = Talk::new();
    talk.module("b", json!({"a": "^1.0.0"}));
    talk.serving("m", &["f"]);
    let heard = talk.tell("m", call("c", "juno.listModules"));
    let expected = json!([
        {"connectionId": "0", "declaredFunctions": ["listModules", "getModuleInfo"], "dependencies": {},
         "moduleId": "juno", "registered": true, "registeredHooks": [], "version": "0.1.3"},
        {"connectionId": "1", "declaredFunctions": [], "dependencies": {"a": "^1.0.0"},
         "moduleId": "b", "registered": false, "registeredHooks": [], "version": "1.0.0"},
        {"connectionId": "2", "declaredFunctions": ["f"], "dependencies": {},
         "moduleId": "m", "registered": true, "registeredHooks": [], "version": "1.0.0"},
    ]);
    assert_eq!(heard, [json!({"requestId": "c", "type": 4, "data": expected})]);
    let mut info = |arguments: Value| {
        let frame = json!({"type": 3, "requestId": "c", "function": "juno.getModuleInfo", "arguments": arguments});
        talk.tell("m", frame)[0]["data"].clone()
    };
    assert_eq!(info(json!({"moduleId": "m"})), expected[2]);
    assert_eq!(info(json!({"moduleId": "juno"})), expected[0]);
    for arguments in [json!({"moduleId": "x"}), json!({}), json!(null), json!({"moduleId": 5})] {
        assert_eq!(info(arguments), Value::Null);
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
fn tokens_keep_strangers_out() {
    let tokens = HashMap::from([("billing".to_owned(), Secret::new("s3cret".to_owned()))]);
    let mut talk = Talk::with(Settings { tokens, ..settings() });
    talk.connect("x");
    let register = |token: Value| json!({"type": 1, "requestId": "r", "moduleId": "billing", "version": "1.0.0", "token": token});
    for token in [json!(null), json!("s3cre"), json!("s3cretx"), json!(""), json!(5)] {
        let heard = talk.tell("x", register(token));
        assert_eq!(errors(&heard), [(3, "r".to_owned())]);
        assert!(!heard[0].to_string().contains("s3cret"));
    }
    assert_eq!(talk.tell("x", register(json!("s3cret")))[0]["type"], 2);
}

#[test]
fn draining_takes_no_new_calls() {
    let mut talk = Talk::new();
    talk.serving("m", &["f"]);
    let id = talk.tell("m", call("1", "m.f"))[0]["requestId"].clone();
    talk.hub.drain();
    let heard = talk.tell("m", call("2", "m.f"));
    assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (4, &json!("unavailable")));
    let heard = talk.module("n", json!({}));
    assert_eq!((errors(&heard)[0].0, &heard[0]["data"]["kind"]), (4, &json!("unavailable")));
    let heard = talk.tell("m", json!({"type": 4, "requestId": id, "data": 1}));
    assert_eq!(heard, [json!({"requestId": "1", "type": 4, "data": 1})]);
    talk.tell("m", call("3", "m.f"));
    talk.hub.end_all_calls(&mut talk.notes);
    assert_eq!(talk.hub.waiting_calls(), 0);
}
