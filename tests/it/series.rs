//! What `/metrics` holds: a series from its first use on, so that a table costs what is called of
//! it, and what watches the gateway finds what it asks for.

use serde_json::json;

use crate::harness::{Gateway, Nats, NatsResponder};
use crate::hub::{HUB, Peer};

/// A gateway with so many rows to one upstream, of which services `s0` to `s19` are there.
async fn with_rows(rows: usize) -> (Nats, Vec<NatsResponder>, Gateway) {
    let nats = Nats::start();
    let mut services = Vec::new();
    for n in 0..20 {
        let client = nats.client().await;
        let answer = |_: &_| crate::harness::Answer::new(r#"{"payload":1}"#);
        services.push(NatsResponder::serve(client, &format!("s{n}"), answer).await);
    }
    let rows: String = (0..rows)
        .map(|n| format!("[[routes]]\nmatch = \"s{n}.*\"\nupstream = \"nats\"\n"))
        .collect();
    let gateway = Gateway::ready(&format!("{HUB}{}{rows}", nats.upstream("nats", "picom"))).await;
    (nats, services, gateway)
}

/// The series that hold `part`, the process's own excepted.
async fn series(gateway: &Gateway, part: &str) -> usize {
    let page = gateway.page("/metrics").await;
    let lines = page.text().lines().filter(|line| !line.starts_with(['#', 'p']));
    lines.filter(|line| !line.is_empty() && line.contains(part)).count()
}

#[tokio::test]
async fn a_row_that_is_not_called_has_no_series() {
    let mut at_start = Vec::new();
    for rows in [200, 10_000] {
        let (_nats, _services, gateway) = with_rows(rows).await;
        at_start.push(series(&gateway, "").await);
        assert!(at_start[0] < 100, "{}", gateway.page("/metrics").await.text());
        gateway.result("s0.x", json!(["p"])).await;
        let (all, of_one) = (series(&gateway, "").await, series(&gateway, "s0.*").await);
        assert!((1..=20).contains(&of_one), "{of_one}");
        for n in 1..20 {
            gateway.result(&format!("s{n}.x"), json!(["p"])).await;
            assert_eq!(series(&gateway, "").await, all + n * of_one, "after {n} more rows");
        }
        for n in 0..20 {
            gateway.result(&format!("s{n}.x"), json!(["p"])).await;
        }
        assert_eq!(series(&gateway, "").await, all + 19 * of_one, "called again, nothing is new");
        // Another end of a call is one more series.
        gateway.post("/call/s0/x", &[("X-Request-Timeout", "never")], "").await;
        assert!(series(&gateway, "").await <= all + 20 * of_one);
    }
    assert_eq!(at_start[0], at_start[1], "rows cost nothing");
}

#[tokio::test]
async fn rows_that_stay_count_on_over_reloads() {
    let (nats, _services, gateway) = with_rows(3).await;
    let counted = async |n: usize| {
        let labels = [("route", format!("s{n}.*"))];
        let labels = labels.each_ref().map(|(label, value)| (*label, value.as_str()));
        gateway.metric("genkan_calls_total", &labels).await
    };
    gateway.result("s0.x", json!(["p"])).await;
    gateway.result("s1.x", json!(["p"])).await;
    let rows = "[[routes]]\nmatch = \"s2.*\"\nupstream = \"nats\"\n\
                [[routes]]\nmatch = \"s0.*\"\nupstream = \"nats\"\n";
    let before = series(&gateway, "").await;
    for _ in 0..3 {
        let seen = gateway.log().len();
        gateway.write_config(&format!("{HUB}{}{rows}", nats.upstream("nats", "picom")));
        gateway.hang_up();
        gateway.wait_for_log(seen, "reloaded").await;
        gateway.result("s0.x", json!(["p"])).await;
    }
    assert_eq!((counted(0).await, counted(1).await), (4.0, 1.0));
    assert_eq!(series(&gateway, "").await, before, "no reload makes new ones");
}

#[tokio::test]
async fn what_alerts_ask_for_is_there_before_it_moves() {
    let down = Nats::down();
    let nats = Nats::start();
    let gateway = Gateway::start(&format!(
        "{}{}[[routes]]\nmatch = \"*\"\nupstream = \"up\"\n",
        nats.upstream("up", "picom"),
        down.upstream("down", "picom")
    ))
    .await;
    gateway.wait_for_metric("genkan_upstream_up", &[("upstream", "up")], 1.0).await;
    let page = gateway.page("/metrics").await;
    let has = |line: &str| page.text().lines().any(|found| found == line);
    assert!(has("genkan_upstream_up{upstream=\"down\"} 0"), "{}", page.text());
    // A counter that appears with its first count shows no increase: it counts from the
    // connection that may be lost.
    assert!(has("genkan_upstream_reconnects_total{upstream=\"up\"} 0"), "{}", page.text());
    assert!(!page.text().contains("late_replies_total{"), "{}", page.text());
}

#[tokio::test]
async fn what_the_hub_refuses_and_ends_is_counted_from_the_first() {
    let gateway = Gateway::start(HUB).await;
    for counter in ["genkan_hub_hooks_total", "genkan_hub_disconnects", "genkan_hub_refused"] {
        assert_eq!(series(&gateway, counter).await, 0, "{counter}");
    }
    let mut stranger = Peer::connect(&gateway).await;
    stranger.write("GET / HTTP/1.1\r\n\r\n").await;
    let ended = [("reason", "no_module")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &ended, 1.0).await;
    assert_eq!(series(&gateway, "genkan_hub_disconnects").await, 1);
}
