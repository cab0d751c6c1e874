//! An HTTP server of bytes: what it answers, a test says byte for byte. Over TCP or a Unix socket.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpListener, UnixListener};
use tokio::task::JoinHandle;

/// A request as it arrived.
#[derive(Clone, Debug)]
pub struct Asked {
    /// Its first line.
    pub line: String,
    /// Its headers, the names in small letters.
    pub headers: Vec<(String, String)>,
    /// Its body.
    pub body: String,
    /// Over which connection, counted from 1.
    pub connection: usize,
}

impl Asked {
    /// A header's value.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    /// The body, read.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The method that is called.
    pub fn method(&self) -> String {
        self.json()["method"].as_str().expect("a method").to_owned()
    }

    /// Its id as it was written, the last member; a notification has none.
    pub fn id(&self) -> &str {
        self.body.rsplit_once(",\"id\":").map_or("null", |(_, rest)| rest.trim_end_matches('}'))
    }

    /// The answer to it with that result.
    pub fn result(&self, json: &str) -> Say {
        let id = self.id();
        Say::json(&format!(r#"{{"jsonrpc":"2.0","result":{json},"id":{id}}}"#))
    }

    /// The answer to it with that error.
    pub fn error(&self, json: &str) -> Say {
        let id = self.id();
        Say::json(&format!(r#"{{"jsonrpc":"2.0","error":{json},"id":{id}}}"#))
    }
}

/// What is answered.
#[derive(Clone, Debug)]
pub struct Say {
    after: Duration,
    bytes: Vec<u8>,
    then: Then,
}

#[derive(Clone, Copy, Debug)]
enum Then {
    GoOn,
    Close,
    CloseIdle(Duration),
    Wait,
    SayAgain,
}

impl Say {
    /// A whole answer of HTTP with a JSON body.
    pub fn json(body: &str) -> Self {
        Self::status("200 OK", "Content-Type: application/json\r\n", body)
    }

    /// A whole answer; each header ends in a line break.
    pub fn status(status: &str, headers: &str, body: &str) -> Self {
        let length = body.len();
        let text = format!("HTTP/1.1 {status}\r\n{headers}Content-Length: {length}\r\n\r\n{body}");
        Self::bytes(text)
    }

    /// Those bytes, and the connection goes on.
    pub fn bytes(bytes: impl Into<Vec<u8>>) -> Self {
        Self { after: Duration::ZERO, bytes: bytes.into(), then: Then::GoOn }
    }

    /// Nothing, for as long as the connection lives.
    pub fn nothing() -> Self {
        Self::bytes("").and_wait()
    }

    /// The connection is closed after it.
    pub fn and_close(self) -> Self {
        self.and(Then::Close)
    }

    /// The connection is closed after it, when it has been idle for so long, without a word.
    pub fn and_close_idle(self, idle: Duration) -> Self {
        self.and(Then::CloseIdle(idle))
    }

    /// The last of the bytes come again and again.
    pub fn and_again(self) -> Self {
        self.and(Then::SayAgain)
    }

    /// Later by that.
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }

    /// The first half of it.
    pub fn half(mut self) -> Self {
        self.bytes.truncate(self.bytes.len() / 2);
        self
    }

    /// And then nothing, for as long as the connection lives.
    pub fn and_wait(self) -> Self {
        self.and(Then::Wait)
    }

    fn and(self, then: Then) -> Self {
        Self { then, ..self }
    }
}

/// The server. It ends with its test.
pub struct Web {
    /// Its URL.
    pub url: String,
    state: Arc<State>,
    task: JoinHandle<()>,
}

struct State {
    answer: Box<dyn Fn(&Asked) -> Say + Send + Sync>,
    asked: Mutex<Vec<Asked>>,
    connections: AtomicUsize,
    ended: AtomicUsize,
}

impl Web {
    /// One at a port of its own.
    pub async fn serve(answer: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        Self::at("127.0.0.1:0", answer).await
    }

    /// One at an address.
    pub async fn at(address: &str, answer: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind(address).await.expect("a free port");
        let url = format!("http://{}/api", listener.local_addr().expect("bound"));
        let state = State::new(answer);
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(Arc::clone(&serving).session(stream));
            }
        });
        Self { url, state, task }
    }

