//! `rpc.discover`: what can be called, as those tell who know, in OpenRPC's words.

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::gateway::genkan;
use crate::harness::gemstone::Gemstone;
use crate::harness::process::{Folder, run};
use crate::harness::websocket::WebSocket;
use crate::harness::{
    Asked, Gateway, MicroService, Nats, RabbitMq, Say, Web, as_fault, eventually,
};
use crate::hub::{HUB, Peer};

/// The document that is told there.
async fn discovered(gateway: &Gateway, path: &str) -> Value {
    let call = r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#;
    let answer = gateway.post(path, &[], call).await.json();
    let document = answer["result"].clone();
    assert_eq!(document["openrpc"], "1.3.2", "{answer}");
    let flaws = node_client("openrpc_check.js", &[&document.to_string()]).await;
    assert_eq!(flaws, json!([]), "{document:#}");
    document
}

fn names(document: &Value) -> Vec<&str> {
    let methods = document["methods"].as_array().expect("a list");
    methods.iter().map(|method| method["name"].as_str().expect("a name")).collect()
}

fn method<'a>(document: &'a Value, name: &str) -> &'a Value {
    let methods = document["methods"].as_array().expect("a list");
    methods.iter().find(|method| method["name"] == name).unwrap_or_else(|| panic!("{document:#}"))
}

const ORDERS: &str = r##"{"openrpc": "1.2.6", "info": {"title": "orders", "version": "1"},
  "methods": [
    {"name": "create", "summary": "Makes an order.", "paramStructure": "by-name",
     "params": [{"name": "size", "required": true, "schema": {"$ref": "#/components/schemas/Size"}}],
     "result": {"name": "order", "schema": {"type": "object"}}},
    {"name": "orders.cancel", "params": []}],
  "components": {"schemas": {"Size": {"enum": ["S", "M", "L"]}}}}"##;

fn catalogue(asked: &Asked) -> Say {
    match asked.method().as_str() {
        "rpc.discover" => asked.result(
            r#"{"openrpc":"1.0.0","info":{"title":"c","version":"1"},"methods":[
               {"name":"find","params":[{"name":"text","schema":{"type":"string"}}],
                "result":{"name":"found","schema":{"type":"array"}}},
               {"name":"rpc.discover","params":[]},"odd"]}"#,
        ),
        _ => asked.error(r#"{"code":-32601,"message":"Method not found"}"#),
    }
}

