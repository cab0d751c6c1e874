//! What the log says of callers: who was refused, so that an operator, or a program that reads it, can act.

use serde_json::{Value, json};

use super::{Guarded, new_key};

/// The first line of calls that failed so, after the first `seen` lines.
async fn failed(guarded: &Guarded, seen: usize) -> Value {
    guarded.gateway.wait_for_log(seen, "call failed").await
}

#[tokio::test]
async fn who_was_refused_is_in_the_log_and_no_secret() {
    let (key, lines) = new_key(&["web"]);
    let tables = format!("[log]\nlevel = \"debug\"\n{lines}");
    let guarded = Guarded::start(&tables, "allow = [\"key:web\"]\nrate = \"1/h\"").await;
    let here = json!("127.0.0.1");

    // Nobody, and somebody with a key that nobody has made.
    let wrong = format!("{}x", &key[..key.len() - 1]);
    for headers in [vec![], vec![("X-API-Key", wrong.as_str())]] {
        let seen = guarded.gateway.lines_logged();
        assert_eq!(guarded.status(&headers).await, 401);
        let line = failed(&guarded, seen).await;
        assert_eq!((&line["address"], &line["caller"]), (&here, &Value::Null), "{line}");
        assert_eq!((&line["kind"], &line["level"]), (&json!("access_denied"), &json!("WARN")));
    }
    // One who has made his calls, and what is good.
    let seen = guarded.gateway.lines_logged();
    assert_eq!(guarded.status(&[("X-API-Key", &key)]).await, 200);
    let line = guarded.gateway.wait_for_log(seen, "call ended").await;
    let span = &line["span"];
    assert_eq!((&span["address"], &span["caller"]), (&here, &json!("key:web")), "{line}");
    let seen = guarded.gateway.lines_logged();
    assert_eq!(guarded.status(&[("X-API-Key", &key)]).await, 429);
    let line = failed(&guarded, seen).await;
    assert_eq!((&line["address"], &line["caller"]), (&here, &json!("key:web")), "{line}");
    assert_eq!(line["kind"], "overloaded");
    // What never became a call, too.
    let seen = guarded.gateway.lines_logged();
    let broken = guarded.gateway.post("/api", &[("X-API-Key", &key)], "{").await;
    assert_eq!(broken.status, 200);
    let line = failed(&guarded, seen).await;
    assert_eq!((&line["address"], &line["caller"]), (&here, &json!("key:web")), "{line}");

    let log = guarded.gateway.log_text();
    assert!(!log.contains(&key) && !log.contains(&wrong), "{log}");
}

#[tokio::test]
async fn a_flood_of_bad_keys_is_summed_up() {
    let (_, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, "allow = [\"key:web\"]").await;
    for n in 0..50 {
        assert_eq!(guarded.status(&[("X-API-Key", &format!("guess-{n}"))]).await, 401);
    }
    let named = |line: &Value| line["message"] == "call failed" && line["address"] == "127.0.0.1";
    let named = guarded.gateway.log().iter().filter(|line| named(line)).count();
    assert!((1..=20).contains(&named), "{named} lines");
}
