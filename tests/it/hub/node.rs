//! A client that behaves as juno-node 0.1.2 does (WIRE 3.4): requests are held back until
//! `juno.activated`, ids are milliseconds and may come twice, what comes in is split at line
//! ends within one read and never put together across two.

use std::collections::HashMap;

use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::{HUB, PATIENCE, Peer, address};
use crate::harness::Gateway;

struct Node {
    stream: TcpStream,
    id: &'static str,
    activated: bool,
    buffered: Vec<Value>,
    /// Ids that are waited for. A second request of one id takes the place of the first.
    pending: HashMap<String, &'static str>,
    settled: Vec<(String, Value)>,
    calls: Vec<Value>,
    hooks: Vec<String>,
}

impl Node {
    async fn connect(gateway: &Gateway, id: &'static str) -> Self {
        let stream = TcpStream::connect(address(gateway).await).await.unwrap();
        let mut node = Self {
            stream,
            id,
            activated: false,
            buffered: Vec::new(),
            pending: HashMap::new(),
            settled: Vec::new(),
            calls: Vec::new(),
            hooks: Vec::new(),
        };
        let register = json!({"requestId": format!("{id}1"), "type": 1, "moduleId": id, "version": "1.0.0", "dependencies": {}});
        node.write(&register).await;
        node.pending.insert(format!("{id}1"), "register");
        node
    }

    /// Each message is one write.
    async fn write(&mut self, frame: &Value) {
        self.stream.write_all(format!("{frame}\n").as_bytes()).await.unwrap();
    }

    /// All requests of one millisecond share an id.
    async fn request(&mut self, millisecond: u64, mut frame: Value) {
        let id = format!("{}{millisecond}", self.id);
        frame["requestId"] = json!(id);
        self.pending.insert(id, "request");
        if self.activated { self.write(&frame).await } else { self.buffered.push(frame) }
    }

    /// Reads once, and handles what came as the library does.
    async fn read(&mut self) {
        let mut chunk = vec![0; 65_536];
        let length = timeout(PATIENCE, self.stream.read(&mut chunk)).await.unwrap().unwrap();
        assert!(length > 0, "the hub closed the connection");
        let text = std::str::from_utf8(&chunk[..length]).unwrap();
        for line in text.split('\n').filter(|line| !line.is_empty()) {
            let frame: Value = serde_json::from_str(line).unwrap_or_else(|error| {
                panic!("a message was split over two reads: {error}: {line}")
            });
            self.handle(frame).await;
        }
    }

    async fn handle(&mut self, frame: Value) {
        let id = frame["requestId"].as_str().expect("an id").to_owned();
        match frame["type"].as_i64() {
            Some(3) => self.calls.push(frame),
            Some(8) if frame.get("hook").is_some() => {
                let hook = frame["hook"].as_str().unwrap().to_owned();
                if hook == "juno.activated" {
                    self.activated = true;
                    // It sends again what it had buffered, also a second time.
                    for frame in self.buffered.clone() {
                        self.write(&frame).await;
                    }
                }
                self.hooks.push(hook);
            }
            _ => {
                if self.pending.remove(&id).is_some() {
                    self.settled.push((id, frame));
                }
            }
        }
    }

    async fn settle(&mut self, id: &str) -> Value {
        while !self.settled.iter().any(|(settled, _)| settled == id) {
            self.read().await;
        }
        let at = self.settled.iter().position(|(settled, _)| settled == id).unwrap();
        self.settled.remove(at).1
    }
}

#[tokio::test]
async fn it_lives_with_the_hub() {
    let gateway = Gateway::start(HUB).await;
    let mut node = Node::connect(&gateway, "n").await;
    // Declared in one millisecond, before it was activated.
    for function in ["add", "sub"] {
        node.request(7, json!({"type": 9, "function": function})).await;
    }
    assert_eq!(node.settle("n1").await["type"], 2);
    let declared = node.settle("n7").await;
    assert_eq!(declared["type"], 10);
    assert!(declared["function"].is_string(), "{declared}");
    assert_eq!(node.hooks, ["juno.activated"]);

    // Both are there, though they were declared under one id.
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    for function in ["n.add", "n.sub"] {
        caller.request(json!({"type": 3, "function": function, "arguments": {"a": 1}})).await;
    }
    while node.calls.len() < 2 {
        node.read().await;
    }
    for call in std::mem::take(&mut node.calls) {
        let data = call["function"].clone();
        node.write(&json!({"requestId": call["requestId"], "type": 4, "data": data})).await;
    }
    assert_eq!(caller.receive().await["data"], "add");
    assert_eq!(caller.receive().await["data"], "sub");

    // Calls of one millisecond: each is answered under the id, and errors are of type 0.
    node.request(9, json!({"type": 3, "function": "nobody.f", "arguments": {}})).await;
    let failed = node.settle("n9").await;
    assert_eq!((&failed["type"], &failed["error"]), (&json!(0), &json!(4)));
    // An undeclared function is answered by the client itself, with error 5.
    node.request(11, json!({"type": 3, "function": "n.add", "arguments": {}})).await;
    while node.calls.is_empty() {
        node.read().await;
    }
    let call = node.calls.remove(0);
    node.write(&json!({"requestId": call["requestId"], "type": 0, "error": 5})).await;
    assert_eq!(node.settle("n11").await["error"], 5);
    // A duplicate of everything that was buffered.
    for frame in node.buffered.clone() {
        node.write(&frame).await;
    }
    node.request(12, json!({"type": 5, "hook": "caller.done"})).await;
    assert_eq!(node.settle("n12").await["type"], 6);
    assert_eq!(node.hooks, ["juno.activated"], "no hook that it did not ask for");
}

#[tokio::test]
async fn lines_that_fit_are_never_split() {
    let gateway = Gateway::start(HUB).await;
    let mut node = Node::connect(&gateway, "n").await;
    node.request(7, json!({"type": 5, "hook": "source.tick"})).await;
    node.settle("n7").await;
    let mut source = Peer::module(&gateway, "source", &[]).await;
    for n in 0..50 {
        let data = json!({"n": n, "text": "x".repeat(20_000)});
        source.ask(json!({"type": 7, "hook": "tick", "data": data})).await;
        while node.hooks.len() < n + 2 {
            node.read().await;
        }
    }
}
