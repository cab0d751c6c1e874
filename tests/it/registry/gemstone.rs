//! Gemstone, unmodified, with Genkan as its registry: 0.3.1, 0.9.0 and 0.12.0, services, clients and the
//! command line.

use serde_json::{Value, json};

use super::{config, found};
use crate::harness::gateway::genkan;
use crate::harness::gemstone::Announced;
use crate::harness::process::run;
use crate::harness::{Gateway, Gemstone, Web};

fn api(gateway: &Gateway) -> String {
    format!("{}/api", gateway.url())
}

/// Both generations, which announce themselves.
async fn both() -> (Gateway, [Announced; 2]) {
    let gateway = Gateway::start(&config("*.world.*", "")).await;
    let services = [
        Gemstone::Nine.service("nine.world.service", &api(&gateway)),
        Gemstone::Twelve.service("twelve.world.service", &api(&gateway)),
    ];
    let mut urls: Vec<_> = services.iter().map(|service| service.url()).collect();
    let mut seen = found(&gateway, "*.world.*", 2).await;
    urls.sort();
    seen.sort();
    assert_eq!(seen, urls);
    (gateway, services)
}

#[tokio::test]
async fn services_announce_themselves_and_are_called() {
    let (gateway, _services) = both().await;
    gateway.wait_until_ready().await;
    for _ in 0..10 {
        let hello = gateway.result("any.world.service.say_hello", json!(["bob"])).await;
        assert!(hello.as_str().unwrap().starts_with("hello bob from "), "{hello}");
    }
    let fault = gateway.fault("any.world.service.fail", Value::Null).await;
    assert_eq!(fault.data["class"], "ValueError", "{fault:?}");
}

/// `get_service` of a service is what the registry is for.
#[tokio::test]
async fn a_service_finds_another() {
    let (gateway, services) = both().await;
    let other = Gemstone::Nine.service("other.world.service", &api(&gateway));
    found(&gateway, "*.world.*", 3).await;
    for asked in [&services[1], &other] {
        let mut command = genkan();
        command.args(["call-raw", "-q", &asked.url(), "relay", "pattern=n?ne.*", "name=玄関"]);
        let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
        let (status, out, err) = ran.expect("no panic");
        assert_eq!(status, 0, "{out}{err}");
        let said: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(said, "hello 玄関 from nine.world.service");
    }
}

#[tokio::test]
async fn clients_of_0_9_find_and_call() {
    let (gateway, services) = both().await;
    let out = Gemstone::Nine.client("gemstone9_calls.py", &[&api(&gateway), "nine.*"]).await;
    let methods = out["methods_of_the_registry"].to_string();
    assert!(methods.contains("locate_service") && methods.contains("ping"), "{out}");
    assert_eq!(out["nobody"]["raised"], "Unable to locate service no.such.*");
    let hello = "hello bob from nine.world.service";
    assert_eq!(
        (&out["name"], &out["url"]),
        (&json!("nine.world.service"), &json!(services[0].url()))
    );
    assert_eq!((&out["positional"], &out["named"]), (&json!(hello), &json!(hello)));
    assert_eq!(out["async"], json!([true, "hello later from nine.world.service", null]));
    for error in [&out["error"]["raised"], &out["async_error"]] {
        assert_eq!(error["data"], json!({"class": "ValueError", "info": "bad 1"}), "{out}");
    }
    assert_eq!(out["wrong"]["raised"]["code"], -32602, "{out}");
}

/// It announces and finds services by host and port, and its client reads what both of its generations sent.
#[tokio::test]
async fn services_and_the_command_line_of_0_3() {
    let gateway =
        Gateway::start(&format!("{}dialect = \"gemstone\"\n", config("*.world.*", ""))).await;
    let service = Gemstone::Three.service("three.world.service", &api(&gateway));
    gateway.wait_until_ready().await;
    let located = gateway.rpc("locate_service", json!(["th?ee.*"])).await;
    assert_eq!(located["result"][0]["host"], "127.0.0.1", "{located}");
    let hello = "hello bob from three.world.service";
    assert_eq!(gateway.result("three.world.service.say_hello", json!(["bob"])).await, hello);
    let fault = gateway.fault("three.world.service.fail", json!({})).await;
    assert_eq!(fault.is("application", "executed").data["class"], "ValueError");
    let (registry, url) = (api(&gateway), format!("{}/three.world.service", api(&gateway)));
    let registry = format!("--registry={registry}");
    for line in [
        &["call", &registry, "three.*", "say_hello", "name=bob"][..],
        &["call_raw", &service.url(), "say_hello", "name=bob"],
        &["call_raw", &url, "say_hello", "name=bob"],
    ] {
        let (status, out, err) = Gemstone::Three.line(line).await;
        assert_eq!(status, 0, "{line:?}: {out}{err}");
        assert!(out.contains(&format!("'{hello}'")), "{line:?}: {out}");
    }
    let (status, _, err) = Gemstone::Three.line(&["call", &registry, "zzz.*", "x"]).await;
    assert!(status != 0 && err.contains("Unable to locate service zzz.*"), "{err}");
    // A service finds another, which may be itself.
    let mut command = genkan();
    command.args(["call-raw", "-q", &service.url(), "relay", "pattern=three.*", "name=bob"]);
    let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
    let (status, out, err) = ran.expect("no panic");
    assert_eq!((status, out.trim()), (0, format!("\"{hello}\"").as_str()), "{err}");
}

