//! Dependencies and instances: chains, circles, versions, and modules that leave in the middle.

use serde_json::{Value, json};

use super::{HUB, Peer, error};
use crate::harness::Gateway;

const ACTIVE: &str = "juno.activated";
const INACTIVE: &str = "juno.deactivated";

/// A module that registers, and may have to wait.
async fn needy(gateway: &Gateway, id: &str, version: &str, needs: Value) -> Peer {
    let mut peer = Peer::connect(gateway).await;
    assert_eq!(peer.register(id, version, needs).await["type"], 2, "{id}");
    peer
}

async fn hears(peer: &mut Peer, hook: &str) {
    let heard = peer.receive().await;
    assert_eq!((&heard["type"], &heard["hook"]), (&json!(8), &json!(hook)), "{heard}");
    assert_eq!(heard["data"], json!({}));
    assert!(heard["requestId"].is_string(), "{heard}");
}

#[tokio::test]
async fn a_chain_rises_and_falls_as_far_as_it_hangs() {
    let gateway = Gateway::start(HUB).await;
    let mut watcher = Peer::module(&gateway, "watcher", &[]).await;
    for hook in ["juno.moduleActivated", "juno.moduleDeactivated"] {
        watcher.ask(json!({"type": 5, "hook": hook})).await;
    }
    let mut chain = Vec::new();
    for n in (1..5).rev() {
        let needs = json!({format!("c{}", n - 1): "^1.0.0"});
        chain.push(needy(&gateway, &format!("c{n}"), "1.0.0", needs).await);
    }
    chain[0].is_silent().await;
    let mut first = Peer::module(&gateway, "c0", &[]).await;
    for peer in &mut chain {
        hears(peer, ACTIVE).await;
    }
    let mut risen = Vec::new();
    for _ in 0..5 {
        let heard = watcher.receive().await;
        assert_eq!(heard["hook"], "juno.moduleActivated");
        risen.push(heard["data"]["moduleId"].as_str().unwrap().to_owned());
    }
    assert_eq!(risen, ["c0", "c1", "c2", "c3", "c4"]);
    // c2 goes: c3 and c4 fall, c1 and c0 stay.
    drop(chain.remove(2));
    for peer in &mut chain[..2] {
        hears(peer, INACTIVE).await;
    }
    let mut fallen = Vec::new();
    for _ in 0..2 {
        let heard = watcher.receive().await;
        assert_eq!(heard["hook"], "juno.moduleDeactivated");
        fallen.push(heard["data"]["moduleId"].as_str().unwrap().to_owned());
    }
    // As with the real daemon, the one that left is none of them.
    assert_eq!(fallen, ["c3", "c4"]);
    chain[2].is_silent().await;
    first.is_served().await;
    // It comes back: they rise again.
    let mut again = needy(&gateway, "c2", "1.4.0", json!({"c1": "*"})).await;
    hears(&mut again, ACTIVE).await;
    for peer in &mut chain[..2] {
        hears(peer, ACTIVE).await;
    }
}

#[tokio::test]
async fn a_circle_is_active_as_a_whole_or_not_at_all() {
    let gateway = Gateway::start(HUB).await;
    let mut itself = needy(&gateway, "itself", "1.0.0", json!({"itself": "^1.0.0"})).await;
    hears(&mut itself, ACTIVE).await;
    let mut circle = Vec::new();
    for n in 0..3 {
        let needs = json!({format!("m{}", (n + 1) % 3): "^1.0.0"});
        for peer in &mut circle {
            Peer::is_silent(peer).await;
        }
        circle.push(needy(&gateway, &format!("m{n}"), "1.0.0", needs).await);
    }
    for peer in &mut circle {
        hears(peer, ACTIVE).await;
    }
    for (n, peer) in circle.iter_mut().enumerate() {
        let declared = peer.ask(json!({"type": 9, "function": format!("f{n}")})).await;
        assert_eq!(declared["type"], 10);
    }
    drop(circle.remove(1));
    for peer in &mut circle {
        hears(peer, INACTIVE).await;
    }
    let told = gateway.fault("m0.f0", json!({})).await;
    told.is("unavailable", "not_sent");
    assert!(told.message.contains("waits for `m1` ^1.0.0"), "{}", told.message);
}

