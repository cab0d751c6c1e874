//! Lines that are too large: for the hub, and for the modules that it sends them to.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::Gateway;

/// juno-node dies of an error frame that carries the id of a call which it has answered.
#[tokio::test]
async fn a_module_is_told_nothing_of_its_answers() {
    let gateway = Gateway::start(&format!("{HUB}max_line = \"64KiB\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let large = json!("x".repeat(80_000));
    let deep: Value = (0..600).fold(json!(1), |inner, _| json!([inner]));
    for (data, number) in [(large, 4), (deep.clone(), 4), (deep, 0)] {
        caller.request(json!({"type": 3, "function": "m.f"})).await;
        let call = m.receive().await;
        let frame = json!({"type": number, "requestId": call["requestId"], "data": data});
        m.send(&frame).await;
        let told = caller.receive().await;
        assert_eq!((error(&told), &told["data"]["kind"]), (0, &json!("too_large")), "{told}");
        assert_eq!(told["data"]["outcome"], "executed");
        // The same again, for a call that is over.
        m.send(&frame).await;
        m.is_served().await;
    }
    let line = gateway.wait_for_log(0, "a module's answer was not taken").await;
    assert_eq!(line["module"], "m", "{line}");
}

#[tokio::test]
async fn no_line_is_sent_that_modules_cannot_read() {
    let limit = "max_argument = \"64KiB\"\n";
    let gateway = Gateway::start(&format!("{HUB}{limit}[http]\nmax_body = \"1MiB\"\n")).await;
    let mut node = Peer::module(&gateway, "node", &["f", "g"]).await;
    let mut other = Peer::module(&gateway, "other", &["f"]).await;
    node.ask(json!({"type": 5, "hook": "other.tick"})).await;
    let large = json!({"text": "x".repeat(65_600)});
    let fits = json!({"text": "x".repeat(65_000)});
    // A call.
    gateway.fault("node.f", large.clone()).await.is("too_large", "not_sent");
    let told = other.call("node.f", large.clone()).await;
    assert_eq!((error(&told), &told["data"]["kind"]), (0, &json!("too_large")), "{told}");
    assert_eq!(told["data"]["outcome"], "not_sent");
    assert!(told["message"].as_str().unwrap().contains("max_argument"), "{told}");
    other.request(json!({"type": 3, "function": "node.f", "arguments": fits})).await;
    let call = node.receive().await;
    assert_eq!(call["arguments"], fits);
    node.answer(&call, json!(1)).await;
    assert_eq!(other.receive().await["data"], 1);
    // A result, which has executed; errors and odd keys count too.
    for (answer, number, kind) in [
        (json!({"type": 4, "data": large}), 0, "too_large"),
        (json!({"type": 4, "odd": large}), 0, "too_large"),
        // Of an error only what makes it large is left out.
        (json!({"type": 0, "error": 7, "message": "no", "data": large}), 7, "application"),
        (json!({"type": 0, "error": 7, "message": "no", "odd": large}), 7, "application"),
        (json!({"type": 0, "error": 7, "message": "no".repeat(40_000)}), 7, "application"),
    ] {
        node.request(json!({"type": 3, "function": "other.f"})).await;
        let call = other.receive().await;
        let mut frame = answer.clone();
        frame["requestId"] = call["requestId"].clone();
        other.send(&frame).await;
        let told = node.receive().await;
        assert_eq!((error(&told), &told["data"]["kind"]), (number, &json!(kind)), "{told}");
        assert_eq!(told["data"]["outcome"], "executed");
        assert!(number == 0 || told["message"].as_str().unwrap().starts_with("no"), "{told}");
    }
    // A caller from outside reads what it likes.
    let (result, ()) = tokio::join!(gateway.result("other.f", json!({})), async {
        let call = other.receive().await;
        other.answer(&call, large.clone()).await;
    });
    assert_eq!(result, large);
    // A hook is not delivered, and whoever triggered it is told nothing else than ever.
    assert_eq!(other.ask(json!({"type": 7, "hook": "tick", "data": large})).await["type"], 8);
    other.ask(json!({"type": 7, "hook": "tick", "data": {"n": 2}})).await;
    assert_eq!(node.receive().await["data"], json!({"n": 2}));
    let dropped = [("outcome", "too_large")];
    gateway.wait_for_metric("genkan_hub_hooks_total", &dropped, 1.0).await;
    let line = gateway.wait_for_log(0, "hook not delivered").await;
    assert_eq!((&line["module"], &line["hook"]), (&json!("node"), &json!("other.tick")));
    node.is_served().await;
}

/// What the hub itself answers with is bounded like anybody's answer.
#[tokio::test]
async fn a_list_of_modules_may_be_too_large_too() {
    let gateway = Gateway::start(&format!("{HUB}max_argument = \"16KiB\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    assert!(m.call("juno.listModules", json!({})).await["data"].is_array());
    for n in 0..200 {
        let declared = m.ask(json!({"type": 9, "function": "x".repeat(90 + n)})).await;
        assert_eq!(declared["type"], 10);
    }
    let told = m.call("juno.listModules", json!({})).await;
    assert_eq!((error(&told), &told["data"]["kind"]), (0, &json!("too_large")), "{told}");
}
