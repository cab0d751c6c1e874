//! Events: from one place to others, and to whoever listens.

mod bridges;
mod lines;
mod sockets;
mod streams;

use std::time::Duration;

use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::harness::Gateway;
use crate::hub::Peer;

/// How long to wait for what must come.
const PATIENCE: Duration = Duration::from_secs(90);

/// A reader of `GET /events`.
pub struct Listener {
    stream: BufReader<TcpStream>,
    /// The answer's head.
    pub head: String,
    /// What has come of a body that is cut into chunks.
    unread: Option<Vec<u8>>,
}

/// What is between two empty lines of a stream.
#[derive(Debug, PartialEq)]
pub struct Heard {
    /// `event:`; empty where there is none.
    pub kind: String,
    /// `id:`; empty where there is none.
    pub id: String,
    /// `data:`, parsed.
    pub data: Value,
}

impl Listener {
    /// Asks for `/events` and what follows, with further header lines.
    pub async fn open(gateway: &Gateway, query: &str, headers: &str) -> Self {
        let url = gateway.url();
        let address = url.strip_prefix("http://").expect("an address");
        let mut stream = TcpStream::connect(address).await.expect("it listens");
        let request = format!("GET /events{query} HTTP/1.1\r\nHost: {address}\r\n{headers}\r\n");
        stream.write_all(request.as_bytes()).await.expect("sent");
        let stream = BufReader::new(stream);
        let mut listener = Self { stream, head: String::new(), unread: None };
        loop {
            let line = listener.raw_line().await.expect("a head");
            if line.is_empty() {
                let is_cut = listener.head.contains("transfer-encoding: chunked");
                listener.unread = is_cut.then(Vec::new);
                return listener;
            }
            listener.head.push_str(&line.to_ascii_lowercase());
            listener.head.push('\n');
        }
    }

    /// The same, for a stream that begins.
    pub async fn listen(gateway: &Gateway, query: &str) -> Self {
        let mut listener = Self::open(gateway, query, "").await;
        listener.greeted().await;
        listener
    }

    /// Closes the half of the connection that it would ask on.
    pub async fn says_no_more(&mut self) {
        self.stream.get_mut().shutdown().await.expect("open");
    }

    /// Reads the stream's first words.
    pub async fn greeted(&mut self) {
        assert!(self.head.contains(" 200 "), "{}", self.head);
        assert_eq!(self.line().await.as_deref(), Some("retry: 2000"));
    }

    /// The next line; `None` at the end.
    pub async fn line(&mut self) -> Option<String> {
        while let Some(unread) = &mut self.unread {
            if let Some(end) = unread.iter().position(|byte| *byte == b'\n') {
                let line: Vec<u8> = unread.drain(..=end).collect();
                return Some(String::from_utf8(line).expect("UTF-8").trim_end().to_owned());
            }
            let size = self.raw_line().await?;
            let size = usize::from_str_radix(&size, 16).expect("a chunk's size");
            let mut chunk = vec![0; size + 2];
            self.stream.read_exact(&mut chunk).await.expect("a chunk");
            assert!(chunk.ends_with(b"\r\n"), "{chunk:?}");
            if size == 0 {
                return None;
            }
            self.unread.get_or_insert_default().extend(&chunk[..size]);
        }
        self.raw_line().await
    }

    /// The next line as it came.
    pub async fn raw_line(&mut self) -> Option<String> {
        let mut line = String::new();
        let read = timeout(PATIENCE, self.stream.read_line(&mut line)).await;
        let length = read.expect("in time").unwrap_or(0);
        (length > 0).then(|| line.trim_end_matches(['\r', '\n']).to_owned())
    }

    /// Fills the room with what comes next.
    pub async fn read(&mut self, room: &mut [u8]) {
        let read = timeout(PATIENCE, self.stream.read_exact(room)).await;
        read.expect("in time").expect("all of it");
    }

    /// What comes next; `None` at the stream's end.
    pub async fn next(&mut self) -> Option<Heard> {
        let (mut kind, mut id, mut data) = (String::new(), String::new(), Vec::new());
        loop {
            let line = self.line().await?;
            match line.split_once(": ") {
                Some(("event", text)) => kind = text.to_owned(),
                Some(("id", text)) => id = text.to_owned(),
                Some(("data", text)) => data.push(text.to_owned()),
                _ if line.is_empty() && !data.is_empty() => {
                    let data = serde_json::from_str(&data.join("\n")).expect("JSON");
                    return Some(Heard { kind, id, data });
                }
                _ => {}
            }
        }
    }

    /// The next event, which must come.
    pub async fn event(&mut self) -> Heard {
        let heard = self.next().await.expect("an event");
        assert_eq!(heard.kind, "", "{heard:?}");
        heard
    }
}

/// A module by the name `shop`.
pub async fn shop(gateway: &Gateway) -> Peer {
    let mut peer = Peer::connect(gateway).await;
    peer.register("shop", "1.0.0", json!({})).await;
    peer.receive().await;
    peer
}

/// Lets a module trigger a hook of its own.
pub async fn trigger(peer: &mut Peer, hook: &str, data: Value) {
    let told = peer.ask(json!({"type": 7, "hook": hook, "data": data})).await;
    assert_eq!(told["type"], 8, "{told}");
}
