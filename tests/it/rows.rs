//! What a row of the routing table can say of the calls that it takes.

use serde_json::{Value, json};

use crate::harness::gateway::genkan;
use crate::harness::process::run;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, as_fault};

async fn gateway(rows: &str) -> (Nats, NatsResponder, Gateway) {
    let nats = Nats::start();
    let service =
        NatsResponder::serve(nats.client().await, "hello", |seen| match seen.method.as_str() {
            "fail" => Answer::new(r#"{"error":"no"}"#),
            method => Answer::new(format!("{{\"payload\":\"{method}\"}}")),
        })
        .await;
    let gateway = Gateway::ready(&format!("{}{rows}", nats.upstream("nats", "picom"))).await;
    (nats, service, gateway)
}

#[tokio::test]
async fn a_row_gives_a_name_without_a_dot_to_a_service() {
    let (_nats, service, gateway) = gateway(
        "[[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n\
         [[routes]]\nmatch = \"greet\"\nupstream = \"nats\"\nservice = \"hello\"\n\
         [[routes]]\nmatch = \"old_*\"\nupstream = \"nats\"\nservice = \"hello\"\nmethod = \"new\"\n",
    )
    .await;
    assert_eq!(gateway.result("greet", json!(["x"])).await, "greet");
    assert_eq!(gateway.result("old_name", json!(["x"])).await, "new");
    assert_eq!(gateway.result("hello.greet", json!(["x"])).await, "greet");
    let fault = gateway.fault("wave", json!(["x"])).await;
    assert_eq!(fault.is("unknown_service", "not_sent").code, -32601);
    assert!(fault.message.contains("match = \"wave\", service = "), "{fault:?}");
    assert_eq!(service.requests.count(), 3);
    let nobodys = [("route", "none"), ("outcome", "unknown_service")];
    assert_eq!(gateway.metric("genkan_calls_total", &nobodys).await, 1.0);
    let config = gateway.config();
    let genkan = |arguments: &[&str]| {
        let mut command = genkan();
        command.args(arguments).arg("--config").arg(&config);
        run(&mut command)
    };
    let (status, out, err) = genkan(&["explain", "--json", "greet", "\"x\""]);
    assert_eq!(status, 0, "{err}");
    let explained: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&explained["row"], &explained["service"]), (&json!(2), &json!("hello")), "{out}");
    assert_eq!(explained["sent"]["address"]["subject"], "hello.greet", "{out}");
    // The first row leaves the others something, though its glob takes all.
    let (status, out, err) = genkan(&["check"]);
    assert!(status == 0 && !err.contains("can never match"), "{out}{err}");
}

#[tokio::test]
async fn a_row_says_how_a_service_answers_at_its_own_address() {
    let (_nats, _service, gateway) = gateway(
        "[[routes]]\nmatch = \"hello.strictly\"\nupstream = \"nats\"\n\
         [[routes]]\nmatch = \"hello.*\"\nupstream = \"nats\"\ndialect = \"gemstone\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"nats\"\n",
    )
    .await;
    let call = |method: &str| json!({"jsonrpc": "2.0", "method": method, "params": ["x"], "id": 1});
    let post = async |path: &str, body: Value| gateway.post(path, &[], body.to_string()).await;
    let both = json!({"jsonrpc": "2.0", "result": "greet", "error": null, "id": 1});
    let answer = post("/api/hello", json!([call("greet"), call("strictly"), call("fail")])).await;
    let answers = answer.json();
    assert_eq!(answers[0], both);
    assert_eq!(answers[1], json!({"jsonrpc": "2.0", "result": "strictly", "id": 1}));
    assert_eq!(answers[2].get("result"), Some(&Value::Null), "{answers}");
    as_fault(&answers[2]).is("application", "executed");
    // What is about no method of the service is answered as most of it is.
    let note = json!([{"jsonrpc": "2.0", "method": "greet", "params": ["x"]}]);
    assert_eq!(post("/api/hello", note.clone()).await.text(), "[]");
    let broken = gateway.post("/api/hello", &[], "{").await.json();
    assert_eq!(broken.get("result"), Some(&Value::Null), "{broken}");
    // Elsewhere, and for others, JSON-RPC holds to the letter.
    let strict = json!({"jsonrpc": "2.0", "result": "greet", "id": 1});
    assert_eq!(post("/api", call("hello.greet")).await.json(), strict);
    assert_eq!(post("/api/other", note).await.text(), "");
}
