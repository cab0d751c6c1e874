//! A small HTTP/1.1 client that sends exactly what it is told, broken requests too.

use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::time::timeout;

const PATIENCE: Duration = Duration::from_secs(90);

/// A response.
#[derive(Debug)]
pub struct Response {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Response {
    /// A header's value; names are in lower case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header == name).map(|(_, value)| value.as_str())
    }

    /// The body.
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("a body in UTF-8")
    }

    /// The body as JSON.
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error} in the body: {}", self.text()))
    }
}

/// A connection that stays open.
pub struct Connection(BufReader<TcpStream>);

impl Connection {
    /// Connects to `127.0.0.1:PORT`.
    pub async fn open(address: &str) -> Self {
        let stream = TcpStream::connect(address).await.expect("the gateway accepts");
        stream.set_nodelay(true).expect("a socket option");
        Self(BufReader::new(stream))
    }

    /// The same, where nobody may listen.
    pub async fn try_open(address: &str) -> std::io::Result<Self> {
        TcpStream::connect(address).await.map(|stream| Self(BufReader::new(stream)))
    }

    /// The same, of a client that lets hardly anything wait in its socket.
    pub async fn open_small(address: &str) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().expect("a socket");
        socket.set_recv_buffer_size(16 * 1024).expect("a socket option");
        let stream = socket.connect(address.parse().expect("an address")).await;
        Self(BufReader::new(stream.expect("the gateway accepts")))
    }

    /// Says that no request will follow; answers can still come.
    pub async fn finish(&mut self) {
        self.0.get_mut().shutdown().await.expect("it is open");
    }

    /// Leaves with a reset instead of an end.
    pub fn reset(self) {
        self.0.get_ref().set_zero_linger().expect("a socket option");
    }

    /// Sends bytes as they are.
    pub async fn send(&mut self, bytes: &[u8]) {
        self.try_send(bytes).await.expect("the gateway reads");
    }

    /// Sends bytes; an error where the gateway has hung up.
    pub async fn try_send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.get_mut().write_all(bytes).await
    }

    /// Sends a request with a body.
    pub async fn request(
        &mut self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) {
        self.send(&encode(method, path, headers, body)).await;
    }

    /// Reads one response; `None` where the gateway has hung up instead.
    pub async fn receive(&mut self) -> Option<Response> {
        timeout(PATIENCE, self.read()).await.expect("a response in time").ok()
    }

    /// The same, at leisure: a turn's bytes, then a pause.
    pub async fn receive_slowly(&mut self, turn: usize, pause: Duration) -> Option<Response> {
        let mut response = timeout(PATIENCE, self.head()).await.expect("a head in time").ok()?;
        let length = response.header("content-length").and_then(|text| text.parse().ok());
        response.body = vec![0; length.expect("a length")];
        for piece in response.body.chunks_mut(turn) {
            self.0.read_exact(piece).await.ok()?;
            tokio::time::sleep(pause).await;
        }
        Some(response)
    }

    /// The next bytes, which are no response; `None` where the gateway has hung up instead.
    pub async fn receive_bytes(&mut self, count: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; count];
        let read = timeout(PATIENCE, self.0.read_exact(&mut bytes)).await;
        read.expect("bytes in time").ok().map(|_| bytes)
    }

    /// Whether the gateway hangs up within `patience`, sending nothing more.
    pub async fn is_closed_within(&mut self, patience: Duration) -> bool {
        let mut byte = [0];
        matches!(timeout(patience, self.0.read(&mut byte)).await, Ok(Ok(0) | Err(_)))
    }

    async fn head(&mut self) -> std::io::Result<Response> {
        let status_line = self.line().await?;
        let status = status_line.split(' ').nth(1).and_then(|code| code.parse().ok());
        let status = status.ok_or_else(|| std::io::Error::other(status_line))?;
        let mut headers = Vec::new();
        loop {
            let line = self.line().await?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Ok(Response { status, headers, body: Vec::new() })
    }

    async fn read(&mut self) -> std::io::Result<Response> {
        let mut response = self.head().await?;
        let length = response.header("content-length").and_then(|text| text.parse().ok());
        if let Some(length) = length {
            response.body = vec![0; length];
            self.0.read_exact(&mut response.body).await?;
        } else if response.header("transfer-encoding") == Some("chunked") {
            loop {
                let size = usize::from_str_radix(self.line().await?.trim(), 16).expect("a size");
                let start = response.body.len();
                response.body.resize(start + size, 0);
                self.0.read_exact(&mut response.body[start..]).await?;
                self.line().await?;
                if size == 0 {
                    break;
                }
            }
        }
        Ok(response)
    }

    async fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line).await? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// A request's bytes. `Content-Type: application/json` is added where there is none; a header
/// with an empty value is left out.
pub fn encode(method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Vec<u8> {
    let mut head = format!("{method} {path} HTTP/1.1\r\n");
    let given = |name: &str| headers.iter().any(|(header, _)| header.eq_ignore_ascii_case(name));
    if !given("host") {
        head += "Host: localhost\r\n";
    }
    if !given("content-type") && !body.is_empty() {
        head += "Content-Type: application/json\r\n";
    }
    if !given("content-length") && !given("transfer-encoding") {
        head += &format!("Content-Length: {}\r\n", body.len());
    }
    for (name, value) in headers.iter().filter(|(_, value)| !value.is_empty()) {
        head += &format!("{name}: {value}\r\n");
    }
    head += "\r\n";
    [head.as_bytes(), body].concat()
}

/// One request on a connection of its own.
pub async fn send(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Response {
    let mut connection = Connection::open(address).await;
    connection.request(method, path, headers, body).await;
    connection.receive().await.expect("a response")
}
