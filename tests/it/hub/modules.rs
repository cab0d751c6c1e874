//! Modules, their dependencies and hooks.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::process::Folder;
use crate::harness::{Gateway, eventually};

#[tokio::test]
async fn registration() {
    let gateway = Gateway::start(HUB).await;
    let mut odd = Peer::connect(&gateway).await;
    odd.request(json!({"type": 1, "moduleId": "we ird.id", "version": "1.2.3"})).await;
    assert_eq!(odd.receive().await["type"], 2);
    let activated = odd.receive().await;
    assert_eq!(
        (&activated["type"], &activated["hook"], &activated["data"]),
        (&json!(8), &json!("juno.activated"), &json!({}))
    );
    assert!(activated["requestId"].is_string());
    let mut second = Peer::connect(&gateway).await;
    for (peer, id) in [(&mut second, "we ird.id"), (&mut odd, "other")] {
        assert_eq!(error(&peer.register(id, "1.0.0", json!({})).await), 7);
    }
    drop(odd);
    // The id is free again, as soon as the hub has seen the end.
    eventually("the first one has left", async || {
        let page = gateway.page("/hub/modules").await.json();
        page["modules"].as_array()?.is_empty().then_some(())
    })
    .await;
    assert_eq!(second.register("we ird.id", "1.0.0", json!({})).await["type"], 2);
}

#[tokio::test]
async fn tokens() {
    let gateway = Gateway::start(&format!("{HUB}[hub.tokens]\nbilling = \"s3cret\"\n")).await;
    let mut peer = Peer::connect(&gateway).await;
    assert_eq!(error(&peer.register("billing", "1.0.0", json!({})).await), 3);
    let register = json!({"type": 1, "moduleId": "billing", "version": "1.0.0", "token": "s3cret"});
    assert_eq!(peer.ask(register).await["type"], 2);
    assert_eq!(peer.receive().await["hook"], "juno.activated");
    // Others need none, and what they show harms nobody.
    let mut other = Peer::connect(&gateway).await;
    for wrong in
        [json!("s3cre"), json!("s3cret "), json!("S3cret"), json!(""), json!(7), json!(null)]
    {
        let register =
            json!({"type": 1, "moduleId": "billing", "version": "1.0.0", "token": wrong});
        let told = other.ask(register).await;
        assert_eq!((error(&told), &told["data"]["kind"]), (3, &json!("access_denied")));
    }
    let right_but_taken =
        json!({"type": 1, "moduleId": "billing", "version": "1.0.0", "token": "s3cret"});
    assert_eq!(error(&other.ask(right_but_taken).await), 7);
    let register = json!({"type": 1, "moduleId": "Billing", "version": "1.0.0", "token": "any"});
    assert_eq!(other.ask(register).await["type"], 2);
    other.receive().await;
    let list = other.call("juno.listModules", json!({})).await;
    for text in [
        gateway.log_text(),
        gateway.page("/hub/modules").await.text().to_owned(),
        list.to_string(),
        gateway.page("/metrics").await.text().to_owned(),
    ] {
        assert!(!text.contains("s3cret"), "{text}");
    }
}

#[tokio::test]
async fn a_rotated_token_is_in_force_without_a_signal() {
    let folder = Folder::new();
    let file = folder.path().join("billing");
    // At once: a half-written file is no token.
    let write = |text: &str| {
        let next = folder.path().join("next");
        std::fs::write(&next, text).expect("written");
        std::fs::rename(&next, &file).expect("renamed");
    };
    write("old-s3cret\n");
    let tokens = format!("billing = {{ file = \"{}\" }}\nother = \"fixed\"\n", file.display());
    let gateway = Gateway::start(&format!("{HUB}[hub.tokens]\n{tokens}")).await;
    let registers = async |id: &str, token: &str| {
        let mut peer = Peer::connect(&gateway).await;
        let register = json!({"type": 1, "moduleId": id, "version": "1.0.0", "token": token});
        // Who shows many wrong ones is not looked at for a while.
        let answer = eventually("it is looked at", async || {
            let answer = peer.ask(register.clone()).await;
            (answer["error"] != 2).then_some(answer)
        });
        let is_in = answer.await["type"] == 2;
        drop(peer);
        gateway.wait_for_modules(0).await;
        is_in
    };
    assert!(registers("billing", "old-s3cret").await);
    write("new-s3cret\n");
    eventually("the new token is in force", async || {
        registers("billing", "new-s3cret").await.then_some(())
    })
    .await;
    assert!(!registers("billing", "old-s3cret").await, "it was revoked");
    // An empty file or none is no token: the last one stays, and that is said once.
    let cannot = "a token's file cannot be used";
    write("");
    let said = gateway.wait_for_log(0, cannot).await;
    assert!(said["level"] == "ERROR" && said["module"] == "billing", "{said}");
    assert!(!registers("billing", "").await && registers("billing", "new-s3cret").await);
    let seen = gateway.log().len();
    std::fs::remove_file(&file).expect("removed");
    gateway.wait_for_log(seen, cannot).await;
    assert!(registers("billing", "new-s3cret").await && registers("other", "fixed").await);
    write("third-s3cret");
    eventually("the third token is in force", async || {
        registers("billing", "third-s3cret").await.then_some(())
    })
    .await;
    let log = gateway.log_text();
    assert_eq!(log.matches(cannot).count(), 2, "once for each state: {log}");
    assert!(!log.contains("-s3cret"), "{log}");
}

