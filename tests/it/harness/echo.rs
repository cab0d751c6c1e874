//! The smallest complete set-up: a gateway before a NATS with one service, `echo`, that answers
//! with the very bytes it was sent. For tests of what happens before and after a service.

use std::time::Duration;

use super::gateway::Gateway;
use super::nats::Nats;
use super::responder::{Answer, NatsResponder, Seen};

/// All three, running.
pub struct Echo {
    pub gateway: Gateway,
    pub service: NatsResponder,
    pub nats: Nats,
}

impl Echo {
    /// Starts them with a plain configuration.
    pub async fn start() -> Self {
        Self::with("").await
    }

    /// Starts them with more tables, which stand before the upstream's.
    pub async fn with(toml: &str) -> Self {
        Self::with_row(toml, "").await
    }

    /// The same with more keys in the row of the service.
    pub async fn with_row(toml: &str, keys: &str) -> Self {
        let nats = Nats::start();
        let service = NatsResponder::serve(nats.client().await, "echo", answer).await;
        let upstream = nats.upstream("nats", "picom");
        let routes = "[[routes]]\nmatch = \"echo.*\"\nupstream = \"nats\"\ntimeout = \"10s\"\n";
        let gateway = Gateway::ready(&format!("{toml}\n{upstream}\n{routes}{keys}\n")).await;
        Self { gateway, service, nats }
    }

    /// The methods that were called, in the order in which they came.
    pub fn called(&self) -> Vec<String> {
        self.service.requests.all().into_iter().map(|seen| seen.method).collect()
    }
}

fn answer(seen: &Seen) -> Vec<Answer> {
    let body = if seen.body.is_empty() { "null" } else { &seen.body };
    let echoed = format!("{{\"payload\":{body}}}");
    match seen.method.as_str() {
        "slow" => Answer::after(echoed, Duration::from_millis(400)),
        "later" => Answer::after(echoed, Duration::from_millis(1_500)),
        "never" => Vec::new(),
        "fail" => Answer::new(r#"{"error":"mailbox full"}"#),
        "moan" => Answer::new(format!("{{\"error\":{body}}}")),
        "large" => Answer::new(format!("{{\"payload\":\"{}\"}}", "x".repeat(50_000))),
        _ => Answer::new(echoed),
    }
}
