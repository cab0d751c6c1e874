//! What a NATS user may not do.

use super::{config, echo, exposed, row};
use crate::harness::{Gateway, NamekoResponder, Nats, RabbitMq, eventually};

#[tokio::test]
async fn what_may_not_be_subscribed_to_is_told_and_costs_nothing_else() {
    let conf = |allowed: &str| {
        format!(
            "authorization {{ users: [{{ user: g, password: p, permissions: {{ \
             subscribe: [\"_INBOX.>\", {allowed}], publish: \">\" }} }}] }}"
        )
    };
    let (nats, vhost) = (Nats::configured(&conf("\"post.>\"")), RabbitMq::shared().vhost());
    let _desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let rows = [row("desk", "picom", ""), row("desk", "plain", "as = \"post\"")].concat();
    let toml = config(&nats, &vhost, &rows).replace("nats://127", "nats://g:p@127");
    let gateway = Gateway::ready(&toml).await;
    exposed(&gateway, "post", 1).await;
    let refused = "NATS does not permit to take calls of an exposed service";
    let told = gateway.wait_for_log(0, refused).await;
    assert_eq!((&told["subject"], &told["service"]), (&"desk.>".into(), &"desk".into()));
    assert!(told["mend"].as_str().is_some_and(|mend| mend.contains("subscribe")));
    let page = eventually("its page tells", async || {
        let page = gateway.page("/readyz").await;
        page.text().contains("does not permit").then_some(page)
    })
    .await;
    assert_eq!(page.status, 200);
    assert!(page.text().contains("bus: `desk` is not exposed: NATS does not permit"), "{page:?}");
    let login = async_nats::ConnectOptions::with_user_and_password("g".into(), "p".into());
    let client = login.connect(nats.url()).await.expect("a login");
    assert!(!super::ask(&client, "post.x", "").await.payload.is_empty());
    let labels = [("upstream", "bus")];
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &labels).await, 0.0);
}
