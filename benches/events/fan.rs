//! The floor of one event to many browsers: a loop that writes the gateway's own bytes to all sockets.

use std::net::SocketAddr;

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use futures_util::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::subscribers::{DATA, Subscriber, TOPIC, Way};
use crate::support::role::serve;

const WEB_SOCKET_HEAD: &[u8] = b"HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n\
    Upgrade: websocket\r\nSec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";
const SUBSCRIBED: &[u8] = b"\x81\x24{\"jsonrpc\":\"2.0\",\"id\":1,\"result\":{}}";
const SSE_HEAD: &[u8] = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\
    Transfer-Encoding: chunked\r\n\r\n";
/// How many new sockets wait for the next event.
const WAITING: usize = 10_000;

/// The role. One event that `gateway` sends is asked for, to have its bytes.
pub(crate) fn fan(gateway: SocketAddr, way: Way, nats: &str) -> Result<()> {
    let mut tasks = JoinSet::new();
    serve(async {
        let client = async_nats::connect(nats).await?;
        let bytes = sample(gateway, way, &client).await?;
        let events = client.subscribe(TOPIC).await?;
        client.flush().await?;
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (opened, sockets) = mpsc::channel(WAITING);
        tasks.spawn(async move {
            if let Err(error) = accept(&listener, way, &opened).await {
                eprintln!("the bare loop accepts no more: {error:#}");
            }
        });
        tasks.spawn(deliver(events, sockets, bytes));
        Ok(Some(port))
    })
}

/// An event as the gateway puts it on the wire.
async fn sample(gateway: SocketAddr, way: Way, client: &async_nats::Client) -> Result<Bytes> {
    let mut subscriber = Subscriber::open(gateway, way).await?;
    client.publish(TOPIC, Bytes::from_static(DATA.as_bytes())).await?;
    client.flush().await?;
    subscriber.event().await.context("the gateway's event")
}

async fn accept(listener: &TcpListener, way: Way, opened: &mpsc::Sender<TcpStream>) -> Result<()> {
    loop {
        let (mut stream, _) = listener.accept().await?;
        stream.set_nodelay(true)?;
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            ensure!(stream.read_buf(&mut head).await? > 0, "a head has no end");
        }
        match way {
            Way::WebSocket => stream.write_all(&[WEB_SOCKET_HEAD, SUBSCRIBED].concat()).await?,
            Way::Sse => stream.write_all(SSE_HEAD).await?,
        }
        opened.send(stream).await?;
    }
}

async fn deliver(
    mut events: async_nats::Subscriber,
    mut opened: mpsc::Receiver<TcpStream>,
    bytes: Bytes,
) {
    let mut sockets: Vec<TcpStream> = Vec::new();
    while events.next().await.is_some() {
        while let Ok(socket) = opened.try_recv() {
            sockets.push(socket);
        }
        let mut gone = Vec::new();
        for (index, socket) in sockets.iter_mut().enumerate() {
            if socket.write_all(&bytes).await.is_err() {
                gone.push(index);
            }
        }
        for index in gone.into_iter().rev() {
            sockets.swap_remove(index);
        }
    }
}
