//! Whoever speaks to the hub and is no module: web pages first of all (a browser sends a POST of
//! plain text to any port of this machine without asking).

use serde_json::json;

use super::{HUB, Peer, address, error};
use crate::harness::Gateway;
use crate::harness::clients::node;

/// That many connections were ended because they did not begin with a frame.
async fn strangers(gateway: &Gateway, count: f64) {
    let ended = [("reason", "no_module")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, count).await;
}

#[tokio::test]
async fn a_web_page_neither_registers_nor_calls() {
    let gateway = Gateway::start(HUB).await;
    let mut shop = Peer::module(&gateway, "shop", &["buy"]).await;
    let at = address(&gateway).await;
    let out = node("web_page.js", &[&format!("http://{at}/")]).await;
    assert!(out["failed"].is_string(), "no module's frame is an answer: {out}");
    strangers(&gateway, 1.0).await;
    gateway.wait_for_modules(1).await;
    assert_eq!(gateway.logged("module registered").len(), 1);
    shop.is_silent().await;
    let line = gateway.wait_for_log(0, "disconnected: no module speaks there").await;
    assert_eq!((&line["level"], &line["spoke"]), (&json!("WARN"), &json!("HTTP")), "{line}");
}

/// Whatever a client begins with that is no frame, it is told so and ended, and not read further.
#[tokio::test]
async fn a_connection_that_does_not_begin_with_frames_ends() {
    let gateway = Gateway::start(HUB).await;
    let frames = "{\"type\":1,\"requestId\":\"1\",\"moduleId\":\"evil\",\"version\":\"1.0.0\"}\n";
    let beginnings: [(&[u8], &str); 17] = [
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", "HTTP"),
        (b"GET / HTTP/1.1\r\n\r\n", "HTTP"),
        (b"OPTIONS /", "HTTP"),
        (b"PUT ", "HTTP"),
        // Its first bytes are enough.
        (b"P", "HTTP"),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", "HTTP"),
        (b"\x16\x03\x01\x02\x00\x01", "TLS"),
        (b"\x00\x01\x00\x00", "something else"),
        (b"hello\n", "something else"),
        (b"{\"type\":1,}\n", "something else"),
        // JSON, and no frame.
        (b"[1]\n", "something else"),
        (b"5\n", "something else"),
        (b"-", "something else"),
        (b"\"text\"\n", "something else"),
        (b"null\n", "something else"),
        (b"\n", "something else"),
        (b" \r\n", "something else"),
    ];
    let mut count = 0.0;
    for (beginning, spoke) in beginnings {
        let shown = String::from_utf8_lossy(beginning);
        // The frames behind it, in the same bytes, are nobody's.
        let with_frames = [beginning, b"\n", frames.as_bytes()].concat();
        for bytes in [beginning, &with_frames] {
            let mut peer = Peer::connect(&gateway).await;
            peer.write(bytes).await;
            let told = peer.receive().await;
            assert_eq!((error(&told), &told["requestId"]), (0, &json!("undefined")), "{shown}");
            assert_eq!(told["data"]["kind"], "parse_error", "{shown}");
            assert!(told["message"].as_str().unwrap().contains(spoke), "{shown}: {told}");
            assert_eq!(peer.next().await, None, "{shown}");
            count += 1.0;
            strangers(&gateway, count).await;
        }
    }
    gateway.wait_for_modules(0).await;
    // A flood of them is summed up.
    let log = gateway.log_text();
    let lines = log.lines().filter(|line| line.contains("no module speaks there")).count();
    assert!(lines > 0 && lines < 20, "{lines} lines");
}

/// WIRE 3.3: what a module sends that is no JSON is ignored.
#[tokio::test]
async fn a_module_may_send_nonsense() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::connect(&gateway).await;
    let register = json!({"type": 1, "requestId": "r", "moduleId": "m", "version": "1.0.0"});
    m.write(format!("{register}\n\r\n\n  \nnonsense\nPOST / HTTP/1.1\r\n\r\n")).await;
    assert_eq!(m.receive().await["type"], 2);
    assert_eq!(m.receive().await["hook"], "juno.activated");
    m.is_served().await;
    // One that waits for another module is a module too.
    let mut waits = Peer::connect(&gateway).await;
    assert_eq!(waits.register("waits", "1.0.0", json!({"none": "*"})).await["type"], 2);
    waits.write("nonsense\n").await;
    waits.is_served().await;
    // What is JSON and no frame is answered, as the daemon does.
    m.write("[1]\n").await;
    assert_eq!(error(&m.receive().await), 2);
    m.is_served().await;
    // Blanks in pieces are a line too, in the end.
    let mut nobody = Peer::connect(&gateway).await;
    nobody.write(" ").await;
    nobody.write("\r\n").await;
    assert_eq!(error(&nobody.receive().await), 0);
    assert_eq!(nobody.next().await, None);
    strangers(&gateway, 1.0).await;
}

#[tokio::test]
async fn a_unix_socket_takes_no_strangers_either() {
    let folder = crate::harness::process::Folder::new();
    let path = folder.path().join("hub.sock");
    let listen = format!("[hub]\nlisten = [\"unix://{}\"]\n", path.display());
    let gateway = Gateway::start(&listen).await;
    let mut peer = Peer::unix(&path).await;
    peer.write("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n").await;
    assert_eq!(error(&peer.receive().await), 0);
    assert_eq!(peer.next().await, None);
    strangers(&gateway, 1.0).await;
}
