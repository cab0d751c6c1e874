//! Any frames from any modules in any order: what the hub promises holds after every step.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::Config as Runs;
use semver::Version;
use serde_json::{Value, json};
use tokio::time::Instant;

use super::super::version::Range;
use super::super::wire::{Rest, scan};
use super::tests::{Notes, TIMEOUT, settings};
use super::*;

const PEERS: [&str; 5] = ["a", "b", "c", "d", "e"];
const VERSIONS: [&str; 3] = ["1.0.0", "1.5.0", "2.0.0"];
const RANGES: [&str; 4] = ["*", "^1.0.0", ">=1.5.0", "^3.0.0"];

/// One thing that happens.
#[derive(Clone, Debug)]
enum Step {
    Connect(usize),
    Disconnect(usize),
    /// Its end has come, and nobody has looked yet.
    HangUp(usize),
    Register {
        peer: usize,
        id: usize,
        version: usize,
        needs: Vec<(usize, usize)>,
    },
    Declare(usize, usize),
    Listen(usize, usize, usize),
    Trigger(usize, usize),
    Call {
        peer: usize,
        id: usize,
        request: usize,
        target: usize,
        function: usize,
    },
    /// The callee answers, or anybody else does, with the n-th id that was ever sent.
    Answer {
        peer: usize,
        nth: usize,
        error: bool,
    },
    Return(usize),
    Outside(usize, usize),
    Forget(usize),
    Wait(u64),
    Noise(usize, String),
}

