//! The commands as a shell sees them: output, standard error, exit status.

use std::io::Write;
use std::process::{Command, Stdio};

use serde_json::{Value, json};

use crate::harness::certs::Certs;
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, free_port, program, run};
use crate::harness::{Echo, Gateway, GemstoneService, NodeService, eventually};

async fn output(mut command: Command) -> (i32, String, String) {
    tokio::task::spawn_blocking(move || run(&mut command)).await.expect("no panic")
}

fn call(gateway: &str, arguments: &[&str]) -> Command {
    let mut command = genkan();
    command.args(["call", "--gateway", gateway]).args(arguments);
    command
}

#[tokio::test]
async fn call_prints_the_result_and_exits_with_0() {
    let echo = Echo::start().await;
    for (arguments, result) in [
        (&["echo", "x", "to=world", "n:=7"][..], json!({"to": "world", "n": 7})),
        (&["echo", "x", "1", "[2]", "\"three\""], json!([1, [2], "three"])),
        (&["echo", "x", "list:=[1, 2]"], json!({"list": [1, 2]})),
        (&["echo", "x", "text=7"], json!({"text": "7"})),
        (&["echo", "x"], Value::Null),
    ] {
        let (status, out, err) = output(call(&echo.gateway.url(), arguments)).await;
        assert_eq!(status, 0, "{err}");
        let printed: Value = serde_json::from_str(&out).expect("plain JSON when piped");
        assert_eq!(printed, result, "{arguments:?}");
        assert!(!out.contains('\u{1b}'), "no colour when piped: {out}");
    }
    let (_, out, _) =
        output(call(&echo.gateway.url(), &["echo", "x", "n:=9007199254740993"])).await;
    assert!(out.contains("9007199254740993"), "{out}");
}

#[tokio::test]
async fn timings_go_to_standard_error() {
    let echo = Echo::start().await;
    let (_, out, err) = output(call(&echo.gateway.url(), &["echo", "x", "a=1"])).await;
    assert!(!err.is_empty() && err.contains('s'), "{err}");
    assert_eq!(out.trim().lines().count(), 1, "the result alone: {out}");
    let (_, _, quiet) = output(call(&echo.gateway.url(), &["-q", "echo", "x", "a=1"])).await;
    assert_eq!(quiet, "");
}

#[tokio::test]
async fn params_come_from_standard_input_too() {
    let echo = Echo::start().await;
    let mut command = call(&echo.gateway.url(), &["-q", "echo", "x", "-"]);
    command.stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut child = command.spawn().expect("genkan starts");
    let mut stdin = child.stdin.take().expect("piped");
    stdin.write_all(b"{\"b\": 1.10, \"a\": 2}").expect("it reads");
    drop(stdin);
    let ended = tokio::task::spawn_blocking(move || child.wait_with_output()).await;
    let output = ended.expect("no panic").expect("it ends");
    assert!(output.status.success());
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), r#"{"b": 1.10, "a": 2}"#);
}

#[tokio::test]
async fn a_fault_exits_with_1_wrong_usage_with_2_and_no_connection_with_3() {
    let echo = Echo::start().await;
    let url = echo.gateway.url();
    let (status, out, err) = output(call(&url, &["echo", "fail", "a=1"])).await;
    assert_eq!(status, 1);
    assert!(format!("{out}{err}").contains("mailbox full"), "{out}{err}");
    let (status, out, err) = output(call(&url, &["nobody", "x"])).await;
    assert_eq!(status, 1);
    assert!(format!("{out}{err}").contains("nobody"), "{out}{err}");
    for usage in [&["echo"][..], &["echo", "x", "a=1", "2"], &["echo", "x", "a:={"], &["--bogus"]] {
        let (status, _, err) = output(call(&url, usage)).await;
        assert_eq!(status, 2, "{usage:?}: {err}");
        assert!(!err.is_empty());
    }
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    let (status, _, err) = output(call(&nowhere, &["echo", "x"])).await;
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("127.0.0.1"), "it says what was tried: {err}");
}

#[tokio::test]
async fn a_deadline_can_be_given() {
    let echo = Echo::start().await;
    let (status, out, err) =
        output(call(&echo.gateway.url(), &["--timeout", "300ms", "echo", "never"])).await;
    assert_eq!(status, 1);
    assert!(format!("{out}{err}").contains("300ms"), "{out}{err}");
}

