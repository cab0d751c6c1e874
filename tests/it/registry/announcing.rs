//! Who may announce what, and what is believed of it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::{Value, json};

use super::{config, found, in_state, located, named, ping, shown};
use crate::harness::process::{Folder, free_port};
use crate::harness::{Asked, Gateway, Say, Web, as_fault, eventually, until};

#[tokio::test]
async fn calls_are_spread_over_what_matches_and_follow_it() {
    let (one, two, other) =
        (Web::serve(named("1")).await, Web::serve(named("2")).await, Web::serve(named("x")).await);
    let gateway = Gateway::start(&config("reports.*", "ttl = \"3s\"")).await;
    let fault = gateway.fault("reports.daily.run", Value::Null).await;
    assert!(
        fault.is("unavailable", "not_sent").message.contains("has announced itself"),
        "{fault:?}"
    );
    assert!(gateway.wait_until_not_ready().await.contains("registry = \"reports.*\""));
    for (name, web) in [("reports.daily", &one), ("reports.yearly", &two)] {
        let answer = ping(&gateway, name, &web.url).await;
        assert_eq!((&answer["result"], answer.get("error")), (&Value::Null, Some(&Value::Null)));
    }
    ping(&gateway, "orders", &other.url).await;
    gateway.wait_until_ready().await;
    let called = async || gateway.rpc("reports.daily.run", json!([])).await["result"].clone();
    until("both are called", async || {
        ping(&gateway, "reports.daily", &one.url).await;
        ping(&gateway, "reports.yearly", &two.url).await;
        let mut seen = BTreeSet::new();
        for _ in 0..20 {
            seen.insert(called().await.to_string());
        }
        seen == BTreeSet::from(["\"1\"".to_owned(), "\"2\"".to_owned()])
    })
    .await;
    // What is not announced any more is forgotten, and gets no calls.
    until("one is left", async || {
        ping(&gateway, "reports.yearly", &two.url).await;
        located(&gateway, "reports.*").await == [two.url.clone()]
    })
    .await;
    until("it gets the calls", async || {
        ping(&gateway, "reports.yearly", &two.url).await;
        let before = one.asked().len();
        for _ in 0..20 {
            assert_eq!(called().await, "2");
        }
        one.asked().len() == before
    })
    .await;
    assert!(gateway.metric("genkan_registry_gone_total", &[("reason", "expired")]).await >= 1.0);
    gateway
        .wait_for_metric(
            "genkan_registry_requests_total",
            &[("method", "ping"), ("outcome", "ok")],
            1.0,
        )
        .await;
    assert!(shown(&gateway, "orders").await.is_none());
    assert!(other.asked().is_empty(), "nobody asked who was refused");
}

