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
                   [[bridges]]\nfrom = \"hub:shop.*\"\nto = [\"web:seen.all\"]\n\
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
    // Those of one source are told apart by their targets.
    for to in ["hub:ledger.$1", "web:seen.$1", "web:seen.all"] {
        let of_one = [("bridge", "hub:shop.*"), ("to", to), ("outcome", "delivered")];
        gateway.wait_for_metric("genkan_events_total", &of_one, 1.0).await;
        assert_eq!(gateway.metric("genkan_events_total", &of_one).await, 1.0, "{to}");
    }
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
    assert_eq!(letter["bridge"], "hub:shop.*");
    assert_eq!(letter["to"], json!(["web:unnamed.sold"]));
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

/// What `genkan check` says of rows.
fn checked(rows: &str) -> String {
    let folder = Folder::new();
    let file = folder.path().join("genkan.toml");
    std::fs::write(&file, rows).expect("written");
    let output = genkan().args(["check", "--config"]).arg(&file).output().expect("it runs");
    String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned()
}

#[test]
fn what_is_wrong_with_a_row_is_told_with_its_mend() {
    for (row, expected) in [
        ("from = \"hub:a.b\"\nto = [\"hub:a.b\"]", "in a circle"),
        (
            "from = \"hub:a.*\"\nto = [\"hub:b.$1\"]\ndead_letter = \"hub:c.$1\"",
            "all go to one place",
        ),
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
        ("from = \"hub:a.*\"\nto = [\"web:nobody.$1\"]", "with `match = \"nobody.*\"`"),
        (
            "from = \"hub:a.*\"\nto = [\"hub:b.$1\"]\n[[bridges]]\nfrom = \"hub:a.*\"\nto = [\"hub:b.$1\"]",
            "[[bridges]] #1 and #2 would bring each event of `hub:a.*` to `hub:b.$1` twice",
        ),
        ("from = \"hub:a.b\"\nto = [\"hub:b.c\", \"hub:b.c\"]", "[[bridges]] #1 would bring"),
        (
            "from = \"hub:a.*\"\nto = [\"hub:b.$1\"]\n[[bridges]]\nfrom = \"hub:a.c\"\nto = [\"hub:b.c\"]",
            "[[bridges]] #1 and #2 bring some events to `hub:b.$1` twice",
        ),
        (
            "from = \"hub:pp.*\"\nto = [\"web:pp.$1\"]\n[[topics]]\nmatch = \"pp.*\"\nfrom = \"hub:pp.*\"",
            "[[bridges]] #1 and [[topics]] #1 both bring what comes from `hub:pp.*` to `web:pp.$1`",
        ),
        ("from = \"hub:a\"\nto = [\"web:nobody\"]", "MODULE.HOOK"),
        ("from = \"hub:a.b\"", "needs `to`"),
        ("to = [\"hub:a.b\"]", "needs `from`"),
        ("from = \"hub\"\nto = [\"hub:a.b\"]", "UPSTREAM:ADDRESS"),
    ] {
        let said = checked(&format!("[[bridges]]\n{row}\n"));
        assert!(said.contains(expected), "{row}:\n{said}");
    }
    for row in [
        "from = \"hub:a.*\"\nto = [\"web:x.$1\"]\n[[bridges]]\nfrom = \"hub:*.b\"\nto = [\"web:x.$1\"]",
        "from = \"hub:a.*\"\nto = [\"web:x.$1\"]\n[[topics]]\nmatch = \"a.*\"\nfrom = \"hub:a.*\"",
        "from = \"hub:a.b\"\nto = [\"web:a.b\"]\n[[topics]]\nmatch = \"a.b\"\n\
         [[topics]]\nmatch = \"a.*\"\nfrom = \"hub:a.*\"",
    ] {
        let said = checked(&format!("[[bridges]]\n{row}\n[[topics]]\nmatch = \"x.*\"\n"));
        assert!(!said.contains("twice"), "{row}:\n{said}");
    }
}

#[test]
fn rows_whose_topics_are_all_an_earlier_rows_are_told() {
    for (rows, expected) in [
        (
            "match = \"a.*\"\n[[topics]]\nmatch = \"a.b\"",
            "[[topics]] #2 has no topics: [[topics]] #1 with \"a.*\" names all that \"a.b\" does",
        ),
        (
            "match = \"a.*\"\nfrom = \"hub:a.*\"\n[[topics]]\nmatch = \"a.*\"\nfrom = \"hub:a.*\"",
            "has no topics",
        ),
        (
            "match = \"a.b*\"\n[[topics]]\nmatch = \"a.*\"\nfrom = \"hub:a.b\"",
            "events of \"hub:a.b\" are topics of [[topics]] #1 with \"a.b*\"",
        ),
    ] {
        let said = checked(&format!("[[topics]]\n{rows}\n"));
        assert!(said.contains(expected), "{rows}:\n{said}");
    }
    let rows =
        "match = \"a.b*\"\nfrom = \"hub:a.*\"\n[[topics]]\nmatch = \"a.*\"\nfrom = \"hub:a.*\"";
    let said = checked(&format!("[[topics]]\n{rows}\n"));
    assert!(!said.contains("topics]]"), "{said}");
}

#[tokio::test]
async fn a_row_in_front_of_one_for_the_rest_has_its_topics_alone() {
    let rows = "[[topics]]\nmatch = \"shop.secret*\"\nfrom = \"hub:shop.*\"\n\
                [[topics]]\nmatch = \"shop.*\"\nfrom = \"hub:shop.*\"\n";
    let gateway = Gateway::start(&format!("{HUB}{rows}")).await;
    let mut shop = module(&gateway, "shop").await;
    let mut listener = Listener::listen(&gateway, "?topic=shop.*").await;
    for (number, hook) in ["secret1", "sold", "secret1", "sold"].into_iter().enumerate() {
        trigger(&mut shop, hook, json!({ "n": number })).await;
    }
    for number in 0..4 {
        assert_eq!(listener.event().await.data["data"]["n"], number, "each once");
    }
}

#[test]
fn circles_over_two_upstreams_that_are_one_server() {
    let upstreams = "[upstreams.nats]\nprotocol = \"nats\"\nservers = [\"nats://127.0.0.1:4222\"]\n\
                     [upstreams.nest]\nprotocol = \"nats\"\nservers = [\"nats://localhost:4222\"]\ndialect = \"nest\"\n\
                     [upstreams.far]\nprotocol = \"nats\"\nservers = [\"nats://far:4222\"]\n\
                     [upstreams.rabbit]\nprotocol = \"nameko\"\nurl = \"amqp://localhost\"\n\
                     [upstreams.other]\nprotocol = \"nameko\"\nurl = \"amqp://127.0.0.1\"\n";
    let row = |from: &str, to: &str| format!("[[bridges]]\nfrom = \"{from}\"\nto = [\"{to}\"]\n");
    for rows in [
        row("nats:ca.*", "nest:ca.$1"),
        row("nats:ev.cb", "nats:stream/EV/ev.cb"),
        row("rabbit:a.*", "other:a.$1"),
        [row("nats:cc.*", "rabbit:cc.$1"), row("other:cc.*", "nest:cc.$1")].concat(),
    ] {
        let said = checked(&format!("{upstreams}{rows}"));
        assert!(said.contains("in a circle"), "{rows}: {said}");
    }
    let said = checked(&format!("{upstreams}{}", row("nats:ca.*", "far:ca.$1")));
    assert!(!said.contains("in a circle"), "{said}");
}
