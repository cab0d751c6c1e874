//! What travels beside a call: as the service sees it, and as the caller gets it back.

use super::{World, as_json, ask_with, echo, header, row};
use crate::harness::eventually;

const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

#[tokio::test]
async fn a_service_sees_who_asks() {
    for dialect in ["picom", "plain", "micro"] {
        let world = World::exposing(dialect, "methods = [\"x\"]", echo).await;
        let reply = ask_with(
            &world.client,
            "desk.x",
            "",
            &[
                ("traceparent", TRACE),
                ("tracestate", "a=b"),
                ("X-Request-Id", "r-1"),
                ("Accept-Language", "de"),
                ("User-Agent", "till/2"),
                ("Authorization", "Bearer geheim"),
                ("X-User-Id", "7"),
            ],
        )
        .await;
        let headers = world.desk.requests.last().headers;
        let seen = |name: &str| headers.get(name).map(String::as_str);
        assert_eq!(seen("nameko.language"), Some("de"), "{headers:?}");
        assert_eq!(seen("nameko.request_id"), Some("r-1"));
        assert_eq!(seen("nameko.user_agent"), Some("till/2"));
        assert_eq!(seen("traceparent"), Some(TRACE));
        assert_eq!(seen("nameko.genkan_hops"), Some("1"));
        assert_eq!((seen("nameko.auth_token"), seen("nameko.user_id")), (None, None));
        assert_eq!(header(&reply, "traceparent"), TRACE);
        assert!(!world.gateway.log_text().contains("geheim"));
    }
}

#[tokio::test]
async fn credentials_travel_where_they_may() {
    let world = World::exposing("picom", "", echo).await;
    let toml = super::config(&world.nats, &world.vhost, &row("desk", "picom", "as = \"post\""));
    let toml = toml.replacen("dialect", "forward_authorization = true\ndialect", 1);
    world.gateway.write_config(&toml);
    world.gateway.hang_up();
    super::exposed(&world.gateway, "post", 1).await;
    let rows = [("Authorization", "Bearer geheim"), ("X-User-Id", "7")];
    ask_with(&world.client, "post.x", "", &rows).await;
    let headers = world.desk.requests.last().headers;
    assert_eq!(headers.get("nameko.auth_token").map(String::as_str), Some("Bearer geheim"));
    assert_eq!(headers.get("nameko.user_id").map(String::as_str), Some("7"));
}

#[tokio::test]
async fn a_deadline_shortens_the_call() {
    let world = World::exposing("plain", "", echo).await;
    let rows = [("X-Request-Timeout", "400ms")];
    let reply = ask_with(&world.client, "desk.never", "", &rows).await;
    assert_eq!(header(&reply, "Genkan-Fault"), "timeout unknown");
    assert!(as_json(&reply)["error"].as_str().is_some_and(|text| text.contains("400ms")));
    eventually("the service was told", async || {
        world.desk.requests.last().headers.contains_key("nameko.deadline").then_some(())
    })
    .await;
}
