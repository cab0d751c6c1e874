//! Lines as they should not be: broken, in pieces, too deep, too long.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::Gateway;

#[tokio::test]
async fn what_is_no_json_is_ignored() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    let noise: [&[u8]; 9] = [
        b"\n",
        b"\r\n",
        b"   \n",
        b"{\n",
        b"nonsense\n",
        b"{\"type\":\x00}\n",
        b"\xff\xfe{}\n",
        b"{\"type\":3,\"requestId\":\"\xc3\"}\n",
        b"{\"type\":3,}\n",
    ];
    for line in noise {
        peer.write(line).await;
    }
    peer.is_served().await;
    let ignored = gateway.metric("genkan_hub_ignored_lines_total", &[]).await;
    assert!(ignored >= 6.0, "{ignored}");
}

/// Python writes `NaN`, and has bytes that are no UTF-8; a line may be cut. Whoever waits for what
/// it was meant to be hears of it at once.
#[tokio::test]
async fn an_answer_that_is_no_json_ends_its_call() {
    let gateway = Gateway::start(&format!("timeout = \"10m\"\n{HUB}")).await;
    let mut callee = Peer::module(&gateway, "callee", &["f"]).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    // What is missing of JSON alone is `NaN`: null, as from Nameko.
    let (result, ()) = tokio::join!(gateway.result("callee.f", json!({})), async {
        let id = callee.receive().await["requestId"].clone();
        callee.write(format!("{{\"type\":4,\"requestId\":{id},\"data\":[NaN,\"NaN\"]}}\n")).await;
    });
    assert_eq!(result, json!([null, "NaN"]));
    caller.request(json!({"type": 3, "function": "callee.f"})).await;
    let id = callee.receive().await["requestId"].clone();
    callee.write(format!("{{\"data\":-Infinity,\"requestId\":{id},\"type\":4}}\n")).await;
    assert_eq!(caller.receive().await["data"], Value::Null);
    let repaired = [("upstream", "hub")];
    gateway.wait_for_metric("genkan_repaired_replies_total", &repaired, 2.0).await;
    let broken: [&[u8]; 4] = [b"\"\xff\"}", b"nan}", b"{\"a\":[1,", b"1"];
    for end in broken {
        for kind in [4, 0] {
            let shown = String::from_utf8_lossy(end);
            let answer = |id: &Value| {
                let head = format!("{{\"type\":{kind},\"requestId\":{id},\"data\":");
                [head.as_bytes(), end, b"\n"].concat()
            };
            let (fault, ()) = tokio::join!(gateway.fault("callee.f", json!({})), async {
                let id = callee.receive().await["requestId"].clone();
                callee.write(answer(&id)).await;
            });
            let said = &fault.is("internal", "executed").message;
            assert!(said.contains("no JSON"), "{shown}: {said}");
            let asked = caller.request(json!({"type": 3, "function": "callee.f"})).await;
            let id = callee.receive().await["requestId"].clone();
            callee.write(answer(&id)).await;
            let told = caller.receive().await;
            assert_eq!((error(&told), &told["requestId"]), (2, &json!(asked)), "{shown}");
            assert_eq!(told["data"]["outcome"], "executed", "{shown}");
            // Real modules die of an error frame with the id of what they have answered.
            callee.is_served().await;
        }
    }
    let line = gateway.wait_for_log(0, "a module's answer was not taken").await;
    assert_eq!((&line["level"], &line["module"]), (&json!("WARN"), &json!("callee")));
}

#[tokio::test]
async fn a_request_that_is_no_json_is_refused_and_what_tells_nothing_is_logged() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    for frame in [
        r#"{"type":3,"requestId":"x","function":"m.f","arguments":{"a":NaN}}"#,
        r#"{"type":7,"requestId":"x","hook":"h","data":{"a":Infinity}}"#,
        r#"{"type":9,"requestId":"x","function":nan}"#,
    ] {
        peer.write(format!("{frame}\n")).await;
        let told = peer.receive().await;
        assert_eq!((error(&told), &told["requestId"]), (0, &json!("x")), "{frame}");
        assert_eq!(told["data"]["kind"], "parse_error", "{frame}");
    }
    for _ in 0..100 {
        peer.write(b"\xff\xfe NaN\n").await;
    }
    peer.is_served().await;
    let line = gateway.wait_for_log(0, "a module's line is ignored").await;
    assert_eq!((&line["level"], &line["module"]), (&json!("WARN"), &json!("m")));
    gateway.wait_for_metric("genkan_hub_ignored_lines_total", &[], 100.0).await;
    let lines = gateway.log_text().lines().filter(|line| line.contains("is ignored")).count();
    assert!(lines < 20, "{lines} lines: a flood is summed up");
}