#[tokio::test]
async fn every_world_tells_of_its_methods() {
    let (rabbit, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let _calc = MicroService::calc(&nats);
    let web = Web::serve(catalogue).await;
    let folder = Folder::new();
    let schema = folder.write("orders.json", ORDERS);
    let gateway = Gateway::start(&format!(
        "{HUB}{}{}[registry]\nallow = [\"hello\"]\n\
         [upstreams.catalogue]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [upstreams.gemstone]\nprotocol = \"jsonrpc\"\nregistry = \"hello\"\n\
         [[routes]]\nmatch = \"orders.*\"\nupstream = \"rabbit\"\nschema = {schema:?}\n\
         [[routes]]\nmatch = \"bills.pay\"\nupstream = \"rabbit\"\n\
         [[routes]]\nmatch = \"calc.sum\"\nupstream = \"rabbit\"\nservice = \"elsewhere\"\n\
         [[routes]]\nmatch = \"calc.*\"\nupstream = \"nats\"\n\
         [[routes]]\nmatch = \"public.calc.*\"\nupstream = \"nats\"\nservice = \"calc\"\n\
         [[routes]]\nmatch = \"books.*\"\nupstream = \"catalogue\"\n\
         [[routes]]\nmatch = \"hello.*\"\nupstream = \"gemstone\"\n",
        rabbit.upstream("rabbit"),
        nats.upstream("nats", "micro"),
        web.url,
    ))
    .await;
    let _hello = Gemstone::Nine.service("hello", &format!("{}/api", gateway.url()));
    gateway.wait_until_ready().await;
    let _tables = Peer::module(&gateway, "tables", &["book", "free"]).await;
    let document = discovered(&gateway, "/api").await;
    assert_eq!(
        names(&document),
        [
            "bills.pay",
            "books.find",
            "calc.average",
            "calc.fail",
            "calc.sum",
            "hello.fail",
            "hello.relay",
            "hello.say_hello",
            "orders.cancel",
            "orders.create",
            "public.calc.average",
            "public.calc.fail",
            "public.calc.sum",
            "tables.book",
            "tables.free"
        ]
    );
    let create = method(&document, "orders.create");
    assert_eq!(create["summary"], "Makes an order.");
    let size = "#/components/schemas/orders.Size";
    assert_eq!(create["params"][0]["schema"], json!({ "$ref": size }));
    assert_eq!(
        document["components"]["schemas"],
        json!({"orders.Size": {"enum": ["S", "M", "L"]}})
    );
    let average = method(&document, "calc.average");
    assert_eq!(average["summary"], "The mean of numbers.");
    assert_eq!(
        average["params"],
        json!([{"name": "of", "required": true, "schema": {"type": "array"}}])
    );
    assert_eq!(average["result"]["schema"], json!({"type": "number"}));
    assert_eq!(method(&document, "books.find")["result"]["name"], "found");
    let relay = method(&document, "hello.relay");
    assert_eq!(relay["summary"], "Finds another service by the registry, and calls it.");
    // A row before gives its calls to somebody of whom nothing is known.
    for unknown in ["calc.sum", "tables.book", "bills.pay"] {
        assert_eq!(method(&document, unknown)["x-unknown-params"], true, "{unknown}");
    }
    let own = discovered(&gateway, "/api/orders").await;
    assert_eq!(names(&own), ["cancel", "create"]);
    assert_eq!(own["info"]["title"], "orders");
    // What is told can be called.
    assert_eq!(gateway.result("public.calc.sum", json!([1, 2])).await, 3);
}

/// A name is parted at its last dot at `/api`, and `rpc.` is JSON-RPC's own there: what is another call then is told of
/// at its service's address alone.
#[tokio::test]
async fn what_is_told_of_is_called_by_that_name() {
    let web = Web::serve(|asked| match asked.method().as_str() {
        "rpc.discover" => asked.result(
            r#"{"openrpc":"1.3.2","info":{"title":"b","version":"1"},"methods":[
               {"name":"find","params":[]},{"name":"find.all","params":[]}]}"#,
        ),
        method => asked.result(&format!("{method:?}")),
    })
    .await;
    let rows = ["books.*", "old.*"].map(|name| {
        let service = if name == "old.*" { "service = \"books\"\n" } else { "" };
        format!("[[routes]]\nmatch = \"{name}\"\nupstream = \"web\"\n{service}")
    });
    let gateway = Gateway::ready(&format!(
        "{HUB}[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n{}",
        web.url,
        rows.concat()
    ))
    .await;
    let _odd = Peer::module(&gateway, "rpc", &["f"]).await;
    assert_eq!(names(&discovered(&gateway, "/api").await), ["books.find", "old.find"]);
    for (path, expected) in [
        ("/api/books", &["find", "find.all"][..]),
        ("/api/old", &["find", "find.all"]),
        ("/api/rpc", &["f"]),
        ("/api/books.find", &[]),
    ] {
        assert_eq!(names(&discovered(&gateway, path).await), expected, "{path}");
    }
    let call = r#"{"jsonrpc":"2.0","method":"find.all","id":1}"#;
    assert_eq!(gateway.post("/api/books", &[], call).await.json()["result"], "find.all");
}

#[tokio::test]
async fn what_comes_and_goes_is_told() {
    let gateway = Gateway::start(HUB).await;
    assert_eq!(names(&discovered(&gateway, "/api").await), [] as [&str; 0]);
    let tables = Peer::module(&gateway, "tables", &["book"]).await;
    eventually("the module is told of", async || {
        (names(&discovered(&gateway, "/api").await) == ["tables.book"]).then_some(())
    })
    .await;
    let mut socket = WebSocket::open(gateway.url().trim_start_matches("http://")).await;
    let call = r#"{"jsonrpc":"2.0","method":"rpc.discover","id":7}"#;
    let answer = socket.ask(call).await;
    assert_eq!(names(&answer["result"]), ["tables.book"], "over a WebSocket too");
    drop(tables);
    eventually("it is told of no more", async || {
        names(&discovered(&gateway, "/api").await).is_empty().then_some(())
    })
    .await;
}

