//! What hostile clients do. None waits to be answered, and each goes on until it is stopped.

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::harness::http::{Connection, encode};
use crate::http2_resets::{PREFACE, frame, opening};

/// Between two bytes of who is slow.
const SLOW: Duration = Duration::from_millis(500);
/// Between two turns of who is quick.
const QUICK: Duration = Duration::from_millis(5);
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const CONTINUATION: u8 = 9;

type Attackers = JoinSet<()>;

/// How so many clients of a kind begin.
enum Begin {
    AtOnce(fn(&str, usize, &mut Attackers)),
    /// One after the other.
    InTurn(for<'a> fn(&'a str, usize, &'a mut Attackers) -> BoxFuture<'a, ()>),
}

use Begin::{AtOnce, InTurn};

/// A kind of client.
pub struct Attack {
    pub name: &'static str,
    /// How many there are at most.
    pub most: usize,
    begin: Begin,
}

impl Attack {
    /// Begins with so many of them.
    pub async fn begin(&self, address: &str, clients: usize, attackers: &mut Attackers) {
        match self.begin {
            AtOnce(begin) => begin(address, clients, attackers),
            InTurn(begin) => begin(address, clients, attackers).await,
        }
    }
}

pub const ATTACKS: [Attack; 8] = [
    Attack { name: "slow heads, a byte each half second", most: 1_000, begin: AtOnce(slow_heads) },
    Attack {
        name: "slow bodies, a byte each half second",
        most: 1_000,
        begin: AtOnce(slow_bodies),
    },
    Attack { name: "readers that read nothing", most: 200, begin: AtOnce(deaf_readers) },
    Attack { name: "idle connections, after a call each", most: 9_000, begin: InTurn(idle) },
    Attack { name: "HTTP/2 streams, reset at once", most: 4, begin: AtOnce(resets) },
    Attack {
        name: "HTTP/2 heads without an end (CONTINUATION)",
        most: 4,
        begin: AtOnce(continuations),
    },
    Attack { name: "requests of two lengths", most: 4, begin: AtOnce(smugglers) },
    Attack { name: "JSON that nests 500,000 deep", most: 4, begin: AtOnce(bombs) },
];

fn post(body: &[u8]) -> Vec<u8> {
    encode("POST", "/call/echo/x", &[("Content-Type", "application/json")], body)
}

/// Sends the beginning of a request, and then bytes of it.
fn slowly(address: &str, clients: usize, begins: Vec<u8>, attackers: &mut Attackers) {
    for _ in 0..clients {
        let (address, begins) = (address.to_owned(), begins.clone());
        attackers.spawn(async move {
            loop {
                let Ok(mut client) = Connection::try_open(&address).await else { return };
                let mut sent = client.try_send(&begins).await;
                while sent.is_ok() {
                    sleep(SLOW).await;
                    sent = client.try_send(b"1").await;
                }
            }
        });
    }
}

fn slow_heads(address: &str, clients: usize, attackers: &mut Attackers) {
    slowly(address, clients, b"POST /api HTTP/1.1\r\nHost: localhost\r\nX: ".into(), attackers);
}

fn slow_bodies(address: &str, clients: usize, attackers: &mut Attackers) {
    let headers = [("Content-Type", "application/json"), ("Content-Length", "900000")];
    let head = headers.map(|(name, value)| format!("{name}: {value}\r\n")).concat();
    let begins = format!("POST /api HTTP/1.1\r\nHost: localhost\r\n{head}\r\n");
    slowly(address, clients, begins.into_bytes(), attackers);
}

fn deaf_readers(address: &str, clients: usize, attackers: &mut Attackers) {
    for _ in 0..clients {
        let address = address.to_owned();
        attackers.spawn(async move {
            let mut client = Connection::open_small(&address).await;
            let large = encode("POST", "/call/echo/large", &[], b"");
            drop(client.try_send(&large.repeat(20)).await);
            std::future::pending::<()>().await;
        });
    }
}