#[tokio::test]
async fn notify_waits_for_nothing_and_exits_with_0() {
    let echo = Echo::start().await;
    let mut command = genkan();
    command.args(["notify", "--gateway", &echo.gateway.url(), "echo", "noted", "n:=1"]);
    let (status, out, err) = output(command).await;
    assert_eq!((status, out.trim()), (0, ""), "{err}");
    eventually("it ran", async || (echo.called() == ["noted"]).then_some(())).await;
    assert_eq!(echo.service.requests.last().body, r#"{"n":1}"#);
    let mut command = genkan();
    let nowhere = format!("http://127.0.0.1:{}", free_port());
    command.args(["notify", "--gateway", &nowhere, "echo", "noted"]);
    assert_eq!(output(command).await.0, 3);
}

#[tokio::test]
async fn call_raw_reaches_a_gemstone_service_directly() {
    let hello = GemstoneService::start();
    let raw = |arguments: &[&str]| {
        let mut command = genkan();
        command.arg("call-raw").arg(hello.url()).args(arguments);
        command
    };
    let (status, out, err) = output(raw(&["say_hello", "name=玄関"])).await;
    assert_eq!(status, 0, "{err}");
    let result: Value = serde_json::from_str(&out).expect("JSON, with the service's own escapes");
    assert_eq!(result, "hello 玄関");
    let (status, out, err) = output(raw(&["fail"])).await;
    assert_eq!(status, 1, "{out}{err}");
    let (status, ..) = output(raw(&["nope"])).await;
    assert_eq!(status, 1);
}

#[tokio::test]
async fn call_raw_reaches_the_gateways_own_addresses() {
    let echo = Echo::start().await;
    let mut command = genkan();
    command.args(["call-raw", &format!("{}/api/echo", echo.gateway.url()), "x", "a=1"]);
    let (status, out, err) = output(command).await;
    assert_eq!((status, out.trim()), (0, r#"{"a":"1"}"#), "{err}");
}

const CONFIG: &str = r#"
[upstreams.rabbit]
protocol = "nameko"
url = "amqp://guest:guest@127.0.0.1:1/%2f"
[upstreams.nats]
protocol = "nats"
servers = ["nats://127.0.0.1:1"]
[[routes]]
match = "orders.create"
upstream = "rabbit"
service = "orders_service"
method = "make"
timeout = "5s"
[[routes]]
match = "orders.*"
upstream = "rabbit"
[[routes]]
match = "mailer.*"
upstream = "nats"
params = ["to", "text"]
[[expose]]
service = "mailer"
on = ["rabbit"]
as = "post"
methods = ["send"]
[[expose]]
service = "orders"
on = ["nats"]
dialect = "nest"
methods = ["list"]
subjects = { sum = '{ "cmd": "sum" }' }
"#;

async fn configured(arguments: &[&str]) -> (i32, String, String) {
    let folder = Folder::new();
    folder.write("genkan.toml", CONFIG);
    let mut command = genkan();
    command.args(arguments).current_dir(folder.path());
    output(command).await
}

#[tokio::test]
async fn routes_lists_the_table_in_its_order() {
    let (status, out, err) = configured(&["routes", "--json"]).await;
    assert_eq!(status, 0, "{err}");
    let rows: Vec<Value> = serde_json::from_str(&out).expect("JSON");
    let matches: Vec<_> = rows.iter().map(|row| row["match"].as_str().unwrap_or("")).collect();
    assert!(matches.starts_with(&["orders.create", "orders.*", "mailer.*"]), "{out}");
    let last = rows.last().expect("the row that is always there");
    assert_eq!((&last["match"], &last["upstream"]), (&json!("*"), &json!("hub")), "{out}");
    assert_eq!((&last["implicit"], &rows[0]["implicit"]), (&json!(true), &json!(false)), "{out}");
    assert_eq!(rows[0]["upstream"], "rabbit");
    assert_eq!(
        (&rows[0]["service"], &rows[0]["timeout"]),
        (&json!("orders_service"), &json!("5s"))
    );
}

#[tokio::test]
async fn explain_tells_where_a_service_is_exposed() {
    let (_, out, _) = configured(&["explain", "--json", "mailer.send", "to=a"]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told["exposed"], json!([{"on": "rabbit", "name": "post.send"}]), "{out}");
    let (_, out, _) = configured(&["explain", "--json", "mailer.list", "to=a"]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(told.get("exposed"), None, "{out}");
    // As its clients write the pattern.
    for (method, name) in [("list", "orders.list"), ("sum", r#"{"cmd":"sum"}"#)] {
        let (_, out, _) = configured(&["explain", "--json", &format!("orders.{method}")]).await;
        let told: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(told["exposed"], json!([{"on": "nats", "name": name}]), "{out}");
    }
}

#[tokio::test]
async fn explain_tells_which_route_wins_and_what_would_be_sent() {
    let (status, out, err) = configured(&["explain", "--json", "orders.create", "id:=7"]).await;
    assert_eq!(status, 0, "{err}");
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&told["route"], &told["row"]), (&json!("orders.create"), &json!(1)), "{out}");
    let sent = &told["sent"];
    assert_eq!(sent["address"]["routing key"], "orders_service.make", "{out}");
    assert_eq!(sent["address"]["exchange"], "nameko-rpc");
    assert_eq!(sent["body"], r#"{"args":[],"kwargs":{"id":7}}"#);
    let (_, out, _) = configured(&["explain", "--json", "orders.list"]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((&told["row"], &told["service"]), (&json!(2), &json!("orders")), "{out}");
    let (status, out, _) =
        configured(&["explain", "--json", "mailer.send", "\"a\"", "\"b\""]).await;
    let told: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!((status, &told["sent"]["address"]["subject"]), (0, &json!("mailer.send")), "{out}");
    assert_eq!(told["sent"]["body"], r#"{"to":"a","text":"b"}"#, "{out}");
}

#[tokio::test]
async fn explain_tells_what_would_be_refused() {
    for (arguments, words) in [
        (&["explain", "nobody.x", "1"][..], "params"),
        (&["explain", "mailer.constructor"], "constructor"),
        (&["explain", "greet"], "no dot"),
        (&["explain", "orders.list", r#"{"__type__":"uuid","__value__":1}"#], "__type__"),
    ] {
        let (status, out, err) = configured(arguments).await;
        assert_eq!(status, 1, "{arguments:?} {out}{err}");
        assert!(format!("{out}{err}").contains(words), "{arguments:?} {out}{err}");
    }
}

#[tokio::test]
async fn a_certificate_that_cannot_be_trusted_is_told_with_its_mend() {
    let certs = Certs::new();
    for (name, mend) in [
        ("server", "--ca FILE names the certificate authority"),
        // What `openssl req -x509` makes without more words: no server may show it.
        ("ca", "-addext basicConstraints=critical,CA:FALSE"),
    ] {
        let file = |end: &str| certs.path(&format!("{name}.{end}"));
        let (cert, key) = (file("pem"), file("key"));
        let tls = format!("[http.tls]\ncert_file = \"{cert}\"\nkey_file = \"{key}\"\n");
        let gateway = Gateway::start(&tls).await;
        let other = if name == "ca" { "ca.pem" } else { "client.pem" };
        let url = format!("https://{}", gateway.http);
        let (status, _, err) = output(call(&url, &["--ca", &certs.path(other), "a", "b"])).await;
        assert_eq!(status, 3, "{err}");
        assert!(err.contains(mend) && !err.contains("OtherError"), "{err}");
    }
}

/// As some editors begin a text; the configuration's may, too.
#[tokio::test]
async fn certificates_may_begin_with_a_byte_order_mark() {
    let certs = Certs::new();
    let path = |name: &str| certs.path(name);
    let gateway = Gateway::start(&format!(
        "[http.tls]\ncert_file = \"{}\"\nkey_file = \"{}\"\nclient_ca_file = \"{}\"\nclient_cert = \"required\"\n",
        path("server.pem"),
        path("server.key"),
        path("ca.pem")
    ))
    .await;
    let (url, ca) = (format!("https://{}", gateway.http), path("marked-ca.pem"));
    let (cert, key) = (path("marked-client.pem"), path("marked-client.key"));
    for name in ["ca.pem", "client.pem", "client.key"] {
        let content = std::fs::read(certs.file(name)).expect("it is there");
        let marked = [b"\xef\xbb\xbf", &content[..]].concat();
        std::fs::write(certs.file(&format!("marked-{name}")), marked).expect("written");
    }
    let files = ["--ca", &ca, "--cert", &cert, "--key", &key, "nobody", "x"];
    let (status, out, err) = output(call(&url, &files)).await;
    assert!(status == 1 && format!("{out}{err}").contains("`cert:client` may not"), "{out}{err}");
    std::fs::write(&ca, "no PEM").expect("written");
    let (status, _, err) = output(call(&url, &files)).await;
    assert_eq!(status, 1, "{err}");
    assert!(err.contains("marked-ca.pem holds no certificate in PEM form"), "{err}");
}

#[tokio::test]
async fn call_raw_speaks_http_2_where_a_service_speaks_nothing_else() {
    let certs = Certs::new();
    let files = [("CERT", certs.path("server.pem")), ("KEY", certs.path("server.key"))];
    let files = files.each_ref().map(|(name, path)| (*name, path.as_str()));
    let run = async |url: String, arguments: &[&str]| {
        let mut command = genkan();
        command.args(["call-raw", "-q", &url, "about"]).args(arguments);
        output(command).await
    };
    let is_2 =
        |out: &str| serde_json::from_str::<Value>(out).is_ok_and(|about| about["http"] == "2.0");
    // Over TLS it is agreed on.
    let secure = NodeService::start("h2", &files);
    let ca = certs.path("ca.pem");
    for arguments in [&["--ca", &ca][..], &["--ca", &ca, "--http2"]] {
        let (status, out, err) = run(format!("https://{}/", secure.address), arguments).await;
        assert!(status == 0 && is_2(&out), "{arguments:?} {out}{err}");
    }
    let plain = NodeService::start("h2c", &[]);
    let url = format!("http://{}/", plain.address);
    let (status, out, err) = run(url.clone(), &["--http2"]).await;
    assert!(status == 0 && is_2(&out), "{out}{err}");
    let (status, _, err) = run(url, &[]).await;
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("speaks HTTP/2 alone, and nothing was called\n  --http2"), "{err}");
    // And one that does not speak it.
    let old = NodeService::start("http", &[]);
    let (status, _, err) = run(format!("http://{}/", old.address), &["--http2"]).await;
    assert_eq!(status, 3, "{err}");
    assert!(err.contains("does not speak HTTP/2, and nothing was called"), "{err}");
}

#[tokio::test]
async fn completions_for_shells() {
    for shell in ["bash", "zsh", "fish"] {
        let mut command = genkan();
        command.args(["completions", shell]);
        let (status, out, err) = output(command).await;
        assert_eq!(status, 0, "{err}");
        assert!(out.contains("call-raw") && out.contains("explain"), "{shell}");
    }
    let mut command = genkan();
    command.args(["completions", "bash"]);
    let (_, script, _) = output(command).await;
    let folder = Folder::new();
    let file = folder.write("completions.bash", &script);
    let mut bash = Command::new(program("bash", &[]));
    bash.arg("-n").arg(file);
    assert_eq!(output(bash).await.0, 0, "bash reads it");
    let mut command = genkan();
    command.args(["completions", "tcl"]);
    assert_eq!(output(command).await.0, 2);
}

#[tokio::test]
async fn help_and_version_and_mistakes() {
    let (status, out, _) = configured(&["--help"]).await;
    assert_eq!(status, 0);
    for command in
        ["serve", "check", "routes", "explain", "call", "call-raw", "notify", "completions"]
    {
        assert!(out.contains(command), "{command} in\n{out}");
        let (status, help, _) = configured(&[command, "--help"]).await;
        assert_eq!(status, 0);
        assert!(help.contains("Usage:"), "{help}");
    }
    let (_, help, _) = configured(&["modules", "--help"]).await;
    assert!(help.contains("[default: 10s]") && !help.contains("route allows"), "{help}");
    let (status, out, _) = configured(&["--version"]).await;
    assert_eq!((status, out.trim()), (0, concat!("genkan ", env!("CARGO_PKG_VERSION"))));
    let (status, _, err) = configured(&["chekc"]).await;
    assert_eq!(status, 2);
    assert!(err.contains("check"), "{err}");
}
