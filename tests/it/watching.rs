//! What an operator sees: `/healthz`, `/readyz`, every metric of CONTRACT, section 7, moving, and
//! the log.

use std::time::Duration;

use serde_json::{Value, json};

use crate::harness::{Echo, Gateway, eventually};
use crate::hub::Peer;

#[tokio::test]
async fn pages_for_operators_are_on_their_own_address() {
    let echo = Echo::start().await;
    let health = echo.gateway.page("/healthz").await;
    assert_eq!(health.status, 200);
    let ready = echo.gateway.page("/readyz").await;
    assert_eq!(ready.status, 200);
    let metrics = echo.gateway.page("/metrics").await;
    assert!(metrics.header("content-type").is_some_and(|value| value.starts_with("text/plain")));
    assert_eq!(echo.gateway.page("/nothing").await.status, 404);
}

#[tokio::test]
async fn readyz_names_what_is_missing_and_asks_only_what_a_route_needs() {
    let echo = Echo::start().await;
    let unused = crate::harness::Nats::down();
    let toml = format!(
        "{}{}[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n",
        echo.nats.upstream("nats", "picom"),
        unused.upstream("unused", "picom")
    );
    let gateway = Gateway::ready(&toml).await;
    echo.nats.stop();
    let page = gateway.wait_until_not_ready().await;
    assert!(page.contains("nats") && !page.contains("unused"), "{page}");
    assert!(!page.contains("127.0.0.1"), "no addresses: {page}");
    echo.nats.restart();
    gateway.wait_until_ready().await;
}

#[tokio::test]
async fn calls_are_counted_by_how_they_ended() {
    let echo = Echo::start().await;
    let gateway = &echo.gateway;
    let count = async |outcome: &str| {
        let labels =
            [("ingress", "http"), ("route", "echo.*"), ("upstream", "nats"), ("outcome", outcome)];
        gateway.metric("genkan_calls_total", &labels).await
    };
    for outcome in ["ok", "application", "timeout"] {
        assert_eq!(count(outcome).await, 0.0);
    }
    gateway.result("echo.x", json!(["p"])).await;
    gateway.post("/call/echo/x", &[], "[1]").await;
    gateway.fault("echo.fail", json!(["p"])).await;
    gateway.post("/call/echo/never", &[("X-Request-Timeout", "100ms")], "").await;
    gateway.notify("echo.x", json!(["p"])).await;
    gateway.wait_for_metric("genkan_calls_total", &[("outcome", "ok")], 3.0).await;
    assert_eq!((count("ok").await, count("application").await), (3.0, 1.0));
    assert_eq!(count("timeout").await, 1.0);
    let duration = "genkan_call_duration_seconds_count";
    let labels = [("ingress", "http"), ("route", "echo.*"), ("upstream", "nats")];
    assert_eq!(gateway.metric(duration, &labels).await, 5.0);
}

#[tokio::test]
async fn durations_fall_into_buckets_that_start_below_a_millisecond() {
    let echo = Echo::start().await;
    echo.gateway.result("echo.x", json!(["p"])).await;
    echo.gateway.result("echo.slow", json!(["p"])).await;
    let metrics = echo.gateway.page("/metrics").await;
    let bucket = |le: &str| {
        crate::harness::gateway::sum(
            metrics.text(),
            "genkan_call_duration_seconds_bucket",
            &[("route", "echo.*"), ("le", le)],
        )
    };
    assert!(metrics.text().contains("le=\"0.0005\""), "{}", metrics.text());
    assert_eq!(bucket("+Inf"), 2.0);
    assert!(bucket("0.25") <= 1.0, "one of the two takes 400 ms");
    let sum = "genkan_call_duration_seconds_sum";
    let sum = crate::harness::gateway::sum(metrics.text(), sum, &[("route", "echo.*")]);
    assert!(sum >= 0.4, "{sum}");
}

