//! Client libraries as people use them: small scripts below `tests/clients/`.

use std::process::Command;

use serde_json::Value;

use super::process::{installed, project, run};

/// Runs a script of Python's with the clients' virtual environment; returns the JSON it prints.
pub async fn python(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(installed("python/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    script_output(command, script, arguments).await
}

/// Runs a script of JavaScript's; returns the JSON it prints.
pub async fn node(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("node/node_modules"));
    script_output(command, script, arguments).await
}

async fn script_output(mut command: Command, script: &str, arguments: &[&str]) -> Value {
    command.arg(project().join("tests/clients").join(script)).args(arguments);
    let script = script.to_owned();
    let ran = tokio::task::spawn_blocking(move || run(&mut command)).await;
    let (status, out, err) = ran.expect("no panic");
    assert_eq!(status, 0, "{script}: {out}{err}");
    serde_json::from_str(&out).unwrap_or_else(|error| panic!("{script}: {error}: {out}{err}"))
}
