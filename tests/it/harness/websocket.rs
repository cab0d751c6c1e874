//! A small WebSocket client that sends exactly what it is told, broken frames too.

use std::time::Duration;

use serde_json::Value;

use super::http::{Connection, Response};

/// The mask that every frame is sent with.
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];
/// The key and what it is answered with (RFC 6455, section 1.3).
const KEY: &str = "dGhlIHNhbXBsZSBub25jZQ==";
const ACCEPT: &str = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=";

pub const TEXT: u8 = 0x81;
pub const CLOSE: u8 = 0x88;
pub const PING: u8 = 0x89;
pub const PONG: u8 = 0x8a;

/// A frame that the gateway sent.
#[derive(Debug, PartialEq, Eq)]
pub struct Frame {
    /// FIN, the reserved bits and the opcode.
    pub first: u8,
    pub payload: Vec<u8>,
}

/// An open WebSocket.
pub struct WebSocket(pub Connection);

impl WebSocket {
    /// Opens one at `/api`.
    pub async fn open(address: &str) -> Self {
        Self::open_with(address, "/api", &[]).await
    }

    /// Opens one with headers of its own.
    pub async fn open_with(address: &str, path: &str, headers: &[(&str, &str)]) -> Self {
        Self::upgrade(Connection::open(address).await, path, headers).await.expect("it is opened")
    }

    /// Opens one of a client that lets hardly anything wait in its socket.
    pub async fn open_small(address: &str) -> Self {
        let connection = Connection::open_small(address).await;
        Self::upgrade(connection, "/api", &[]).await.expect("it is opened")
    }

    /// Asks a connection to become one; the response where it does not. A header with an empty value
    /// is left out.
    pub async fn upgrade(
        mut connection: Connection,
        path: &str,
        headers: &[(&str, &str)],
    ) -> Result<Self, Response> {
        let usual = [
            ("Connection", "Upgrade"),
            ("Upgrade", "websocket"),
            ("Sec-WebSocket-Version", "13"),
            ("Sec-WebSocket-Key", KEY),
            ("Content-Length", ""),
        ];
        let given = |name: &str| headers.iter().any(|(own, _)| own.eq_ignore_ascii_case(name));
        let usual = usual.into_iter().filter(|(name, _)| !given(name));
        let headers: Vec<_> = usual.chain(headers.iter().copied()).collect();
        connection.request("GET", path, &headers, b"").await;
        let response = connection.receive().await.expect("a response");
        if response.status != 101 {
            return Err(response);
        }
        assert_eq!(response.header("sec-websocket-accept"), Some(ACCEPT), "{response:?}");
        assert_eq!(response.header("sec-websocket-extensions"), None, "{response:?}");
        Ok(Self(connection))
    }

    /// Sends one frame, masked.
    pub async fn send(&mut self, first: u8, payload: impl AsRef<[u8]>) {
        self.0.send(&frame(first, payload.as_ref())).await;
    }

    /// Sends a text message.
    pub async fn say(&mut self, text: impl AsRef<str>) {
        self.send(TEXT, text.as_ref()).await;
    }

    /// The next frame; `None` where the gateway has hung up.
    pub async fn receive(&mut self) -> Option<Frame> {
        let head = self.0.receive_bytes(2).await?;
        assert_eq!(head[1] & 0x80, 0, "a server masks nothing");
        let length = match head[1] {
            126 => self.0.receive_bytes(2).await?,
            127 => self.0.receive_bytes(8).await?,
            short => vec![short],
        };
        let length = length.iter().fold(0, |length, byte| length << 8 | usize::from(*byte));
        Some(Frame { first: head[0], payload: self.0.receive_bytes(length).await? })
    }

    /// The next message, as JSON. Pings are answered.
    pub async fn json(&mut self) -> Value {
        loop {
            let frame = self.receive().await.expect("a frame");
            match frame.first {
                TEXT => return serde_json::from_slice(&frame.payload).expect("JSON"),
                PING => self.send(PONG, frame.payload).await,
                _ => panic!("{:x}: {}", frame.first, String::from_utf8_lossy(&frame.payload)),
            }
        }
    }

    /// A message and the one that comes next.
    pub async fn ask(&mut self, text: impl AsRef<str>) -> Value {
        self.say(text).await;
        self.json().await
    }

    /// The code and the reason that the gateway closes with, after which it hangs up. Only pings may
    /// come before.
    pub async fn closed(&mut self) -> (u16, String) {
        loop {
            let frame = self.receive().await.expect("a close frame");
            if frame.first == PING {
                continue;
            }
            assert_eq!(frame.first, CLOSE, "{}", String::from_utf8_lossy(&frame.payload));
            let code = u16::from_be_bytes([frame.payload[0], frame.payload[1]]);
            let reason = String::from_utf8(frame.payload[2..].to_vec()).expect("UTF-8");
            assert!(self.0.is_closed_within(Duration::from_secs(20)).await, "it hangs up");
            return (code, reason);
        }
    }
}

/// A frame as a client sends it.
pub fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = head(first, payload.len());
    bytes.extend(payload.iter().enumerate().map(|(at, byte)| byte ^ MASK[at % 4]));
    bytes
}

/// The head of a frame whose payload is so long.
pub fn head(first: u8, length: usize) -> Vec<u8> {
    let mut bytes = vec![first];
    match (u8::try_from(length), u16::try_from(length)) {
        (Ok(length), _) if length < 126 => bytes.push(0x80 | length),
        (_, Ok(length)) => {
            bytes.push(0xfe);
            bytes.extend(length.to_be_bytes());
        }
        _ => {
            bytes.push(0xff);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes
}