fn step() -> impl Strategy<Value = Step> {
    let peer = 0..PEERS.len();
    let id = 0..PEERS.len();
    prop_oneof![
        2 => peer.clone().prop_map(Step::Connect),
        1 => peer.clone().prop_map(Step::Disconnect),
        1 => peer.clone().prop_map(Step::HangUp),
        4 => (peer.clone(), id.clone(), 0..VERSIONS.len(), proptest::collection::vec((0..PEERS.len(), 0..RANGES.len()), 0..3))
            .prop_map(|(peer, id, version, needs)| Step::Register { peer, id, version, needs }),
        3 => (peer.clone(), 0..4_usize).prop_map(|(peer, function)| Step::Declare(peer, function)),
        2 => (peer.clone(), id.clone(), 0..4_usize).prop_map(|(peer, of, hook)| Step::Listen(peer, of, hook)),
        2 => (peer.clone(), 0..4_usize).prop_map(|(peer, hook)| Step::Trigger(peer, hook)),
        6 => (peer.clone(), id.clone(), 0..3_usize, 0..PEERS.len() + 2, 0..4_usize)
            .prop_map(|(peer, id, request, target, function)| Step::Call { peer, id, request, target, function }),
        6 => (peer.clone(), 0..40_usize, any::<bool>()).prop_map(|(peer, nth, error)| Step::Answer { peer, nth, error }),
        2 => (0..20_usize).prop_map(Step::Return),
        2 => (id, 0..4_usize).prop_map(|(id, function)| Step::Outside(id, function)),
        1 => (0..20_usize).prop_map(Step::Forget),
        1 => (1_u64..1_500).prop_map(Step::Wait),
        1 => (peer, r#"[\{\}\[\]":,a-z0-9 ]{0,20}"#).prop_map(|(peer, text)| Step::Noise(peer, text)),
    ]
}

/// The hub, and what a bystander would note of it.
struct Play {
    hub: Hub<&'static str, u32>,
    notes: Notes,
    now: Instant,
    connected: HashMap<usize, SessionId>,
    /// Requests of type 3 that each peer made since it connected, by request id.
    asked: HashMap<(usize, String), usize>,
    /// The frames of type 4 and 0 that it got for them.
    answered: HashMap<(usize, String), usize>,
    /// The ids that callees were sent.
    sent_ids: Vec<Value>,
    outside: Vec<(CallId, u32)>,
    forgotten: HashSet<u32>,
    outside_tickets: u32,
    listens: HashMap<usize, HashSet<String>>,
}

impl Play {
    fn new(share: bool, errors_as_data: bool) -> Self {
        let settings = Settings { share, errors_as_data, ..settings() };
        Self {
            hub: Hub::new(settings),
            notes: Notes::default(),
            now: Instant::now(),
            connected: HashMap::new(),
            asked: HashMap::new(),
            answered: HashMap::new(),
            sent_ids: Vec::new(),
            outside: Vec::new(),
            forgotten: HashSet::new(),
            outside_tickets: 1_000_000,
            listens: HashMap::new(),
        }
    }

    fn tell(&mut self, peer: usize, frame: &Value) {
        if let Some(id) = self.connected.get(&peer) {
            let line = frame.to_string();
            let dealt = self.hub.line(*id, scan(line.as_bytes()), self.now, &mut self.notes);
            assert_eq!(dealt, Dealt::Done);
        }
        for name in std::mem::take(&mut self.notes.forgotten) {
            assert!(self.notes.hung_up.contains_key(name), "{name} was still there");
            let forgotten = PEERS.iter().position(|peer| *peer == name).expect("a peer");
            self.leave(forgotten);
        }
    }

    fn play(&mut self, step: &Step) {
        match step {
            Step::Connect(peer) => {
                if !self.connected.contains_key(peer) {
                    let id = self.hub.connect(PEERS[*peer], Caller::NOBODY, &mut self.notes);
                    self.connected.insert(*peer, id);
                }
            }
            Step::Disconnect(peer) => {
                self.leave(*peer);
            }
            Step::HangUp(peer) => {
                if self.connected.contains_key(peer) {
                    self.notes.hung_up.insert(PEERS[*peer], Presence::Gone);
                }
            }
            Step::Register { .. } | Step::Declare(..) | Step::Listen(..) | Step::Trigger(..) => {
                self.play_request(step);
            }
            Step::Call { peer, id, request, target, function } => {
                let target = PEERS.get(*target).copied().unwrap_or(["away", "juno"][target % 2]);
                let request = format!("{}{request}", PEERS[*id]);
                if self.connected.contains_key(peer) {
                    *self.asked.entry((*peer, request.clone())).or_default() += 1;
                }
                let frame = json!({"type": 3, "requestId": request, "function": format!("{target}.f{function}")});
                self.tell(*peer, &frame);
            }
            Step::Answer { peer, nth, error } => {
                let id = self.sent_ids.get(*nth).cloned().unwrap_or(json!("g0"));
                let frame_type = if *error { 0 } else { 4 };
                // `mine` tells a forwarded error from one that is about this frame.
                self.tell(
                    *peer,
                    &json!({"type": frame_type, "requestId": id, "error": 2, "mine": 1}),
                );
            }
            Step::Return(nth) => {
                let away = &self.notes.away;
                if let Some((id, _)) = away.get(nth % away.len().max(1)).cloned() {
                    let data = crate::call::Payload::NULL;
                    self.hub.returned(id, (Ok(&data), false), &mut self.notes);
                }
            }
            Step::Outside(id, function) => {
                self.outside_tickets += 1;
                let (service, method) = (PEERS[*id], format!("f{function}"));
                let call = OutsideCall {
                    service,
                    method: &method,
                    name: "x.y",
                    arguments: "{}",
                    timeout: None,
                    rest: Rest::NONE,
                };
                let ticket = self.outside_tickets;
                let id = self.hub.call_from_outside(&call, ticket, self.now, &mut self.notes);
                self.outside.extend(id.map(|id| (id, ticket)));
            }
            Step::Forget(nth) => {
                if let Some((id, ticket)) = self.outside.get(*nth).copied() {
                    if !self.notes.ended.iter().any(|(ended, _)| *ended == ticket) {
                        self.forgotten.insert(ticket);
                    }
                    self.hub.forget(id, &mut self.notes);
                }
            }
            Step::Wait(millis) => {
                self.now += Duration::from_millis(*millis);
                // The world promises to come when it was asked to.
                if self.hub.next_deadline().is_some_and(|at| at <= self.now) {
                    self.hub.expire(self.now, &mut self.notes);
                }
            }
            Step::Noise(peer, text) => self.make_noise(*peer, text),
        }
        self.read();
        self.check();
    }

    /// Whoever is no module leaves with the first thing that is no frame.
    fn make_noise(&mut self, peer: usize, text: &str) {
        let Some(id) = self.connected.get(&peer).copied() else { return };
        let is_module = self.hub.module_id(id).is_some();
        match self.hub.line(id, scan(text.as_bytes()), self.now, &mut self.notes) {
            Dealt::Unfit if !is_module => self.leave(peer),
            dealt => assert_eq!(dealt, Dealt::Done),
        }
    }

    fn leave(&mut self, peer: usize) {
        let Some(id) = self.connected.remove(&peer) else { return };
        self.read();
        self.hub.disconnect(id, &mut self.notes);
        self.notes.hung_up.remove(PEERS[peer]);
        self.asked.retain(|(asker, _), _| *asker != peer);
        self.answered.retain(|(asker, _), _| *asker != peer);
        self.listens.remove(&peer);
    }

    /// What a module asks of the hub itself.
    fn play_request(&mut self, step: &Step) {
        match step {
            Step::Register { peer, id, version, needs } => {
                let needs: HashMap<_, _> =
                    needs.iter().map(|(id, range)| (PEERS[*id], RANGES[*range])).collect();
                let frame = json!({"type": 1, "requestId": "r", "moduleId": PEERS[*id],
                    "version": VERSIONS[*version], "dependencies": needs});
                self.tell(*peer, &frame);
            }
            Step::Declare(peer, function) => {
                let frame =
                    json!({"type": 9, "requestId": "d", "function": format!("f{function}")});
                self.tell(*peer, &frame);
            }
            Step::Listen(peer, of, hook) => {
                let hook = format!("{}.h{hook}", PEERS[*of]);
                self.listens.entry(*peer).or_default().insert(hook.clone());
                self.tell(*peer, &json!({"type": 5, "requestId": "l", "hook": hook}));
            }
            Step::Trigger(peer, hook) => {
                let frame = json!({"type": 7, "requestId": "t", "hook": format!("h{hook}")});
                self.tell(*peer, &frame);
            }
            _ => {}
        }
    }

    /// Reads what every peer was sent.
    fn read(&mut self) {
        for (peer, name) in PEERS.iter().enumerate() {
            for frame in self.notes.sent.remove(name).unwrap_or_default() {
                let request = frame["requestId"].as_str().expect("an id").to_owned();
                match frame["type"].as_i64() {
                    Some(3) => self.sent_ids.push(frame["requestId"].clone()),
                    Some(4 | 0) if self.asked.contains_key(&(peer, request.clone())) => {
                        *self.answered.entry((peer, request)).or_default() += 1;
                    }
                    Some(8) => {
                        if let Some(hook) = frame["hook"].as_str() {
                            let forced = ["juno.activated", "juno.deactivated"].contains(&hook);
                            let asked_for =
                                self.listens.get(&peer).is_some_and(|hooks| hooks.contains(hook));
                            assert!(
                                forced || asked_for,
                                "{name} got {hook}, which it did not ask for"
                            );
                        }
                    }
                    _ => {}
                }
            }
        }
    }

    fn check(&self) {
        // No request is answered more often than it was made.
        for (key, answers) in &self.answered {
            assert!(answers <= &self.asked[key], "{key:?}: {answers} answers");
        }
        let waiting: usize =
            self.asked.values().sum::<usize>() - self.answered.values().sum::<usize>();
        let modules = self.hub.modules();
        let made: usize = modules.iter().map(|module| module.calls_made).sum();
        assert_eq!(waiting, made, "every call that is not answered waits for its end");
        // Every ticket is out once, and comes back once.
        let ended: HashSet<u32> = self.notes.ended.iter().map(|(ticket, _)| *ticket).collect();
        assert_eq!(ended.len(), self.notes.ended.len(), "no ticket came back twice");
        let out = self.notes.tickets as usize + (self.outside_tickets - 1_000_000) as usize;
        assert_eq!(out, ended.len() + self.forgotten.len() + self.hub.waiting_calls());
        // Nothing grows beyond its limit.
        let limits = &self.hub.settings.limits;
        assert!(modules.len() <= limits.modules);
        for module in &modules {
            assert!(module.calls_made <= limits.calls && module.calls_taken <= limits.calls);
            assert!(
                module.functions.len() <= limits.functions && module.hooks.len() <= limits.hooks
            );
        }
        assert!(
            self.hub
                .calls
                .next_deadline()
                .is_none_or(|at| self.hub.armed.is_some_and(|armed| armed <= at))
        );
        self.check_dependencies(&modules);
        self.check_leftovers(&modules);
    }

    /// The active modules are the largest set that carries itself.
    fn check_dependencies(&self, modules: &[ModuleView]) {
        let mut able: Vec<&ModuleView> = modules.iter().collect();
        loop {
            let before = able.len();
            let carried = |module: &&ModuleView| {
                module.dependencies.iter().all(|dependency| {
                    let range = Range::parse(&dependency.range).expect("a range");
                    able.iter().any(|other| {
                        let version = Version::parse(&other.version).expect("a version");
                        other.id == dependency.id && range.fits(&version)
                    })
                })
            };
            able = able.iter().copied().filter(|module| carried(module)).collect();
            if able.len() == before {
                break;
            }
        }
        let able: HashSet<u64> = able.iter().map(|module| module.connection).collect();
        for module in modules {
            assert_eq!(
                module.active,
                able.contains(&module.connection),
                "{module:?} of {modules:?}"
            );
        }
        let active = modules.iter().filter(|module| module.active).count();
        assert_eq!(self.hub.counts().active, active);
        assert_eq!(self.hub.counts().waiting, modules.len() - active);
    }

    /// No name is remembered for a connection that is gone.
    fn check_leftovers(&self, modules: &[ModuleView]) {
        let listeners: usize = self.hub.listeners.values().map(Vec::len).sum();
        assert_eq!(listeners, modules.iter().map(|module| module.hooks.len()).sum::<usize>());
        let dependants: usize = self.hub.dependants.values().map(Vec::len).sum();
        assert_eq!(
            dependants,
            modules.iter().map(|module| module.dependencies.len()).sum::<usize>()
        );
        assert_eq!(self.hub.modules.values().map(Vec::len).sum::<usize>(), modules.len());
    }

    /// Whatever happened, in the end nothing waits any more.
    fn finish(&mut self) {
        self.now += 2 * TIMEOUT;
        self.hub.expire(self.now, &mut self.notes);
        self.read();
        self.check();
        for (id, _) in self.outside.clone() {
            self.hub.forget(id, &mut self.notes);
        }
        for (id, _) in self.notes.away.clone() {
            self.hub.returned(id, (Ok(&crate::call::Payload::NULL), false), &mut self.notes);
        }
        self.read();
        for (key, asked) in &self.asked {
            assert_eq!(self.answered.get(key), Some(asked), "{key:?}");
        }
        assert_eq!(self.hub.waiting_calls(), 0);
        for (_, id) in std::mem::take(&mut self.connected) {
            self.hub.disconnect(id, &mut self.notes);
        }
        assert_eq!(self.hub.counts(), Counts::default());
        assert!(
            self.hub.listeners.is_empty()
                && self.hub.dependants.is_empty()
                && self.hub.modules.is_empty()
        );
    }
}

proptest! {
    #![proptest_config(Runs { cases: 400, ..Runs::default() })]
    #[test]
    fn no_sequence_breaks_a_promise(
        share in any::<bool>(),
        errors_as_data in any::<bool>(),
        steps in proptest::collection::vec(step(), 1..120),
    ) {
        let mut play = Play::new(share, errors_as_data);
        for step in &steps {
            play.play(step);
        }
        play.finish();
    }
}
