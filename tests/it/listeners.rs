//! What a reload changes of the ingresses and of the pages for operators: limits hold for the
//! connections that are open, listeners come and go without a call being cut, and what cannot be
//! bound changes nothing. And half-open peers are noticed.

use std::net::TcpListener;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::http::{self, Connection, encode};
use crate::harness::{Echo, Gateway, eventually};
use crate::hub::{self, Peer};

const ECHO: &str = "[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n";
const SOON: Duration = Duration::from_secs(5);

fn body(method: &str, param: &str) -> Vec<u8> {
    let call = json!({"jsonrpc": "2.0", "method": method, "params": [param], "id": 1});
    call.to_string().into_bytes()
}

fn call(method: &str, param: &str) -> Vec<u8> {
    encode("POST", "/api", &[], &body(method, param))
}

/// `127.0.0.1:PORT` that nobody listens on.
fn free_address() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("an address").to_string()
}

async fn reload(echo: &Echo, tables: &str) {
    let seen = echo.gateway.log().len();
    let upstream = echo.nats.upstream("nats", "picom");
    echo.gateway.write_config(&format!("{tables}\n{upstream}{ECHO}"));
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(seen, "reloaded").await;
}

async fn refuses(address: &str) {
    eventually("the old address is closed", async || {
        tokio::net::TcpStream::connect(address).await.is_err().then_some(())
    })
    .await;
}

#[tokio::test]
async fn limits_and_cors_of_http_change_for_connections_that_are_open() {
    let echo = Echo::start().await;
    let mut open = echo.gateway.connect().await;
    let large = call("echo.x", &"x".repeat(5_000));
    open.send(&large).await;
    assert_eq!(open.receive().await.expect("an answer").status, 200);
    let cors = "[http.cors]\norigins = \"https://app.example\"";
    reload(&echo, &format!("[http]\nmax_body = 4096\n{cors}")).await;
    open.request("POST", "/api", &[("Origin", "https://app.example")], &body("echo.x", "p")).await;
    let answer = open.receive().await.expect("an answer");
    assert_eq!(answer.json()["result"], "p");
    assert_eq!(answer.header("access-control-allow-origin"), Some("https://app.example"));
    open.send(&large).await;
    let refused = open.receive().await.expect("an answer").json();
    assert_eq!(refused["error"]["data"]["kind"], "too_large", "{refused}");
}

#[tokio::test]
async fn how_many_may_connect_changes() {
    let echo = Echo::with("[http]\nmax_connections = 1").await;
    let mut first = echo.gateway.connect().await;
    first.send(&call("echo.x", "first")).await;
    assert_eq!(first.receive().await.expect("an answer").json()["result"], "first");
    let mut second = echo.gateway.connect().await;
    second.send(&call("echo.x", "second")).await;
    reload(&echo, "[http]\nmax_connections = 2").await;
    assert_eq!(second.receive().await.expect("an answer").json()["result"], "second");
}

#[tokio::test]
async fn http_moves_to_another_address_and_no_call_is_cut() {
    let echo = Echo::start().await;
    let new = free_address();
    let mut waiting = echo.gateway.connect().await;
    waiting.send(&call("echo.later", "kept")).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    let mut idle = echo.gateway.connect().await;
    idle.send(&call("echo.x", "p")).await;
    assert_eq!(idle.receive().await.expect("an answer").status, 200);
    reload(&echo, &format!("[http]\nlisten = \"{new}\"")).await;
    let moved = http::send(&new, "POST", "/api", &[], &body("echo.x", "moved")).await;
    assert_eq!(moved.json()["result"], "moved");
    refuses(&echo.gateway.http).await;
    assert!(idle.is_closed_within(SOON).await, "who came by the old address is sent away");
    assert_eq!(waiting.receive().await.expect("an answer").json()["result"], "kept");
    assert!(waiting.is_closed_within(SOON).await, "after its answer");
    let listening = echo.gateway.logged("listening");
    assert!(listening.iter().any(|line| line["address"] == new.as_str()), "{listening:?}");
}

#[tokio::test]
async fn calls_go_on_while_the_listener_moves_to_and_fro() {
    let echo = Echo::start().await;
    let places = [echo.gateway.http.clone(), free_address()];
    let calls = async {
        let mut served = [0, 0];
        while served != [20, 20] {
            for (index, place) in places.iter().enumerate() {
                // Whoever is let in gets an answer.
                let Ok(mut connection) = Connection::try_open(place).await else { continue };
                if connection.try_send(&call("echo.x", "p")).await.is_ok() {
                    let answer = connection.receive().await.expect("an answer");
                    assert_eq!(answer.json()["result"], "p");
                    served[index] = 20.min(served[index] + 1);
                }
            }
        }
    };
    let reloads = async {
        loop {
            for place in &places {
                reload(&echo, &format!("[http]\nlisten = \"{place}\"")).await;
            }
        }
    };
    tokio::select! {
        () = calls => {}
        () = reloads => {}
    }
}

