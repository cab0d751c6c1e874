//! What a NATS service does wrong costs the call that it answers, and no other.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Answer, Gateway, Nats, NatsResponder, RawNats, Seen, eventually};

/// Answers `svc.slow` when it is told to, all else at once.
async fn neighbour(nats: &Nats) -> NatsResponder {
    let answer = |seen: &Seen| match seen.method.as_str() {
        "never" => Vec::new(),
        _ => Answer::new(r#"{"payload":"mine"}"#),
    };
    NatsResponder::serve(nats.client().await, "svc", answer).await
}

/// A call that waits, once it has arrived.
async fn waiting(
    gateway: &Arc<Gateway>,
    service: &NatsResponder,
) -> (tokio::task::JoinHandle<Value>, Seen) {
    let calling = Arc::clone(gateway);
    let before = service.requests.count();
    let call = tokio::spawn(async move { calling.result("svc.never", json!(["p"])).await });
    eventually("it has arrived", async || (service.requests.count() > before).then_some(())).await;
    (call, service.requests.last())
}

#[tokio::test]
async fn headers_that_no_library_reads_cost_no_other_call() {
    let nats = Nats::start();
    let service = neighbour(&nats).await;
    let mut odd = RawNats::serve(&nats, "odd.*").await;
    let gateway = Arc::new(Gateway::ready(&nats.config("picom")).await);
    let (slow, seen) = waiting(&gateway, &service).await;
    for headers in [
        &b"NATS/1.0\r\nX-Error: ung\xfcltig\r\n\r\n"[..],
        b"NATS/1.0\r\nno colon\r\n\r\n",
        b"NATS/1.0 OK\r\n\r\n",
        b"NATS/1.0 99999\r\n\r\n",
        b"NATS/1.0\r\n: nameless\r\nb\xc3\xa4d name: 1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\n",
        b"\r\n",
    ] {
        let call = gateway.result("odd.x", json!(["p"]));
        let answer = async {
            let (_, reply) = odd.request().await;
            odd.publish(&reply, headers, br#"{"payload":"odd"}"#).await;
        };
        let (result, ()) = tokio::join!(call, answer);
        assert_eq!(result, "odd", "{:?}", String::from_utf8_lossy(headers));
    }
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    service.say(&seen, Answer { body: br#"{"payload":"slow"}"#.into(), ..Answer::default() }).await;
    assert_eq!(slow.await.expect("no panic"), "slow");
}

#[tokio::test]
async fn an_error_in_another_alphabet_is_told() {
    let nats = Nats::start();
    let mut odd = RawNats::serve(&nats, "odd.*").await;
    let gateway = Gateway::ready(&nats.config("micro")).await;
    let call = gateway.fault("odd.x", json!(["p"]));
    let answer = async {
        let (_, reply) = odd.request().await;
        let headers = b"NATS/1.0\r\nNats-Service-Error: ung\xfcltig\r\n\r\n";
        odd.publish(&reply, headers, b"").await;
    };
    let (fault, ()) = tokio::join!(call, answer);
    assert_eq!(fault.is("application", "executed").message, "ungültig");
}

/// What a service that got one call can make of its reply subject.
fn guesses(reply: &str) -> Vec<String> {
    let (inbox, token) = reply.rsplit_once('.').expect("an inbox and a token");
    let digits = token.len() - token.trim_start_matches(|c: char| !c.is_ascii_digit()).len();
    let mut guesses = Vec::new();
    for step in 1..=20_u64 {
        if let Ok(number) = token.parse::<u64>() {
            guesses.push(format!("{inbox}.{}", number + step));
        }
        // The last digits alone, in both notations.
        for radix in [10, 16] {
            let tail = &token[digits.max(token.len().saturating_sub(8))..];
            if let Ok(number) = u64::from_str_radix(tail, radix) {
                let head = &token[..token.len() - tail.len()];
                let next = match radix {
                    10 => format!("{:0width$}", number + step, width = tail.len()),
                    _ => format!("{:0width$x}", number + step, width = tail.len()),
                };
                guesses.push(format!("{inbox}.{head}{next}"));
            }
        }
    }
    guesses
}

#[tokio::test]
async fn a_service_cannot_answer_its_neighbours_calls() {
    let nats = Nats::start();
    let service = neighbour(&nats).await;
    let mut spy = RawNats::serve(&nats, "spy.*").await;
    let gateway = Arc::new(Gateway::ready(&nats.config("picom")).await);
    let spied = async {
        let (_, reply) = spy.request().await;
        spy.publish(&reply, b"NATS/1.0\r\n\r\n", br#"{"payload":0}"#).await;
        reply
    };
    let (_, reply) = tokio::join!(gateway.result("spy.x", json!(["p"])), spied);
    let (call, seen) = waiting(&gateway, &service).await;
    let guesses = guesses(&reply);
    for guess in &guesses {
        spy.publish(guess, b"NATS/1.0\r\n\r\n", br#"{"payload":"forged"}"#).await;
    }
    let late = guesses.len() as f64;
    gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "nats")], late).await;
    service.say(&seen, Answer { body: br#"{"payload":"mine"}"#.into(), ..Answer::default() }).await;
    assert_eq!(call.await.expect("no panic"), "mine");
}

#[tokio::test]
async fn a_reply_that_is_too_large_is_not_taken_in() {
    let nats = Nats::start();
    let service = NatsResponder::serve(nats.client().await, "svc", |seen| {
        let size = if seen.method == "big" { 100_000 } else { 10 };
        Answer::new(format!("{{\"payload\":\"{}\"}}", "x".repeat(size)))
    })
    .await;
    let toml = nats.config("picom").replace("dialect", "max_reply = \"64KiB\"\ndialect");
    let gateway = Gateway::ready(&toml).await;
    let fault = gateway.fault("svc.big", json!(["p"])).await;
    assert_eq!(fault.is("too_large", "executed").code, -32006);
    assert!(fault.message.contains("100014") && fault.message.contains("max_reply"), "{fault:?}");
    assert_eq!(gateway.result("svc.x", json!(["p"])).await, "x".repeat(10));
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    assert_eq!(service.requests.count(), 2);
}

#[tokio::test]
async fn a_reply_that_nests_too_deep_is_refused_as_everywhere() {
    for dialect in ["picom", "plain", "micro"] {
        let nats = Nats::start();
        let _service = NatsResponder::serve(nats.client().await, "svc", move |seen| {
            let depth = if seen.method == "deep" { 100_000 } else { 100 };
            let value = format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
            Answer::new(if dialect == "picom" { format!("{{\"payload\":{value}}}") } else { value })
        })
        .await;
        let gateway = Gateway::ready(&nats.config(dialect)).await;
        let fault = gateway.fault("svc.deep", json!(["p"])).await;
        assert!(fault.is("internal", "executed").message.contains("nested"), "{fault:?}");
        let shallow = gateway.raw("svc.x", "[\"p\"]").await;
        assert_eq!(shallow, format!("{}1{}", "[".repeat(100), "]".repeat(100)));
    }
}

/// Each name is new, and the server refuses each: nobody else waits for that.
#[tokio::test]
async fn a_flood_of_denied_subjects_holds_nobody_up() {
    let nats = Nats::configured(
        r#"authorization { users = [{user: all, password: p},
            {user: some, password: p, permissions: {publish: ["svc.>", "_INBOX.>"]}}] }"#,
    );
    let options = async_nats::ConnectOptions::with_user_and_password("all".into(), "p".into());
    let client = options.connect(nats.url()).await.expect("the server accepts");
    let _service =
        NatsResponder::serve(client, "svc", |_| Answer::new(r#"{"payload":"mine"}"#)).await;
    let toml =
        nats.config("picom").replace("dialect", "user = \"some\"\npassword = \"p\"\ndialect");
    let gateway = Gateway::ready(&toml).await;
    let denied = futures_util::future::join_all((0..20).map(|batch| {
        let calls = (0..50).map(
            move |n| json!({"jsonrpc": "2.0", "method": format!("shut{batch}x{n}.x"), "id": n}),
        );
        let (gateway, body) = (&gateway, Value::from_iter(calls).to_string());
        async move {
            let answers = gateway.api(body).await;
            for answer in answers.as_array().expect("a batch") {
                assert_eq!(answer["error"]["data"]["kind"], "access_denied", "{answer}");
            }
        }
    }));
    let served = async {
        for _ in 0..50 {
            assert_eq!(gateway.result("svc.x", json!(["p"])).await, "mine");
        }
    };
    tokio::join!(denied, served);
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    assert!(gateway.log_text().matches("allow it for Genkan's user").count() <= 1);
}

/// Whether a call had left when its time was over is known here, and told.
#[tokio::test]
async fn a_call_that_could_not_be_written_in_time_has_not_run() {
    let nats = Nats::start();
    let _service = neighbour(&nats).await;
    let gateway = Arc::new(Gateway::ready(&nats.config("picom")).await);
    // It reads nothing more, and nobody knows that for a second: the socket fills.
    nats.freeze(true);
    let big = json!(["x".repeat(900_000)]).to_string();
    let calls = (0..24).map(|_| {
        let (gateway, big) = (Arc::clone(&gateway), big.clone());
        tokio::spawn(async move {
            let body = format!(r#"{{"jsonrpc":"2.0","method":"svc.x","params":{big},"id":1}}"#);
            let timeout = [("X-Request-Timeout", "400ms")];
            gateway.post("/api", &timeout, body).await.json()["error"]["data"].clone()
        })
    });
    let ended = futures_util::future::join_all(calls.collect::<Vec<_>>()).await;
    nats.freeze(false);
    let outcomes: Vec<_> = ended.into_iter().map(|data| data.expect("no panic")).collect();
    let count = |outcome: &str| outcomes.iter().filter(|data| data["outcome"] == outcome).count();
    assert!(count("not_sent") > 0 && count("unknown") > 0, "{outcomes:?}");
    assert_eq!(count("not_sent") + count("unknown"), outcomes.len(), "{outcomes:?}");
    tokio::time::timeout(Duration::from_secs(60), async {
        while gateway.post("/api", &[], call_text("svc.x")).await.json()["result"] != "mine" {}
    })
    .await
    .expect("it goes on");
}

fn call_text(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":["p"],"id":1}}"#)
}

#[tokio::test]
async fn what_a_service_passes_on_of_a_call_of_its_own_is_its_own_error() {
    for dialect in ["plain", "micro", "nest", "picom"] {
        let nats = Nats::start();
        let headers = [
            ("Genkan-Fault", "unknown_service not_sent"),
            ("Genkan-Call", "_INBOX.nested.0123456789abcdef0123456789abcdef"),
            ("Nats-Service-Error", "nobody serves `ghost`"),
            ("Nats-Service-Error-Code", "404"),
        ];
        let answer = move |seen: &Seen| {
            let said = r#"{"error":"nobody serves `ghost`","kind":"unknown_service","outcome":"not_sent"}"#;
            let body = match dialect {
                "nest" => format!(r#"{{"err":{said},"isDisposed":true,"id":"x"}}"#),
                "picom" => r#"{"error":"nobody serves `ghost`"}"#.to_owned(),
                _ => said.to_owned(),
            };
            let skipped = usize::from(seen.method == "old");
            let headers = headers.iter().filter(|(name, _)| skipped == 0 || *name != "Genkan-Call");
            let headers = headers.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
            vec![Answer { body: body.into(), headers: headers.collect(), ..Answer::default() }]
        };
        let _service = NatsResponder::serve(nats.client().await, "desk", answer).await;
        let gateway = Gateway::ready(&nats.config(dialect)).await;
        for method in ["desk.new", "desk.old"] {
            let fault = gateway.fault(method, json!({})).await;
            fault.is("application", "executed");
            assert_eq!(fault.data["retryable"], false, "{dialect} {method}: {fault:?}");
        }
    }
}