#[tokio::test]
async fn lines_may_come_in_any_pieces() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    let line =
        "{\"type\":3,\"requestId\":\"é1\",\"function\":\"m.f\",\"arguments\":{\"k\":\"ü\"}}\r\n";
    for split in 1..line.len() {
        peer.write(&line.as_bytes()[..split]).await;
        tokio::task::yield_now().await;
        peer.write(&line.as_bytes()[split..]).await;
        let call = peer.receive().await;
        assert_eq!(call["arguments"], json!({"k": "ü"}), "split at {split}");
        peer.answer(&call, json!(split)).await;
        assert_eq!(peer.receive().await, json!({"requestId": "é1", "type": 4, "data": split}));
    }
    // One byte at a time.
    for byte in line.as_bytes() {
        peer.write([*byte]).await;
        tokio::task::yield_now().await;
    }
    assert_eq!(peer.receive().await["arguments"], json!({"k": "ü"}));
    // Many in one write, answered in order.
    peer.write(line.repeat(100)).await;
    for _ in 0..100 {
        assert_eq!(peer.receive().await["type"], 3);
    }
}

/// The hub has surely read the first half: it came together with a line that is answered.
#[tokio::test]
async fn a_line_in_two_halves_is_made_whole_again() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    let line = r#"{"type":3,"requestId":"whole","function":"m.f","arguments":{"k":"v"}}"#;
    for split in 1..line.len() {
        let (first, second) = line.split_at(split);
        peer.write(format!("{{\"type\":77,\"requestId\":\"x\"}}\n{first}")).await;
        assert_eq!(error(&peer.receive().await), 2);
        peer.write(format!("{second}\n")).await;
        let call = peer.receive().await;
        assert_eq!(call["arguments"], json!({"k": "v"}), "split at {split}: {call}");
        peer.answer(&call, json!(split)).await;
        let answer = json!({"requestId": "whole", "type": 4, "data": split});
        assert_eq!(peer.receive().await, answer);
    }
}