#[tokio::test]
async fn versions_decide_what_is_met() {
    let gateway = Gateway::start(HUB).await;
    let cases = [
        (
            "1.2.3",
            vec!["^1.0.0", "1.2.3", "*", "~1.2", ">=1.0.0, <2.0.0", ">=1 <2", "1.x || 3.x"],
            vec!["^2.0.0", "=1.2.4", "<1.2.3", "^0.1.0"],
        ),
        (
            "2.0.0-beta.2",
            vec!["2.0.0-beta.1", "=2.0.0-beta.2", ">=2.0.0-alpha"],
            vec!["^2.0.0", "*", "2.0.0-beta.3", ">1.0.0"],
        ),
        ("0.3.1+build.7", vec!["^0.3.0", "0.3"], vec!["^0.2.0", "0.4"]),
    ];
    for (version, fitting, others) in cases {
        let core = needy(&gateway, "core", version, json!({})).await;
        for (range, fits) in fitting
            .iter()
            .map(|range| (range, true))
            .chain(others.iter().map(|range| (range, false)))
        {
            let mut peer = needy(&gateway, "needy", "1.0.0", json!({"core": range})).await;
            if fits {
                hears(&mut peer, ACTIVE).await;
            } else {
                // The answer comes after what it would have heard.
                let refused = peer.ask(json!({"type": 9, "function": "f"})).await;
                assert_eq!(error(&refused), 3, "{range} is not met by {version}");
                let message = refused["message"].as_str().unwrap();
                assert!(message.contains(&format!("waits for `core` {range}")), "{message}");
            }
            drop(peer);
            gateway.wait_for_modules(1).await;
        }
        drop(core);
        gateway.wait_for_modules(0).await;
    }
    // The hub is a module too, and a version that does not fit may be followed by one that does.
    let mut on_juno =
        needy(&gateway, "on-juno", "1.0.0", json!({"juno": ">=0.1.0", "core": "^2.0.0"})).await;
    let old = needy(&gateway, "core", "1.0.0", json!({})).await;
    on_juno.is_silent().await;
    drop(old);
    gateway.wait_for_modules(1).await;
    let _new = needy(&gateway, "core", "2.1.0", json!({})).await;
    hears(&mut on_juno, ACTIVE).await;
}

#[tokio::test]
async fn a_dependency_that_leaves_in_the_middle_of_calls() {
    let gateway = Gateway::start(HUB).await;
    let core = Peer::module(&gateway, "core", &[]).await;
    let mut worker = needy(&gateway, "worker", "1.0.0", json!({"core": "*"})).await;
    hears(&mut worker, ACTIVE).await;
    worker.ask(json!({"type": 9, "function": "f"})).await;
    let mut other = Peer::module(&gateway, "other", &["g"]).await;
    let asked = other.request(json!({"type": 3, "function": "worker.f"})).await;
    let call = worker.receive().await;
    let asks = worker.request(json!({"type": 3, "function": "other.g"})).await;
    let back = other.receive().await;
    drop(core);
    hears(&mut worker, INACTIVE).await;
    // Calls under way get their answers, in both directions; new ones are refused.
    worker.answer(&call, json!("late but well")).await;
    assert_eq!(
        other.receive().await,
        json!({"requestId": asked, "type": 4, "data": "late but well"})
    );
    other.answer(&back, json!(2)).await;
    assert_eq!(worker.receive().await, json!({"requestId": asks, "type": 4, "data": 2}));
    assert_eq!(error(&worker.call("other.g", json!({})).await), 3);
    assert_eq!(error(&other.call("worker.f", json!({})).await), 4);
    // It hears no hooks meanwhile, and keeps its declarations.
    let _core = Peer::module(&gateway, "core", &[]).await;
    hears(&mut worker, ACTIVE).await;
    other.request(json!({"type": 3, "function": "worker.f"})).await;
    assert_eq!(worker.receive().await["function"], "f");
}

