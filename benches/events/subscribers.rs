//! Browsers that listen to one topic, over WebSockets or Server-Sent Events.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use bytes::{Bytes, BytesMut};
use clap::ValueEnum;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::sync::Notify;
use tokio::task::JoinSet;

use crate::support::http::shown;
use crate::support::role::{Answer, Command, Run, take_orders};
use crate::support::websocket::{OPENING, masked};

/// The subject on NATS, and the topic.
pub(crate) const TOPIC: &str = "bench.made";
/// An event's data.
pub(crate) const DATA: &str = r#"{"id":12345,"name":"ada","state":"baked"}"#;
const SSE_OPENING: &str = "GET /events?topic=bench.made HTTP/1.1\r\nHost: localhost\r\n\r\n";
/// How an event ends that is a chunk of an answer.
const SSE_END: &[u8] = b"\n\n\r\n";

/// How a browser listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub(crate) enum Way {
    /// Over a WebSocket
    WebSocket,
    /// To Server-Sent Events
    Sse,
}

/// The role of as many subscribers as it is told to open. It publishes as many events to NATS as it is
/// told to run, each when all have heard the one before.
pub(crate) fn subscribers(address: SocketAddr, way: Way, nats: &str) -> Result<()> {
    let runtime = Runtime::new()?;
    let client = runtime.block_on(async_nats::connect(nats))?;
    let mut crowd = Crowd::default();
    take_orders(|command| {
        runtime.block_on(async {
            match command {
                Command::Open(count) => crowd = Crowd::open(address, way, count).await?,
                Command::Run(events) => return crowd.hear(&client, events).await,
                Command::Close => crowd = Crowd::default(),
            }
            Ok(Answer::Done)
        })
    })
}

#[derive(Default)]
struct Crowd {
    count: usize,
    heard: Arc<Heard>,
    readers: JoinSet<()>,
}

#[derive(Default)]
struct Heard {
    times: AtomicUsize,
    goal: AtomicUsize,
    reached: Notify,
}

impl Crowd {
    async fn open(address: SocketAddr, way: Way, count: usize) -> Result<Self> {
        let mut crowd = Self { count, ..Self::default() };
        for _ in 0..count {
            let mut subscriber = Subscriber::open(address, way).await?;
            let heard = Arc::clone(&crowd.heard);
            crowd.readers.spawn(async move {
                loop {
                    if let Err(error) = subscriber.event().await {
                        return eprintln!("a subscriber has ended: {error:#}");
                    }
                    let times = heard.times.fetch_add(1, Ordering::AcqRel) + 1;
                    if times == heard.goal.load(Ordering::Acquire) {
                        heard.reached.notify_one();
                    }
                }
            });
        }
        Ok(crowd)
    }

    async fn hear(&mut self, client: &async_nats::Client, events: u64) -> Result<Answer> {
        let (start, mut latencies) = (Instant::now(), Vec::new());
        for _ in 0..events {
            let goal = self.heard.times.load(Ordering::Acquire) + self.count;
            self.heard.goal.store(goal, Ordering::Release);
            let begin = Instant::now();
            client.publish(TOPIC, Bytes::from_static(DATA.as_bytes())).await?;
            client.flush().await?;
            tokio::select! {
                () = self.heard.reached.notified() => {}
                _ = self.readers.join_next() => anyhow::bail!("a subscriber has ended"),
            }
            latencies.push(begin.elapsed());
        }
        Ok(Answer::Ran(Run::new(start, latencies)))
    }
}

/// One that listens.
pub(crate) struct Subscriber {
    stream: TcpStream,
    way: Way,
    read: BytesMut,
}

impl Subscriber {
    /// Connects and subscribes.
    pub(crate) async fn open(address: SocketAddr, way: Way) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let mut subscriber = Self { stream, way, read: BytesMut::new() };
        match way {
            Way::WebSocket => {
                subscriber.stream.write_all(OPENING).await?;
                subscriber.head("HTTP/1.1 101 ").await?;
                let subscribe = format!(
                    r#"{{"jsonrpc":"2.0","id":1,"method":"genkan.subscribe","params":{{"topics":["{TOPIC}"]}}}}"#
                );
                subscriber.stream.write_all(&masked(&subscribe)?).await?;
                let answer = subscriber.frame().await?;
                ensure!(memchr::memmem::find(&answer, b"result").is_some(), "{}", shown(&answer));
            }
            Way::Sse => {
                subscriber.stream.write_all(SSE_OPENING.as_bytes()).await?;
                subscriber.head("HTTP/1.1 200 ").await?;
            }
        }
        Ok(subscriber)
    }

    async fn head(&mut self, begins: &str) -> Result<()> {
        let head = self.until(b"\r\n\r\n").await?;
        ensure!(head.starts_with(begins.as_bytes()), "not opened: {}", shown(&head));
        Ok(())
    }

    /// The next event, as it was on the wire.
    pub(crate) async fn event(&mut self) -> Result<Bytes> {
        loop {
            let message = match self.way {
                Way::WebSocket => self.frame().await?,
                Way::Sse => self.until(SSE_END).await?,
            };
            if memchr::memmem::find(&message, DATA.as_bytes()).is_some() {
                return Ok(message);
            }
        }
    }

    /// The next bytes up to the end of `mark`.
    async fn until(&mut self, mark: &[u8]) -> Result<Bytes> {
        loop {
            if let Some(at) = memchr::memmem::find(&self.read, mark) {
                return Ok(self.read.split_to(at + mark.len()).freeze());
            }
            self.more().await?;
        }
    }

    /// The next frame, its head included.
    async fn frame(&mut self) -> Result<Bytes> {
        loop {
            let whole = match *self.read {
                [_, 126, high, low, ..] => Some(4 + usize::from(u16::from_be_bytes([high, low]))),
                [_, length, ..] if length < 126 => Some(2 + usize::from(length)),
                _ => None,
            };
            if let Some(whole) = whole.filter(|whole| self.read.len() >= *whole) {
                return Ok(self.read.split_to(whole).freeze());
            }
            self.more().await?;
        }
    }

    async fn more(&mut self) -> Result<()> {
        let count = self.stream.read_buf(&mut self.read).await.context("reading")?;
        ensure!(count > 0, "the server closed it");
        Ok(())
    }
}