    /// One at a Unix socket.
    pub fn at_socket(
        path: &std::path::Path,
        answer: impl Fn(&Asked) -> Say + Send + Sync + 'static,
    ) -> Self {
        let listener = UnixListener::bind(path).expect("a socket");
        let state = State::new(answer);
        let serving = Arc::clone(&state);
        let task = tokio::spawn(async move {
            let mut sessions = tokio::task::JoinSet::new();
            while let Ok((stream, _)) = listener.accept().await {
                sessions.spawn(Arc::clone(&serving).session(stream));
            }
        });
        Self { url: format!("unix://{}:/api", path.display()), state, task }
    }

    /// Ends it, as the system does with a process that is killed: its address is free.
    pub async fn end(mut self) {
        self.task.abort();
        drop((&mut self.task).await);
    }

    /// `127.0.0.1:PORT`.
    pub fn address(&self) -> &str {
        self.url.trim_start_matches("http://").trim_end_matches("/api")
    }

    /// What has been asked so far.
    pub fn asked(&self) -> Vec<Asked> {
        self.state.asked.lock().unwrap().clone()
    }

    /// The last of it.
    pub fn last(&self) -> Asked {
        self.asked().pop().expect("it was asked")
    }

    /// How many connections have been made, and how many of them have ended.
    pub fn connections(&self) -> (usize, usize) {
        let (made, ended) = (&self.state.connections, &self.state.ended);
        (made.load(Ordering::SeqCst), ended.load(Ordering::SeqCst))
    }
}

impl Drop for Web {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl State {
    fn new(answer: impl Fn(&Asked) -> Say + Send + Sync + 'static) -> Arc<Self> {
        let (connections, ended) = (AtomicUsize::new(0), AtomicUsize::new(0));
        Arc::new(Self { answer: Box::new(answer), asked: Mutex::default(), connections, ended })
    }

    async fn session(self: Arc<Self>, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let connection = self.connections.fetch_add(1, Ordering::SeqCst) + 1;
        while let Some(asked) = read(&mut stream, connection).await {
            let say = (self.answer)(&asked);
            self.asked.lock().unwrap().push(asked);
            tokio::time::sleep(say.after).await;
            if stream.write_all(&say.bytes).await.is_err() {
                break;
            }
            match say.then {
                Then::GoOn => {}
                Then::Close => break,
                Then::CloseIdle(idle) => {
                    tokio::time::sleep(idle).await;
                    break;
                }
                Then::Wait => while stream.read(&mut [0; 64]).await.is_ok_and(|read| read > 0) {},
                Then::SayAgain => {
                    let chunk = vec![b'1'; 64 << 10];
                    while stream.write_all(&chunk).await.is_ok() {}
                }
            }
        }
        // Whoever counts takes it for closed.
        drop(stream);
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Reads one request; `None` where the peer has gone.
async fn read(stream: &mut (impl AsyncRead + Unpin), connection: usize) -> Option<Asked> {
    let mut bytes = Vec::new();
    let head = loop {
        if let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") {
            break end;
        }
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    };
    let text = String::from_utf8(bytes[..head].to_vec()).expect("a head of text");
    let (line, rest) = text.split_once("\r\n").expect("a first line");
    let headers = rest.split("\r\n").filter_map(|line| line.split_once(": "));
    let headers: Vec<_> =
        headers.map(|(name, value)| (name.to_ascii_lowercase(), value.to_owned())).collect();
    let length = headers.iter().find(|(name, _)| name == "content-length");
    let length: usize = match length {
        Some((_, length)) => length.parse().expect("a number"),
        // A browser's question for a page.
        None if line.starts_with("GET ") => 0,
        None => panic!("a length"),
    };
    while bytes.len() < head + 4 + length {
        if stream.read_buf(&mut bytes).await.ok()? == 0 {
            return None;
        }
    }
    let body = String::from_utf8(bytes[head + 4..].to_vec()).expect("text");
    Some(Asked { line: line.to_owned(), headers, body, connection })
}
