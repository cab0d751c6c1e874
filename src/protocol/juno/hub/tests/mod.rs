//! The hub in a world that only writes down: every row of WIRE 3.3, and what Genkan adds.

mod calls;
mod frames;
mod modules;

use std::collections::HashMap;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::wire::{CallId, Frame, FrameType, Head, OutgoingFrame, scan};
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
    /// Who has not been written anything yet.
    pub(super) unread: Vec<&'static str>,
    /// Who may be gone without a word.
    pub(super) asked_after: Vec<&'static str>,
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
    fn happened(&mut self, _hook: &str, _data: &str) {}

    type Peer = &'static str;
    type Ticket = u32;

    fn send(&mut self, to: &&'static str, frame: &OutgoingFrame<'_>) {
        let mut line = Vec::new();
        frame.write(&mut line);
        self.write(to, &line);
    }

    fn call(&mut self, to: &&'static str, frame: &OutgoingFrame<'_>) -> bool {
        let busy = self.busy.contains(to);
        if !busy {
            self.send(to, frame);
        }
        !busy
    }

    fn recall(&mut self, from: &&'static str, id: CallId) -> bool {
        let unread = self.unread.contains(from);
        let id = json!(format!("g{}", (u64::from(id.generation) << 32) | u64::from(id.index)));
        let lines = self.sent.entry(from).or_default();
        let before = lines.len();
        lines.retain(|line| !unread || line["type"] != 3 || line["requestId"] != id);
        lines.len() < before
    }

    fn hold(&mut self, line: Vec<u8>) -> Result<Bytes, Fault> {
        Ok(Bytes::from(line))
    }

    fn deliver(&mut self, to: &&'static str, line: &Bytes) {
        self.write(to, line);
    }

    fn way(&mut self, name: &str, _: &Caller, _: Option<&IdempotencyKey>) -> Way<u32> {
        let service = name.rsplit_once('.').map_or("", |(service, _)| service);
        if service == "full" {
            return Way::Refused(Fault::not_sent(FaultKind::Overloaded, "full"));
        }
        self.tickets += 1;
        let ticket = self.tickets;
        match service {
            "away" => Way::Away(ticket),
            "old" => Way::Here(Here {
                service: Some("math".to_owned()),
                method: Some("add".to_owned()),
                timeout: Some(TIMEOUT),
                ticket,
            }),
            _ => Way::Here(Here { service: None, method: None, timeout: Some(TIMEOUT), ticket }),
        }
    }

    fn named(&self, _: &u32, name: &str, array: &str) -> Result<Option<String>, Fault> {
        match (name, array) {
            ("named.f", "[1.10]") => Ok(Some(r#"{"x":1.10}"#.to_owned())),
            ("named.f", _) => Err(Fault::not_sent(FaultKind::InvalidParams, "too many")),
            _ => Ok(None),
        }
    }

    fn away(
        &mut self,
        _: &Self::Peer,
        id: CallId,
        (name, _): (&str, Option<IdempotencyKey>),
        _: &Frame<'_>,
    ) {
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

    fn ask_after(&mut self, peer: &&'static str) {
        self.asked_after.push(peer);
    }

    fn forgotten(&mut self, peer: &&'static str) {
        self.forgotten.push(peer);
    }

    fn arm(&mut self, at: Instant) {
        self.armed = Some(at);
    }

    fn note(&mut self, note: Note<'_>) {
        match note {
            Note::Ignored { .. } => self.ignored += 1,
            Note::Late => self.late += 1,
            Note::CallRefused { .. } => self.refused += 1,
            _ => {}
        }
    }
}

pub(super) fn settings() -> Settings {
    Settings {
        limits: Limits { modules: 6, functions: 3, hooks: 3, calls: 4, argument: usize::MAX },
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
        let id = self.hub.connect(peer, Caller::NOBODY, &mut self.notes);
        self.ids.insert(peer, id);
    }

    fn disconnect(&mut self, peer: &'static str) {
        self.hub.disconnect(self.ids[peer], &mut self.notes);
    }

    /// Sends a line, and returns what its sender is sent.
    fn say(&mut self, peer: &'static str, line: &str) -> Vec<Value> {
        assert_eq!(self.hand_in(peer, line), Dealt::Done);
        self.heard(peer)
    }

    fn hand_in(&mut self, peer: &'static str, line: &str) -> Dealt {
        self.hub.line(self.ids[peer], scan(line.as_bytes()), self.now, &mut self.notes)
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
