//! The same rows, whatever way a call comes in: WebSocket, hub, NATS, RabbitMQ.

use serde_json::json;

use super::{Guarded, answer, new_key, rpc};
use crate::harness::clients::nameko_with;
use crate::harness::process::{Folder, run};
use crate::harness::rabbit::RabbitMq;
use crate::harness::websocket::WebSocket;
use crate::harness::{Gateway, NamekoVersion, Nats, NatsResponder, as_fault, eventually};
use crate::hub::Peer;
use crate::{nameko_exposes, nats_exposes};

#[tokio::test]
async fn a_websocket_is_known_by_its_opening_request() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, "allow = [\"key:web\"]").await;
    let address = &guarded.gateway.http;
    let mut nobody = WebSocket::open(address).await;
    let fault = as_fault(&nobody.ask(rpc("echo.x")).await);
    assert_eq!(fault.is("access_denied", "not_sent").code, -32001);
    let mut known = WebSocket::open_with(address, "/api", &[("X-API-Key", &key)]).await;
    assert_eq!(known.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(guarded.calls(), 1);
}

/// Registers a module, with a token or none, and calls a function of another world.
async fn call(peer: &mut Peer, id: &str, token: Option<&str>) -> serde_json::Value {
    let mut frame = json!({"type": 1, "moduleId": id, "version": "1.0.0"});
    if let Some(token) = token {
        frame["token"] = json!(token);
    }
    assert_eq!(peer.ask(frame).await["type"], 2);
    assert_eq!(peer.receive().await["hook"], "juno.activated");
    peer.ask(json!({"type": 3, "function": "echo.x", "arguments": {"a": 1}})).await
}

#[tokio::test]
async fn a_module_is_known_by_its_token_or_by_whose_process_it_is() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let (_, user, _) = run(std::process::Command::new("id").arg("-un"));
    let hub = format!(
        "[hub]\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{}\"]\n[hub.tokens]\nbilling = \
         \"s3cret\"\n[[auth.keys]]\n{}",
        path.display(),
        new_key(&["web"]).1.trim_start_matches("[[auth.keys]]\n")
    );
    let allow = format!("allow = [\"hub:billing\", \"unix:{}\"]", user.trim());
    let guarded = Guarded::start(&hub, &allow).await;
    let gateway = &guarded.gateway;
    let known = call(&mut Peer::connect(gateway).await, "billing", Some("s3cret")).await;
    assert_eq!(known["data"], json!({"a": 1}), "{known}");
    let user_id = guarded.echo.requests.last().headers.get("X-User-Id").cloned();
    assert_eq!(user_id.as_deref(), Some("hub:billing"));
    // An id that nobody verifies is only said.
    let said = call(&mut Peer::connect(gateway).await, "other", None).await;
    assert_eq!((&said["type"], &said["error"]), (&json!(0), &json!(3)), "{said}");
    assert!(said.to_string().contains("give it a token in [hub.tokens]"), "{said}");
    assert_eq!(guarded.calls(), 1);
    let local = call(&mut Peer::unix(&path).await, "local", None).await;
    assert_eq!(local["data"], json!({"a": 1}), "{local}");
}

#[tokio::test]
async fn modules_call_each_other_where_a_row_lets_them() {
    let keys = new_key(&["web"]).1;
    let hub = "[hub]\nlisten = [\"tcp://127.0.0.1:0\"]\n[hub.tokens]\na = \"s3cret\"\n";
    let row = "[[routes]]\nmatch = \"math.*\"\nupstream = \"hub\"\nallow = [\"hub:a\"]\n";
    let gateway = Gateway::start(&format!("{hub}{keys}{row}")).await;
    let mut math = Peer::module(&gateway, "math", &["add"]).await;
    let mut stranger = Peer::module(&gateway, "b", &[]).await;
    let refused = stranger.ask(json!({"type": 3, "function": "math.add"})).await;
    assert_eq!((&refused["type"], &refused["error"]), (&json!(0), &json!(3)), "{refused}");
    let mut known = Peer::connect(&gateway).await;
    let frame = json!({"type": 1, "moduleId": "a", "version": "1.0.0", "token": "s3cret"});
    assert_eq!(known.ask(frame).await["type"], 2);
    assert_eq!(known.receive().await["hook"], "juno.activated");
    known.request(json!({"type": 3, "function": "math.add"})).await;
    let asked = math.receive().await;
    math.answer(&asked, json!(3)).await;
    assert_eq!(known.receive().await["data"], 3);
}