#[tokio::test]
async fn an_address_that_is_taken_refuses_the_reload_whole() {
    let echo = Echo::start().await;
    let holder = TcpListener::bind("127.0.0.1:0").expect("a port");
    let taken = holder.local_addr().expect("an address");
    let (upstream, free) = (echo.nats.upstream("nats", "picom"), free_address());
    let renamed = "[[routes]]\nmatch = \"renamed.*\"\nupstream = \"nats\"\nservice = \"echo\"\n";
    let tables = [
        (format!("[http]\nlisten = \"{taken}\"\n"), "[http] listen"),
        (
            format!("[http]\nlisten = \"{free}\"\n[hub]\nlisten = \"tcp://{taken}\"\n"),
            "[hub] listen",
        ),
        (format!("[http]\nlisten = \"{free}\"\n[admin]\nlisten = \"{taken}\"\n"), "[admin] listen"),
    ];
    for (table, key) in tables {
        let seen = echo.gateway.log().len();
        echo.gateway.write_config(&format!("{table}{upstream}{renamed}"));
        echo.gateway.hang_up();
        let refused = echo.gateway.wait_for_log(seen, "reload refused").await;
        assert_eq!(refused["level"], "ERROR");
        let problem = refused["problem"].as_str().unwrap_or_default();
        assert!(problem.contains(key) && problem.contains(&taken.to_string()), "{refused}");
        assert_eq!(echo.gateway.result("echo.x", json!(["old"])).await, "old");
        echo.gateway.fault("renamed.x", Value::Null).await.is("unknown_service", "not_sent");
        assert!(!echo.gateway.log_text().contains(&free), "nothing listens there");
    }
    drop(holder);
    reload(&echo, &format!("[http]\nlisten = \"{taken}\"")).await;
    let moved = http::send(&taken.to_string(), "POST", "/api", &[], &body("echo.x", "free")).await;
    assert_eq!(moved.json()["result"], "free");
}

#[tokio::test]
async fn the_hubs_sockets_come_and_go_and_its_modules_stay() {
    let gateway = Gateway::start(hub::HUB).await;
    let old = hub::address(&gateway).await;
    let mut module = Peer::module(&gateway, "math", &["add"]).await;
    let new = free_address();
    let seen = gateway.log().len();
    gateway.write_config(&format!(
        "[hub]\nlisten = [\"tcp://{new}\"]\nmax_functions = 1\nmax_line = 4096\n"
    ));
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    refuses(&old).await;
    assert_eq!(
        gateway.page("/hub/modules").await.json()["listen"],
        json!([format!("tcp://{new}")])
    );
    let mut caller = Peer::tcp(&new).await;
    assert_eq!(caller.register("caller", "1.0.0", json!({})).await["type"], 2);
    caller.receive().await;
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = module.receive().await;
    module.answer(&call, json!(3)).await;
    assert_eq!(caller.receive().await["data"], 3);
    // Limits hold for who was there before.
    let refused = module.ask(json!({"type": 9, "function": "second"})).await;
    assert_eq!(refused["type"], 0, "{refused}");
    let refused = module.ask(json!({"type": 9, "function": "x".repeat(5_000)})).await;
    assert!(refused.to_string().contains("max_line"), "{refused}");
}

#[tokio::test]
async fn the_pages_for_operators_move() {
    let gateway = Gateway::start("").await;
    let new = free_address();
    let seen = gateway.log().len();
    gateway.write_config(&format!("[admin]\nlisten = \"{new}\"\n"));
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    assert_eq!(http::send(&new, "GET", "/healthz", &[], b"").await.text(), "ok\n");
    refuses(&gateway.admin).await;
}

/// The system asks whether a peer that says nothing is still there.
#[tokio::test]
async fn every_listeners_connections_are_kept_alive() {
    let gateway = Gateway::start(hub::HUB).await;
    let hub = hub::address(&gateway).await;
    for address in [&gateway.http, &gateway.admin, &hub] {
        let stream = tokio::net::TcpStream::connect(address).await.expect("it listens");
        let peer = stream.local_addr().expect("an address").port();
        let port = stream.peer_addr().expect("an address").port();
        eventually(&format!("keep-alive on {address}"), async || {
            keep_alive(port, peer).filter(|wait| *wait <= Duration::from_secs(15))
        })
        .await;
    }
}

/// How long until the system asks, by its own table: timer 2 is keep-alive's.
fn keep_alive(local: u16, remote: u16) -> Option<Duration> {
    let table = std::fs::read_to_string("/proc/net/tcp").expect("Linux");
    let line = table.lines().find(|line| {
        let mut ports = line.split_whitespace().skip(1).map(|end| end.rsplit(':').next());
        ports.next() == Some(Some(&format!("{local:04X}")))
            && ports.next() == Some(Some(&format!("{remote:04X}")))
    })?;
    let (timer, hundredths) = line.split_whitespace().nth(5)?.split_once(':')?;
    let hundredths = u64::from_str_radix(hundredths, 16).ok()?;
    (timer == "02").then(|| Duration::from_millis(hundredths * 10))
}
