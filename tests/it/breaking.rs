//! A service that does not answer is left alone for a while, and callers are told at once.

use futures_util::future::join_all;
use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::{Echo, Gateway, as_fault, eventually, process};

const BREAKER: &str = "[upstreams.nats.breaker]\nleast = 3\nslow = \"50ms\"\n";
const REFUSED: &str = "the breaker has opened: the service does not answer";

/// Has the breaker of `echo` opened by calls that get no answer.
async fn open(echo: &Echo) {
    for _ in 0..3 {
        let headers = [("X-Request-Timeout", "60ms")];
        let call = r#"{"jsonrpc":"2.0","method":"echo.never","id":1}"#;
        let answer = echo.gateway.post("/api", &headers, call).await.json();
        as_fault(&answer).is("timeout", "unknown");
    }
}

fn routes(gateway: &Gateway) -> Value {
    let admin = format!("http://{}", gateway.admin);
    let (status, out, said) =
        process::run(genkan().args(["routes", "--live", "--json", "--admin", &admin]));
    assert_eq!(status, 0, "{said}");
    serde_json::from_str(&out).expect("JSON")
}

#[tokio::test]
async fn a_service_that_does_not_answer_is_left_alone_and_everybody_is_told() {
    let echo = Echo::with(&format!("{BREAKER}open_for = \"1h\"\n")).await;
    assert_eq!(routes(&echo.gateway)["upstreams"][0]["open"], json!([]));
    open(&echo).await;
    let refused = echo.gateway.post("/call/echo/x", &[], "[1]").await;
    assert_eq!((refused.status, &refused.json()["outcome"]), (503, &json!("not_sent")));
    let seconds: u64 = refused.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((3_500..=3_600).contains(&seconds), "{seconds}");
    let fault = echo.gateway.fault("echo.x", json!({"n": 1})).await;
    let told = &fault.is("unavailable", "not_sent").message;
    assert!(told.contains("calls of `echo` over `nats` failed too often"), "{told}");
    let dotted = r#"{"jsonrpc":"2.0","method":"of.its.own","id":1}"#;
    let refused = echo.gateway.post("/api/echo", &[], dotted).await.json();
    as_fault(&refused).is("unavailable", "not_sent");
    assert_eq!(echo.called(), ["never"; 3], "nothing else was sent");

    let upstream = [("upstream", "nats")];
    assert_eq!(echo.gateway.metric("genkan_breakers_open", &upstream).await, 1.0);
    assert_eq!(echo.gateway.metric("genkan_breaker_opened_total", &upstream).await, 1.0);
    let limit = [("route", "echo.*"), ("limit", "breaker")];
    assert_eq!(echo.gateway.metric("genkan_limited_total", &limit).await, 3.0);
    let ready = echo.gateway.page("/readyz").await;
    assert_eq!(ready.status, 200, "other services are called");
    assert!(ready.text().contains("nats: `echo` does not answer"), "{}", ready.text());
    let live = routes(&echo.gateway);
    assert_eq!(live["routes"][0]["match"], "echo.*");
    let open = &live["upstreams"][0]["open"][0];
    assert_eq!((&open["service"], &open["state"]), (&json!("echo"), &json!("open")));
    assert_eq!(echo.gateway.logged(REFUSED).len(), 1);
}