#[tokio::test]
async fn instances_take_turns_by_how_busy_they_are() {
    let gateway = Gateway::start(&format!("{HUB}instances = \"share\"\n")).await;
    let mut one = Peer::module(&gateway, "math", &["add"]).await;
    let mut two = Peer::module(&gateway, "math", &["add", "sub"]).await;
    let mut needs = needy(&gateway, "needs", "1.0.0", json!({"math": "*"})).await;
    hears(&mut needs, ACTIVE).await;
    let mut caller = Peer::module(&gateway, "caller", &[]).await;
    // What only the second has goes to the second, however busy it is.
    let mut subs = Vec::new();
    for _ in 0..4 {
        caller.request(json!({"type": 3, "function": "math.sub"})).await;
        subs.push(two.receive().await);
    }
    // Then the first has four calls before they are even.
    for _ in 0..4 {
        caller.request(json!({"type": 3, "function": "math.add"})).await;
        assert_eq!(one.receive().await["function"], "add");
    }
    two.answer(&subs[0], json!(0)).await;
    assert_eq!(caller.receive().await["data"], 0);
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    assert_eq!(two.receive().await["function"], "add");
    // An instance cannot answer for the other.
    one.send(&json!({"type": 4, "requestId": subs[1]["requestId"], "data": "stolen"})).await;
    assert_eq!(error(&one.receive().await), 0);
    // One leaves: its calls end, the other's go on, and who depends on it does not fall.
    drop(two);
    for _ in 0..4 {
        let told = caller.receive().await;
        assert_eq!((error(&told), &told["data"]["kind"]), (4, &json!("unavailable")));
    }
    needs.is_silent().await;
    assert_eq!(error(&caller.call("math.sub", json!({})).await), 5);
    caller.request(json!({"type": 3, "function": "math.add"})).await;
    assert_eq!(one.receive().await["function"], "add");
    drop(one);
    for _ in 0..5 {
        assert_eq!(error(&caller.receive().await), 4);
    }
    hears(&mut needs, INACTIVE).await;
}

/// A module gets no answers of a version that it said it cannot use.
#[tokio::test]
async fn a_call_goes_to_an_instance_that_fits_the_callers_range() {
    let gateway = Gateway::start(&format!("{HUB}instances = \"share\"\n")).await;
    let mut old = needy(&gateway, "a", "1.0.0", json!({})).await;
    let mut new = needy(&gateway, "a", "2.0.0", json!({})).await;
    for (peer, functions) in [(&mut old, vec!["f", "old"]), (&mut new, vec!["f"])] {
        hears(peer, ACTIVE).await;
        for function in functions {
            peer.ask(json!({"type": 9, "function": function})).await;
        }
    }
    let mut modern = needy(&gateway, "modern", "1.0.0", json!({"a": "^2.0.0"})).await;
    hears(&mut modern, ACTIVE).await;
    for _ in 0..4 {
        modern.request(json!({"type": 3, "function": "a.f"})).await;
        let call = new.receive().await;
        new.answer(&call, json!(2)).await;
        assert_eq!(modern.receive().await["data"], 2);
    }
    assert_eq!(error(&modern.call("a.old", json!({})).await), 5);
    // Who has no wishes is served by all of them in turns.
    let mut free = Peer::module(&gateway, "free", &[]).await;
    let mut versions = Vec::new();
    for _ in 0..4 {
        free.request(json!({"type": 3, "function": "a.f"})).await;
        let (version, peer, call) = tokio::select! {
            call = old.receive() => (1, &mut old, call),
            call = new.receive() => (2, &mut new, call),
        };
        peer.answer(&call, json!(version)).await;
        versions.push(free.receive().await["data"].as_i64().unwrap());
    }
    assert_eq!(versions, [1, 2, 1, 2]);
}

#[tokio::test]
async fn without_share_a_second_instance_is_refused_and_the_first_unharmed() {
    let gateway = Gateway::start(HUB).await;
    let mut one = Peer::module(&gateway, "math", &["add"]).await;
    let mut two = Peer::connect(&gateway).await;
    for _ in 0..20 {
        assert_eq!(error(&two.register("math", "2.0.0", json!({})).await), 7);
    }
    // A flood of refusals is no flood of lines.
    assert_eq!(gateway.logged("module refused").len(), 5);
    let refused = [("reason", "invalid_request")];
    assert_eq!(gateway.metric("genkan_hub_refused_total", &refused).await, 20.0);
    assert_eq!(two.register("maths", "2.0.0", json!({})).await["type"], 2);
    hears(&mut two, ACTIVE).await;
    two.request(json!({"type": 3, "function": "math.add"})).await;
    let call = one.receive().await;
    one.answer(&call, json!(1)).await;
    assert_eq!(two.receive().await["data"], 1);
}
