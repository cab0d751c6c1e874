//! ethers, viem and web3 as they come from npm: they batch by the hundred, and repeat what some codes
//! let them take for unexecuted.

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, Seen};

const CALLS: usize = 250;

/// A node that knows what the libraries ask. Its gas price is an answer that is none.
fn answer(seen: &Seen) -> Vec<Answer> {
    let params: Value = serde_json::from_str(&seen.body).unwrap_or_default();
    match seen.method.as_str() {
        "eth_chainId" => Answer::new("\"0x539\""),
        // The address is the number.
        "eth_getBalance" => {
            let address = params[0].as_str().expect("an address").trim_start_matches("0x");
            let number = u64::from_str_radix(address, 16).expect("a number");
            Answer::new(format!("\"{number:#x}\""))
        }
        "eth_gasPrice" => Answer::new("no JSON"),
        "eth_hashrate" => Vec::new(),
        method => panic!("{method} was not to be called"),
    }
}

#[tokio::test]
async fn they_batch_by_the_hundred_and_repeat_nothing_that_ran() {
    let nats = Nats::start();
    let service = NatsResponder::serve(nats.client().await, "eth", answer).await;
    let row = |name: &str, service: &str, timeout: &str| {
        format!(
            "[[routes]]\nmatch = \"{name}\"\nupstream = \"nats\"\nservice = \"{service}\"\n\
             timeout = \"{timeout}\"\n"
        )
    };
    let rows = [
        row("eth_syncing", "nobody", "20s"),
        row("eth_hashrate", "eth", "500ms"),
        row("eth_*", "eth", "20s"),
    ];
    let rows = rows.concat();
    let upstream = nats.upstream("nats", "plain");
    let gateway = Gateway::ready(&format!("{upstream}\n{rows}")).await;
    let out = node_client("ethereum_calls.js", &[&format!("{}/api", gateway.url())]).await;
    let numbers: Vec<usize> = (0..CALLS).collect();
    let ran = |method: &str, library: &str| {
        let of =
            |seen: &Seen| seen.method == method && seen.body.contains(&format!("\"{library}\""));
        service.requests.all().iter().filter(|seen| of(seen)).count()
    };
    for library in ["ethers", "viem", "web3"] {
        let said = &out[library];
        assert_eq!(said["balances"], json!(numbers), "{library}: {said}");
        // It has executed, so its code is none that a library repeats.
        assert_eq!(said["failed"]["error"]["code"], -32050, "{library}: {said}");
        assert_eq!(ran("eth_gasPrice", library), 1, "{library} repeats what ran");
    }
    let ids: Vec<_> = (0..CALLS).map(|n| format!("web3-{n}")).collect();
    assert_eq!(out["web3"]["ids"], json!(ids), "ids come back as they were");
    assert_eq!(out["viem"]["late"]["error"]["code"], -32003, "{}", out["viem"]["late"]);
    assert_eq!(ran("eth_hashrate", "viem"), 1, "viem repeats what may have run");
    assert_eq!(out["viem"]["missing"]["error"]["code"], -32601, "{}", out["viem"]["missing"]);
}
