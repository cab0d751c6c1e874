//! `genkan registry`, and the commands that find a service by a registry, piped and on a terminal.

use std::process::Command;

use serde_json::{Value, json};

use super::{config, in_state, named, ping};
use crate::harness::gateway::{GENKAN, genkan};
use crate::harness::process::{free_port, program, run};
use crate::harness::{Asked, Gateway, Web, eventually};

async fn output(mut command: Command) -> (i32, String, String) {
    tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic")
}

async fn piped(arguments: &[&str]) -> (i32, String, String) {
    let mut command = genkan();
    command.args(arguments);
    output(command).await
}

/// The same in a pseudo-terminal, which gets standard output and error as one.
async fn on_a_terminal(arguments: &[&str]) -> (i32, String) {
    let quoted = arguments.iter().map(|argument| format!("'{argument}'"));
    let line = quoted.collect::<Vec<_>>().join(" ");
    let mut command = Command::new(program("script", &[]));
    command.args(["-qec", &format!("'{GENKAN}' {line}"), "/dev/null"]);
    command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
    let (status, out, _) = output(command).await;
    (status, out)
}

async fn world() -> (Gateway, Web) {
    let web = Web::serve(|asked: &Asked| match asked.method().as_str() {
        "sum" => asked.result(&asked.json()["params"].to_string()),
        "bad" => asked.error(r#"{"code":-32000,"message":"no luck"}"#),
        _ => named("x")(asked),
    })
    .await;
    let gateway = Gateway::start(&config("workers.*", "")).await;
    ping(&gateway, "workers.one", &web.url).await;
    in_state(&gateway, "workers.one", "in_service").await;
    (gateway, web)
}

#[tokio::test]
async fn who_has_announced_himself() {
    let (gateway, web) = world().await;
    let nobody = format!("http://127.0.0.1:{}/api", free_port());
    ping(&gateway, "workers.two", &nobody).await;
    eventually("it was asked", async || {
        super::shown(&gateway, "workers.two").await.filter(|it| it.get("why").is_some())
    })
    .await;
    let admin = format!("http://{}", gateway.admin);
    let (status, out, err) = piped(&["registry", "--admin", &admin]).await;
    assert_eq!(status, 0, "{err}");
    let listed: Value = serde_json::from_str(&out).expect("plain JSON when piped");
    assert_eq!(listed["allow"], json!(["workers.*"]));
    let states: Vec<_> =
        listed["services"].as_array().unwrap().iter().map(|it| &it["state"]).collect();
    assert_eq!(states, [&json!("in_service"), &json!("unproven")], "{out}");
    let (status, shown) = on_a_terminal(&["registry", "--admin", &admin]).await;
    assert_eq!(status, 0, "{shown}");
    for words in
        ["SERVICE", "workers.one", &web.url, "in service", "nobody listens there", "\u{1b}["]
    {
        assert!(shown.contains(words), "{words}: {shown}");
    }
    assert!(serde_json::from_str::<Value>(&shown).is_err(), "a table: {shown}");
    let (_, shown) = on_a_terminal(&["registry", "--json", "--admin", &admin]).await;
    assert!(serde_json::from_str::<Value>(shown.trim()).is_ok(), "{shown}");
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let (status, _, err) = piped(&["registry", "--admin", &nowhere]).await;
    assert_eq!(status, 3, "{err}");
    let (status, _, err) = piped(&["registry", "--admin", &gateway.url()]).await;
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("no list of services"), "{err}");
}

#[tokio::test]
async fn calls_by_a_registry() {
    let (gateway, web) = world().await;
    let url = gateway.url();
    let call = ["call", "--registry", &url, "workers.*", "sum", "a=1", "b:=2"];
    let (status, out, err) = piped(&call).await;
    assert_eq!((status, out.trim()), (0, r#"{"a":"1","b":2}"#), "{err}");
    assert!(err.contains("look-up ") && err.contains("call ") && err.contains(&web.url), "{err}");
    let (status, shown) = on_a_terminal(&call).await;
    assert_eq!(status, 0, "{shown}");
    assert!(shown.contains("\u{1b}[") && shown.contains("look-up "), "{shown}");
    for (arguments, expected, words) in [
        (&["call", "-r", &url, "workers.*", "bad"][..], 1, "no luck"),
        (&["call", "-r", &url, "nobody.*", "sum"], 1, "knows no service that matches"),
        (&["call", "-r", &url, "workers.*", "sum", "a:={"], 2, "a:={"),
        (&["call", "-r", "http://127.0.0.1:1", "workers.*", "sum"], 3, "127.0.0.1:1"),
        (&["call", "-r", &url, "-g", &url, "workers.*", "sum"], 2, "--gateway"),
        (&["notify", "-r", &url, "nobody.*", "sum"], 1, "knows no service that matches"),
    ] {
        let (status, out, err) = piped(arguments).await;
        assert_eq!(status, expected, "{arguments:?} {out}{err}");
        assert!(format!("{out}{err}").contains(words), "{arguments:?} {out}{err}");
        let (status, shown) = on_a_terminal(arguments).await;
        assert_eq!(status, expected, "{arguments:?} {shown}");
    }
    let (status, out, err) = piped(&["notify", "-r", &url, "workers.?ne", "sum", "1"]).await;
    assert_eq!((status, out.as_str()), (0, ""), "{err}");
    assert!(err.contains("look-up ") && err.contains("sent "), "{err}");
    let last = web.last().json();
    assert_eq!(
        (&last["method"], &last["params"], last.get("id")),
        (&json!("sum"), &json!([1]), None)
    );
    let (status, out, err) = piped(&["call-raw", &web.url, "sum", "a=1"]).await;
    assert_eq!((status, out.trim()), (0, r#"{"a":"1"}"#), "{err}");
    assert!(err.contains("call "), "{err}");
}

#[tokio::test]
async fn explain_and_check_tell_who_answers() {
    let folder = crate::harness::process::Folder::new();
    let row = |pattern: &str| {
        format!(
            "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:1/\"\n\
             [[routes]]\nmatch = \"{pattern}\"\nupstream = \"web\"\nservice = \"hello\"\n"
        )
    };
    let told = async |pattern: &str, arguments: &[&str]| {
        folder.write("genkan.toml", &row(pattern));
        let mut command = genkan();
        command.args(arguments).current_dir(folder.path());
        output(command).await
    };
    let (_, out, _) = told("*", &["explain", "ping"]).await;
    assert_eq!(
        serde_json::from_str::<Value>(&out).unwrap(),
        json!({"name": "ping", "answered_by": "registry"})
    );
    let (_, out, _) = told("ping", &["explain", "ping"]).await;
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap()["route"], "ping");
    let (status, out, _) = told("*", &["check"]).await;
    assert_eq!(status, 0, "{out}");
    assert!(out.contains("does not get `ping`") && out.contains("locate_service"), "{out}");
    let (_, out, _) = told("ping", &["check"]).await;
    assert!(out.contains("takes `ping` from the registry"), "{out}");
    let announced = "[upstreams.a]\nprotocol = \"jsonrpc\"\nregistry = \"a.*\"\n\
                     [[routes]]\nmatch = \"a.*\"\nupstream = \"a\"\n";
    folder.write("genkan.toml", announced);
    let mut command = genkan();
    command.args(["explain", "a.b.c", "1"]).current_dir(folder.path());
    let (status, out, err) = output(command).await;
    assert_eq!(status, 0, "{err}");
    let told: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(told["sent"]["address"]["instances"], "what announces itself as a.*", "{out}");
}
