//! What a NATS user may not listen to.

use serde_json::json;

use super::{carries, config};
use crate::check_live::{check, tells};
use crate::events::Listener;
use crate::harness::{Gateway, Nats, eventually};

const ROWS: &str = "[[topics]]\nmatch = \"deny.*\"\nfrom = \"bus:deny.*\"\n\
                    [[bridges]]\nfrom = \"bus:deny.*\"\nto = [\"bus:copies.$1\"]\n\
                    [[topics]]\nmatch = \"free.*\"\nfrom = \"bus:free.*\"\n";

fn conf(denied: &str) -> String {
    format!(
        "authorization {{ users: [{{ user: g, password: p, permissions: {{ \
         subscribe: {{ deny: [{denied}] }} }} }}, {{ user: c, password: p }}] }}"
    )
}

#[tokio::test]
async fn what_is_denied_is_told_everywhere_and_taken_up_when_it_is_permitted() {
    let nats = Nats::configured(&conf("\"deny.>\""));
    let toml = config(&nats, ROWS).replace("nats://127", "nats://g:p@127");
    let gateway = Gateway::ready(&toml).await;
    let login = async_nats::ConnectOptions::with_user_and_password("c".into(), "p".into());
    let client = login.connect(nats.url()).await.expect("a login");
    carries(&gateway, &client, "free.probe", "bus:free.*").await;
    let mut listener = Listener::listen(&gateway, "?topic=deny.a").await;
    let line = gateway.wait_for_log(0, "NATS does not permit to take events").await;
    assert_eq!(line["subject"], "deny.*");
    let failing = [("bridge", "bus:deny.*")];
    gateway.wait_for_metric("genkan_event_sources_failing", &failing, 2.0).await;
    let page = gateway.page("/readyz").await;
    let told = "bus:deny.*: its events are not taken: NATS does not permit to subscribe to `deny.*`: \
                allow it for Genkan's user";
    assert_eq!((page.status, page.text()), (200, &*format!("ready\n{told}\n")));
    let failing =
        async || gateway.metric("genkan_event_sources_failing", &[("bridge", "bus:deny.*")]).await;
    assert_eq!(failing().await, 2.0);
    let (status, problems) = check(&toml).await;
    assert_eq!(status, 1, "{problems:#?}");
    for row in ["[[topics]] #1 \"deny.*\"", "[[bridges]] #1 \"bus:deny.*\""] {
        tells(
            &problems,
            "error",
            &[row, "does not permit to subscribe to `deny.*`", "queue group alone"],
        );
    }
    assert_eq!(problems.len(), 2, "{problems:#?}");
    // The permission is given while it runs.
    nats.configure(&conf(""));
    nats.reload();
    let gap = listener.next().await.expect("a gap");
    assert_eq!((&*gap.kind, &gap.data["missed"]), ("gap", &json!(null)));
    client.publish("deny.a", "7".into()).await.expect("published");
    assert_eq!(listener.event().await.data["data"], 7);
    carries(&gateway, &client, "deny.probe", "bus:deny.*").await;
    eventually("nothing fails", async || {
        (gateway.metric("genkan_event_sources_failing", &[]).await == 0.0).then_some(())
    })
    .await;
    assert_eq!(gateway.page("/readyz").await.text(), "ready\n");
    assert_eq!(gateway.metric("genkan_upstream_reconnects_total", &[]).await, 0.0);
}