fn idle<'a>(address: &'a str, clients: usize, attackers: &'a mut Attackers) -> BoxFuture<'a, ()> {
    Box::pin(async move {
        let mut held = Vec::new();
        for _ in 0..clients {
            // Where the system gives no more files, these are they.
            let Ok(mut client) = Connection::try_open(address).await else { break };
            if client.try_send(&post(b"[1]")).await.is_err() || client.receive().await.is_none() {
                break;
            }
            held.push(client);
        }
        attackers.spawn(async move {
            std::future::pending::<()>().await;
            drop(held);
        });
    })
}

/// Over HTTP/2, whatever comes back is read and thrown away; who is hung up on comes again.
fn over_http2(address: &str, clients: usize, attackers: &mut Attackers, turn: fn(u32) -> Vec<u8>) {
    for _ in 0..clients {
        let address = address.to_owned();
        attackers.spawn(async move {
            loop {
                let Ok(stream) = tokio::net::TcpStream::connect(&address).await else { return };
                let (mut read, mut write) = stream.into_split();
                let begin = [PREFACE, &frame(SETTINGS, 0, 0, b"")].concat();
                let mut sent = write.write_all(&begin).await;
                let reading = tokio::spawn(async move {
                    let mut bytes = vec![0; 4096];
                    while read.read(&mut bytes).await.is_ok_and(|count| count > 0) {}
                });
                let mut number = 0;
                while sent.is_ok() {
                    sent = write.write_all(&turn(number)).await;
                    number += 1;
                    sleep(QUICK).await;
                }
                reading.abort();
            }
        });
    }
}

fn resets(address: &str, clients: usize, attackers: &mut Attackers) {
    over_http2(address, clients, attackers, |number| {
        let opened = |nth: u32| {
            let stream = 1 + 2 * (number * 50 + nth);
            [opening(stream, "slow"), frame(RST_STREAM, 0, stream, &[0, 0, 0, 8])].concat()
        };
        (0..50).flat_map(opened).collect()
    });
}

fn continuations(address: &str, clients: usize, attackers: &mut Attackers) {
    over_http2(address, clients, attackers, |number| {
        // A field that is not indexed, of 4,000 bytes.
        let field = [&[0x00, 0x01, b'x', 0x7f, 0xa1, 0x1e][..], &[b'a'; 4_000]].concat();
        let kind = if number == 0 { HEADERS } else { CONTINUATION };
        frame(kind, 0, 1, &field).repeat(if number == 0 { 1 } else { 10 })
    });
}

fn smugglers(address: &str, clients: usize, attackers: &mut Attackers) {
    const SHAPES: [&str; 5] = [
        "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /x HTTP/1.1\r\n\r\n",
        "Content-Length: 4\r\nContent-Length: 5\r\n\r\n[1]  ",
        "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
        "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n",
        "Content-Length: +3\r\n\r\n[1]",
    ];
    for number in 0..clients {
        let address = address.to_owned();
        attackers.spawn(async move {
            for shape in SHAPES.iter().cycle().skip(number) {
                let Ok(mut client) = Connection::try_open(&address).await else { return };
                let request = format!("POST /api HTTP/1.1\r\nHost: localhost\r\n{shape}");
                drop(client.try_send(request.as_bytes()).await);
                // What stands behind it would be another's request, to a server that counts otherwise.
                drop(client.receive().await);
                assert!(client.receive().await.is_none(), "the connection goes on behind {shape}");
                sleep(QUICK).await;
            }
        });
    }
}

fn bombs(address: &str, clients: usize, attackers: &mut Attackers) {
    for _ in 0..clients {
        let address = address.to_owned();
        attackers.spawn(async move {
            let bomb = post(&b"[".repeat(500_000));
            loop {
                let Ok(mut client) = Connection::try_open(&address).await else { return };
                drop(client.try_send(&bomb).await);
                drop(client.receive().await);
                sleep(QUICK).await;
            }
        });
    }
}