#[tokio::test]
async fn a_module_that_loses_its_id_by_a_reload_is_told_of_in_the_log_once() {
    let tokens = |lines: &str| format!("{HUB}[hub.tokens]\n{lines}");
    let gateway = Gateway::start(&tokens("billing = \"one\"\ngoing = \"two\"\n")).await;
    let register = async |id: &str, token: &str| {
        let mut peer = Peer::connect(&gateway).await;
        let register = json!({"type": 1, "moduleId": id, "version": "1.0.0", "token": token});
        assert_eq!(peer.ask(register).await["type"], 2, "{id}");
        peer
    };
    let _stays = [register("billing", "one").await, register("going", "two").await];
    let mut first = register("free", "").await;
    assert_eq!(first.receive().await["hook"], "juno.activated");
    let reload = async |lines: &str| {
        let seen = gateway.log().len();
        gateway.write_config(&tokens(lines));
        gateway.hang_up();
        gateway.wait_for_log(seen, "reloaded").await;
    };
    let lost = "module not known by its id any more";
    reload("billing = \"other\"\nfree = \"three\"\n").await;
    let log = gateway.log();
    for (module, why) in [
        ("billing", "holds another token than it has shown"),
        ("going", "holds no token for it any more"),
        ("free", "holds a token for it now, which it has not shown"),
    ] {
        let lines = log.iter().filter(|line| {
            line["message"].as_str().is_some_and(|said| said.contains(lost))
                && line["module"] == module
        });
        let lines: Vec<_> = lines.collect();
        let [line] = lines[..] else { panic!("{module}: {lines:?}") };
        assert!(line["level"] == "WARN", "{line}");
        assert!(line["why"].as_str().is_some_and(|said| said.contains(why)), "{line}");
    }
    // Another reload that takes nothing more says nothing more.
    reload("billing = \"third\"\nfree = \"three\"\n").await;
    assert_eq!(gateway.log_text().matches(lost).count(), 3);
    let seen = gateway.log().len();
    let _owner = register("free", "three").await;
    let said = gateway.wait_for_log(seen, "disconnected: the module had not shown the token").await;
    assert!(said["level"] == "WARN" && said["module"] == "free", "{said}");
    assert_eq!(first.next().await, None, "it gives way");
}

#[tokio::test]
async fn who_guesses_at_a_modules_token_is_held_up_and_its_neighbours_are_not() {
    let tokens = "[hub.tokens]\nbilling = \"hunter2-of-billing\"\norders = \"hunter2-of-orders\"\n";
    let gateway = Gateway::start(&format!("{HUB}{tokens}")).await;
    let mut peer = Peer::connect(&gateway).await;
    let register = |id: &str, token: &str| json!({"type": 1, "moduleId": id, "version": "1.0.0", "token": token});
    for n in 0..20 {
        assert_eq!(peer.ask(register("billing", &n.to_string())).await["type"], 0);
    }
    let held_up = peer.ask(register("billing", "hunter2-of-billing")).await;
    let told = held_up["message"].as_str().unwrap_or_default();
    assert!(error(&held_up) == 2 && told.contains("try again later"), "{held_up}");
    let mut other = Peer::connect(&gateway).await;
    assert_eq!(other.ask(register("orders", "hunter2-of-orders")).await["type"], 2);
    let refused = "genkan_credentials_refused_total";
    gateway.wait_for_metric(refused, &[("reason", "wrong_token")], 10.0).await;
    gateway.wait_for_metric(refused, &[("reason", "too_many_wrong")], 1.0).await;
    eventually("it is forgotten", async || {
        (peer.ask(register("billing", "hunter2-of-billing")).await["type"] == 2).then_some(())
    })
    .await;
}

