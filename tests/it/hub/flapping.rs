//! Modules that leave and come back at once: the id is free, and the log stays readable.

use serde_json::{Value, json};

use super::{HUB, PATIENCE, Peer, address, error};
use crate::harness::process::Folder;
use crate::harness::{Gateway, eventually};

const ROUNDS: usize = 100;

/// Leaves and comes back so often; what the last connection was answered is returned.
async fn flap(at: &str, rounds: usize) -> Vec<Value> {
    let mut answers = Vec::new();
    for _ in 0..rounds {
        let mut peer = Peer::tcp(at).await;
        answers.push(peer.register("flapper", "1.0.0", json!({})).await);
    }
    answers
}

#[tokio::test]
async fn whoever_reconnects_at_once_gets_its_id_back() {
    for workers in [1, 2] {
        let gateway = Gateway::start(&format!("workers = {workers}\n{HUB}")).await;
        let answers = flap(&address(&gateway).await, ROUNDS).await;
        let refused: Vec<_> = answers.iter().filter(|answer| answer["type"] != 2).collect();
        assert!(refused.is_empty(), "{} of {ROUNDS}: {:?}", refused.len(), refused.first());
        // Who is still there keeps its id.
        let mut held = Peer::module(&gateway, "held", &[]).await;
        let mut other = Peer::connect(&gateway).await;
        assert_eq!(error(&other.register("held", "1.0.0", json!({})).await), 7);
        held.is_served().await;
    }
}

#[tokio::test]
async fn the_last_words_of_who_reconnects_are_heard() {
    let gateway = Gateway::start(&format!("workers = 1\n{HUB}")).await;
    let at = address(&gateway).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    let register = json!({"type": 1, "requestId": "r", "moduleId": "flapper", "version": "1.0.0"});
    let declare = json!({"type": 9, "requestId": "d", "function": "f"});
    let hello = format!("{register}\n{declare}\n");
    let mut peer = Peer::tcp(&at).await;
    peer.write(&hello).await;
    for n in 0..ROUNDS {
        for expected in [2, 8, 10] {
            let heard = peer.receive().await;
            assert_eq!(heard["type"], expected, "round {n}: {heard}");
        }
        let id = caller.request(json!({"type": 3, "function": "flapper.f"})).await;
        let call = peer.receive().await;
        // Its answer, its end, and the next one's first lines come together.
        peer.answer(&call, json!(n)).await;
        drop(peer);
        peer = Peer::tcp(&at).await;
        peer.write(&hello).await;
        assert_eq!(caller.receive().await, json!({"requestId": id, "type": 4, "data": n}));
    }
}

/// One that does not read its answers is not read from either, so that its end is not seen there.
#[tokio::test]
async fn an_id_is_free_when_its_holder_has_hung_up_unread() {
    let folder = Folder::new();
    let path = folder.path().join("hub.sock");
    let gateway = Gateway::start(&format!(
        "[hub]\nlisten = [\"tcp://127.0.0.1:0\", \"unix://{}\"]\nmax_queue = \"1MiB\"\n",
        path.display()
    ))
    .await;
    address(&gateway).await;
    let mut deaf = Peer::unix(&path).await;
    assert_eq!(deaf.register("deaf", "1.0.0", json!({})).await["type"], 2);
    deaf.receive().await;
    assert_eq!(deaf.ask(json!({"type": 9, "function": "f"})).await["type"], 10);
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    caller.request(json!({"type": 3, "function": "deaf.f"})).await;
    let asked = "{\"type\":9,\"requestId\":\"r\",\"function\":7}\n".repeat(10_000);
    let flooded = async { while deaf.try_write(&asked).await {} };
    tokio::time::timeout(PATIENCE, flooded).await.expect("it is held back");
    deaf.hang_up().await;
    let mut next = Peer::connect(&gateway).await;
    assert_eq!(next.register("deaf", "1.0.0", json!({})).await["type"], 2);
    let told = caller.receive().await;
    assert_eq!((error(&told), &told["data"]["kind"]), (4, &json!("unavailable")));
    eventually("the old connection has ended", async || {
        let page = gateway.page("/hub/modules").await.json();
        (page["modules"].as_array()?.len() == 2).then_some(())
    })
    .await;
    next.is_served_soon().await;
}

impl Peer {
    /// Says that nothing more will come, and goes on reading nothing.
    async fn hang_up(&mut self) {
        tokio::io::AsyncWriteExt::shutdown(&mut self.stream).await.unwrap();
    }

    async fn is_served_soon(&mut self) {
        assert_eq!(self.receive().await["hook"], "juno.activated");
        self.is_served().await;
    }
}
#[tokio::test]
async fn a_flapping_module_does_not_flood_the_log() {
    let gateway = Gateway::start(&format!(
        "{HUB}max_line = \"1KiB\"\n[[routes]]\nmatch = \"flapper.*\"\nupstream = \"hub\"\nservice = \"other\"\n"
    ))
    .await;
    let at = address(&gateway).await;
    let mut needy = Peer::connect(&gateway).await;
    needy.register("needy", "1.0.0", json!({"flapper": "*"})).await;
    let before = gateway.log().len();
    flap(&at, ROUNDS).await;
    for _ in 0..ROUNDS {
        let mut endless = Peer::tcp(&at).await;
        endless.write(format!("{{\"x\":\"{}", "x".repeat(20_000))).await;
        while endless.next().await.is_some() {}
    }
    eventually("all have left", async || {
        let page = gateway.page("/hub/modules").await.json();
        (page["modules"].as_array()?.len() == 1 && page["unregistered"] == 0).then_some(())
    })
    .await;
    let lines = gateway.log().split_off(before);
    assert!(lines.len() < 60, "{} lines", lines.len());
    // Every sort of line is there, and each module's registration comes before its activation.
    let first = |message: &str| {
        let found = lines.iter().position(|line| {
            line["message"].as_str().unwrap_or_default().starts_with(message)
                && line["module"] != "needy"
        });
        found.unwrap_or_else(|| panic!("no `{message}`:\n{}", gateway.log_text()))
    };
    assert!(first("module registered") < first("module active"));
    for message in ["module disconnected", "nobody will call", "disconnected: a line without"] {
        first(message);
    }
    // The line that sums up tells how many were left out.
    gateway.terminate();
    gateway.exit_status().await;
    let written = gateway.logged("module disconnected").len() as u64;
    let sums: u64 = gateway
        .log()
        .iter()
        .filter(|line| line["line"] == "module disconnected")
        .filter_map(|line| line["more"].as_u64())
        .sum();
    // `needy` leaves at the end.
    assert_eq!(written + sums, ROUNDS as u64 + 1, "{}", gateway.log_text());
}

#[tokio::test]
async fn the_debug_line_of_a_modules_call_names_it() {
    let gateway = Gateway::start(&format!("{HUB}[log]\nlevel = \"debug\"\n")).await;
    let mut m = Peer::module(&gateway, "m", &["f"]).await;
    m.request(json!({"type": 3, "function": "m.f"})).await;
    let call = m.receive().await;
    m.answer(&call, json!(1)).await;
    assert_eq!(m.receive().await["data"], 1);
    let line = gateway.wait_for_log(0, "call ended").await;
    assert_eq!(line["span"]["call"], "m.f", "{line}");
}