/// At a service's own address, with the row's `dialect = "gemstone"`, Genkan is the service.
#[tokio::test]
async fn clients_of_0_9_call_through_genkan() {
    let gateway =
        Gateway::start(&format!("{}dialect = \"gemstone\"\n", config("*.world.*", ""))).await;
    let service = Gemstone::Nine.service("nine.world.service", &api(&gateway));
    gateway.wait_until_ready().await;
    let url = format!("{}/nine.world.service", api(&gateway));
    let (status, out, err) =
        Gemstone::Nine.line(&["call_raw", &url, "say_hello", "name=bob"]).await;
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("[!] Method call:"), "{out}");
    assert!(out.contains("'hello bob from nine.world.service'"), "{out}");
    drop(service);
}

/// Where the service itself has no specs, the rows' own words are told.
#[tokio::test]
async fn clients_of_0_9_call_what_rows_name() {
    let web = Web::serve(super::named("ok")).await;
    let gateway = Gateway::ready(&format!(
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"shop.count\"\nupstream = \"web\"\ndialect = \"gemstone\"\n\
         [[routes]]\nmatch = \"shop.*\"\nupstream = \"web\"\ndialect = \"gemstone\"\n",
        web.url
    ))
    .await;
    let url = format!("{}/shop", api(&gateway));
    let (status, out, err) = Gemstone::Nine.line(&["call_raw", &url, "count"]).await;
    assert_eq!(status, 0, "{out}{err}");
    assert!(out.contains("'ok'"), "{out}");
    let (status, _, err) = Gemstone::Nine.line(&["call_raw", &url, "other"]).await;
    assert!(status != 0 && err.contains("AttributeError"), "{err}");
}

#[tokio::test]
async fn the_command_line_of_0_9() {
    let (gateway, services) = both().await;
    let registry = format!("--registry={}", api(&gateway));
    let call = ["call", &registry, "nine.*", "say_hello", "name=cli"];
    let (status, out, err) = Gemstone::Nine.line(&call).await;
    assert_eq!(status, 0, "{out}{err}");
    for line in [
        "[!] Service name: nine.world.service".to_owned(),
        format!("[!] Service URL : {}", services[0].url()),
        "'hello cli from nine.world.service'".to_owned(),
    ] {
        assert!(out.contains(&line), "{line}: {out}");
    }
    let (status, _, err) = Gemstone::Nine.line(&["call", &registry, "zzz.*", "x"]).await;
    assert!(status != 0 && err.contains("Unable to locate service zzz.*"), "{err}");
    let url = services[0].url();
    let (status, out, err) =
        Gemstone::Nine.line(&["call_raw", &url, "say_hello", "name=raw"]).await;
    assert_eq!(status, 0, "{err}");
    assert!(out.contains("'hello raw from nine.world.service'"), "{out}");
}

#[tokio::test]
async fn clients_of_0_12_find_and_call_directly_and_through_genkan() {
    let (gateway, services) = both().await;
    gateway.wait_until_ready().await;
    let through = format!("{}/twelve.world.service", api(&gateway));
    for arguments in [&[&*api(&gateway), "twelve.*"][..], &[&api(&gateway), "twelve.*", &through]] {
        let out = Gemstone::Twelve.client("gemstone12_found.py", arguments).await;
        assert_eq!((&out["nobody"], &out["found"]), (&json!([]), &json!([services[1].url()])));
        let begins = |value: &Value, words: &str| {
            assert!(value.as_str().unwrap_or_default().starts_with(words), "{words}: {out}");
        };
        begins(&out["positional"], "hello bob from ");
        begins(&out["named"], "hello bob from ");
        begins(&out["async"], "hello later from ");
        assert_eq!(out["error"]["data"]["class"], "ValueError", "{out}");
        assert_eq!(out["unknown"]["code"], -32601, "{out}");
        let batch = out["batch"].as_array().expect("answers");
        assert_eq!(batch.len(), 2, "{out}");
        let of_calls = batch.iter().filter(|answer| answer[0].is_string()).count();
        assert_eq!(of_calls, 1, "{out}");
    }
}