#[tokio::test]
async fn who_calls_over_nats_is_believed_where_its_upstream_is_trusted() {
    let (nats, vhost) = (Nats::start(), RabbitMq::shared().vhost());
    let desk = crate::harness::NamekoResponder::serve(&vhost.url(), "desk", |_| {
        crate::harness::Answer::new(r#"{"result": 1, "error": null}"#)
    })
    .await;
    let config = |trust: &str, allow: &str| {
        let keys = new_key(&["web"]).1;
        let rows = nats_exposes::row("desk", "plain", "");
        let upstreams = nats_exposes::config(&nats, &vhost, &rows);
        let upstreams = upstreams.replacen("dialect", &format!("{trust}\ndialect"), 1);
        let routed = upstreams.replacen("[[routes]]", &format!("[[routes]]\n{allow}"), 1);
        format!("{routed}\n{keys}")
    };
    let rows = [("X-User-Id", "7")];
    let client = nats.client().await;
    // By way of NATS, and nobody in particular.
    let gateway = Gateway::ready(&config("", "allow = [\"bus:\"]")).await;
    nats_exposes::exposed(&gateway, "desk", 1).await;
    nats_exposes::ask_with(&client, "desk.x", "", &rows).await;
    assert_eq!(desk.requests.last().headers.get("nameko.user_id"), None);
    let seen = gateway.log().len();
    let forwarded = config("forward_authorization = true", "allow = [\"bus:7\"]");
    gateway.write_config(&forwarded);
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    nats_exposes::exposed(&gateway, "desk", 2).await;
    // It says so itself, and that is not enough.
    eventually("the new row is in force", async || {
        let refused = nats_exposes::ask_with(&client, "desk.x", "", &rows).await;
        (nats_exposes::header(&refused, "Genkan-Fault") == "access_denied not_sent").then_some(())
    })
    .await;
    let ran = desk.requests.all();
    assert!(ran.iter().all(|seen| !seen.headers.contains_key("nameko.user_id")), "{ran:?}");
    let seen = gateway.log().len();
    gateway.write_config(&config("trust_context = true", "allow = [\"bus:7\"]"));
    gateway.hang_up();
    gateway.wait_for_log(seen, "reloaded").await;
    nats_exposes::exposed(&gateway, "desk", 3).await;
    // Until the connection before has left, calls come by that one too.
    let user = eventually("who calls is believed", async || {
        nats_exposes::ask_with(&client, "desk.x", "", &rows).await;
        desk.requests.last().headers.get("nameko.user_id").cloned()
    })
    .await;
    assert_eq!(user, "7");
    let other = nats_exposes::ask_with(&client, "desk.x", "", &[("X-User-Id", "8")]).await;
    assert_eq!(nats_exposes::header(&other, "Genkan-Fault"), "access_denied not_sent");
}

#[tokio::test]
async fn who_calls_over_rabbitmq_is_believed_where_its_upstream_is_trusted() {
    let (vhost, nats) = (RabbitMq::shared().vhost(), Nats::start());
    let echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
    let config = |trust: &str, allow: &str| {
        let keys = new_key(&["web"]).1;
        let rows = nameko_exposes::row("echo", "");
        let text = nameko_exposes::config(&vhost, &nats, "plain", &rows);
        let text =
            text.replacen("protocol = \"nameko\"", &format!("protocol = \"nameko\"\n{trust}"), 1);
        format!("{}\n{keys}", text.replacen("[[routes]]", &format!("[[routes]]\n{allow}"), 1))
    };
    let (calls, url) = ([("echo", "x", json!([]), json!({}))], vhost.url());
    let ask = || nameko_with(NamekoVersion::Three, &url, &calls, json!({"user_id": 7}));
    let mut outcomes = Vec::new();
    for (trust, allow, is_let_in) in [
        ("", "allow = [\"rabbit:\"]", true),
        ("", "allow = [\"rabbit:7\"]", false),
        ("trust_context = true", "allow = [\"sub:7\"]", true),
        ("trust_context = true", "allow = [\"sub:8\"]", false),
    ] {
        let gateway = Gateway::ready(&config(trust, allow)).await;
        nameko_exposes::exposed(&gateway, "echo", 1).await;
        let before = echo.requests.count();
        let outcome = ask().await.remove(0);
        let is_in = echo.requests.count() > before;
        assert_eq!(is_in, is_let_in, "{trust} {allow}: {outcome}");
        if is_in {
            let user = echo.requests.last().headers.get("X-User-Id").cloned();
            let expected = (!trust.is_empty()).then(|| "7".to_owned());
            assert_eq!(user, expected, "{trust}");
        } else {
            let raised = nameko_exposes::raised(&outcome).to_string();
            assert!(raised.contains("AccessDenied"), "{raised}");
        }
        outcomes.push(outcome);
        gateway.terminate();
        assert_eq!(gateway.exit_status().await, 0);
    }
    assert_eq!(outcomes.len(), 4);
}
