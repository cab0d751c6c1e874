//! Requests of which a part alone has come: when they break off, and when the gateway drains or ends.

use serde_json::json;

use crate::harness::certs::Certs;
use crate::harness::http::{Connection, encode};
use crate::harness::{Echo, Gateway, as_fault, eventually};
use crate::readers::http2;

#[tokio::test]
async fn a_request_that_breaks_off_is_told_so_at_once() {
    let echo = Echo::start().await;
    let whole = encode("POST", "/api", &[], br#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#);
    let mut broken = echo.gateway.connect().await;
    broken.send(&whole[..whole.len() - 5]).await;
    broken.finish().await;
    let answer = broken.receive().await.expect("an answer").json();
    let fault = as_fault(&answer);
    assert!(fault.is("invalid_request", "not_sent").message.contains("broke off"), "{answer}");
    assert_eq!(echo.called(), Vec::<String>::new());
}

/// What has not wholly come when the gateway begins to drain is not begun, and its sender is told so.
#[tokio::test]
async fn half_sent_requests_are_refused_as_soon_as_the_gateway_drains() {
    let limits = "drain_timeout = \"10m\"\n[http]\nread_timeout = \"10m\"\n";
    let echo = Echo::with(limits).await;
    let api = encode("POST", "/api", &[], br#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#);
    let call = encode("POST", "/call/echo/x", &[], b"[1]");
    let mut halves = Vec::new();
    for (whole, length) in [(&api, api.len() - 5), (&call, call.len() - 1), (&api, 30), (&call, 9)]
    {
        let mut half = echo.gateway.connect().await;
        half.send(whole).await;
        assert_eq!(half.receive().await.map(|answer| answer.status), Some(200));
        half.send(&whole[..length]).await;
        halves.push((half, &whole[length..]));
    }
    let called = echo.called().len();
    let mut waiting = echo.gateway.connect().await;
    let later = r#"{"jsonrpc":"2.0","method":"echo.later","params":["p"],"id":1}"#;
    waiting.request("POST", "/api", &[], later.as_bytes()).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    echo.gateway.terminate();
    eventually("no new connections", async || {
        Connection::try_open(&echo.gateway.http).await.is_err().then_some(())
    })
    .await;
    for (half, rest) in &mut halves {
        // Whoever has been told already may hear it by a reset.
        drop(half.try_send(rest).await);
    }
    for (place, (half, _)) in halves.iter_mut().enumerate() {
        let Some(answer) = half.receive().await else { continue };
        assert_eq!(answer.header("connection"), Some("close"), "{place}: {answer:?}");
        let answer = answer.json();
        let told = if place == 0 { &answer["error"]["data"] } else { &answer };
        assert_eq!((&told["kind"], &told["outcome"]), (&json!("unavailable"), &json!("not_sent")));
    }
    assert_eq!(waiting.receive().await.expect("its answer").json()["result"], "p");
    assert_eq!(echo.called().len(), called + 1, "no half was begun");
    assert_eq!(echo.gateway.exit_status().await, 0);
}

/// Where nobody sends the rest, each hears why.
#[tokio::test]
async fn half_sent_requests_are_told_that_the_gateway_ends() {
    let echo = Echo::with("drain_timeout = \"10m\"\n[http]\nread_timeout = \"10m\"\n").await;
    let whole = encode("POST", "/call/echo/x", &[], b"[1]");
    let mut halves = Vec::new();
    for length in [1, 9, 30, whole.len() - 1] {
        for asked_before in [false, true] {
            let mut half = echo.gateway.connect().await;
            if asked_before {
                half.send(&whole).await;
                assert!(half.receive().await.is_some());
            }
            half.send(&whole[..length]).await;
            halves.push((length, half));
        }
    }
    let read = "genkan_calls_total";
    echo.gateway.wait_for_metric(read, &[("outcome", "ok")], 4.0).await;
    echo.gateway.terminate();
    for (length, half) in &mut halves {
        let answer = half.receive().await.unwrap_or_else(|| panic!("no answer at {length}"));
        assert_eq!((answer.status, answer.header("connection")), (503, Some("close")), "{length}");
        assert_eq!(answer.json()["outcome"], "not_sent", "{length}");
    }
    assert_eq!(echo.gateway.exit_status().await, 0);
}

/// A client that has connected and says nothing, where TLS would come first.
#[tokio::test]
async fn half_a_handshake_holds_no_shutdown_up() {
    let certs = Certs::new();
    let toml = format!(
        "drain_timeout = \"10m\"\n[http]\nread_timeout = \"10m\"\n[http.tls]\n\
         cert_file = \"{}\"\nkey_file = \"{}\"\n",
        certs.path("server.pem"),
        certs.path("server.key")
    );
    let gateway = Gateway::start(&toml).await;
    let mut silent = gateway.connect().await;
    let mut half = gateway.connect().await;
    half.send(b"\x16\x03\x01\x02\x00").await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    assert!(silent.receive().await.is_none() && half.receive().await.is_none());
}

#[tokio::test]
async fn half_sent_requests_hold_no_shutdown_up() {
    let limits = "drain_timeout = \"10m\"\n[http]\nread_timeout = \"10m\"\n";
    let echo = Echo::with(limits).await;
    let whole = encode("POST", "/api", &[], br#"{"jsonrpc":"2.0","method":"echo.x","id":1}"#);
    let mut held = Vec::new();
    for length in [0, 1, 20, whole.len() - 5] {
        let mut half = echo.gateway.connect().await;
        // After an answer too.
        half.send(&whole).await;
        assert!(half.receive().await.is_some());
        half.send(&whole[..length]).await;
        held.push(half);
    }
    let mut waiting = echo.gateway.connect().await;
    let later = r#"{"jsonrpc":"2.0","method":"echo.later","params":["p"],"id":1}"#;
    waiting.request("POST", "/api", &[], later.as_bytes()).await;
    let (_idle, _ended) = http2(&echo.gateway).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    echo.gateway.terminate();
    assert_eq!(waiting.receive().await.expect("its answer").json()["result"], "p");
    assert_eq!(echo.gateway.exit_status().await, 0);
}
