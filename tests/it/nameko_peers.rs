//! Peers of a Nameko upstream that do harm, by intent or by accident: the harm stays theirs.

use serde_json::json;

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
