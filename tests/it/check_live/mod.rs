//! `genkan check --live`, through real brokers: what would keep calls from being answered, each with
//! the mend.

mod calls;
mod events;
mod exposes;

use serde_json::Value;

use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, run};

/// Checks a configuration: the status, and the problems.
pub async fn check(toml: &str) -> (i32, Vec<Value>) {
    let folder = Folder::new();
    let config = folder.write("genkan.toml", toml);
    let mut command = genkan();
    command.args(["check", "--live", "--config"]).arg(config);
    let (status, out, err) =
        tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic");
    let problems = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {out}{err}"));
    (status, problems)
}

#[track_caller]
pub fn tells(problems: &[Value], severity: &str, words: &[&str]) {
    let fits = |problem: &&Value| {
        let message = problem["message"].as_str().unwrap_or_default();
        problem["severity"] == severity && words.iter().all(|words| message.contains(words))
    };
    assert!(problems.iter().find(fits).is_some(), "{severity} {words:?}: {problems:#?}");
}

fn rows(upstream: &str, patterns: &[&str]) -> String {
    let row =
        |pattern: &&str| format!("[[routes]]\nmatch = \"{pattern}\"\nupstream = \"{upstream}\"\n");
    patterns.iter().map(row).collect()
}

/// Makes a stream by its configuration.
async fn stream(client: &async_nats::Client, config: Value) {
    let subject = format!("$JS.API.STREAM.CREATE.{}", config["name"].as_str().expect("a name"));
    let answer = client.request(subject, config.to_string().into()).await.expect("an answer");
    let answer: Value = serde_json::from_slice(&answer.payload).expect("JSON");
    assert_eq!(answer.get("error"), None, "{answer}");
}
