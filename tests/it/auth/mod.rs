//! Who may call: what a caller shows, what a row allows, and what a service learns of it.

mod certificates;
pub mod issuer;
mod key_limits;
mod keys;
mod log;
mod names;
mod operators;
mod reloads;
mod tokens;
mod topics;
mod ways;

use serde_json::Value;

use crate::harness::gateway::genkan;
use crate::harness::process::run;
use crate::harness::{Answer, Gateway, Nats, NatsResponder, Seen};

/// A NATS with the service `echo`, and a gateway before it that asks who calls.
pub struct Guarded {
    pub nats: Nats,
    pub echo: NatsResponder,
    pub gateway: Gateway,
    toml: String,
}

impl Guarded {
    /// One with tables of the test's own, and a row `echo.*` that allows these.
    pub async fn start(tables: &str, allow: &str) -> Self {
        let nats = Nats::start();
        let echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
        let toml = config(&nats, tables, allow);
        let gateway = Gateway::ready(&toml).await;
        Self { nats, echo, gateway, toml }
    }

    /// The same, where it is not ready yet, and answers all the same.
    pub async fn begin(tables: &str, allow: &str) -> Self {
        let nats = Nats::start();
        let echo = NatsResponder::serve(nats.client().await, "echo", answer).await;
        let toml = config(&nats, tables, allow);
        let gateway = Gateway::start(&toml).await;
        gateway.wait_for_metric("genkan_upstream_up", &[("upstream", "nats")], 1.0).await;
        Self { nats, echo, gateway, toml }
    }

    /// Puts other tables in force.
    pub async fn change(&mut self, tables: &str, allow: &str) {
        let seen = self.gateway.log().len();
        self.toml = config(&self.nats, tables, allow);
        self.gateway.write_config(&self.toml);
        self.gateway.hang_up();
        self.gateway.wait_for_log(seen, "reloaded").await;
    }

    /// A call of `echo.x` with headers: its status under `/call`.
    pub async fn status(&self, headers: &[(&str, &str)]) -> u16 {
        self.gateway.post("/call/echo/x", headers, "[1]").await.status
    }

    /// How many calls the service has seen.
    pub fn calls(&self) -> usize {
        self.echo.requests.count()
    }
}

fn config(nats: &Nats, tables: &str, allow: &str) -> String {
    let upstream = nats.upstream("nats", "plain");
    format!(
        "{tables}\n{upstream}\n[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\n{allow}\n\
         [[routes]]\nmatch = \"closed.*\"\nupstream = \"nats\"\n"
    )
}

pub fn answer(seen: &Seen) -> Vec<Answer> {
    Answer::new(if seen.body.is_empty() { "null" } else { &seen.body })
}

/// A new key, and the lines that let it in.
pub fn new_key(arguments: &[&str]) -> (String, String) {
    let (status, out, err) = run(genkan().args(["key", "new"]).args(arguments));
    assert_eq!(status, 0, "{err}");
    let made: Value = serde_json::from_str(&out).expect("plain JSON when piped");
    let text = |key: &str| made[key].as_str().expect("a text").to_owned();
    (text("key"), text("toml"))
}

/// A call of `method` as JSON-RPC.
pub fn rpc(method: &str) -> String {
    format!(r#"{{"jsonrpc":"2.0","method":"{method}","params":[1],"id":1}}"#)
}