#[tokio::test]
async fn gauges_and_counters_of_an_upstream_move() {
    let echo = Echo::start().await;
    let gateway = &echo.gateway;
    let of = [("upstream", "nats")];
    assert_eq!(gateway.metric("genkan_upstream_up", &of).await, 1.0);
    assert_eq!(gateway.metric("genkan_calls_in_flight", &of).await, 0.0);
    let mut waiting = gateway.connect().await;
    waiting.request("POST", "/call/echo/later", &[], b"").await;
    gateway.wait_for_metric("genkan_calls_in_flight", &of, 1.0).await;
    assert!(waiting.receive().await.is_some());
    eventually("nothing is in flight any more", async || {
        (gateway.metric("genkan_calls_in_flight", &of).await == 0.0).then_some(())
    })
    .await;

    gateway.post("/call/echo/slow", &[("X-Request-Timeout", "100ms")], "").await;
    gateway.wait_for_metric("genkan_late_replies_total", &of, 1.0).await;

    gateway.fault("echo.constructor", json!(["p"])).await;
    let refused = gateway.page("/metrics").await;
    let line = refused.text().lines().find(|line| line.starts_with("genkan_refused_total{"));
    let line = line.expect("a series");
    assert!(line.contains("reason=\"object_prototype\"") && line.contains("upstream=\"nats\""));

    echo.nats.stop();
    eventually("it is down", async || {
        (gateway.metric("genkan_upstream_up", &of).await == 0.0).then_some(())
    })
    .await;
    echo.nats.restart();
    gateway.wait_for_metric("genkan_upstream_up", &of, 1.0).await;
    gateway.wait_for_metric("genkan_upstream_reconnects_total", &of, 1.0).await;
}

#[tokio::test]
async fn build_and_process() {
    let echo = Echo::start().await;
    let version = [("version", env!("CARGO_PKG_VERSION"))];
    assert_eq!(echo.gateway.metric("genkan_build_info", &version).await, 1.0);
    for name in ["process_cpu_seconds_total", "process_resident_memory_bytes", "process_open_fds"] {
        let before = echo.gateway.metric(name, &[]).await;
        assert!(
            before >= 0.0 && echo.gateway.page("/metrics").await.text().contains(name),
            "{name}"
        );
    }
    assert!(echo.gateway.metric("process_resident_memory_bytes", &[]).await > 1e6);
    let fds = echo.gateway.metric("process_open_fds", &[]).await;
    let mut held = Vec::new();
    for _ in 0..10 {
        held.push(echo.gateway.connect().await);
    }
    echo.gateway.wait_for_metric("process_open_fds", &[], fds + 9.0).await;
}

#[tokio::test]
async fn no_label_takes_a_value_that_a_caller_chose() {
    let echo = Echo::start().await;
    let series = async || {
        let page = echo.gateway.page("/metrics").await;
        page.text().lines().filter(|line| !line.starts_with('#')).count()
    };
    let invent = async |n: usize| {
        echo.gateway.fault(&format!("invented{n}.method{n}"), Value::Null).await;
        echo.gateway.fault(&format!("{n}"), Value::Null).await;
        echo.gateway.result(&format!("echo.invented{n}"), json!(["p"])).await;
        let headers = [("X-Request-Id", "invented"), ("User-Agent", "invented")];
        echo.gateway.post(&format!("/call/invented{n}/x"), &headers, "").await;
        echo.gateway.post(&format!("/invented/{n}"), &headers, "").await;
    };
    invent(0).await;
    let before = series().await;
    for n in 1..=50 {
        invent(n).await;
    }
    assert_eq!(series().await, before, "not one new series");
    let page = echo.gateway.page("/metrics").await;
    assert!(!page.text().contains("invented"), "{}", page.text());
    let labels = [("route", "none"), ("outcome", "unknown_service")];
    assert!(echo.gateway.metric("genkan_calls_total", &labels).await >= 100.0);
    assert!(page.text().contains("route=\"none\""));
}

