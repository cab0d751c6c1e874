//! How much may be called: by one caller, by all of them, and at once.

use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::websocket::WebSocket;
use crate::harness::{Echo, Gateway, as_fault, eventually, process};
use crate::hub::{HUB, Peer};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":[1],"id":1}"#;

#[tokio::test]
async fn a_caller_is_held_to_the_rate_of_a_row_and_told_of_it() {
    let echo = Echo::with_row("", "rate = \"3/d\"").await;
    let first = echo.gateway.post("/api", &[], CALL).await;
    assert_eq!(first.header("ratelimit-policy"), Some("\"caller\";q=3;w=86400"));
    assert_eq!(first.header("ratelimit"), Some("\"caller\";r=2;t=28800"));
    // Each call of a batch counts.
    let batch = echo.gateway.post("/api", &[], format!("[{CALL},{CALL},{CALL}]")).await;
    assert_eq!(batch.header("ratelimit").and_then(|it| it.split(';').nth(1)), Some("r=0"));
    let answers = batch.json();
    let refused: Vec<&Value> =
        answers.as_array().expect("a batch").iter().filter(|it| it["error"].is_object()).collect();
    let [refused] = refused[..] else { panic!("{answers}") };
    let fault = as_fault(refused);
    assert_eq!(fault.is("overloaded", "not_sent").code, -32005);
    assert!(fault.message.contains("3/d calls to the row `echo.*`"), "{}", fault.message);
    let problem = echo.gateway.post("/call/echo/x", &[], "[1]").await;
    assert_eq!(problem.status, 429);
    let seconds: u64 = problem.header("retry-after").expect("a header").parse().expect("seconds");
    assert!((1..=28_800).contains(&seconds), "{seconds}");
    // Both are the same wait, in whole seconds that are never too few.
    let left = format!("\"caller\";r=0;t={seconds}");
    assert_eq!(problem.header("ratelimit"), Some(left.as_str()));
    // Over a WebSocket it is the same caller.
    let mut socket = WebSocket::open(echo.gateway.url().trim_start_matches("http://")).await;
    as_fault(&socket.ask(CALL).await).is("overloaded", "not_sent");
    assert_eq!(echo.called().len(), 3, "nothing else was sent");
    let labels = [("route", "echo.*"), ("limit", "rate")];
    echo.gateway.wait_for_metric("genkan_limited_total", &labels, 3.0).await;
}

/// What a caller is told of its rate: the status, what it has left, and whether it may come again.
fn told(answer: &crate::harness::http::Response) -> (u16, Option<&str>, bool) {
    let left = answer.header("ratelimit").and_then(|told| told.split(';').nth(1));
    (answer.status, left, answer.header("retry-after").is_some())
}

