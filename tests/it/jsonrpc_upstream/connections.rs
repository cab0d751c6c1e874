//! Connections to services: kept, closed by either side, over TLS, HTTP/2 and Unix sockets.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::config;
use crate::check_live::{check, tells};
use crate::harness::certs::Certs;
use crate::harness::process::Folder;
use crate::harness::proxy::{Proxy, Way, Weather};
use crate::harness::{Asked, Gateway, NodeService, Web, until};

async fn about(gateway: &Gateway) -> Value {
    gateway.result("a.about", json!([])).await
}

#[tokio::test]
async fn a_connection_is_used_again() {
    let service = NodeService::start("http", &[]);
    let gateway = Gateway::ready(&config(&format!("http://{}/", service.address), "")).await;
    let first = about(&gateway).await["connection"].clone();
    for _ in 0..50 {
        assert_eq!(about(&gateway).await["connection"], first);
    }
}

/// Calls are made just as the service closes the connections that they would go over.
#[tokio::test]
async fn no_call_fails_because_a_service_closes_idle_connections() {
    for (keep_alive, rounds) in [(40, 60_u64), (1050, 8)] {
        let service = NodeService::start("http", &[("KEEP_ALIVE", &keep_alive.to_string())]);
        let url = format!("http://{}/", service.address);
        let gateway = Arc::new(Gateway::ready(&config(&url, "")).await);
        for round in 0..rounds {
            let calls = (0..16).map(|call| {
                let gateway = Arc::clone(&gateway);
                tokio::spawn(async move { gateway.result("a.echo", json!([call])).await })
            });
            for (nth, call) in calls.collect::<Vec<_>>().into_iter().enumerate() {
                assert_eq!(call.await.expect("no call fails"), json!([nth]));
            }
            // Around the moment at which the service closes.
            tokio::time::sleep(Duration::from_millis(keep_alive - 8 + round % 16)).await;
        }
    }
}

/// One that does not tell, and closes idle connections without a word, costs nobody a call.
#[tokio::test]
async fn a_service_that_closes_without_a_word_costs_no_call() {
    let idle = Duration::from_millis(10);
    let service = Web::serve(move |asked: &Asked| asked.result("1").and_close_idle(idle)).await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    for _ in 0..50 {
        assert_eq!(gateway.result("a.f", json!([])).await, 1);
        until("it has closed", async || {
            let (made, ended) = service.connections();
            made == ended
        })
        .await;
    }
}

/// What waits for a connection has not left.
#[tokio::test]
async fn a_call_that_never_got_a_connection_was_not_sent() {
    // It takes connections, and never answers TLS.
    let silent = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let url = format!("https://{}/", silent.local_addr().expect("bound"));
    let gateway = Gateway::start(&format!("timeout = \"300ms\"\n{}", config(&url, ""))).await;
    gateway.fault("a.f", json!([])).await.is("timeout", "not_sent");
}

#[tokio::test]
async fn there_are_no_more_connections_than_allowed() {
    let service = NodeService::start("http", &[]);
    let url = format!("http://{}/", service.address);
    let gateway = Arc::new(Gateway::ready(&config(&url, "max_connections = 3")).await);
    let calls = (0..60).map(|_| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { about(&gateway).await["connection"].as_u64().unwrap() })
    });
    let mut seen = std::collections::BTreeSet::new();
    for call in calls.collect::<Vec<_>>() {
        seen.insert(call.await.expect("an answer"));
    }
    assert!(seen.len() <= 3, "{seen:?}");
}

#[tokio::test]
async fn idle_connections_are_closed_in_time() {
    let service = Web::serve(|asked: &Asked| asked.result("1")).await;
    let gateway = Gateway::ready(&config(&service.url, "keep_alive = \"300ms\"")).await;
    gateway.result("a.f", json!([])).await;
    let (made, _) = service.connections();
    until("all are closed", async || service.connections().1 >= made).await;
}

#[tokio::test]
async fn a_unix_socket() {
    let folder = Folder::new();
    let socket = folder.path().join("x.sock");
    let service = Web::at_socket(&socket, |asked: &Asked| asked.result("\"near\""));
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    assert_eq!(gateway.result("a.f", json!([])).await, "near");
    let asked = service.last();
    assert_eq!(
        (asked.line.as_str(), asked.header("host")),
        ("POST /api HTTP/1.1", Some("localhost"))
    );
}

