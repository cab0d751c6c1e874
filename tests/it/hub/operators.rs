//! What operators see of the hub.

use serde_json::{Value, json};

use super::{HUB, Peer};
use crate::harness::Gateway;
use crate::harness::gateway::genkan;
use crate::harness::process::run;

#[tokio::test]
async fn modules_as_json_and_as_a_table() {
    let gateway = Gateway::start(&format!(
        "{HUB}[[routes]]\nmatch = \"shop.buy\"\nupstream = \"hub\"\nservice = \"till\"\n"
    ))
    .await;
    let _math = Peer::module(&gateway, "math", &["add", "sub"]).await;
    let mut shop = Peer::module(&gateway, "shop", &["buy"]).await;
    shop.ask(json!({"type": 5, "hook": "math.changed"})).await;
    let mut waits = Peer::connect(&gateway).await;
    waits.register("waits", "0.1.0", json!({"math": "^2.0.0", "shop": "*"})).await;
    let _silent = Peer::connect(&gateway).await;

    gateway.wait_for_metric("genkan_hub_modules", &[("state", "unregistered")], 1.0).await;
    let page = gateway.page("/hub/modules").await;
    assert_eq!(page.header("content-type"), Some("application/json"));
    let page = page.json();
    let counts = [&page["active"], &page["waiting"], &page["unregistered"]];
    assert_eq!(counts, [&json!(2), &json!(1), &json!(1)]);
    let modules = &page["modules"];
    assert_eq!(
        (&modules[0]["id"], &modules[0]["functions"]),
        (&json!("math"), &json!(["add", "sub"]))
    );
    assert_eq!(modules[1]["hooks"], json!(["math.changed"]));
    let shadow = json!([{"name": "shop.buy", "row": 1, "match": "shop.buy", "upstream": "hub"}]);
    assert_eq!(modules[1]["shadowed"], shadow);
    assert_eq!(
        (&modules[2]["state"], &modules[2]["unmet"]),
        (&json!("waiting"), &json!(["math ^2.0.0"]))
    );

    let admin = format!("http://{}", gateway.admin);
    let (status, out, _) = run(genkan().args(["modules", "--admin", &admin]));
    assert_eq!(status, 0);
    let piped: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(piped["modules"], page["modules"]);
    let (status, _, said) = run(genkan().args(["modules", "--admin", "http://127.0.0.1:9"]));
    assert_eq!(status, 3, "{said}");
    assert!(said.contains("[admin] listen"), "{said}");
    let (status, _, said) = run(genkan().args(["modules", "--admin", &gateway.url()]));
    assert_eq!(status, 1, "{said}");
}

#[tokio::test]
async fn a_new_table_tells_whom_it_shadows_from_now_on() {
    let gateway = Gateway::start(HUB).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    let call = math.receive().await;
    let at = super::address(&gateway).await;
    gateway.write_config(&format!(
        "[hub]\nlisten = [\"tcp://{at}\"]\n[upstreams.gone]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:9\"]\n[[routes]]\nmatch = \"ma*.*\"\nupstream = \"gone\"\n"
    ));
    gateway.hang_up();
    let warning = gateway.wait_for_log(0, "nobody will call this module by that name").await;
    assert_eq!((&warning["module"], &warning["upstream"]), (&json!("math"), &json!("gone")));
    let shadow = json!([{"name": "math.*", "row": 1, "match": "ma*.*", "upstream": "gone"}]);
    assert_eq!(gateway.page("/hub/modules").await.json()["modules"][0]["shadowed"], shadow);
    // The call under way is not harmed; the next one goes elsewhere.
    math.answer(&call, json!(1)).await;
    assert_eq!(caller.receive().await["data"], 1);
    let told = caller.call("math.add", json!({})).await;
    assert_eq!(told["data"]["kind"], "unavailable", "{told}");
    math.is_silent().await;
}

#[tokio::test]
async fn explain_shows_the_frame() {
    let folder = crate::harness::process::Folder::new();
    let config = folder.write("genkan.toml", "");
    let mut explain = genkan();
    explain.args(["explain", "math.add", "a:=1", "--json", "--config"]).arg(&config);
    let (status, out, said) = run(&mut explain);
    assert_eq!(status, 0, "{said}");
    let explained: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(explained["upstream"], "hub");
    let body: Value = serde_json::from_str(explained["sent"]["body"].as_str().unwrap()).unwrap();
    assert_eq!((&body["function"], &body["arguments"]), (&json!("add"), &json!({"a": 1})));
}
