//! SIGTERM: no new calls, the ones in flight get their answers, or a fault at `drain_timeout`;
//! exit 0.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::process::PATIENCE;
use crate::harness::{Asked, Echo, Gateway, NamekoVersion, Shop, Web, as_fault, eventually};
use crate::hub::{HUB, Peer};

const LATER: &str = r#"{"jsonrpc":"2.0","method":"echo.later","params":["kept"],"id":1}"#;
const NEVER: &str = r#"{"jsonrpc":"2.0","method":"echo.never","params":["p"],"id":1}"#;

async fn wait_for_in_flight(echo: &Echo, calls: f64) {
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], calls).await;
}

#[tokio::test]
async fn calls_in_flight_get_their_answers_and_no_new_ones_are_taken() {
    let echo = Echo::start().await;
    let mut waiting = echo.gateway.connect().await;
    let mut idle = echo.gateway.connect().await;
    idle.request("POST", "/call/echo/x", &[], b"[1]").await;
    assert!(idle.receive().await.is_some());
    waiting.request("POST", "/api", &[], LATER.as_bytes()).await;
    wait_for_in_flight(&echo, 1.0).await;
    echo.gateway.terminate();
    echo.gateway.wait_for_log(0, "draining").await;
    assert!(idle.is_closed_within(Duration::from_secs(3)).await, "an idle connection ends");
    eventually("no new connections", async || {
        let refused = tokio::net::TcpStream::connect(&echo.gateway.http).await.is_err();
        refused.then_some(())
    })
    .await;
    let answer = waiting.receive().await.expect("the answer").json();
    assert_eq!(answer["result"], "kept");
    assert_eq!(echo.gateway.exit_status().await, 0);
    echo.gateway.wait_for_log(0, "stopped").await;
}

#[tokio::test]
async fn signals_that_mean_nothing_end_nothing() {
    let echo = Echo::start().await;
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/api", &[], LATER.as_bytes()).await;
    wait_for_in_flight(&echo, 1.0).await;
    for signal in ["USR1", "USR2"] {
        let seen = echo.gateway.lines_logged();
        echo.gateway.signal(signal);
        let told = echo.gateway.wait_for_log(seen, "a signal that means nothing here").await;
        assert_eq!(told["signal"], format!("SIG{signal}"));
    }
    let answer = waiting.receive().await.expect("the answer").json();
    assert_eq!(answer["result"], "kept");
    echo.gateway.terminate();
    assert_eq!(echo.gateway.exit_status().await, 0);
}

/// It lies in the system's buffers when the signal comes: whoever has sent it cannot know.
#[tokio::test]
async fn what_was_sent_before_on_open_connections_is_answered() {
    let echo = Echo::start().await;
    let mut open = Vec::new();
    for _ in 0..30 {
        let mut connection = echo.gateway.connect().await;
        connection.request("POST", "/call/echo/x", &[], b"[1]").await;
        assert!(connection.receive().await.is_some());
        open.push(connection);
    }
    echo.gateway.freeze(true);
    for connection in &mut open {
        connection.request("POST", "/call/echo/x", &[], b"[\"sent\"]").await;
    }
    echo.gateway.terminate();
    echo.gateway.freeze(false);
    for connection in &mut open {
        let answer = connection.receive().await.expect("an answer, not a hang-up");
        assert_eq!((answer.status, answer.text()), (200, "\"sent\""));
    }
    assert_eq!(echo.gateway.exit_status().await, 0);
}

#[tokio::test]
async fn who_is_owed_an_answer_gets_it_whatever_it_takes() {
    let shop = Shop::shared(NamekoVersion::Three);
    let gateway = Gateway::ready(&format!("{}{HUB}", shop.config())).await;
    let mut desk = Peer::module(&gateway, "desk", &["order"]).await;
    let mut till = Peer::module(&gateway, "till", &["sum"]).await;
    let mut idler = Peer::module(&gateway, "idler", &[]).await;
    let mut customer = gateway.connect().await;
    customer.request("POST", "/call/desk/order", &[], b"{}").await;
    let order = desk.receive().await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining").await;
    let until_refused = async {
        loop {
            let answer = idler.call("shop.add", json!({"a": 1, "b": 1})).await;
            if answer["type"] == 0 {
                return answer;
            }
        }
    };
    let refused = tokio::time::timeout(PATIENCE, until_refused).await.expect("it is refused");
    assert_eq!(refused["data"]["kind"], "unavailable", "{refused}");
    // To another module, which itself calls Nameko; then to Nameko.
    let asked = desk.request(json!({"type": 3, "function": "till.sum"})).await;
    let sum = till.receive().await;
    assert_eq!(till.call("shop.add", json!({"a": 1, "b": 2})).await["data"], 3);
    till.answer(&sum, json!(3)).await;
    assert_eq!(desk.receive().await, json!({"requestId": asked, "type": 4, "data": 3}));
    assert_eq!(desk.call("shop.add", json!({"a": 3, "b": 4})).await["data"], 7);
    desk.answer(&order, json!("served")).await;
    let served = customer.receive().await.expect("an answer");
    assert_eq!((served.status, served.text()), (200, "\"served\""));
    assert_eq!(gateway.exit_status().await, 0);
}

