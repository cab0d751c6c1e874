//! Genkan tells other registries of services behind it.

use std::time::Duration;

use serde_json::{Value, json};

use super::{config, found, in_state, located, named, ping};
use crate::harness::process::free_port;
use crate::harness::{Asked, Gateway, Web, until};

#[tokio::test]
async fn a_registry_is_told_while_the_service_can_be_called() {
    let registry = Web::serve(|asked: &Asked| asked.result("null")).await;
    let grumpy =
        Web::serve(|asked: &Asked| asked.error(r#"{"code":-32001,"message":"no \u001b[2J"}"#))
            .await;
    let port = free_port();
    let gateway = Gateway::start(&format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:{port}/\"\n\
         [[routes]]\nmatch = \"shop.*\"\nupstream = \"web\"\n\
         [registry]\nannounce = [\"{}\", \"{}\"]\nservices = [\"shop\"]\n\
         public_url = \"http://gate.example:8080\"\n",
        registry.url, grumpy.url
    ))
    .await;
    gateway.wait_until_not_ready().await;
    assert!(registry.asked().is_empty(), "nobody is told of what cannot be called");
    let _web = Web::at(&format!("127.0.0.1:{port}"), named("1")).await;
    until("it is told", async || !registry.asked().is_empty()).await;
    let ping = registry.last().json();
    assert_eq!(ping["method"], "ping");
    assert_eq!(ping["params"], json!({"name": "shop", "url": "http://gate.example:8080/api/shop"}));
    let line = gateway.wait_for_log(0, "cannot announce a service").await;
    assert!(line["why"].as_str().unwrap().contains("an error: no"), "{line}");
    gateway.wait_for_metric("genkan_registry_announced_total", &[("outcome", "ok")], 1.0).await;
    gateway.wait_for_metric("genkan_registry_announced_total", &[("outcome", "failed")], 2.0).await;
}

/// Each is told twice a minute, and not each second.
#[tokio::test]
async fn registries_that_differ_by_their_query_alone_are_two() {
    let registry = Web::serve(|asked: &Asked| asked.result("null")).await;
    let web = Web::serve(named("1")).await;
    let _gateway = Gateway::ready(&format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"shop.*\"\nupstream = \"web\"\n\
         [registry]\nannounce = [\"{1}?at=1\", \"{1}?at=2\"]\nservices = [\"shop\"]\n\
         public_url = \"http://gate.example:8080\"\n",
        web.url, registry.url
    ))
    .await;
    until("both are told", async || registry.asked().len() == 2).await;
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(registry.asked().len(), 2);
}

/// The second gateway finds the service behind the first, and its probe bothers no service.
#[tokio::test]
async fn one_gateway_finds_what_is_behind_another() {
    let web = Web::serve(named("from behind")).await;
    let other = Gateway::start(&config("shop*", "")).await;
    let port = free_port();
    let gateway = Gateway::ready(&format!(
        "[http]\nlisten = \"127.0.0.1:{port}\"\n[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"shop.*\"\nupstream = \"web\"\n\
         [registry]\nannounce = [\"{}/api\"]\nservices = [\"shop\"]\n\
         public_url = \"http://127.0.0.1:{port}\"\n",
        web.url,
        other.url()
    ))
    .await;
    let url = format!("http://127.0.0.1:{port}/api/shop");
    assert_eq!(found(&other, "shop", 1).await, [url]);
    assert!(web.asked().is_empty(), "{:?}", web.asked());
    other.wait_until_ready().await;
    assert_eq!(other.result("shop.count", Value::Null).await, "from behind");
    assert_eq!(web.asked().len(), 1);
    gateway.terminate();
    assert_eq!(gateway.exit_status().await, 0);
}

/// The probe finds out what no address shows: a way that leads back.
#[tokio::test]
async fn a_way_back_to_genkan_is_found_out() {
    let gateway = Gateway::start(&config("shop*", "")).await;
    let target = gateway.http.clone();
    let proxy = crate::harness::Proxy::to(target).await;
    for (name, path) in [("shop", "api/shop"), ("shopping", "api")] {
        ping(&gateway, name, &format!("http://{}/{path}", proxy.address())).await;
        let service = in_state(&gateway, name, "refuted").await;
        assert!(service["why"].as_str().unwrap().contains("this Genkan itself"), "{service}");
    }
    assert_eq!(located(&gateway, "*").await, [""; 0]);
}