#[tokio::test]
async fn deep_nesting_is_refused_and_payloads_pass_as_they_are() {
    let gateway = Gateway::start(HUB).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    for depth in [127, 5_000, 400_000] {
        let line = format!(
            "{{\"type\":3,\"requestId\":\"x\",\"x\":{}{}}}\n",
            "[".repeat(depth + 1),
            "]".repeat(depth + 1)
        );
        peer.write(line).await;
        let answer = peer.receive().await;
        assert_eq!((error(&answer), &answer["requestId"]), (0, &json!("x")), "{depth}");
    }
    // No JSON at all, though it would be deep: ignored like any other.
    for open in ["[", "{\"a\":"] {
        peer.write(format!("{}\n", open.repeat(1_000_000 / open.len()))).await;
    }
    // An array is no frame, however deep.
    let (open, close) = ("[".repeat(500_000), "]".repeat(500_000));
    peer.write(format!("{open}{close}\n")).await;
    assert_eq!(error(&peer.receive().await), 2);
    // Answers may nest as deep as those of Nameko and NATS; one that nests deeper ends its call.
    let deep = format!("{}{}", "[".repeat(512), "]".repeat(512));
    peer.request(json!({"type": 3, "function": "m.f"})).await;
    let call = peer.receive().await;
    peer.write(format!("{{\"data\":{deep},\"type\":4,\"requestId\":{}}}\n", call["requestId"]))
        .await;
    let line = peer.line().await.expect("an answer");
    assert!(line.contains(&deep), "{line}");
    let id = peer.request(json!({"type": 3, "function": "m.f"})).await;
    let call = peer.receive().await;
    peer.write(format!(
        "{{\"data\":{}{},\"type\":4,\"requestId\":{}}}\n",
        "[".repeat(513),
        "]".repeat(513),
        call["requestId"]
    ))
    .await;
    let told = peer.receive().await;
    assert_eq!((error(&told), &told["requestId"]), (0, &json!(id)));
    assert_eq!(told["data"]["kind"], "too_large");
    let payload = r#"{"b":1.10,"a":[18446744073709551616,-0,1e400,"\ud800","\u00e9"],"b":2}"#;
    peer.write(format!(
        "{{\"type\":3,\"requestId\":\"x\",\"function\":\"m.f\",\"arguments\":{payload}}}\n"
    ))
    .await;
    let line = peer.line().await.expect("a line");
    assert!(line.contains(&format!("\"arguments\":{payload}")), "{line}");
    let id = line
        .split("\"requestId\":\"")
        .nth(1)
        .and_then(|rest| rest.split('"').next())
        .expect("an id");
    peer.write(format!("{{\"type\":4,\"requestId\":\"{id}\",\"data\":{payload}}}\n")).await;
    let line = peer.line().await.expect("a line");
    assert_eq!(line, format!("{{\"requestId\":\"x\",\"type\":4,\"data\":{payload}}}"));
    // The same through HTTP.
    let http = tokio::spawn(async move {
        let line = peer.line().await.expect("a line");
        let id = line
            .split("\"requestId\":\"")
            .nth(1)
            .and_then(|rest| rest.split('"').next())
            .expect("an id");
        peer.write(format!("{{\"type\":4,\"requestId\":\"{id}\",\"data\":{payload}}}\n")).await;
        (line, peer)
    });
    assert_eq!(gateway.raw("m.f", payload).await, payload);
    let (line, _peer) = http.await.unwrap();
    assert!(line.contains(&format!("\"arguments\":{payload}")), "{line}");
}

#[tokio::test]
async fn a_long_line_is_refused_and_one_without_an_end_ends_the_connection() {
    let gateway = Gateway::start(&format!("{HUB}max_line = \"10KiB\"\n")).await;
    let mut peer = Peer::module(&gateway, "m", &["f"]).await;
    let line = |length: usize| {
        format!("{{\"type\":77,\"requestId\":\"x\",\"x\":\"{}\"}}\n", "y".repeat(length))
    };
    peer.write(line(9_000)).await;
    assert_eq!(error(&peer.receive().await), 2);
    for length in [11_000, 60_000] {
        peer.write(line(length)).await;
        let answer = peer.receive().await;
        assert_eq!((error(&answer), &answer["requestId"]), (0, &json!("x")));
        assert_eq!(answer["data"]["kind"], "too_large");
        peer.is_served().await;
        let garbage = "z".repeat(length);
        peer.write(format!("{garbage}\n")).await;
        let answer = peer.receive().await;
        assert_eq!((error(&answer), &answer["requestId"]), (0, &json!("undefined")));
    }
    // Whoever waits is told: the caller of a call, and the caller of an answer.
    let text = "y".repeat(20_000);
    let answer = peer.call("m.f", json!({"text": text})).await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (0, &json!("too_large")));
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "m.f"})).await;
    let call = peer.receive().await;
    peer.answer(&call, json!(text)).await;
    let answer = caller.receive().await;
    assert_eq!((error(&answer), &answer["data"]["kind"]), (0, &json!("too_large")));
    assert_eq!(answer["data"]["outcome"], "executed");
    let (fault, ()) = tokio::join!(gateway.fault("m.f", json!({})), async {
        let call = peer.receive().await;
        peer.answer(&call, json!(text)).await;
    });
    fault.is("too_large", "executed");
    peer.is_served().await;
    peer.write("z".repeat(100_000)).await;
    let mut last = Value::Null;
    while let Some(frame) = peer.next().await {
        last = frame;
    }
    assert_eq!(error(&last), 0, "the reason comes before the end");
    gateway
        .wait_for_metric("genkan_hub_disconnects_total", &[("reason", "endless_line")], 1.0)
        .await;
    Peer::module(&gateway, "m", &["f"]).await.is_served().await;
}