#[tokio::test]
async fn genkans_own_methods_count_for_their_caller_too() {
    let topic = "[[topics]]\nmatch = \"orders.*\"\nfrom = \"nats:orders.*\"\n";
    for method in ["rpc.discover", "locate_service", "get_service_specs", "genkan.subscribe"] {
        let echo = Echo::with(&format!("[limits]\nrate = \"2/d\"\n{topic}")).await;
        let call = format!(r#"{{"jsonrpc":"2.0","method":"{method}","id":1}}"#);
        for left in ["r=1", "r=0"] {
            let answer = echo.gateway.post("/api", &[], &call).await;
            assert_eq!(told(&answer), (200, Some(left), false), "{method}: {}", answer.text());
        }
        let answer = echo.gateway.post("/api", &[], format!("[{call},{CALL}]")).await;
        for one in answer.json().as_array().expect("a batch") {
            as_fault(one).is("overloaded", "not_sent");
        }
        assert_eq!(told(&answer).1, Some("r=0"));
        let events = crate::harness::http::send(
            &echo.gateway.http,
            "GET",
            "/events?topic=orders.x",
            &[],
            b"",
        )
        .await;
        assert_eq!(told(&events), (429, Some("r=0"), true), "{}", events.text());
        assert_eq!(echo.called(), [""; 0]);
    }
}

#[tokio::test]
async fn what_is_no_call_counts_for_whoever_sends_it() {
    let not_json = "{";
    let no_call = r#"{"jsonrpc":"2.0","id":1}"#;
    for (path, body, status) in [
        ("/api", not_json, 200),
        ("/api", no_call, 200),
        ("/api/echo", not_json, 200),
        ("/call/echo/x", not_json, 400),
    ] {
        let echo = Echo::with("[limits]\nrate = \"2/d\"\n").await;
        for left in ["r=1", "r=0"] {
            let answer = echo.gateway.post(path, &[], body).await;
            let told = told(&answer);
            assert_eq!((told.0, told.1), (status, Some(left)), "{path}: {}", answer.text());
        }
        let answer = echo.gateway.post(path, &[], body).await;
        assert!(answer.text().contains("overloaded"), "{path} {body}: {}", answer.text());
        let status = if path == "/call/echo/x" { 429 } else { 200 };
        assert_eq!(told(&answer), (status, Some("r=0"), status == 429), "{}", answer.text());
        // All the ids of a batch that is too long, too.
        let batch = echo.gateway.post("/api", &[], format!("[{}]", [CALL; 1_001].join(","))).await;
        let all = batch.json();
        assert_eq!(all.as_array().map(Vec::len), Some(1_001), "{}", batch.text());
        as_fault(&all[0]).is("overloaded", "not_sent");
        assert_eq!(echo.called(), [""; 0]);
    }
}

#[tokio::test]
async fn whoever_is_refused_is_held_to_a_rate_and_costs_nobody_else_his() {
    let (key, keys) = crate::auth::new_key(&["web"]);
    let (other, others) = crate::auth::new_key(&["other"]);
    let limits = "[limits]\nrate = \"2/d\"\ntotal_rate = \"3/d\"\n";
    let allow = "allow = [\"key:web\"]";
    let echo = Echo::with_row(&format!("{keys}{others}{limits}"), allow).await;
    let post = async |key: &str, path: &str, body: &str| {
        echo.gateway.post(path, &[("X-API-Key", key)], body).await
    };
    // An address guesses keys, one by one and in batches.
    let guessed =
        [post("guess", "/call/echo/x", "[1]").await, post("guess", "/call/no/x", "[1]").await];
    assert_eq!(
        guessed.each_ref().map(told),
        [(401, Some("r=1"), false), (401, Some("r=0"), false)]
    );
    assert_eq!(told(&post("guess", "/call/echo/x", "[1]").await), (429, Some("r=0"), true));
    let batch = post("guess", "/api", &format!("[{CALL},{CALL}]")).await.json();
    for refused in batch.as_array().expect("a batch") {
        as_fault(refused).is("overloaded", "not_sent");
    }
    // Somebody who is known may not call.
    for (status, left, again) in [(403, "r=1", false), (403, "r=0", false), (429, "r=0", true)] {
        let answer = post(&other, "/call/echo/x", "[1]").await;
        assert_eq!(told(&answer), (status, Some(left), again), "{}", answer.text());
    }
    // From the same address, who may: what all may together has not been spent by those who may not.
    assert_eq!(told(&post(&key, "/call/echo/x", "[1]").await), (200, Some("r=1"), false));
    assert_eq!(told(&post(&key, "/call/echo/x", "[1]").await), (200, Some("r=0"), false));
    assert_eq!(echo.called(), ["x", "x"]);
}

#[tokio::test]
async fn a_rate_lives_over_a_reload_that_does_not_change_it() {
    let echo = Echo::with_row("", "rate = \"2/d\"").await;
    for _ in 0..2 {
        assert_eq!(echo.gateway.result("echo.x", json!({"n": 1})).await, json!({"n": 1}));
    }
    let config = std::fs::read_to_string(echo.gateway.config()).expect("a file");
    let after = async |text: &str, name: &str| {
        echo.gateway.write_config(text);
        echo.gateway.hang_up();
        eventually("the new row is in force", async || {
            let answer = echo.gateway.rpc(name, json!({"n": 1})).await;
            (answer["error"]["data"]["kind"] != "unknown_service").then_some(answer)
        })
        .await
    };
    let more = config.replace(
        "[[routes]]",
        "[[routes]]\nmatch = \"more.*\"\nupstream = \"nats\"\nservice = \"echo\"\n\n[[routes]]",
    );
    assert_eq!(after(&more, "more.x").await["result"], json!({"n": 1}));
    echo.gateway.fault("echo.x", json!([1])).await.is("overloaded", "not_sent");
    let other = more.replace("more.*", "other.*").replace("2/d", "7/d");
    assert_eq!(after(&other, "other.x").await["result"], json!({"n": 1}));
    assert_eq!(echo.gateway.result("echo.x", json!({"n": 1})).await, json!({"n": 1}));
}

#[tokio::test]
async fn two_rows_of_one_pattern_have_limits_of_their_own_over_a_reload_too() {
    // The second takes names without a dot alone, which the first leaves to it.
    let row = "[[routes]]\nmatch = \"*\"\nupstream = \"nats\"\nrate = \"2/d\"\n";
    let echo = Echo::with(&format!("{row}\n{row}service = \"echo\"\n")).await;
    echo.gateway.hang_up();
    echo.gateway.wait_for_log(0, "reloaded").await;
    for name in ["echo.x", "x"] {
        for _ in 0..2 {
            assert_eq!(echo.gateway.result(name, json!({"n": 1})).await, json!({"n": 1}), "{name}");
        }
        echo.gateway.fault(name, json!([1])).await.is("overloaded", "not_sent");
    }
}

#[tokio::test]
async fn all_callers_together_are_held_to_the_gateways_limits() {
    let limits = "[limits]\ntotal_rate = \"4/d\"\nrate = \"100/d\"\n";
    let echo = Echo::with(&format!("{limits}{HUB}")).await;
    let mut module = Peer::module(&echo.gateway, "caller", &[]).await;
    let frame = json!({"type": 3, "function": "echo.x", "arguments": {"n": 1}});
    assert_eq!(module.ask(frame.clone()).await["type"], 4);
    for _ in 0..3 {
        assert_eq!(echo.gateway.result("echo.x", json!({"n": 1})).await, json!({"n": 1}));
    }
    let fault = echo.gateway.fault("echo.x", json!([1])).await;
    assert!(
        fault.is("overloaded", "not_sent").message.contains("4/d calls to the gateway"),
        "{fault:?}"
    );
    let refused = module.ask(frame).await;
    assert_eq!(refused["type"], 0, "a module is held to it too: {refused}");
}

#[tokio::test]
async fn so_many_calls_of_a_row_are_under_way_at_once() {
    let echo = Echo::with_row("", "max_in_flight = 2").await;
    let slow = || echo.gateway.rpc("echo.later", json!({"n": 1}));
    let quick = async {
        eventually("both wait", async || (echo.service.requests.count() == 2).then_some(())).await;
        echo.gateway.fault("echo.x", json!([1])).await
    };
    let (one, two, fault) = tokio::join!(slow(), slow(), quick);
    assert_eq!((&one["result"], &two["result"]), (&json!({"n": 1}), &json!({"n": 1})));
    let told = &fault.is("overloaded", "not_sent").message;
    assert!(told.contains("2 calls wait for the row `echo.*`"), "{told}");
    assert_eq!(
        echo.gateway.result("echo.x", json!({"n": 1})).await,
        json!({"n": 1}),
        "places come back"
    );
}

#[tokio::test]
async fn limits_are_checked_and_explained() {
    let gateway = Gateway::start("").await;
    let rows = "[limits]\nmax_in_flight = 50\n[upstreams.nats]\nprotocol = \"nats\"\n\
                servers = [\"nats://127.0.0.1:1\"]\ndialect = \"plain\"\n\
                [[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\nrate = \"100/s\"\ntotal_rate = \"5/m\"\n";
    gateway.write_config(rows);
    let run = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(gateway.config());
        process::run(&mut command)
    };
    let (status, told, _) = run(&["explain", "echo.x"]);
    assert_eq!(status, 0, "{told}");
    let told: Value = serde_json::from_str(&told).expect("JSON");
    let limits = json!([
        {"key": "rate", "most": "100/s from each caller", "of": "row"},
        {"key": "total_rate", "most": "5/m from all callers", "of": "row"},
        {"key": "max_in_flight", "most": "50 at once", "of": "gateway"},
        {"key": "max_in_flight", "most": "4096 at once", "of": "upstream"}]);
    assert_eq!(told["limits"], limits);
    for wrong in ["0/s", "100", "1/ms", "-1/s"] {
        gateway.write_config(&rows.replace("100/s", wrong));
        let (status, _, said) = run(&["check"]);
        assert!(
            status != 0 && said.contains("`rate`") && said.contains("100/s"),
            "{wrong}: {said}"
        );
    }
}

#[tokio::test]
async fn a_service_that_calls_too_much_stays_where_it_is_found() {
    let limits = "[limits]\nrate = \"2/d\"\n";
    let gateway = Gateway::start(&crate::registry::config("a.*", limits)).await;
    let ping = async |name: &str| {
        let told = crate::registry::ping(&gateway, name, "http://127.0.0.1:1/api").await;
        told["error"]["data"]["kind"].as_str().map(str::to_owned)
    };
    for _ in 0..5 {
        assert_eq!(ping("a.b").await, None);
    }
    // Nobody may announce that.
    let refused = [ping("x.y").await, ping("x.y").await, ping("x.y").await];
    let limited = refused.each_ref().map(|kind| kind.as_deref() == Some("overloaded"));
    assert!(limited == [false, false, true] && refused[0].is_some(), "{refused:?}");
    assert_eq!(ping("a.b").await, None, "it is heard all the same");
}