#[tokio::test]
async fn dependencies_come_and_go() {
    let gateway = Gateway::start(HUB).await;
    let mut c = Peer::connect(&gateway).await;
    assert_eq!(c.register("c", "1.0.0", json!({"b": "^1.0.0"})).await["type"], 2);
    assert_eq!(error(&c.ask(json!({"type": 9, "function": "f"})).await), 3);
    let mut b = Peer::connect(&gateway).await;
    assert_eq!(b.register("b", "1.0.0", json!({"a": "^1.0.0", "c": "*"})).await["type"], 2);
    c.is_silent().await;
    let a = Peer::module(&gateway, "a", &[]).await;
    for peer in [&mut b, &mut c] {
        assert_eq!(peer.receive().await["hook"], "juno.activated");
    }
    assert_eq!(c.ask(json!({"type": 9, "function": "f"})).await["type"], 10);
    let mut outside = Peer::module(&gateway, "outside", &[]).await;
    drop(a);
    for peer in [&mut b, &mut c] {
        assert_eq!(peer.receive().await["hook"], "juno.deactivated");
    }
    assert_eq!(error(&outside.call("c.f", json!({})).await), 4);
    gateway.fault("c.f", json!({})).await.is("unavailable", "not_sent");
    assert_eq!(gateway.metric("genkan_hub_modules", &[("state", "waiting")]).await, 2.0);
    let _a = Peer::module(&gateway, "a", &[]).await;
    assert_eq!(c.receive().await["hook"], "juno.activated");
    // What it had declared is there again, and may be declared again.
    assert_eq!(c.ask(json!({"type": 9, "function": "f"})).await["type"], 10);
    outside.request(json!({"type": 3, "function": "c.f"})).await;
    assert_eq!(c.receive().await["function"], "f");
}

#[tokio::test]
async fn hooks() {
    let gateway = Gateway::start(HUB).await;
    let mut source = Peer::module(&gateway, "nmath", &[]).await;
    let mut listener = Peer::module(&gateway, "listener", &[]).await;
    for hook in [
        "nmath.changed",
        "nmath.changed",
        "juno.moduleConnected",
        "juno.moduleDisconnected",
        "juno.moduleActivated",
        "juno.moduleDeactivated",
    ] {
        assert_eq!(listener.ask(json!({"type": 5, "hook": hook})).await["type"], 6);
    }
    for n in 0..50 {
        let answer = source.ask(json!({"type": 7, "hook": "changed", "data": {"n": n}})).await;
        assert_eq!(answer.get("hook"), None, "{answer}");
    }
    for n in 0..50 {
        let hook = listener.receive().await;
        assert_eq!((&hook["hook"], &hook["data"]), (&json!("nmath.changed"), &json!({"n": n})));
        assert!(hook["requestId"].is_string());
    }
    for data in [json!(5), json!([1]), Value::Null] {
        source.ask(json!({"type": 7, "hook": "changed", "data": data})).await;
        assert_eq!(listener.receive().await["data"], json!({}));
    }
    source.ask(json!({"type": 7, "hook": "other"})).await;
    let third = Peer::module(&gateway, "third", &[]).await;
    let connected = listener.receive().await;
    assert_eq!(connected["hook"], "juno.moduleConnected");
    assert_eq!(listener.receive().await["data"], json!({"moduleId": "third"}));
    // Nobody depended on it: only its connection is told of, as the real daemon does.
    drop(third);
    let disconnected = listener.receive().await;
    assert_eq!(disconnected["hook"], "juno.moduleDisconnected");
    assert_eq!(disconnected["data"], connected["data"]);
    assert!(
        connected["data"]["connectionId"].as_str().is_some_and(|id| id.parse::<u128>().is_ok())
    );
    listener.is_silent().await;
    assert!(gateway.metric("genkan_hub_hooks_total", &[("outcome", "delivered")]).await >= 56.0);
}

#[tokio::test]
async fn the_hubs_own_functions() {
    let gateway = Gateway::start(HUB).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let list = m.call("juno.listModules", json!({})).await["data"].clone();
    assert_eq!((&list[0]["moduleId"], &list[1]["moduleId"]), (&json!("juno"), &json!("m")));
    assert_eq!(list[1]["declaredFunctions"], json!(["f"]));
    assert_eq!(gateway.result("juno.listModules", json!({})).await, list);
    let info = m.call("juno.getModuleInfo", json!({"moduleId": "m"})).await;
    assert_eq!(info["data"], list[1]);
    assert_eq!(m.call("juno.getModuleInfo", json!({})).await["data"], Value::Null);
}