#[tokio::test]
async fn a_fault_is_logged_once_with_its_trace() {
    let echo = Echo::start().await;
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
    let body = r#"{"jsonrpc":"2.0","method":"echo.fail","params":["very private"],"id":1}"#;
    echo.gateway.post("/api", &[("traceparent", trace)], body).await;
    let never = r#"{"jsonrpc":"2.0","method":"echo.never","params":["very private"],"id":1}"#;
    echo.gateway.post("/api", &[("X-Request-Timeout", "100ms")], never).await;
    let lines = eventually("both faults are logged", async || {
        let lines = echo.gateway.logged("call failed");
        (lines.len() >= 2).then_some(lines)
    })
    .await;
    let of =
        |kind: &str| -> Vec<&Value> { lines.iter().filter(|line| line["kind"] == kind).collect() };
    let application = of("application");
    assert_eq!(application.len(), 1, "{lines:?}");
    let line = application[0];
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    assert_eq!((&line["route"], &line["upstream"]), (&json!("echo.*"), &json!("nats")));
    assert_eq!((&line["level"], &line["outcome"]), (&json!("INFO"), &json!("executed")));
    assert_eq!(of("timeout")[0]["level"], "WARN");
    assert!(!echo.gateway.log_text().contains("very private"), "payloads belong into no log");
}

/// The lines that end a call with that trace.
fn ended(gateway: &Gateway, trace: &str) -> Vec<Value> {
    let lines = gateway.logged("call ended").into_iter();
    lines.filter(|line| line["span"]["trace_id"] == trace).collect()
}

#[tokio::test]
async fn at_debug_level_a_call_has_one_span_and_one_line() {
    let echo = Echo::with("[log]\nlevel = \"debug\"\n").await;
    let gateway = &echo.gateway;
    let trace = |n: usize| format!("{n:032x}");
    let parent = |n: usize| format!("00-{}-00f067aa0ba902b7-01", trace(n));
    let one = |method: &str| format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#);
    gateway.post("/api", &[("traceparent", &parent(1))], one("echo.x")).await;
    gateway.post("/api", &[("traceparent", &parent(2))], one("echo.fail")).await;
    let batch = format!("[{},{}]", one("echo.x"), one("echo.slow"));
    gateway.post("/api", &[("traceparent", &parent(3))], batch).await;
    let notification = r#"{"jsonrpc":"2.0","method":"echo.x"}"#;
    gateway.post("/api", &[("traceparent", &parent(4))], notification).await;
    gateway.post("/call/nobody/x", &[("traceparent", &parent(5))], "").await;
    let mut gone = gateway.connect().await;
    gone.request("POST", "/call/echo/never", &[("traceparent", &parent(6))], b"").await;
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "nats")], 1.0).await;
    drop(gone);
    for (n, call, upstream, outcomes) in [
        (1, "echo.x", "nats", &["ok"][..]),
        (2, "echo.fail", "nats", &["application"]),
        (3, "", "nats", &["ok", "ok"]),
        (4, "echo.x", "nats", &["ok"]),
        (5, "nobody.x", "hub", &["unknown_service"]),
        (6, "echo.never", "nats", &["cancelled"]),
    ] {
        let lines = eventually(&format!("the lines of call {n}"), async || {
            let lines = ended(gateway, &trace(n));
            (lines.len() >= outcomes.len()).then_some(lines)
        })
        .await;
        assert_eq!(lines.len(), outcomes.len(), "{lines:?}");
        for (line, outcome) in lines.iter().zip(outcomes) {
            let span = &line["span"];
            assert_eq!((&line["level"], &span["name"]), (&json!("DEBUG"), &json!("call")));
            assert_eq!((&span["outcome"], &span["ingress"]), (&json!(outcome), &json!("http")));
            assert_eq!(span["upstream"], upstream);
            assert!(call.is_empty() || span["call"] == call, "{line}");
            assert!(span["duration_ms"].as_f64().is_some_and(|took| took > 0.0), "{line}");
        }
    }
    let slow =
        ended(gateway, &trace(3)).into_iter().find(|line| line["span"]["call"] == "echo.slow");
    assert!(slow.is_some_and(|line| line["span"]["duration_ms"].as_f64() >= Some(400.0)));
    // Nothing writes a key twice: a reader of the log would see one of the two.
    for line in gateway.log_text().lines() {
        assert!(line.matches("\"name\":").count() <= 1, "{line}");
    }
    let silent = Echo::start().await;
    silent.gateway.result("echo.x", json!(["p"])).await;
    silent.gateway.terminate();
    silent.gateway.exit_status().await;
    assert!(silent.gateway.logged("call ended").is_empty(), "no line a call unless asked for");
}

