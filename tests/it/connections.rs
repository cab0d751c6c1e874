//! What else is on a connection holds no answer back: requests that follow at once, half of one,
//! and bytes that are no request.

use std::process::Command;
use std::time::Duration;

use serde_json::json;

use crate::harness::http::encode;
use crate::harness::process::Folder;
use crate::harness::{Echo, Gateway, as_fault, eventually};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;

fn call(method: &str, param: &str) -> Vec<u8> {
    let body = json!({"jsonrpc": "2.0", "method": method, "params": [param], "id": 1});
    encode("POST", "/api", &[], body.to_string().as_bytes())
}

#[tokio::test]
async fn an_answer_does_not_wait_for_the_rest_of_the_next_request() {
    let echo = Echo::start().await;
    let next = call("echo.x", "next");
    let mut connection = echo.gateway.connect().await;
    connection.send(&[call("echo.x", "first"), next[..20].to_vec()].concat()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "first");
    connection.send(&next[20..]).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "next");
    // Some clients end a body with a line break that they do not count.
    connection.send(&[call("echo.x", "broken line"), b"\r\n".to_vec()].concat()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "broken line");
    connection.send(&next).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "next");
}

/// Where connections take all files that a process may open, nothing else is answered.
#[tokio::test]
async fn idle_connections_leave_files_for_everything_else() {
    let folder = Folder::new();
    let toml =
        "[http]\nlisten = \"127.0.0.1:0\"\n[admin]\nlisten = \"127.0.0.1:0\"\n[hub]\nlisten = []\n";
    let config = folder.write("genkan.toml", toml);
    let mut command = Command::new("sh");
    command
        .args(["-c", "ulimit -Sn 150; ulimit -Hn 300; exec \"$0\" serve --config \"$1\""])
        .arg(env!("CARGO_BIN_EXE_genkan"))
        .arg(config);
    let gateway = Gateway::spawn(&command, folder).await;
    let told = gateway.wait_for_log(0, "the process may not have so many files open").await;
    assert_eq!((&told["max_connections"], &told["held_to"]), (&json!(10_000), &json!(172)));
    let mut idle = Vec::new();
    for _ in 0..400 {
        idle.push(tokio::net::TcpStream::connect(&gateway.http).await.expect("it is connected"));
    }
    let open = format!("/proc/{}/fd", gateway.pid());
    eventually("as many are taken as may be", async || {
        (std::fs::read_dir(&open).expect("it runs").count() > 172).then_some(())
    })
    .await;
    assert_eq!(gateway.page("/healthz").await.status, 200);
    drop(idle);
    let answer = gateway.api(CALL).await;
    assert_eq!(as_fault(&answer).data["kind"], "unknown_service");
    assert!(
        gateway.logged("cannot accept connections; trying again").is_empty(),
        "{}",
        gateway.log_text()
    );
}

#[tokio::test]
async fn a_fast_answer_does_not_wait_for_a_slow_one_behind_it() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    let calls = [call("echo.x", "fast"), call("echo.later", "slow"), call("echo.x", "last")];
    connection.send(&calls.concat()).await;
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "fast");
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    for expected in ["slow", "last"] {
        assert_eq!(connection.receive().await.expect("an answer").json()["result"], expected);
    }
}

#[tokio::test]
async fn a_client_that_leaves_ends_its_call_and_asks_nothing_behind_it() {
    let echo = Echo::start().await;
    let (of, gone) = ([("upstream", "nats")], [("outcome", "cancelled")]);
    let behind = [Vec::new(), call("echo.x", "behind it"), b"POST /api HTTP/1.1".to_vec()];
    for (behind, before) in behind.into_iter().zip(0_u8..) {
        let mut connection = echo.gateway.connect().await;
        connection.send(&[call("echo.never", "first"), behind].concat()).await;
        echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 1.0).await;
        drop(connection);
        echo.gateway.wait_for_metric("genkan_calls_total", &gone, f64::from(before + 1)).await;
    }
    assert_eq!(echo.called(), ["never"; 3]);
}

#[tokio::test]
async fn what_is_asked_while_a_call_runs_is_answered_behind_it() {
    let echo = Echo::start().await;
    let mut connection = echo.gateway.connect().await;
    connection.send(&call("echo.slow", "slow")).await;
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    let next = call("echo.x", &"next".repeat(100));
    for part in next.chunks(50) {
        connection.send(part).await;
    }
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "slow");
    assert_eq!(connection.receive().await.expect("an answer").json()["result"], "next".repeat(100));
}

