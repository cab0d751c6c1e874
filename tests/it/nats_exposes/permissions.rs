//! What a NATS user may not do.

use super::{config, echo, exposed, row};
use crate::check_live::{check, tells};
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
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    tells(&problems, "error", &["desk", "does not permit to subscribe to `desk.>`"]);
    // The permission is given while it runs.
    nats.configure(&conf("\"post.>\", \"desk.>\""));
    nats.reload();
    exposed(&gateway, "desk", 1).await;
    assert!(!super::ask(&client, "desk.x", "").await.payload.is_empty());
    let labels = [("upstream", "bus")];
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &labels).await, 0.0);
}

#[tokio::test]
async fn a_micro_service_that_may_not_tell_of_itself_is_called_and_named_once() {
    let conf = "authorization { users: [{ user: g, password: p, permissions: { \
                subscribe: { deny: \"$SRV.>\" } } }] }";
    let (nats, vhost) = (Nats::configured(conf), RabbitMq::shared().vhost());
    let _desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let rows = row("desk", "micro", "as = \"mm\"\nmethods = [\"create\"]");
    let toml = config(&nats, &vhost, &rows).replace("nats://127", "nats://g:p@127");
    let gateway = Gateway::ready(&toml).await;
    exposed(&gateway, "mm", 1).await;
    let page = eventually("its page tells", async || {
        let page = gateway.page("/readyz").await;
        page.text().contains("$SRV").then_some(page)
    })
    .await;
    let lines: Vec<&str> = page.text().lines().filter(|line| line.contains("`mm`")).collect();
    assert_eq!(lines.len(), 1, "{page:?}");
    assert!(lines[0].starts_with("bus: `mm` is exposed, but tools do not find it: "), "{page:?}");
    assert!(lines[0].contains("`$SRV.>`"), "{page:?}");
    let login = async_nats::ConnectOptions::with_user_and_password("g".into(), "p".into());
    let client = login.connect(nats.url()).await.expect("a login");
    assert!(!super::ask(&client, "mm.create", "").await.payload.is_empty());
    let told = gateway.logged("NATS does not permit to take questions about an exposed service");
    assert_eq!(told.len(), 1, "{told:?}");
}

#[tokio::test]
async fn answers_that_may_not_leave_are_counted() {
    let conf = "authorization { users: [{ user: g, password: p, permissions: { \
                publish: { deny: \"evil.>\" } } }, { user: c, password: p }] }";
    let (nats, vhost) = (Nats::configured(conf), RabbitMq::shared().vhost());
    let _desk = NamekoResponder::serve(&vhost.url(), "desk", echo).await;
    let toml =
        config(&nats, &vhost, &row("desk", "picom", "")).replace("nats://127", "nats://g:p@127");
    let gateway = Gateway::ready(&toml).await;
    exposed(&gateway, "desk", 1).await;
    let login = async_nats::ConnectOptions::with_user_and_password("c".into(), "p".into());
    let client = login.connect(nats.url()).await.expect("a login");
    for n in 0..20 {
        let inbox = format!("evil.{n}");
        client.publish_with_reply("desk.x", inbox, "".into()).await.expect("published");
    }
    client.flush().await.expect("flushed");
    gateway.wait_for_metric("genkan_unsent_replies_total", &[("upstream", "bus")], 20.0).await;
    let told = gateway.logged("NATS does not permit to publish: allow it for Genkan's user");
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(!super::ask(&client, "desk.x", "").await.payload.is_empty());
}
