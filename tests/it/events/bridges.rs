//! Bridges over the hub alone: what is carried, what is refused, and what ends a circle.

use serde_json::json;

use super::{Listener, trigger};
use crate::harness::Gateway;
use crate::harness::gateway::genkan;
use crate::harness::process::Folder;
use crate::hub::{HUB, Peer};

async fn module(gateway: &Gateway, id: &str) -> Peer {
    let mut peer = Peer::connect(gateway).await;
    peer.register(id, "1.0.0", json!({})).await;
    peer.receive().await;
    peer
}

#[tokio::test]
async fn what_wildcards_match_is_a_part_of_the_targets_name() {
    let bridges = "[[bridges]]\nfrom = \"hub:shop.*\"\nto = [\"hub:ledger.$1\", \"web:seen.$1\"]\n\
                   [[topics]]\nmatch = \"seen.*\"\n";
    let gateway = Gateway::start(&format!("{HUB}{bridges}")).await;
    let (mut shop, mut ledger) = (module(&gateway, "shop").await, module(&gateway, "reader").await);
    let listening = ledger.ask(json!({"type": 5, "hook": "ledger.sold"})).await;
    assert_eq!(listening["type"], 6, "{listening}");
    let mut listener = Listener::listen(&gateway, "?topic=seen.sold").await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let hook = ledger.receive().await;
    assert_eq!((&hook["hook"], &hook["data"]), (&json!("ledger.sold"), &json!({"n": 1})));
    assert_eq!(listener.event().await.data["data"], json!({"n": 1}));
}

#[tokio::test]
async fn what_a_target_does_not_take_is_a_dead_letter_with_its_reason() {
    let bridges = "[[bridges]]\nfrom = \"hub:shop.*\"\nto = [\"web:unnamed.$1\"]\n\
                   dead_letter = \"web:dead\"\n[[topics]]\nmatch = \"dead\"\n";
    let gateway = Gateway::start(&format!("{HUB}{bridges}")).await;
    let mut shop = module(&gateway, "shop").await;
    let mut listener = Listener::listen(&gateway, "?topic=dead").await;
    trigger(&mut shop, "sold", json!({"n": 1})).await;
    let letter = listener.event().await.data["data"].clone();
    assert_eq!((&letter["topic"], &letter["data"]), (&json!("shop.sold"), &json!({"n": 1})));
    let reason = letter["reason"].as_str().unwrap_or_default();
    assert!(reason.contains("[[topics]]") && reason.contains("unnamed.sold"), "{reason}");
    let dead = [("bridge", "hub:shop.*"), ("outcome", "dead_letter")];
    gateway.wait_for_metric("genkan_events_total", &dead, 1.0).await;
}

#[tokio::test]
async fn a_circle_that_the_table_does_not_show_ends() {
    // One of all that `$1` could be.
    let bridges = "[[bridges]]\nfrom = \"hub:a.*\"\nto = [\"hub:b.$1\"]\n\
                   [[bridges]]\nfrom = \"hub:b.x\"\nto = [\"hub:a.x\"]\n";
    let gateway = Gateway::start(&format!("{HUB}{bridges}")).await;
    let mut peer = module(&gateway, "a").await;
    trigger(&mut peer, "x", json!({})).await;
    let line = gateway.wait_for_log(0, "an event was lost").await;
    assert!(line["reason"].as_str().is_some_and(|reason| reason.contains("circle")), "{line}");
    assert!(gateway.metric("genkan_events_total", &[]).await <= 18.0);
}

#[test]
fn what_is_wrong_with_a_row_is_told_with_its_mend() {
    let checked = |rows: &str| {
        let folder = Folder::new();
        let file = folder.path().join("genkan.toml");
        std::fs::write(&file, rows).expect("written");
        let output = genkan().args(["check", "--config"]).arg(&file).output().expect("it runs");
        String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
    };
    for (row, expected) in [
        ("from = \"hub:a.b\"\nto = [\"hub:a.b\"]", "in a circle"),
        ("from = \"hub:a.*\"\nto = [\"hub:a.$1\"]", "in a circle"),
        (
            "from = \"hub:a.*\"\nto = [\"hub:b.$1\"]\n[[bridges]]\nfrom = \"hub:b.*\"\nto = [\"hub:a.$1\"]",
            "lead in a circle: hub:a.* → hub:b.* → hub:a.*",
        ),
        (
            "from = \"hub:a.b\"\nto = [\"hub:c.d\"]\n[[bridges]]\nfrom = \"hub:c.*\"\nto = [\"hub:a.b\"]",
            "hub:c.* → hub:a.b",
        ),
        ("from = \"hubb:a.b\"\nto = [\"web:x\"]", "did you mean `hub`"),
        ("from = \"web:a\"\nto = [\"hub:a.b\"]", "browsers publish no events"),
        ("from = \"hub:a.*\"\nto = [\"hub:b.$2\"]", "`$2`"),
        ("from = \"hub:a.b\"\nto = [\"hub:juno.activated\"]", "the hub's own hook"),
        ("from = \"hub:a.b\"\nto = [\"web:nobody\"]", "no [[topics]] row names that topic"),
        ("from = \"hub:a\"\nto = [\"web:nobody\"]", "MODULE.HOOK"),
        ("from = \"hub:a.b\"", "needs `to`"),
        ("to = [\"hub:a.b\"]", "needs `from`"),
        ("from = \"hub\"\nto = [\"hub:a.b\"]", "UPSTREAM:ADDRESS"),
    ] {
        let said = checked(&format!("[[bridges]]\n{row}\n"));
        assert!(said.contains(expected), "{row}:\n{said}");
    }
}