#[tokio::test]
async fn every_generation_announces_and_looks_up() {
    let web = Web::serve(named("1")).await;
    let port: u16 = web.address().rsplit(':').next().and_then(|port| port.parse().ok()).unwrap();
    let gateway = Gateway::start(&config("*", "")).await;
    gateway.notify("ping", json!({"name": "old.one", "host": "127.0.0.1", "port": port})).await;
    gateway.notify("ping", json!({"name": "a.named", "url": web.url})).await;
    gateway.result_of_ping(json!(["a.listed", web.url])).await;
    gateway.result_of_ping(json!(["old.listed", "127.0.0.1", port])).await;
    for name in ["old.one", "a.named", "a.listed", "old.listed"] {
        in_state(&gateway, name, "in_service").await;
    }
    assert_eq!(located(&gateway, "*").await, [&*web.url], "told once, whatever its names");
    assert_eq!(located(&gateway, "a.n?med").await, [&*web.url]);
    assert_eq!(located(&gateway, "old.one").await, [&*web.url]);
    let by_position = gateway.rpc("locate_service", json!(["old.*"])).await;
    let place = json!({"host": "127.0.0.1", "port": port});
    assert_eq!(by_position["result"], json!([place]));
    assert_eq!(by_position["error"], Value::Null, "as Gemstone's clients want it");
    let batch = gateway
        .api(r#"[{"jsonrpc":"2.0","id":1,"method":"locate_service","params":["a.named"]},{"jsonrpc":"2.0","id":2,"method":"x.y"}]"#)
        .await;
    assert_eq!(batch[0]["result"], json!([web.url]));
    let specs = gateway.rpc("get_service_specs", Value::Null).await;
    assert_eq!(specs["result"]["name"], "genkan");
    for method in ["ping", "locate_service", "get_service_specs"] {
        assert!(specs["result"]["methods"].get(method).is_some(), "{specs}");
    }
}

impl Gateway {
    async fn result_of_ping(&self, params: Value) {
        let answer = self.rpc("ping", params).await;
        assert!(answer["error"].is_null(), "{answer}");
    }
}

#[tokio::test]
async fn nobody_may_unless_he_is_named() {
    let gateway = Gateway::start("").await;
    let url = "http://127.0.0.1:1/api";
    let fault = as_fault(&ping(&gateway, "reports.daily", url).await);
    assert!(fault.is("access_denied", "not_sent").message.contains("`allow` under"), "{fault:?}");
    let gateway = Gateway::start(&config("reports.*", "")).await;
    let fault = as_fault(&ping(&gateway, "orders", url).await);
    assert!(fault.is("access_denied", "not_sent").message.contains("`orders`"), "{fault:?}");
    gateway.write_config(&config("orders*", ""));
    ping(&gateway, "reports.daily", url).await;
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded").await;
    assert!(shown(&gateway, "reports.daily").await.is_none(), "what may not any more goes");
    as_fault(&ping(&gateway, "reports.daily", url).await).is("access_denied", "not_sent");
}

#[tokio::test]
async fn urls_that_nobody_is_taken_to() {
    let gateway = Gateway::start(&config("*", crate::hub::HUB)).await;
    let own = format!("http://{}/api", gateway.http);
    let admin = format!("http://{}/metrics", gateway.admin);
    let hub = format!("http://{}/", crate::hub::address(&gateway).await);
    let own_service = format!("http://{}/api/reports", gateway.http);
    let mapped = own.replace("127.0.0.1", "[::ffff:127.0.0.1]");
    let local = own.replace("127.0.0.1", "localhost");
    for (url, words) in [
        ("http://169.254.169.254/latest/meta-data/", "metadata"),
        ("http://[::ffff:169.254.169.254]/", "metadata"),
        ("http://[::ffff:a9fe:a9fe]:80/", "metadata"),
        ("http://[64:ff9b::a9fe:a9fe]/", "metadata"),
        ("http://[fd00:ec2::254]/latest/", "metadata"),
        ("http://[fe80::1]/", "metadata"),
        ("http://100.100.100.200/", "metadata"),
        ("http://metadata.google.internal/computeMetadata/v1/", "metadata"),
        ("http://0.0.0.0:8000/api", "no address of one host"),
        ("file:///etc/passwd", "http://"),
        ("gopher://127.0.0.1:11211/", "http://"),
        ("unix:///run/docker.sock", "http://"),
        ("http://user:geheim@127.0.0.1/", "credentials"),
        ("//127.0.0.1/", "http://"),
        ("", "is empty"),
        (own.as_str(), "Genkan itself"),
        (own_service.as_str(), "Genkan itself"),
        (mapped.as_str(), "Genkan itself"),
        (local.as_str(), "Genkan itself"),
        (admin.as_str(), "Genkan itself"),
        (hub.as_str(), "Genkan itself"),
    ] {
        let fault = as_fault(&ping(&gateway, "reports", url).await);
        fault.is("invalid_params", "not_sent");
        assert!(fault.message.contains(words), "{url}: {fault:?}");
        assert!(!fault.message.contains("geheim"), "{fault:?}");
        assert!(!fault.message.ends_with('\''), "a quote that nothing begins: {fault:?}");
    }
    assert!(shown(&gateway, "reports").await.is_none());
    assert!(!gateway.log_text().contains("geheim"));
    // Only the system knows what these are: they are looked at when they are resolved.
    for (name, url) in [
        ("decimal", "http://2852039166/".to_owned()),
        ("octal", "http://0251.0376.0251.0376/".to_owned()),
        ("short", "http://169.16689662/".to_owned()),
        ("self", own.replace("127.0.0.1", "2130706433")),
    ] {
        ping(&gateway, name, &url).await;
        let service = eventually(&format!("{name} was looked at"), async || {
            shown(&gateway, name).await.filter(|service| service.get("why").is_some())
        })
        .await;
        let why = service["why"].as_str().expect("a reason");
        assert!(why.contains("not connected to"), "{service}");
    }
    assert_eq!(located(&gateway, "*").await, [""; 0]);
}

#[tokio::test]
async fn what_is_not_what_it_said_is_never_believed() {
    let page = Web::serve(|_: &Asked| Say::status("200 OK", "", "<html>")).await;
    let other = Web::serve(|asked: &Asked| asked.result(r#"{"name":"orders","methods":{}}"#)).await;
    let moved = Web::serve(|_: &Asked| {
        Say::status("302 Found", "Location: http://169.254.169.254/\r\n", "")
    })
    .await;
    let huge = Web::serve(|_: &Asked| Say::json(&"1".repeat(1 << 20))).await;
    let silent = Web::serve(|_: &Asked| Say::nothing()).await;
    let raw = Web::serve(|_: &Asked| Say::bytes("220 smtp.example ESMTP\r\n").and_close()).await;
    let nobody = format!("http://127.0.0.1:{}/api", free_port());
    let gateway = Gateway::start(&config("*", "")).await;
    for (name, url, state, why) in [
        ("page", &page.url, "refuted", "no JSON-RPC"),
        ("other", &other.url, "refuted", "calls itself `orders`"),
        ("moved", &moved.url, "refuted", "HTTP status 302"),
        ("huge", &huge.url, "unproven", "larger"),
        ("silent", &silent.url, "unproven", "not answered within 2s"),
        ("raw", &raw.url, "unproven", "no HTTP"),
        ("nobody", &nobody, "unproven", "nobody listens there"),
    ] {
        let answer = ping(&gateway, name, url).await;
        assert!(answer["error"].is_null(), "it is asked later: {answer}");
        let service = eventually(&format!("{name} was asked"), async || {
            shown(&gateway, name).await.filter(|service| service.get("why").is_some())
        })
        .await;
        assert_eq!(service["state"], state, "{service}");
        assert!(service["why"].as_str().unwrap().contains(why), "{service}");
    }
    assert_eq!(located(&gateway, "*").await, [""; 0]);
    let fault = as_fault(&ping(&gateway, "other", &other.url).await);
    assert!(fault.is("invalid_params", "not_sent").message.contains("`orders`"), "{fault:?}");
    let line = gateway.wait_for_log(0, "an announcement is not believed").await;
    assert!(line["why"].as_str().is_some(), "{line}");
    gateway.wait_for_metric("genkan_registry_services", &[("state", "refuted")], 3.0).await;
}

#[tokio::test]
async fn one_that_is_slow_to_begin_is_believed_when_it_has_begun() {
    let has_begun = Arc::new(AtomicBool::new(false));
    let begun = Arc::clone(&has_begun);
    let web = Web::serve(move |asked: &Asked| match begun.load(Ordering::SeqCst) {
        false => Say::status("503 Service Unavailable", "", ""),
        true => named("1")(asked),
    })
    .await;
    let gateway = Gateway::start(&config("a.*", "")).await;
    ping(&gateway, "a.b", &web.url).await;
    eventually("it was asked", async || {
        shown(&gateway, "a.b").await.filter(|service| service.get("why").is_some())
    })
    .await;
    assert_eq!(located(&gateway, "a.*").await, [""; 0]);
    has_begun.store(true, Ordering::SeqCst);
    assert_eq!(found(&gateway, "a.*", 1).await, [&*web.url]);
    assert_eq!(gateway.result("a.b.c", Value::Null).await, "1");
}

/// It announces itself, and a call of Genkan's own is under way there: nothing else is answered meanwhile.
#[tokio::test]
async fn one_that_is_busy_stays_in_service() {
    let is_busy = Arc::new(AtomicBool::new(false));
    let busy = Arc::clone(&is_busy);
    let web = Web::serve(move |asked: &Asked| match busy.load(Ordering::SeqCst) {
        true => Say::nothing(),
        false => named("1")(asked),
    })
    .await;
    let gateway = Gateway::start(&config("a.*", "ttl = \"6s\"")).await;
    ping(&gateway, "a.b", &web.url).await;
    in_state(&gateway, "a.b", "in_service").await;
    is_busy.store(true, Ordering::SeqCst);
    let service = eventually("it was asked, and has not answered", async || {
        ping(&gateway, "a.b", &web.url).await;
        shown(&gateway, "a.b").await.filter(|service| service.get("why").is_some())
    })
    .await;
    assert_eq!(service["state"], "in_service", "{service}");
    assert_eq!(located(&gateway, "a.*").await, [&*web.url]);
    is_busy.store(false, Ordering::SeqCst);
    assert_eq!(gateway.result("a.b.c", Value::Null).await, "1");
    // One that is gone is gone, however lately it has announced itself.
    web.end().await;
    eventually("it is found gone", async || {
        ping(&gateway, "a.b", "http://127.0.0.1:1/api").await;
        let text = gateway.fault("a.b.c", Value::Null).await.message;
        text.contains("was not found where it said").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_hundred_thousand_names_are_bounded_and_the_oldest_go() {
    let web = Web::serve(named("1")).await;
    let gateway = Gateway::start(&config("*", "max_services = 1000\n")).await;
    ping(&gateway, "honest", &web.url).await;
    in_state(&gateway, "honest", "in_service").await;
    let nobody = format!("http://127.0.0.1:{}/api", free_port());
    for batch in 0..100 {
        let pings = (0..1_000).map(|nth| {
            let name = format!("flood.{}", batch * 1_000 + nth);
            json!({"jsonrpc": "2.0", "method": "ping", "params": {"name": name, "url": nobody}, "id": nth})
        });
        let answers = gateway.api(Value::from(pings.collect::<Vec<_>>()).to_string()).await;
        assert_eq!(answers.as_array().map(Vec::len), Some(1_000));
        assert!(answers[999]["error"].is_null(), "{answers}");
    }
    let page = gateway.page("/registry/services").await.json();
    let services = page["services"].as_array().expect("a list");
    assert_eq!(services.len(), 1_000);
    assert!(services.iter().any(|service| service["name"] == "flood.99999"));
    assert!(!services.iter().any(|service| service["name"] == "flood.0"));
    assert_eq!(located(&gateway, "*").await, [&*web.url], "who is in service stays");
    let gone = gateway.metric("genkan_registry_gone_total", &[("reason", "no_room")]).await;
    assert!(gone >= 99_001.0, "{gone}");
    // Somebody else is heard all the same.
    ping(&gateway, "late", &web.url).await;
    in_state(&gateway, "late", "in_service").await;
}

#[tokio::test]
async fn a_restart_starts_with_what_was_known() {
    let (web, folder) = (Web::serve(named("1")).await, Folder::new());
    let liar = Web::serve(|asked: &Asked| asked.result(r#"{"name":"orders"}"#)).await;
    let state = format!("state_dir = \"{}\"", folder.path().display());
    let gateway = Gateway::start(&config("a.*", &state)).await;
    ping(&gateway, "a.b", &web.url).await;
    ping(&gateway, "a.liar", &liar.url).await;
    in_state(&gateway, "a.b", "in_service").await;
    in_state(&gateway, "a.liar", "refuted").await;
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
    let file = folder.path().join("registry.json");
    let kept: Value = serde_json::from_slice(&std::fs::read(&file).expect("it is there")).unwrap();
    assert_eq!(kept, json!([{"name": "a.b", "url": web.url}]));

    let asked = web.asked().len();
    let gateway = Gateway::ready(&config("a.*", &state)).await;
    assert!(web.asked().len() > asked, "it was asked before it was believed");
    assert_eq!(gateway.result("a.b.c", Value::Null).await, "1");

    // What stands there is no more than an announcement.
    let strange = json!([{"name": "a.meta", "url": "http://169.254.169.254/"},
        {"name": "b", "url": web.url}, {"name": "a.c", "url": web.url}]);
    std::fs::write(&file, strange.to_string()).expect("written");
    let gateway = Gateway::ready(&config("a.*", &state)).await;
    assert_eq!(located(&gateway, "*").await, [&*web.url]);
    assert!(shown(&gateway, "a.meta").await.is_none() && shown(&gateway, "b").await.is_none());
    std::fs::write(&file, "{ half").expect("written");
    let gateway = Gateway::start(&config("a.*", &state)).await;
    gateway.wait_for_log(0, "cannot read the announced services").await;
    ping(&gateway, "a.b", &web.url).await;
    found(&gateway, "a.b", 1).await;
}

#[tokio::test]
async fn a_row_that_names_a_method_of_the_registry_takes_it() {
    let web = Web::serve(|asked: &Asked| asked.result("\"pong\"")).await;
    let upstream = format!("[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n", web.url);
    let row = |pattern: &str| {
        format!("[[routes]]\nmatch = \"{pattern}\"\nupstream = \"web\"\nservice = \"hello\"\n")
    };
    let gateway = Gateway::ready(&format!("{upstream}{}", row("ping"))).await;
    assert_eq!(gateway.result("ping", Value::Null).await, "pong");
    let gateway = Gateway::ready(&format!("{upstream}{}", row("*"))).await;
    let fault = gateway.fault("ping", Value::Null).await;
    fault.is("invalid_params", "not_sent");
    assert_eq!(gateway.result("hello.ping", Value::Null).await, "pong");
    assert_eq!(gateway.result("other", Value::Null).await, "pong");
}

/// Gemstone's clients up to 0.9 ask for them before anything else, and call nothing that is not told.
#[tokio::test]
async fn the_methods_that_rows_name_are_told_where_no_row_takes_the_question() {
    let toml = "[[routes]]\nmatch = \"orders.create\"\nupstream = \"hub\"\n\
                [[routes]]\nmatch = \"orders.cancel\"\nupstream = \"hub\"\n";
    let gateway = Gateway::start(toml).await;
    let question = r#"{"jsonrpc":"2.0","method":"get_service_specs","id":1}"#;
    let headers = [("Content-Type", "application/json")];
    let answer = gateway.post("/api/orders", &headers, question).await.json();
    let expected = json!({"name": "orders", "methods": {"cancel": null, "create": null}});
    assert_eq!(answer["result"], expected, "{answer}");
    let nobody = gateway.post("/api/others", &headers, question).await.json();
    assert_eq!(nobody["error"]["data"]["kind"], "unknown_service", "{nobody}");
}
