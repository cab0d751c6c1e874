//! Client libraries as people use them: small scripts below `tests/clients/`.

use std::process::Command;

use serde_json::{Value, json};

use super::NamekoVersion;
use super::process::{Folder, installed, project, run};

/// Runs a script of Python's with the clients' virtual environment; returns the JSON it prints.
pub async fn python(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new(installed("python/bin/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    script_output(command, script, arguments).await
}

/// A call as Nameko's client makes it: service, method, args, kwargs.
pub type NamekoCall<'a> = (&'a str, &'a str, Value, Value);

/// Makes calls with the client of a generation of Nameko, one after the other: a result or what was
/// raised, for each.
pub async fn nameko(version: NamekoVersion, url: &str, calls: &[NamekoCall<'_>]) -> Vec<Value> {
    nameko_with(version, url, calls, json!({})).await
}

/// The same, with context data.
pub async fn nameko_with(
    version: NamekoVersion,
    url: &str,
    calls: &[NamekoCall<'_>],
    context: Value,
) -> Vec<Value> {
    let calls: Vec<_> = calls
        .iter()
        .map(|(service, method, args, kwargs)| json!([service, method, args, kwargs]))
        .collect();
    let mut command = Command::new(installed(&format!("{}/bin/python", version.venv())));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
    let folder = Folder::new();
    let file = folder.write("calls.json", &Value::from(calls).to_string());
    let arguments = [url, file.to_str().expect("UTF-8"), &context.to_string()];
    let output = script_output(command, "nameko_calls.py", &arguments).await;
    output.as_array().expect("a list").clone()
}

/// Publishes events with the standalone dispatcher of a generation of Nameko.
pub async fn dispatch(version: NamekoVersion, url: &str, event: &str, payloads: &[Value]) {
    let (service, event) = event.rsplit_once('.').expect("SERVICE.EVENT");
    let mut command = Command::new(installed(&format!("{}/bin/python", version.venv())));
    command.env("PYTHONDONTWRITEBYTECODE", "1").env("PYTHONWARNINGS", "ignore");
    let payloads: Vec<_> = payloads.iter().map(ToString::to_string).collect();
    let arguments = [url, service, event].into_iter().chain(payloads.iter().map(String::as_str));
    let arguments: Vec<_> = arguments.collect();
    let count = script_output(command, "nameko_events.py", &arguments).await;
    assert_eq!(count, payloads.len());
}

/// Runs a script of JavaScript's; returns the JSON it prints.
pub async fn node(script: &str, arguments: &[&str]) -> Value {
    node_in("node", script, arguments).await
}

/// The same with the packages in a folder of their own.
pub async fn node_in(folder: &str, script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed(&format!("{folder}/node_modules")));
    script_output(command, script, arguments).await
}

/// The same with the packages that are no services' (`scripts/requirements/clients.txt`).
pub async fn node_client(script: &str, arguments: &[&str]) -> Value {
    let mut command = Command::new("node");
    command.env("NODE_PATH", installed("clients/node_modules"));
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
