//! Clients over HTTP/2 that open streams and reset them at once, by the thousand.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::harness::{Echo, Gateway, eventually};

const PATIENCE: Duration = Duration::from_secs(90);
pub const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
const GOAWAY: u8 = 7;
const END_STREAM_AND_HEADERS: u8 = 5;
const CANCEL: [u8; 4] = [0, 0, 0, 8];
const ENHANCE_YOUR_CALM: u32 = 11;

pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("small").to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// `POST /call/echo/METHOD`, without a body and without compression.
pub fn opening(stream: u32, method: &str) -> Vec<u8> {
    asking(stream, &format!("/call/echo/{method}"))
}

/// The same of another path.
pub fn asking(stream: u32, path: &str) -> Vec<u8> {
    let literal = |index: u8, text: &str| {
        [&[index, u8::try_from(text.len()).expect("small")][..], text.as_bytes()].concat()
    };
    // `:method POST` and `:scheme http` by their index; `:path` and `:authority` by their names'.
    let (path, authority) = (literal(0x04, path), literal(0x01, "localhost"));
    let block = [&[0x83, 0x86][..], &path, &authority].concat();
    frame(HEADERS, END_STREAM_AND_HEADERS, stream, &block)
}

pub async fn connect(gateway: &Gateway) -> TcpStream {
    let mut stream = TcpStream::connect(&gateway.http).await.expect("it accepts");
    stream.write_all(&[PREFACE, &frame(SETTINGS, 0, 0, b"")].concat()).await.expect("open");
    stream
}

/// Reads frames to the connection's end: the error code of the last `GOAWAY`.
async fn goodbye(mut stream: impl AsyncReadExt + Unpin) -> Option<u32> {
    let mut said = None;
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if stream.read_exact(&mut payload).await.is_err() {
            break;
        }
        if head[3] == GOAWAY {
            said = Some(u32::from_be_bytes([payload[4], payload[5], payload[6], payload[7]]));
        }
    }
    said
}

/// Reads frames to the first `GOAWAY`; false where the connection ends without.
pub async fn is_told_to_go(stream: &mut TcpStream) -> bool {
    let mut head = [0; 9];
    while stream.read_exact(&mut head).await.is_ok() {
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        if head[3] == GOAWAY || stream.read_exact(&mut payload).await.is_err() {
            return head[3] == GOAWAY;
        }
    }
    false
}

/// Calls by others, for as long as something else takes: how many were answered.
async fn beside<T>(gateway: &Gateway, something: impl Future<Output = T>) -> (T, usize) {
    let served = Arc::<AtomicUsize>::default();
    let calling = async {
        loop {
            assert_eq!(gateway.result("echo.x", json!(["p"])).await, "p");
            served.fetch_add(1, Ordering::Relaxed);
        }
    };
    let done = tokio::select! {
        done = something => done,
        () = calling => unreachable!(),
    };
    (done, served.load(Ordering::Relaxed))
}

#[tokio::test]
async fn a_flood_of_resets_ends_its_connection_and_no_call_of_others() {
    const STREAMS: u32 = 10_000;
    let echo = Echo::start().await;
    let attack = async {
        let (read, mut write) = connect(&echo.gateway).await.into_split();
        let flood = async {
            for n in 0..STREAMS {
                let stream = 2 * n + 1;
                let pair = [opening(stream, "never"), frame(RST_STREAM, 0, stream, &CANCEL)];
                if write.write_all(&pair.concat()).await.is_err() {
                    return n;
                }
            }
            STREAMS
        };
        let ended = tokio::time::timeout(PATIENCE, goodbye(read));
        let (said, _) = tokio::join!(ended, flood);
        said.expect("the connection has ended")
    };
    let (said, _) = beside(&echo.gateway, attack).await;
    // A connection that is cut has no last word where the client still writes.
    assert!(matches!(said, None | Some(ENHANCE_YOUR_CALM)), "{said:?}");
    let ran = echo.called().iter().filter(|method| *method == "never").count();
    println!("GOAWAY {said:?}; of {STREAMS} calls {ran} were sent");
    assert!(ran < 1_000, "{ran} of {STREAMS} were executed");
    eventually("none is under way", async || {
        (echo.gateway.metric("genkan_calls_in_flight", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(echo.gateway.result("echo.x", json!(["p"])).await, "p");
}

#[tokio::test]
async fn calls_that_are_reset_one_by_one_are_cancelled_and_cost_others_nothing() {
    const STREAMS: usize = 500;
    let echo = Echo::start().await;
    let called = || echo.called().iter().filter(|method| *method == "never").count();
    let attack = async {
        let mut stream = connect(&echo.gateway).await;
        for n in 0..STREAMS {
            let id = u32::try_from(2 * n + 1).expect("small");
            stream.write_all(&opening(id, "never")).await.expect("it is served");
            eventually("the call has begun", async || (called() > n).then_some(())).await;
            let reset = frame(RST_STREAM, 0, id, &CANCEL);
            stream.write_all(&reset).await.expect("it is served");
        }
        stream
    };
    let (_stream, served) = beside(&echo.gateway, attack).await;
    assert!(served > 0);
    eventually("all are cancelled", async || {
        let cancelled = [("outcome", "cancelled")];
        let count = echo.gateway.metric("genkan_calls_total", &cancelled).await;
        (count >= STREAMS as f64).then_some(())
    })
    .await;
    eventually("none is under way", async || {
        (echo.gateway.metric("genkan_calls_in_flight", &[]).await == 0.0).then_some(())
    })
    .await;
}