#[tokio::test]
async fn a_broken_request_gets_its_answer_before_the_connection_ends() {
    let echo = Echo::start().await;
    // Characters were counted where bytes had to be: the body breaks off, and its rest is no head.
    let short = encode("POST", "/api", &[("Content-Length", "20")], CALL.as_bytes());
    let mut connection = echo.gateway.connect().await;
    connection.send(&short).await;
    let answer = connection.receive().await.expect("an answer").json();
    assert_eq!(answer["error"]["data"]["kind"], "parse_error", "{answer}");
    let many = "X-A: b\r\n".repeat(200);
    let broken: [(&str, Vec<u8>); 4] = [
        ("no HTTP", b"GARBAGE\r\n\r\nmore of it".to_vec()),
        ("too many headers", format!("POST /api HTTP/1.1\r\nHost: localhost\r\n{many}\r\n{CALL}").into_bytes()),
        (
            "two lengths",
            b"POST /api HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello"
                .to_vec(),
        ),
        ("a long head", format!("POST /api HTTP/1.1\r\nX: {}", "x".repeat(700_000)).into_bytes()),
    ];
    for (what, bytes) in broken {
        let mut connection = echo.gateway.connect().await;
        // It may hang up before it has read everything.
        drop(connection.try_send(&bytes).await);
        let answer = connection.receive().await.unwrap_or_else(|| panic!("no answer to {what}"));
        assert!((400..500).contains(&answer.status), "{what}: {answer:?}");
        assert!(connection.is_closed_within(Duration::from_secs(5)).await, "{what}");
    }
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_body_in_tiny_chunks_is_a_body_and_one_of_extensions_is_none() {
    let echo = Echo::start().await;
    let head = encode("POST", "/api", &[("Transfer-Encoding", "chunked")], b"");
    let chunk = |byte: u8| [b"1\r\n", &[byte][..], b"\r\n"].concat();
    let body = format!("{}{CALL}", " ".repeat(100_000));
    let mut tiny = echo.gateway.connect().await;
    let chunks = body.bytes().flat_map(chunk).collect::<Vec<u8>>();
    tiny.send(&[head.clone(), chunks, b"0\r\n\r\n".to_vec()].concat()).await;
    assert_eq!(tiny.receive().await.expect("an answer").json()["result"], "p");
    // What is said beside the chunks has an end, too.
    let mut chatty = echo.gateway.connect().await;
    chatty.send(&head).await;
    let extended = format!("1;{}\r\n \r\n", "x".repeat(1_000));
    for _ in 0..1_000 {
        if chatty.try_send(extended.as_bytes()).await.is_err() {
            break;
        }
    }
    if let Some(answer) = chatty.receive().await {
        as_fault(&answer.json()).is("invalid_request", "not_sent");
    }
    assert!(chatty.is_closed_within(Duration::from_secs(20)).await);
    assert_eq!(echo.called(), ["x"]);
}

#[tokio::test]
async fn a_client_that_does_not_read_its_answers_is_not_read_from() {
    const CALLS: usize = 400;
    let echo = Echo::start().await;
    let large = call("echo.x", &"x".repeat(200_000));
    let mut deaf = echo.gateway.connect().await;
    let flood = async {
        for _ in 0..CALLS {
            if deaf.try_send(&large).await.is_err() {
                break;
            }
        }
    };
    let watch = async {
        let executed = || echo.service.requests.count();
        let mut others = 0;
        // Until it has taken no other request while a neighbour had 50 answered, twice.
        let mut still = 0;
        while still < 2 {
            let before = executed() - others;
            for _ in 0..50 {
                echo.gateway.result("echo.x", json!(["neighbour"])).await;
            }
            others += 50;
            still = if executed() - others == before { still + 1 } else { 0 };
        }
        executed() - others
    };
    let executed = tokio::select! {
        executed = watch => executed,
        () = flood => CALLS,
    };
    assert!(
        executed < CALLS / 2,
        "{executed} of {CALLS} calls were made for a client that is deaf"
    );
}

/// One worker, and several: they have different runtimes, and the machine's cores choose.
#[tokio::test]
async fn any_number_of_workers_carries_calls() {
    for workers in [1, 3] {
        let echo = Echo::with(&format!("workers = {workers}")).await;
        let client = async |client: usize| {
            let mut connection = echo.gateway.connect().await;
            for number in 0..50 {
                let param = format!("{client} {number}");
                connection.send(&call("echo.x", &param)).await;
                assert_eq!(connection.receive().await.expect("an answer").json()["result"], param);
            }
        };
        futures_util::future::join_all((0..16).map(client)).await;
        echo.gateway.terminate();
        assert_eq!(echo.gateway.exit_status().await, 0);
    }
}