#[tokio::test]
async fn one_call_tries_it_and_all_pass_when_that_is_answered() {
    let echo = Echo::with(&format!("{BREAKER}open_for = \"100ms\"\n")).await;
    open(&echo).await;
    eventually("it is to be tried", async || {
        let state = &routes(&echo.gateway)["upstreams"][0]["open"][0]["state"];
        (state == "half_open").then_some(())
    })
    .await;
    // It is left alone by nobody any more, whether somebody calls it or not.
    let upstream = [("upstream", "nats")];
    eventually("nothing is told of it", async || {
        (echo.gateway.metric("genkan_breakers_open", &upstream).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(echo.gateway.page("/readyz").await.text(), "ready\n");
    let answers = join_all((0..10).map(|_| echo.gateway.rpc("echo.slow", json!({"n": 1})))).await;
    let results = answers.iter().filter(|answer| answer["result"] == json!({"n": 1})).count();
    assert_eq!(results, 1, "{answers:?}");
    for refused in answers.iter().filter(|answer| answer["error"].is_object()) {
        as_fault(refused).is("unavailable", "not_sent");
    }
    assert_eq!(echo.called(), ["never", "never", "never", "slow"]);
    assert_eq!(echo.gateway.result("echo.x", json!({"n": 1})).await, json!({"n": 1}));
    assert_eq!(echo.gateway.metric("genkan_breakers_open", &upstream).await, 0.0);
    assert_eq!(echo.gateway.page("/readyz").await.text(), "ready\n");
    let logged = [REFUSED, "the breaker has closed: the service answers"];
    assert_eq!(logged.map(|line| echo.gateway.logged(line).len()), [1, 1]);
}

#[tokio::test]
async fn a_services_own_errors_and_callers_in_a_hurry_never_open_it() {
    let keys = "least = 1\nfailures = 0.01\nopen_for = \"1h\"\n";
    let echo = Echo::with(&format!("[upstreams.nats.breaker]\n{keys}")).await;
    for _ in 0..5 {
        echo.gateway.fault("echo.fail", json!({"n": 1})).await.is("application", "executed");
    }
    // Their row gives them ten seconds.
    open(&echo).await;
    assert_eq!(echo.gateway.result("echo.x", json!({"n": 1})).await, json!({"n": 1}));
}

#[tokio::test]
async fn a_breaker_knows_over_a_reload_what_it_knew_until_its_keys_change() {
    let echo = Echo::with(&format!("{BREAKER}open_for = \"1h\"\n")).await;
    open(&echo).await;
    let config = std::fs::read_to_string(echo.gateway.config()).expect("a file");
    let row = |name: &str| {
        format!("[[routes]]\nmatch = \"{name}.*\"\nupstream = \"nats\"\nservice = \"echo\"\n\n")
    };
    let reload = async |text: String, name: &str| {
        echo.gateway.write_config(&text);
        echo.gateway.hang_up();
        eventually("the new row is in force", async || {
            let answer = echo.gateway.rpc(name, json!({"n": 1})).await;
            (answer["error"]["data"]["kind"] != "unknown_service").then_some(answer)
        })
        .await
    };
    let more = config.replacen("[[routes]]", &format!("{}[[routes]]", row("more")), 1);
    as_fault(&reload(more.clone(), "more.x").await).is("unavailable", "not_sent");
    let other = more.replace("least = 3", "least = 4").replace("more.*", "other.*");
    assert_eq!(reload(other, "other.x").await["result"], json!({"n": 1}));
    let upstream = [("upstream", "nats")];
    let open = async || echo.gateway.metric("genkan_breakers_open", &upstream).await;
    eventually("nothing is open", async || (open().await == 0.0).then_some(())).await;
    assert_eq!(echo.gateway.metric("genkan_upstream_reconnects_total", &upstream).await, 0.0);
}

#[tokio::test]
async fn a_breaker_is_checked_and_explained() {
    let gateway = Gateway::start("").await;
    let rows = "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:1\"]\n\
                dialect = \"plain\"\n[upstreams.nats.breaker]\nfailures = 0.25\n\
                [[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n";
    gateway.write_config(rows);
    let run = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(gateway.config());
        process::run(&mut command)
    };
    let (status, told, _) = run(&["explain", "echo.x"]);
    assert_eq!(status, 0, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let most = "25% of 20 calls failed in 10s: then none for 5s";
    assert_eq!(told["limits"][1], json!({"key": "breaker", "most": most, "of": "upstream"}));
    for wrong in ["0", "1.5", "-0.5", "\"half\"", "nan"] {
        gateway.write_config(&rows.replace("0.25", wrong));
        let (status, _, said) = run(&["check"]);
        assert!(status != 0 && said.contains("`failures`"), "{wrong}: {said}");
    }
}
