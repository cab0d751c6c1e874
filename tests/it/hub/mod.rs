//! The hub through real sockets: WIRE, section 3, line by line, and what Genkan adds to it.

mod calls;
mod flapping;
mod lifecycle;
mod limits;
mod lines;
mod machines;
mod memory;
mod modules;
mod node;
mod operators;
mod patience;
mod real;
mod sizes;
mod sockets;
mod strangers;
mod table;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;

use crate::harness::{Gateway, eventually};

/// A table for the hub on a port of its own; further keys may follow.
pub const HUB: &str = "[hub]\nlisten = [\"tcp://127.0.0.1:0\"]\n";
/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(90);
/// How long to wait for what must not come.
const SILENCE: Duration = Duration::from_millis(150);

/// Where the gateway's hub listens: `127.0.0.1:PORT`.
pub async fn address(gateway: &Gateway) -> String {
    eventually("the hub listens", async || {
        let mut lines = gateway.logged("listening").into_iter();
        let line = lines.find(|line| line["ingress"] == "hub")?;
        Some(line["address"].as_str()?.strip_prefix("tcp://")?.to_owned())
    })
    .await
}

impl Gateway {
    /// Waits until so many modules are connected, and nobody else.
    pub async fn wait_for_modules(&self, count: usize) {
        eventually(&format!("{count} modules are connected"), async || {
            let page = self.page("/hub/modules").await.json();
            let there = page["modules"].as_array()?.len();
            (there == count && page["unregistered"] == 0).then_some(())
        })
        .await;
    }
}

trait Stream: AsyncRead + AsyncWrite + Unpin + Send {}
impl<S: AsyncRead + AsyncWrite + Unpin + Send> Stream for S {}

/// A module that says what it is told to say.
pub struct Peer {
    stream: Box<dyn Stream>,
    read: Vec<u8>,
    serial: u32,
}

impl Peer {
    /// Connects to a gateway's hub.
    pub async fn connect(gateway: &Gateway) -> Self {
        Self::tcp(&address(gateway).await).await
    }

    /// Connects to an address.
    pub async fn tcp(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the hub listens");
        stream.set_nodelay(true).unwrap();
        Self::over(stream)
    }

    /// Connects to a Unix socket.
    pub async fn unix(path: &std::path::Path) -> Self {
        Self::over(UnixStream::connect(path).await.expect("the hub listens"))
    }

    fn over(stream: impl Stream + 'static) -> Self {
        Self { stream: Box::new(stream), read: Vec::new(), serial: 0 }
    }

    /// Connects and registers; active at the end.
    pub async fn module(gateway: &Gateway, id: &str, functions: &[&str]) -> Self {
        let mut peer = Self::connect(gateway).await;
        let heard = peer.register(id, "1.0.0", json!({})).await;
        assert_eq!(heard["type"], 2, "{heard}");
        assert_eq!(peer.receive().await["hook"], "juno.activated");
        for function in functions {
            let declared = peer.ask(json!({"type": 9, "function": function})).await;
            assert_eq!((&declared["type"], &declared["function"]), (&json!(10), &json!(function)));
        }
        peer
    }

    /// Writes bytes as they are.
    pub async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        timeout(PATIENCE, self.stream.write_all(bytes.as_ref())).await.unwrap().unwrap();
    }

    /// The same; false where nobody takes them for a while, or the connection has ended.
    pub async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        let written = timeout(SILENCE, self.stream.write_all(bytes.as_ref())).await;
        matches!(written, Ok(Ok(())))
    }

    /// Sends a frame, with one write.
    pub async fn send(&mut self, frame: &Value) {
        self.write(format!("{frame}\n")).await;
    }

    /// Sends a request under an id of its own, which is returned.
    pub async fn request(&mut self, mut frame: Value) -> String {
        self.serial += 1;
        let id = format!("test-{}", self.serial);
        frame["requestId"] = json!(id);
        self.send(&frame).await;
        id
    }

    /// Sends a request and waits for the next frame, which must answer it.
    pub async fn ask(&mut self, frame: Value) -> Value {
        let id = self.request(frame).await;
        let answer = self.receive().await;
        assert_eq!(answer["requestId"], json!(id), "{answer}");
        answer
    }

    /// Sends a register frame.
    pub async fn register(&mut self, id: &str, version: &str, dependencies: Value) -> Value {
        self.ask(
            json!({"type": 1, "moduleId": id, "version": version, "dependencies": dependencies}),
        )
        .await
    }

    /// Calls a function and waits for the end.
    pub async fn call(&mut self, function: &str, arguments: Value) -> Value {
        self.ask(json!({"type": 3, "function": function, "arguments": arguments})).await
    }

    /// Answers a call.
    pub async fn answer(&mut self, call: &Value, data: Value) {
        assert_eq!(call["type"], 3, "{call}");
        self.send(&json!({"type": 4, "requestId": call["requestId"], "data": data})).await;
    }

    /// The next frame.
    pub async fn receive(&mut self) -> Value {
        self.next().await.expect("the connection is open")
    }

    /// The next frame, or nothing where the connection has ended.
    pub async fn next(&mut self) -> Option<Value> {
        let line = self.line().await?;
        Some(serde_json::from_str(&line).unwrap_or_else(|error| panic!("{error}: {line}")))
    }

    /// The next line as it came.
    pub async fn line(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.read.iter().position(|byte| *byte == b'\n') {
                let rest = self.read.split_off(end + 1);
                let line = std::mem::replace(&mut self.read, rest);
                return Some(String::from_utf8(line).expect("UTF-8").trim_end().to_owned());
            }
            let mut chunk = vec![0; 65_536];
            let read = timeout(PATIENCE, self.stream.read(&mut chunk)).await.expect("in time");
            match read {
                Ok(length) if length > 0 => self.read.extend_from_slice(&chunk[..length]),
                _ => return None,
            }
        }
    }

    /// Checks that nothing comes.
    pub async fn is_silent(&mut self) {
        let silence = timeout(SILENCE, self.line()).await;
        assert!(silence.is_err(), "nothing was to come: {silence:?}");
    }

    /// Checks that the connection still answers.
    pub async fn is_served(&mut self) {
        let answer = self.ask(json!({"type": 77})).await;
        assert_eq!((&answer["type"], &answer["error"]), (&json!(0), &json!(2)));
    }
}

/// The number of an error frame.
#[track_caller]
pub fn error(frame: &Value) -> i64 {
    assert_eq!(frame["type"], 0, "{frame}");
    assert!(frame["message"].is_string() && frame["data"]["kind"].is_string(), "{frame}");
    frame["error"].as_i64().expect("a number")
}
