//! Servers that only the cluster names.

use crate::harness::certs::Certs;
use crate::harness::{Gateway, Nats, eventually};

const TOLD: &str = "NATS names other servers of its cluster";

/// A call that no service takes tells that there is a connection.
async fn is_served(gateway: &Gateway) {
    eventually("calls reach a server", async || {
        let response = gateway.api(r#"{"jsonrpc":"2.0","method":"nobody.x","id":1}"#).await;
        (response["error"]["data"]["kind"] == "unknown_service").then_some(())
    })
    .await;
}

/// Its certificate is for the name under which the first one was reached, and the login is the
/// first one's.
#[tokio::test]
async fn a_server_that_only_the_cluster_names_is_used() {
    let certs = Certs::for_names("DNS:localhost");
    let conf = format!(
        "tls {{ cert_file: \"{}\", key_file: \"{}\" }}\n\
         authorization {{ user: till, password: p }}",
        certs.path("server.pem"),
        certs.path("server.key")
    );
    let (known, other) = Nats::cluster(&conf);
    let toml = known.config("picom").replace("nats://127.0.0.1", "tls://till:p@localhost");
    let ca = format!("ca_file = \"{}\"\ndialect", certs.path("ca.pem"));
    let gateway = Gateway::ready(&toml.replace("dialect", &ca)).await;
    other.restart();
    let told = gateway.wait_for_log(0, TOLD).await;
    assert!(told["servers"].as_str().is_some_and(|servers| servers.contains(&other.address())));
    known.kill();
    gateway.wait_for_log(0, "the connection to NATS was lost").await;
    is_served(&gateway).await;
    // Those of the configuration are tried first, and are not forgotten.
    known.restart();
    other.kill();
    is_served(&gateway).await;
    let seen = gateway.log().len();
    other.restart();
    gateway.wait_for_log(seen, TOLD).await;
}

#[tokio::test]
async fn where_it_is_not_wanted_the_configured_servers_alone_are_used() {
    let (known, other) = Nats::cluster("");
    let toml = known.config("picom").replace("dialect", "discover = false\ndialect");
    let gateway = Gateway::ready(&toml).await;
    other.restart();
    let other = other.client().await;
    // The two know of each other, and so the first one has told of the second.
    let mut heard = other.subscribe("heard.x").await.expect("a subscription");
    eventually("calls reach the other server", async || {
        let timeout = [("X-Request-Timeout", "100ms")];
        let response = gateway.post("/call/heard/x", &timeout, "").await;
        (response.json()["kind"] == "timeout").then_some(())
    })
    .await;
    drop(heard.unsubscribe().await);
    known.kill();
    gateway.wait_for_log(0, "no connection to NATS: the server cannot be reached").await;
    known.restart();
    is_served(&gateway).await;
    let connected = gateway.logged("connected to NATS");
    assert_eq!(connected.len(), 2);
    assert!(connected.iter().all(|line| line["server"] == known.url()), "{connected:?}");
    assert_eq!(gateway.logged(TOLD).len(), 0);
}