#[tokio::test]
async fn whoever_is_silent_keeps_nobody_waiting_for_long() {
    let nats = Nats::start();
    let web = Web::serve(|_| Say::nothing()).await;
    let gateway = Gateway::ready(&format!(
        "{}[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"web.*\"\nupstream = \"web\"\n\
         [[routes]]\nmatch = \"calc.*\"\nupstream = \"nats\"\n",
        nats.upstream("nats", "micro"),
        web.url
    ))
    .await;
    let _calc = MicroService::calc(&nats);
    let (one, two) = tokio::join!(discovered(&gateway, "/api"), discovered(&gateway, "/api"));
    assert_eq!(one, two);
    assert_eq!(web.asked().len(), 1, "one inquiry serves both");
}

/// Half a megabyte of text that would be gigabytes of memory.
fn bomb(asked: &Asked) -> Say {
    let zeros = vec!["0"; 200_000].join(",");
    let refs = vec![r##"{"$ref":"#/components/contentDescriptors/X"}"##; 2_000].join(",");
    asked.result(&format!(
        r#"{{"openrpc":"1.3.2","info":{{"title":"b","version":"1"}},
        "methods":[{{"name":"burst","params":[{refs}]}}],
        "components":{{"contentDescriptors":{{"X":{{"name":"x","schema":{{"enum":[{zeros}]}}}}}}}}}}"#
    ))
}

#[tokio::test]
async fn a_document_that_is_far_larger_than_it_looks_fills_no_memory() {
    let (bomb, books) = (Web::serve(bomb).await, Web::serve(catalogue).await);
    let gateway = Gateway::start(&format!(
        "[upstreams.bomb]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [upstreams.books]\nprotocol = \"jsonrpc\"\nurl = \"{}\"\n\
         [[routes]]\nmatch = \"bomb.*\"\nupstream = \"bomb\"\n\
         [[routes]]\nmatch = \"books.*\"\nupstream = \"books\"\n",
        bomb.url, books.url
    ))
    .await;
    gateway.wait_until_ready().await;
    let document = discovered(&gateway, "/api").await;
    assert_eq!(names(&document), ["bomb.burst", "books.find"]);
    assert_eq!(method(&document, "bomb.burst")["x-unknown-params"], true);
    assert_eq!(method(&document, "books.find")["result"]["name"], "found");
}

#[tokio::test]
async fn each_caller_is_told_of_what_it_may_call() {
    let folder = Folder::new();
    let schema = folder.write("orders.json", ORDERS);
    let (status, made, _) = run(genkan().args(["key", "new", "web"]));
    assert_eq!(status, 0);
    let made: Value = serde_json::from_str(&made).expect("JSON");
    let (key, toml) = (made["key"].as_str().expect("a key"), made["toml"].as_str().expect("TOML"));
    let gateway = Gateway::start(&format!(
        "{HUB}{toml}\
         [[routes]]\nmatch = \"orders.*\"\nupstream = \"hub\"\nschema = {schema:?}\nallow = [\"key:web\"]\n\
         [[routes]]\nmatch = \"open.door\"\nupstream = \"hub\"\nallow = [\"any\"]\n\
         [[routes]]\nmatch = \"closed.door\"\nupstream = \"hub\"\n"
    ))
    .await;
    let told = async |headers: &[(&str, &str)]| {
        let call = r#"{"jsonrpc":"2.0","method":"rpc.discover","id":1}"#;
        gateway.post("/api", headers, call).await.json()
    };
    let stranger = told(&[]).await["result"].clone();
    assert_eq!(names(&stranger), ["open.door"]);
    assert_eq!(stranger.get("components"), None, "nor of what others send");
    let web = told(&[("X-API-Key", key)]).await["result"].clone();
    assert_eq!(names(&web), ["open.door", "orders.cancel", "orders.create"]);
    assert!(web["components"]["schemas"]["orders.Size"].is_object());
    let wrong = told(&[("X-API-Key", "gk_wrong")]).await;
    as_fault(&wrong).is("access_denied", "not_sent");
}