#[tokio::test]
async fn a_modules_calls_have_a_line_each_too() {
    let debug = "[log]\nlevel = \"debug\"\n";
    let gateway = Gateway::start(&format!("{debug}{}", crate::hub::HUB)).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "math.add", "arguments": {}})).await;
    let call = math.receive().await;
    math.answer(&call, json!(7)).await;
    caller.receive().await;
    caller.call("nobody.add", json!({})).await;
    gateway.fault("math.subtract", Value::Null).await;
    let lines = eventually("three lines", async || {
        let lines = gateway.logged("call ended");
        (lines.len() >= 3).then_some(lines)
    })
    .await;
    let said = |line: &Value| {
        let field = |name: &str| line["span"][name].as_str().unwrap_or_default().to_owned();
        // The hub does not hand the name on with a result.
        let call = if field("outcome") == "ok" { String::new() } else { field("call") };
        [&field("ingress"), &call, &field("upstream"), &field("outcome")]
            .map(String::as_str)
            .join(" ")
    };
    let said: Vec<String> = lines.iter().map(said).collect();
    assert_eq!(
        said,
        [
            "hub  hub ok",
            "hub nobody.add hub unknown_service",
            "http math.subtract hub unknown_method"
        ]
    );
}

#[tokio::test]
async fn no_level_of_the_log_shows_a_secret_or_a_payload() {
    let vhost = crate::harness::RabbitMq::shared().vhost();
    let _orders = crate::harness::NamekoResponder::serve(&vhost.url(), "orders", |seen| {
        crate::harness::Answer::new(match seen.method.as_str() {
            "fail" => r#"{"error": {"exc_type": "E", "exc_args": ["sec-args"], "value": "why"}}"#,
            "broken" => "sec-broken",
            _ => r#"{"result": "sec-result"}"#,
        })
    })
    .await;
    let nats = crate::harness::Nats::configured("authorization { user: till, password: sec-pass }");
    let toml = format!(
        "[log]\nlevel = \"trace\"\n[http]\nforward_authorization = true\n{}\
         [upstreams.nats]\nprotocol = \"nats\"\nservers = [\"{}\"]\nuser = \"till\"\n\
         password = \"sec-pass\"\n[[routes]]\nmatch = \"mailer.*\"\nupstream = \"nats\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"rabbit\"\n",
        vhost.upstream("rabbit"),
        nats.url()
    );
    let gateway = Gateway::ready(&toml).await;
    let headers = [("Authorization", "Bearer sec-token"), ("Cookie", "sid=sec-cookie")];
    for method in ["orders.x", "orders.fail", "orders.broken", "nobody.x", "mailer.x", "a b"] {
        for id in ["\"id\":1,", ""] {
            let body =
                format!(r#"{{"jsonrpc":"2.0",{id}"method":"{method}","params":["sec-par"]}}"#);
            gateway.post("/api", &headers, body).await;
        }
        gateway
            .post(&format!("/call/{}", method.replace(['.', ' '], "/")), &headers, "[\"sec-par\"]")
            .await;
    }
    gateway.post("/api", &headers, "{\"sec-body\"").await;
    gateway.terminate();
    gateway.exit_status().await;
    let log = gateway.log_text();
    assert!(log.contains("\"TRACE\"") || log.contains("\"DEBUG\""), "{log}");
    for secret in ["sec-", crate::harness::rabbit::PASSWORD] {
        let line = log.lines().find(|line| line.contains(secret));
        assert!(line.is_none(), "{line:?}");
    }
}

#[tokio::test]
async fn a_flood_of_equal_faults_is_summed_up() {
    let echo = Echo::start().await;
    let one = r#"{"jsonrpc":"2.0","method":"nobody.x","id":1}"#;
    let batch = format!("[{}]", vec![one; 50].join(","));
    for _ in 0..4 {
        echo.gateway.api(&batch).await;
    }
    let lines = echo.gateway.logged("call failed").len();
    assert!((1..=20).contains(&lines), "{lines} lines for 200 faults");
    echo.gateway.terminate();
    echo.gateway.exit_status().await;
    let sums: u64 = echo.gateway.log().iter().filter_map(|line| line["more"].as_u64()).sum();
    assert_eq!(sums + u64::try_from(lines).unwrap(), 200, "{}", echo.gateway.log_text());
}

#[tokio::test]
async fn every_line_of_the_log_is_json_and_the_life_cycle_is_in_it() {
    let echo = Echo::with("[log]\nlevel = \"debug\"\n").await;
    echo.gateway.result("echo.x", json!(["p"])).await;
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    echo.gateway.terminate();
    assert_eq!(echo.gateway.exit_status().await, 0);
    for line in echo.gateway.log() {
        assert!(line["timestamp"].is_string() && line["level"].is_string(), "{line}");
        assert!(line["message"].is_string(), "{line}");
    }
    for message in ["starting", "listening", "stopped"] {
        assert!(!echo.gateway.logged(message).is_empty(), "{message}");
    }
}

#[tokio::test]
async fn a_caller_that_hangs_up_is_counted_and_its_call_forgotten() {
    let echo = Echo::start().await;
    let mut gone = echo.gateway.connect().await;
    gone.request("POST", "/call/echo/never", &[], b"").await;
    let of = [("upstream", "nats")];
    echo.gateway.wait_for_metric("genkan_calls_in_flight", &of, 1.0).await;
    drop(gone);
    eventually("it is forgotten", async || {
        (echo.gateway.metric("genkan_calls_in_flight", &of).await == 0.0).then_some(())
    })
    .await;
    echo.gateway.wait_for_metric("genkan_calls_total", &[("outcome", "cancelled")], 1.0).await;
    tokio::time::timeout(Duration::from_secs(5), echo.gateway.result("echo.x", json!(["p"])))
        .await
        .expect("others are served");
}

#[tokio::test]
async fn on_a_terminal_the_log_is_for_people() {
    let folder = crate::harness::process::Folder::new();
    let listen = "listen = \"127.0.0.1:0\"";
    folder.write("genkan.toml", &format!("[http]\n{listen}\n[admin]\n{listen}\n"));
    // `script` lends it a terminal; `timeout` ends it in good order once it has started.
    let serve = format!("timeout --foreground 2 {} serve", crate::harness::gateway::GENKAN);
    let script = crate::harness::process::program("script", &[]);
    let mut command = std::process::Command::new(script);
    command.args(["-qec", &serve, "/dev/null"]).current_dir(folder.path());
    let ran = tokio::task::spawn_blocking(move || crate::harness::process::run(&mut command));
    let (_, shown, _) = ran.await.expect("no panic");
    assert!(shown.contains("listening") && shown.contains("127.0.0.1:"), "{shown}");
    assert!(!shown.contains("{\"timestamp\""), "{shown}");
}
