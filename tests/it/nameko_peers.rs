//! Peers of a Nameko upstream that do harm, by intent or by accident: the harm stays theirs.

use serde_json::json;

use crate::harness::raw_amqp::{RawPublisher, long, short};
use crate::harness::{Answer, Gateway, NamekoResponder, RabbitMq, Seen, eventually};

const OK: &str = r#"{"result": "ok", "error": null}"#;

/// The correlation ids of the calls before and after one, if they counted up.
fn neighbours(id: &str) -> Vec<String> {
    let (prefix, count) = id.split_at(24);
    let count = u64::from_str_radix(count, 16).expect("a UUID");
    let near = (1..=20).flat_map(|step| [count.wrapping_sub(step), count + step]);
    near.map(|count| format!("{prefix}{:012x}", count & 0xffff_ffff_ffff)).collect()
}

#[tokio::test]
async fn a_service_that_got_a_call_cannot_answer_its_neighbours() {
    let vhost = RabbitMq::shared().vhost();
    let victim = NamekoResponder::serve(&vhost.url(), "victim", |_| Vec::new()).await;
    let forge = |seen: &Seen| {
        let own = seen.correlation_id.as_deref().expect("one");
        let forged = neighbours(own).into_iter().map(|id| Answer {
            body: br#"{"result": "forged", "error": null}"#.to_vec(),
            correlation_id: Some(id),
            ..Answer::default()
        });
        forged.chain(Answer::new(OK)).collect()
    };
    let _forger = NamekoResponder::serve(&vhost.url(), "forger", forge).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let call = gateway.result("victim.x", json!([]));
    let forging = async {
        eventually("it waits", async || (victim.requests.count() == 1).then_some(())).await;
        assert_eq!(gateway.result("forger.x", json!([])).await, "ok");
        gateway.wait_for_metric("genkan_late_replies_total", &[("upstream", "rabbit")], 40.0).await;
        victim.say(&victim.requests.last(), Answer::new(OK).remove(0)).await;
    };
    let (result, ()) = tokio::join!(call, forging);
    assert_eq!(result, "ok");
}

/// Flags, and a reply's properties as a real service sends them, but for its headers.
fn with_headers(table: &[u8], id: &str) -> Vec<u8> {
    [
        &[0xe4, 0][..],
        &short(b"application/json"),
        &short(b"utf-8"),
        &long(table),
        &short(id.as_bytes()),
    ]
    .concat()
}

fn nested(levels: usize) -> Vec<u8> {
    (0..levels).fold(Vec::new(), |inside, _| [&b"\x01kF"[..], &long(&inside)].concat())
}

/// Properties that client libraries do not survive, by what is odd.
fn oddities(id: &str) -> Vec<(&'static str, Vec<u8>)> {
    let id = short(id.as_bytes());
    let many: Vec<u8> =
        (0..300).flat_map(|_| [&b"\x05x-padS"[..], &long(&[b'x'; 100])].concat()).collect();
    let text = std::str::from_utf8(&id[1..]).expect("it is");
    vec![
        ("a content type", [&[0x84, 0][..], &short(b"\xff\xfe"), &id].concat()),
        (
            "a message id behind",
            [&[0x84, 0x80][..], &short(b"a/b"), &id, &short(b"\xc3(")].concat(),
        ),
        ("a header's key", with_headers(b"\x02\xff\xfet\x01", text)),
        ("a key within", with_headers(&[&b"\x01aF"[..], &long(b"\x01\xfft\x01")].concat(), text)),
        ("a large table", with_headers(&many, text)),
        ("nesting", with_headers(&nested(64), text)),
        ("deep nesting", with_headers(&nested(18_000), text)),
    ]
}

#[tokio::test]
async fn an_odd_reply_costs_nobody_but_its_own_call() {
    let vhost = RabbitMq::shared().vhost();
    let answer = |seen: &Seen| match &seen.method[..] {
        "odd" | "wait" => Vec::new(),
        _ => Answer::new(OK),
    };
    let service = NamekoResponder::serve(&vhost.url(), "orders", answer).await;
    let mut raw = RawPublisher::connect(&vhost.url()).await;
    let gateway = Gateway::ready(&vhost.config()).await;
    let waiting = gateway.result("orders.wait", json!([]));
    let odd = async {
        eventually("it waits", async || (service.requests.count() == 1).then_some(())).await;
        let first = service.requests.last();
        for (number, (what, _)) in oddities("").into_iter().enumerate() {
            let call = gateway.rpc("orders.odd", json!([]));
            let answer = async {
                let came = || service.requests.count() == 2 * number + 2;
                eventually("the odd call", async || came().then_some(())).await;
                let seen = service.requests.last();
                let id = seen.correlation_id.as_deref().expect("one");
                let properties = oddities(id).swap_remove(number).1;
                raw.answer(&seen, &properties, OK.as_bytes()).await;
            };
            let (answer, ()) = tokio::join!(call, answer);
            assert_eq!(answer["result"], "ok", "{what}: {answer}");
            assert_eq!(gateway.result("orders.x", json!([])).await, "ok", "{what}");
        }
        service.say(&first, Answer::new(OK).remove(0)).await;
    };
    let (result, ()) = tokio::join!(waiting, odd);
    assert_eq!(result, "ok");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
    let repaired = gateway.metric("genkan_repaired_replies_total", &[]).await;
    assert_eq!(repaired, 7.0);
    let said = gateway.logged("a reply is not as AMQP allows, and was mended");
    assert_eq!(said.len(), 1, "{said:?}");
    assert_eq!((&said[0]["upstream"], &said[0]["service"]), (&json!("rabbit"), &json!("orders")));
}
