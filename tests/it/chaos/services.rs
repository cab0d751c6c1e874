//! Services that answer a call with its token, and record it first: `echo` at once, `later` after a
//! while, so that some calls are always on their way.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crate::harness::{Answer, Asked, NamekoResponder, NatsResponder, Say, Seen};

/// How long `later` takes.
pub const LATER: Duration = Duration::from_millis(150);

/// The tokens of the calls that ran.
#[derive(Clone, Default)]
pub struct Ran(Arc<Mutex<HashSet<String>>>);

impl Ran {
    /// A call runs; its params as they came. Its token.
    pub fn add(&self, params: &str) -> String {
        let token = params.split(r#""token":"#).nth(1).and_then(|rest| rest.split('"').nth(1));
        let token = token.unwrap_or_else(|| panic!("no token: {params}")).to_owned();
        self.0.lock().unwrap().insert(token.clone());
        token
    }

    /// All of them so far.
    pub fn all(&self) -> HashSet<String> {
        self.0.lock().unwrap().clone()
    }
}

/// One behind RabbitMQ.
pub async fn on_rabbit(url: &str, name: &str, ran: &Ran) -> NamekoResponder {
    let ran = ran.clone();
    NamekoResponder::serve(url, name, move |seen| {
        let token = ran.add(&seen.body);
        answer(seen, format!(r#"{{"result":{{"token":"{token}"}},"error":null}}"#))
    })
    .await
}

/// One on NATS, in the dialect `plain`, which connects again as soon as it can.
pub async fn on_nats(url: &str, name: &str, ran: &Ran) -> NatsResponder {
    let options = async_nats::ConnectOptions::new();
    let options = options.reconnect_delay_callback(|_| Duration::from_millis(20));
    let client = options.connect(url).await.expect("the server accepts");
    let ran = ran.clone();
    NatsResponder::serve(client, name, move |seen| {
        let token = ran.add(&seen.body);
        answer(seen, format!(r#"{{"token":"{token}"}}"#))
    })
    .await
}

fn answer(seen: &Seen, body: String) -> Vec<Answer> {
    match &seen.method[..] {
        "later" => Answer::after(body, LATER),
        _ => Answer::new(body),
    }
}

/// What one that speaks JSON-RPC over HTTP says.
pub fn on_http(asked: &Asked, ran: &Ran) -> Say {
    let token = ran.add(&asked.body);
    let say = asked.result(&format!(r#"{{"token":"{token}"}}"#));
    if asked.method() == "later" { say.after(LATER) } else { say }
}
