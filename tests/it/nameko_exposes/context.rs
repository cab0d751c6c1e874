//! What travels beside a call: as the service sees it.

use serde_json::json;

use super::caller::{Caller, NONE};
use super::{World, results, row};
use crate::harness::clients::nameko_with;
use crate::harness::{Answer, Gateway, NamekoVersion, NatsResponder, RabbitMq, Seen, Shop};
use lapin::types::{AMQPValue, FieldTable};

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

fn answer(_: &Seen) -> Vec<Answer> {
    Answer::new("1")
}

#[tokio::test]
async fn a_service_on_nats_sees_who_asks() {
    let world = World::exposing("plain", &["echo"]).await;
    let echo = NatsResponder::serve(world.nats.client().await, "echo", answer).await;
    let context = json!({
        "language": "de", "request_id": "r-1", "user_agent": "till/2", "traceparent": TRACE,
        "auth_token": "Bearer geheim", "user_id": "7", "tenant": "tokyo",
    });
    for version in NamekoVersion::ALL {
        let calls = [("echo", "x", json!([]), json!({}))];
        let outcomes = nameko_with(version, &world.vhost.url(), &calls, context.clone()).await;
        assert_eq!(results(&outcomes), [json!(1)]);
        let headers = echo.requests.last().headers;
        let header = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!(header("Accept-Language"), Some("de"), "{headers:?}");
        assert_eq!(header("X-Request-Id"), Some("r-1"));
        assert_eq!(header("User-Agent"), Some("till/2"));
        assert_eq!(header("traceparent"), Some(TRACE));
        assert_eq!(header("Genkan-Hops"), Some("1"));
        assert_eq!((header("Authorization"), header("X-User-Id")), (None, None));
    }
    assert!(!world.gateway.log_text().contains("geheim"));
}

#[tokio::test]
async fn credentials_travel_where_they_may() {
    let rows = row("echo", "");
    let (vhost, nats) = (RabbitMq::shared().vhost(), crate::harness::Nats::start());
    let text = super::config(&vhost, &nats, "plain", &rows);
    let text = text.replacen(
        "protocol = \"nameko\"",
        "protocol = \"nameko\"\nforward_authorization = true",
        1,
    );
    let gateway = Gateway::ready(&text).await;
    super::exposed(&gateway, "echo", 1).await;
    let echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
    let context = json!({"auth_token": "Bearer geheim", "user_id": 7});
    let calls = [("echo", "x", json!([]), json!({}))];
    nameko_with(NamekoVersion::Three, &vhost.url(), &calls, context).await;
    let headers = echo.requests.last().headers;
    assert_eq!(headers.get("Authorization").map(String::as_str), Some("Bearer geheim"));
    assert_eq!(headers.get("X-User-Id").map(String::as_str), Some("7"));
}

#[tokio::test]
async fn from_nameko_to_nameko_all_of_it_goes_on() {
    let vhost = RabbitMq::shared().vhost();
    for version in NamekoVersion::ALL {
        let name = format!("shop{}", version as usize);
        let rows = format!(
            "{}\n[[expose]]\nservice = \"shop\"\nas = \"{name}\"\non = [\"here\"]\n",
            vhost.upstream("here")
        );
        let gateway = Gateway::ready(&format!("{}{rows}", Shop::shared(version).config())).await;
        super::exposed(&gateway, "shop", 1).await;
        let tenant = json!({"city": "tokyo", "floors": [1, 2], "open": true, "rate": 1.5});
        let context =
            json!({"language": "ja", "tenant": tenant, "level": 5, "AMQP_URI": "amqp://u:p@h/"});
        let calls = [(name.as_str(), "context", json!([]), json!({}))];
        let outcomes = nameko_with(version, &vhost.url(), &calls, context).await;
        let seen = results(&outcomes).remove(0);
        let data = &seen["data"];
        assert_eq!((&data["language"], &data["tenant"]), (&json!("ja"), &tenant), "{seen}");
        assert_eq!((&data["level"], &data["genkan_hops"]), (&json!(5), &json!(1)), "{seen}");
        assert_eq!(data.get("AMQP_URI"), None, "{seen}");
        // One entry for each hop: the client's, Genkan's, and the service's own.
        let stack = seen["stack"].as_array().expect("a list");
        assert_eq!(stack.len(), 3, "{seen}");
        let begin = |index: usize| stack[index].as_str().unwrap_or_default().to_owned();
        assert!(begin(0).starts_with("standalone_rpc_"), "{seen}");
        assert!(begin(1).starts_with("genkan.call."), "{seen}");
        assert!(begin(2).starts_with("shop.context."), "{seen}");
        gateway.terminate();
        assert_eq!(gateway.exit_status().await, 0);
    }
}

#[tokio::test]
async fn a_deadline_shortens_the_call_and_one_that_has_passed_keeps_it_from_running() {
    let world = World::exposing("plain", &["slow"]).await;
    let slow = NatsResponder::serve(world.nats.client().await, "slow", |_| Vec::new()).await;
    let mut caller = Caller::connect(&world.vhost.url(), "own").await;
    let with_deadline = |caller: &Caller, in_millis: i64| {
        let since = std::time::SystemTime::UNIX_EPOCH.elapsed().expect("now").as_millis();
        let at = i64::try_from(since).expect("now") + in_millis;
        let mut headers = FieldTable::default();
        headers.insert("nameko.deadline".into(), AMQPValue::LongLongInt(at));
        caller.properties("7").with_headers(headers)
    };
    let reply = caller.call("slow.x", with_deadline(&caller, 400), NONE).await;
    assert_eq!(reply.exc_path(), "nameko.exceptions.RpcTimeout");
    assert_eq!(slow.requests.count(), 1);
    let left = slow.requests.last().headers["X-Request-Timeout"].clone();
    let left: u64 = left.trim_end_matches("ms").parse().expect("a number");
    assert!(left <= 400, "{left}");
    let expiring = caller.properties("7").with_expiration("300".into());
    let reply = caller.call("slow.x", expiring, NONE).await;
    assert_eq!(reply.exc_path(), "nameko.exceptions.RpcTimeout");
    assert_eq!(slow.requests.count(), 2);
    let reply = caller.call("slow.x", with_deadline(&caller, -1), NONE).await;
    assert_eq!(reply.exc_path(), "nameko.exceptions.RpcTimeout");
    assert_eq!(reply.body["error"]["data"]["outcome"], "not_sent");
    let said = reply.body["error"]["value"].to_string();
    assert!(said.contains("`nameko.deadline`") && said.contains("handles an event"), "{said}");
    assert_eq!(slow.requests.count(), 2, "it has not run");
}