#[tokio::test]
async fn tls_with_an_authority_and_a_certificate_of_ones_own() {
    let certs = Certs::new();
    let files = [
        ("CERT", certs.path("server.pem")),
        ("KEY", certs.path("server.key")),
        ("CA", certs.path("ca.pem")),
    ];
    let environment = files.each_ref().map(|(name, path)| (*name, path.as_str()));
    let ca = format!("ca_file = \"{}\"\n", certs.path("ca.pem"));
    let identity = format!(
        "cert_file = \"{}\"\nkey_file = \"{}\"\n",
        certs.path("client.pem"),
        certs.path("client.key")
    );
    for (kind, version) in [("https", "1.1"), ("h2", "2.0")] {
        let service = NodeService::start(kind, &environment);
        let url = format!("https://{}/", service.address);
        let gateway = Gateway::ready(&config(&url, &format!("{ca}{identity}"))).await;
        let seen = about(&gateway).await;
        assert_eq!((&seen["client"], &seen["http"]), (&json!("client"), &json!(version)));
    }
    // Without one's own authority nobody is believed, and nothing is sent.
    let service = NodeService::start("https", &environment[..2]);
    let url = format!("https://{}/", service.address);
    let gateway = Gateway::start(&config(&url, "")).await;
    until("that is told", async || {
        gateway.wait_until_not_ready().await.contains("signed by no authority")
    })
    .await;
    let fault = gateway.fault("a.echo", json!([])).await;
    assert!(fault.is("unavailable", "not_sent").message.contains("`ca_file`"), "{fault:?}");
    assert!(gateway.log_text().contains("in `ca_file`"), "{}", gateway.log_text());
}

/// Who speaks TLS 1.3 is told that it has to show a certificate when its own part is done, by an alert; nothing that it sent
/// has been read.
#[tokio::test]
async fn a_service_that_wants_a_client_certificate() {
    let certs = Certs::new();
    let path = |name: &str| certs.path(name);
    let tls = format!(
        "[http.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\nclient_cert = \"required\"\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    );
    for http2 in [false, true] {
        let service = Gateway::start(&format!("[http]\nhttp2 = {http2}\n{tls}")).await;
        let keys = format!("ca_file = \"{}\"\n", path("ca.pem"));
        let gateway =
            Gateway::start(&config(&format!("https://{}/api", service.http), &keys)).await;
        let fault = gateway.fault("a.echo", json!([])).await;
        let message = &fault.is("unavailable", "not_sent").message;
        assert!(message.contains("client certificate"), "{http2}: {fault:?}");
        let line = gateway.wait_for_log(0, "an instance is out").await;
        assert!(line["mend"].as_str().is_some_and(|mend| mend.contains("`cert_file`")), "{line}");
        let (_, problems) = check(&config(&format!("https://{}/api", service.http), &keys)).await;
        tells(&problems, "error", &["client certificate", "`cert_file`"]);
    }
}

#[tokio::test]
async fn calls_share_a_connection_of_http_2() {
    let service = NodeService::start("h2c", &[]);
    let url = format!("http://{}/", service.address);
    let gateway = Arc::new(Gateway::ready(&config(&url, "http2 = true")).await);
    let calls = (0..64).map(|turn| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            let text = "é".repeat(50_000);
            let result = gateway.result("a.echo", json!([turn, text])).await;
            assert_eq!(result, json!([turn, text]));
            about(&gateway).await
        })
    });
    for call in calls.collect::<Vec<_>>() {
        let seen = call.await.expect("an answer");
        assert_eq!((&seen["http"], &seen["connection"]), (&json!("2.0"), &json!(1)));
    }
}