/// A service over HTTP calls by connections that nobody knows for its.
#[tokio::test(flavor = "multi_thread")]
async fn a_service_over_http_gets_what_its_answer_needs_by_a_new_connection() {
    let (go, waits) = mpsc::channel::<String>();
    let waits = Mutex::new(waits);
    let service = Web::serve(move |asked: &Asked| match asked.method().as_str() {
        "order" => tokio::task::block_in_place(|| {
            let gateway = waits.lock().unwrap().recv_timeout(PATIENCE).unwrap();
            let mut stream = TcpStream::connect(gateway).unwrap();
            let head = "POST /call/web/price HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n";
            write!(stream, "{head}Content-Length: 2\r\n\r\n[]").unwrap();
            let mut answer = String::new();
            stream.read_to_string(&mut answer).unwrap();
            asked.result(answer.rsplit("\r\n").next().unwrap())
        }),
        _ => asked.result("7"),
    })
    .await;
    let url = &service.url;
    let web = format!(
        "drain_timeout = \"1m\"\n[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{url}\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n"
    );
    let gateway = Gateway::ready(&web).await;
    let mut customer = gateway.connect().await;
    customer.request("POST", "/call/web/order", &[], b"[]").await;
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "web")], 1.0).await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining").await;
    go.send(gateway.http.to_string()).unwrap();
    let answer = customer.receive().await.expect("an answer");
    assert_eq!((answer.status, answer.text()), (200, "7"));
    assert_eq!(gateway.exit_status().await, 0);
}

#[tokio::test]
async fn readyz_says_no_while_it_drains_and_healthz_yes() {
    let echo = Echo::start().await;
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/api", &[], LATER.as_bytes()).await;
    wait_for_in_flight(&echo, 1.0).await;
    echo.gateway.terminate();
    assert!(echo.gateway.wait_until_not_ready().await.contains("draining"));
    assert_eq!(echo.gateway.page("/healthz").await.status, 200);
    assert!(waiting.receive().await.is_some());
    assert_eq!(echo.gateway.exit_status().await, 0);
}

#[tokio::test]
async fn at_drain_timeout_what_still_waits_gets_a_fault() {
    let echo = Echo::with("drain_timeout = \"500ms\"").await;
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/api", &[], NEVER.as_bytes()).await;
    wait_for_in_flight(&echo, 1.0).await;
    echo.gateway.terminate();
    let answer = waiting.receive().await.expect("an answer, not a hang-up").json();
    let fault = as_fault(&answer);
    assert_eq!(fault.is("unavailable", "unknown").code, -32004);
    assert_eq!(echo.gateway.exit_status().await, 0);
}

#[tokio::test]
async fn notifications_in_flight_are_delivered_first() {
    let echo = Echo::start().await;
    // More than the sockets on the way hold: without a drain, most of it would never leave.
    let large = "x".repeat(900_000);
    echo.nats.freeze(true);
    for n in 0..20 {
        echo.gateway.notify("echo.note", serde_json::json!({"n": n, "text": large})).await;
    }
    wait_for_in_flight(&echo, 20.0).await;
    echo.gateway.terminate();
    echo.gateway.wait_for_log(0, "draining").await;
    echo.nats.freeze(false);
    assert_eq!(echo.gateway.exit_status().await, 0);
    eventually("all have come", async || (echo.service.requests.count() == 20).then_some(())).await;
}

#[tokio::test]
async fn a_second_signal_ends_the_patience() {
    let echo = Echo::with("drain_timeout = \"1m\"").await;
    let mut waiting = echo.gateway.connect().await;
    waiting.request("POST", "/api", &[], NEVER.as_bytes()).await;
    wait_for_in_flight(&echo, 1.0).await;
    echo.gateway.terminate();
    echo.gateway.wait_for_log(0, "draining").await;
    echo.gateway.terminate();
    let answer: Value = waiting.receive().await.expect("an answer").json();
    as_fault(&answer).is("unavailable", "unknown");
    echo.gateway.exit_status().await;
}

#[tokio::test]
async fn what_is_to_be_looked_after_is_while_it_drains() {
    let row = "[[routes]]\nmatch = \"desk.*\"\nupstream = \"hub\"\ntimeout = \"1m\"\n";
    let gateway = Gateway::ready(&format!("drain_timeout = \"1m\"\n{HUB}{row}")).await;
    let mut desk = Peer::module(&gateway, "desk", &["a"]).await;
    let mut held = gateway.connect().await;
    held.request("POST", "/call/desk/a", &[], b"{}").await;
    let call = desk.receive().await;
    let one = r#"{"jsonrpc":"2.0","method":"nobody.x","id":1}"#;
    gateway.api(&format!("[{}]", vec![one; 100].join(","))).await;
    gateway.terminate();
    gateway.wait_for_log(0, "draining").await;
    gateway.wait_for_log(0, "more faults of the same kind").await;
    assert!(gateway.logged("stopped").is_empty());
    desk.answer(&call, json!("a")).await;
    assert_eq!(held.receive().await.expect("an answer").text(), "\"a\"");
    assert_eq!(gateway.exit_status().await, 0);
}
