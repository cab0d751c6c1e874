//! The load over WebSocket: JSON-RPC calls on one connection, as many in flight as there are
//! sessions, each in a message and a write of its own, as a browser sends them.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{Mutex as Turn, oneshot};
use tokio::task::JoinSet;

use super::http::{PAYLOAD, is_result, shown};
use super::role::{Session, Threads, client};

/// What opens a WebSocket at `/api`.
pub(crate) const OPENING: &[u8] =
    b"GET /api HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
    Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
const MASK: [u8; 4] = [0x37, 0xfa, 0x21, 0x3d];

/// The role.
pub(crate) fn load(address: SocketAddr, method: &str) -> Result<()> {
    let mut tasks = JoinSet::new();
    let connect = Caller::connect(address, method, &mut tasks);
    client(Threads::Default, connect, async |caller| Ok(caller.clone()))
}

const TEXT: u8 = 0x81;
const PING: u8 = 0x89;
const PONG: u8 = 0x8a;

/// A client's frame with that text, which is shorter than 64 KiB.
pub(crate) fn masked(text: &str) -> Result<Vec<u8>> {
    frame(TEXT, text.as_bytes())
}

fn frame(first: u8, payload: &[u8]) -> Result<Vec<u8>> {
    let length = u16::try_from(payload.len())?;
    let mut frame = vec![first];
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(0x80 | short),
        _ => {
            frame.push(0xfe);
            frame.extend(length.to_be_bytes());
        }
    }
    frame.extend(MASK);
    frame.extend(payload.iter().zip(MASK.into_iter().cycle()).map(|(byte, mask)| byte ^ mask));
    Ok(frame)
}

type Pending = Mutex<HashMap<u64, oneshot::Sender<Vec<u8>>>>;

#[derive(Clone)]
struct Caller {
    /// A call's text up to its id.
    call: Arc<str>,
    pending: Arc<Pending>,
    write: Arc<Turn<OwnedWriteHalf>>,
}

impl Caller {
    async fn connect(address: SocketAddr, method: &str, tasks: &mut JoinSet<()>) -> Result<Self> {
        let mut stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        stream.write_all(OPENING).await?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await?);
        }
        ensure!(head.starts_with(b"HTTP/1.1 101 "), "not opened: {}", shown(&head));
        let (read, write) = stream.into_split();
        let (pending, write) = (Arc::new(Pending::default()), Arc::new(Turn::new(write)));
        let (answers, pongs) = (Arc::clone(&pending), Arc::clone(&write));
        tasks.spawn(async move {
            if let Err(error) = hand_out(BufReader::new(read), &pongs, &answers).await {
                eprintln!("the WebSocket has ended: {error:#}");
            }
            answers.lock().unwrap_or_else(PoisonError::into_inner).clear();
        });
        let call = format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":{PAYLOAD},"id":"#);
        Ok(Self { call: call.into(), pending, write })
    }
}

impl Session for Caller {
    async fn call(&mut self, number: u64) -> Result<()> {
        let (sender, answer) = oneshot::channel();
        self.pending.lock().unwrap_or_else(PoisonError::into_inner).insert(number, sender);
        let text = format!("{}{number}}}", self.call);
        self.write.lock().await.write_all(&masked(&text)?).await?;
        let got = answer.await.context("the connection has ended")?;
        ensure!(
            is_result(&got, number, PAYLOAD),
            "call {number} got a wrong answer: {}",
            shown(&got)
        );
        Ok(())
    }
}

/// Gives each answer to who waits for it. The connection is quiet while others take their turns: the
/// gateway asks then whether it is still there.
async fn hand_out(
    mut read: BufReader<OwnedReadHalf>,
    pongs: &Turn<OwnedWriteHalf>,
    pending: &Pending,
) -> Result<()> {
    loop {
        let [first, length] = [read.read_u8().await?, read.read_u8().await?];
        let length = match length {
            126 => usize::from(read.read_u16().await?),
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        read.read_exact(&mut payload).await?;
        if first == PING {
            pongs.lock().await.write_all(&frame(PONG, &payload)?).await?;
            continue;
        }
        ensure!(first == TEXT, "frame {first:x}: {}", shown(&payload));
        let text = std::str::from_utf8(&payload)?;
        let id = text.rsplit(':').next().and_then(|end| end.trim_end_matches('}').parse().ok());
        let id: u64 = id.with_context(|| format!("no id at the end: {text}"))?;
        let waiting = pending.lock().unwrap_or_else(PoisonError::into_inner).remove(&id);
        ensure!(
            waiting.is_some_and(|waiting| waiting.send(payload).is_ok()),
            "nobody waits for {id}"
        );
    }
}