/// A service lets so many calls be open over one connection. Others wait in Genkan's line, as they do for a
/// connection of HTTP/1.1: whoever comes to the end of his time there was not sent, and the time of a wait is not told
/// to the service as left.
#[tokio::test]
async fn calls_over_what_a_service_of_http_2_takes_at_once_wait_their_turn() {
    let service = NodeService::start("h2c", &[("MAX_STREAMS", "2")]);
    let url = format!("http://{}/", service.address);
    let rows = "timeout = \"20s\"\n[[routes]]\nmatch = \"a.brief\"\nupstream = \"web\"\ntimeout = \"300ms\"\n";
    let config = format!("{rows}{}", config(&url, "http2 = true"));
    let (gateway, other) = (Gateway::ready(&config).await, Gateway::ready(&config).await);
    let gateway = Arc::new(gateway);
    let call = |method: &'static str| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.result(method, json!([])).await })
    };
    let holders = [call("a.held"), call("a.held")];
    until("both are there", async || about(&other).await["held"] == 2).await;
    gateway.fault("a.brief", json!([])).await.is("timeout", "not_sent");
    let waiting = call("a.about");
    gateway.wait_for_metric("genkan_calls_in_flight", &[("upstream", "web")], 3.0).await;
    let wait = Duration::from_millis(300);
    tokio::time::sleep(wait).await;
    other.result("a.release", json!([])).await;
    for holder in holders {
        assert_eq!(holder.await.expect("an answer"), 1);
    }
    let seen = waiting.await.expect("an answer");
    let left = seen["left"].as_u64().expect("what is left of its time");
    assert!(left <= 20_000 - 300, "{seen}");
    assert_eq!(seen["connection"], about(&gateway).await["connection"]);
}

/// They wait for one connection, and what becomes of it is news for all of them at once.
#[tokio::test]
async fn calls_that_wait_for_a_connection_of_http_2_do_not_try_one_after_the_other() {
    let service = NodeService::start("h2c", &[]);
    let proxy = Proxy::to(service.address.clone()).await;
    let rows = "timeout = \"8s\"\n";
    let keys = "http2 = true\nconnect_timeout = \"2s\"";
    let url = format!("http://{}/", proxy.address());
    let gateway = Arc::new(Gateway::ready(&format!("{rows}{}", config(&url, keys))).await);
    assert_eq!(about(&gateway).await["http"], "2.0");
    proxy.set(Weather { out: Way::Silent, back: Way::Silent, ..Weather::default() });
    proxy.hang_up();
    let calls = (0..8).map(|_| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move { gateway.fault("a.echo", json!([])).await })
    });
    for call in calls.collect::<Vec<_>>() {
        call.await.expect("a fault").is("unavailable", "not_sent");
    }
}

/// A call that is given up resets its stream; the connection and everybody else's calls live on.
#[tokio::test]
async fn a_call_over_http_2_that_is_given_up_costs_no_other() {
    let service = NodeService::start("h2c", &[]);
    let url = format!("http://{}/", service.address);
    let row = "[[routes]]\nmatch = \"a.silent\"\nupstream = \"web\"\ntimeout = \"200ms\"\n";
    let gateway = Gateway::ready(&format!("{row}{}", config(&url, "http2 = true"))).await;
    for _ in 0..3 {
        gateway.fault("a.silent", json!([])).await.is("timeout", "unknown");
    }
    until("the service sees that all are given up", async || {
        let seen = about(&gateway).await;
        assert_eq!(seen["connection"], 1, "{seen}");
        seen["aborted"] == 3
    })
    .await;
}

#[tokio::test]
async fn a_service_that_says_goodbye_over_http_2_costs_no_call() {
    let service = NodeService::start("h2c", &[]);
    let url = format!("http://{}/", service.address);
    let gateway = Arc::new(Gateway::ready(&config(&url, "http2 = true")).await);
    let callers = (0..8).map(|caller| {
        let gateway = Arc::clone(&gateway);
        tokio::spawn(async move {
            for turn in 0..40 {
                let method = if caller == 0 { "a.goodbye" } else { "a.echo" };
                assert_eq!(gateway.result(method, json!([turn])).await, json!([turn]));
            }
        })
    });
    for caller in callers.collect::<Vec<_>>() {
        caller.await.expect("no call fails");
    }
    assert!(about(&gateway).await["connection"].as_u64().unwrap() > 1);
}

#[tokio::test]
async fn a_large_answer_is_taken_and_counted() {
    let long = format!("\"{}\"", "x".repeat(5 << 20));
    let expected = long.len();
    let service = Web::serve(move |asked: &Asked| asked.result(&long)).await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    assert_eq!(gateway.raw("a.f", "[]").await.len(), expected);
    // An upstream's part of `max_memory` is half of it: there is never room for that.
    let config = format!("max_memory = \"8MiB\"\n{}", config(&service.url, ""));
    let gateway = Gateway::ready(&config).await;
    gateway.fault("a.f", json!([])).await.is("too_large", "executed");
}
