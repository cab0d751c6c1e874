//! Calls that work, and what the service sees of them.

use std::process::Command;

use serde_json::{Value, json};

use super::config;
use crate::harness::gateway::genkan;
use crate::harness::process::{Folder, installed, project, run};
use crate::harness::{Asked, Gateway, GemstoneService, NodeService, Proxy, Say, Web, until};

#[tokio::test]
async fn a_gemstone_service() {
    let service = GemstoneService::start();
    let gateway = Gateway::ready(&config(&service.url(), "")).await;
    assert_eq!(gateway.result("hello.say_hello", json!(["bob"])).await, "hello bob");
    assert_eq!(gateway.result("hello.say_hello", json!({"name": "é"})).await, "hello é");
    gateway.notify("hello.say_hello", json!(["bob"])).await;

    let failed = gateway.rpc("hello.fail", Value::Null).await;
    let expected = json!({
        "code": -32603, "message": "Internal error",
        "data": {"class": "ValueError", "info": "bad 1",
                 "kind": "application", "outcome": "executed", "retryable": false},
    });
    assert_eq!(failed["error"], expected);
    let fault = gateway.fault("hello.no", Value::Null).await;
    assert_eq!(fault.is("unknown_method", "unknown").code, -32601);
    assert_eq!(fault.message, "Method not found");
    let fault = gateway.fault("hello.say_hello", json!([1, 2])).await;
    assert_eq!(fault.is("invalid_params", "unknown").code, -32602);

    let answer = gateway.post("/call/hello/fail", &[], "").await;
    let problem = answer.json();
    assert_eq!(answer.status, 500, "{problem}");
    assert_eq!(
        (&problem["class"], &problem["info"], &problem["detail"]),
        (&json!("ValueError"), &json!("bad 1"), &json!("ValueError: bad 1"))
    );
}

/// A service of Node's most used JSON-RPC library.
#[tokio::test]
async fn a_jayson_service() {
    let folder = Folder::new();
    let script = folder.write(
        "service.js",
        "const jayson = require('jayson');\n\
         const methods = {add: ([a, b], done) => done(null, a + b),\n\
           fail: (params, done) => done({code: 12, message: 'no', data: {why: 'so'}})};\n\
         const server = new jayson.Server(methods).http();\n\
         server.listen(0, '127.0.0.1', () => console.log('ready ' + server.address().port));\n",
    );
    let mut command = Command::new("node");
    command.arg(script).env("NODE_PATH", installed("node/node_modules"));
    let service = NodeService::begin(&command);
    let gateway = Gateway::ready(&config(&format!("http://{}", service.address), "")).await;
    assert_eq!(gateway.result("sums.add", json!([2, 3])).await, 5);
    let fault = gateway.fault("sums.fail", json!([])).await;
    fault.is("application", "executed");
    assert_eq!((fault.code, fault.message.as_str(), &fault.data["why"]), (12, "no", &json!("so")));
    gateway.fault("sums.none", json!([])).await.is("unknown_method", "unknown");
    gateway.notify("sums.add", json!([2, 3])).await;
}

/// One of Python's, which takes one connection after the other.
#[tokio::test]
async fn a_jsonrpclib_service() {
    let folder = Folder::new();
    let script = folder.write(
        "service.py",
        "from jsonrpclib.SimpleJSONRPCServer import SimpleJSONRPCServer\n\
         server = SimpleJSONRPCServer(('127.0.0.1', 0), logRequests=False)\n\
         server.register_function(lambda *a, **k: [list(a), k], 'echo')\n\
         server.register_function(lambda: 1 / 0, 'fail')\n\
         print('ready', server.server_address[1], flush=True)\n\
         server.serve_forever()\n",
    );
    let mut command = Command::new(installed("python/bin/python"));
    command.arg(script);
    let service = NodeService::begin(&command);
    let gateway = Gateway::ready(&config(&format!("http://{}/", service.address), "")).await;
    for turn in 0..20 {
        let result = gateway.result("py.echo", json!([turn, "é"])).await;
        assert_eq!(result, json!([[turn, "é"], {}]));
    }
    let named = gateway.result("py.echo", json!({"a": 1})).await;
    assert_eq!(named, json!([[], {"a": 1}]));
    gateway.fault("py.fail", json!([])).await.is("application", "executed");
    gateway.notify("py.echo", json!([1])).await;
}

#[tokio::test]
async fn payloads_keep_their_bytes_both_ways() {
    let echo = |asked: &Asked| {
        let params = asked.body.split_once(r#""params":"#).expect("params").1;
        let params = params.rsplit_once(",\"id\":").expect("an id").0;
        asked.result(params)
    };
    let service = Web::serve(echo).await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    let long = format!("[\"{}\"]", "é".repeat(150_000));
    for params in [
        "[1180591620717411303424]",
        r#"{"b":1e400,"a":1.10,"b":-0}"#,
        r#"["\ud800\u00e9","é"]"#,
        r#"[ 1 ,{ "x" : null } ]"#,
        r#"{"jsonrpc":"1.0","id":9,"error":{"code":1}}"#,
        &long,
    ] {
        assert_eq!(gateway.raw("a.f", params).await, params, "{:.80}", params);
    }
}

#[tokio::test]
async fn what_the_service_sees() {
    let service = Web::serve(|asked| asked.result("1")).await;
    let folder = Folder::new();
    let file = folder.write("token", "from-a-file\n");
    let keys = format!(
        "[upstreams.web.headers]\nX-Api-Token = {{ file = \"{}\" }}\nX-Tenant = \"tokyo\"",
        file.display()
    );
    let gateway = Gateway::ready(&config(&service.url, &keys)).await;
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    let headers = [
        ("traceparent", trace),
        ("tracestate", "a=b"),
        ("x-request-id", "r-1"),
        ("accept-language", "de"),
        ("user-agent", "curl/8"),
        ("x-request-timeout", "2s"),
        ("authorization", "Bearer geheim"),
        ("cookie", "a=geheim"),
    ];
    let body = r#"{"jsonrpc":"2.0","method":"a.b.f","id":"x"}"#;
    gateway.post("/api", &headers, body).await;
    let asked = service.last();
    assert_eq!(asked.line, "POST /api HTTP/1.1");
    for (name, value) in [
        ("host", Some(service.address())),
        ("content-type", Some("application/json")),
        ("accept", Some("application/json")),
        ("traceparent", Some(trace)),
        ("tracestate", Some("a=b")),
        ("x-request-id", Some("r-1")),
        ("accept-language", Some("de")),
        ("user-agent", Some("curl/8")),
        ("genkan-hops", Some("1")),
        ("x-api-token", Some("from-a-file")),
        ("x-tenant", Some("tokyo")),
        ("authorization", None),
        ("cookie", None),
    ] {
        assert_eq!(asked.header(name), value, "{name}: {asked:?}");
    }
    let left = asked.header("x-request-timeout").expect("what is left of the deadline");
    let left: u32 = left.strip_suffix("ms").expect("milliseconds").parse().expect("a number");
    assert!((1..=2000).contains(&left), "{left}");
    assert_eq!(asked.json(), json!({"jsonrpc": "2.0", "method": "f", "id": 1}));
    gateway.result("a.f", json!([1])).await;
    assert_eq!(
        service.last().json(),
        json!({"jsonrpc": "2.0", "method": "f", "params": [1], "id": 2})
    );
    gateway.notify("a.f", json!({"a": 1})).await;
    let notification = json!({"jsonrpc": "2.0", "method": "f", "params": {"a": 1}});
    until("a notification has no id", async || service.last().json() == notification).await;

    // One that is rotated is in force without a restart.
    std::fs::write(&file, "another\n").expect("the file");
    until("the new token is sent", async || {
        gateway.result("a.f", json!([])).await;
        service.last().header("x-api-token") == Some("another")
    })
    .await;
    assert!(!gateway.log_text().contains("another") && !gateway.log_text().contains("from-a-file"));
}

#[tokio::test]
async fn headers_of_callers_go_on_where_the_upstream_names_them() {
    let service = Web::serve(|asked| asked.result("1")).await;
    let keys = "forward_headers = [\"Cookie\", \"X-Tenant\"]\n";
    let gateway = Gateway::ready(&config(&service.url, keys)).await;
    let headers = [("cookie", "a=1"), ("cookie", "b=2"), ("x-tenant", "tokyo"), ("x-other", "no")];
    let body = r#"{"jsonrpc":"2.0","method":"a.f","id":1}"#;
    for (path, body) in [("/api", body), ("/call/a/f", "[]")] {
        gateway.post(path, &headers, body).await;
        let asked = service.last();
        let seen = ["cookie", "x-tenant", "x-other"].map(|name| asked.header(name));
        assert_eq!(seen, [Some("a=1; b=2"), Some("tokyo"), None], "{path}");
    }
    gateway.result("a.f", json!([])).await;
    assert_eq!(service.last().header("x-tenant"), None, "it was that caller's");
    // Another table wants none.
    gateway.write_config(&config(&service.url, ""));
    gateway.hang_up();
    gateway.wait_for_log(0, "reloaded").await;
    gateway.post("/api", &headers, body).await;
    assert_eq!(service.last().header("x-tenant"), None);
}

#[tokio::test]
async fn a_qualified_method_has_its_services_name() {
    let service = Web::serve(|asked| asked.result("1")).await;
    let gateway = Gateway::ready(&config(&service.url, "qualified = true")).await;
    gateway.result("arith.sub.f", json!([])).await;
    assert_eq!(service.last().method(), "arith.sub.f");
}

#[tokio::test]
async fn a_batch_is_sent_as_single_calls() {
    let service = Web::serve(|asked| asked.result("1")).await;
    let gateway = Gateway::ready(&config(&service.url, "")).await;
    let calls: Vec<_> =
        (0..20).map(|id| json!({"jsonrpc": "2.0", "method": "a.f", "id": id})).collect();
    let answers = gateway.api(json!(calls).to_string()).await;
    assert_eq!(answers.as_array().map(Vec::len), Some(20));
    let mut ids: Vec<_> = service.asked().iter().map(|asked| asked.json()["id"].as_u64()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=20).map(Some).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_gateway_behind_a_gateway() {
    let service = Web::serve(|asked| match asked.method().as_str() {
        "fail" => asked.error(r#"{"code":-7,"message":"no","data":[1]}"#),
        _ => Say::status("503 Down", "", ""),
    })
    .await;
    let keys = "[[routes]]\nmatch = \"gone.*\"\nupstream = \"none\"\n\
                [upstreams.none]\nprotocol = \"jsonrpc\"\nurl = \"http://127.0.0.1:9/\"\n";
    let inner = format!("{keys}{}", config(&service.url, ""));
    let inner = Gateway::start(&inner).await;
    let url = format!("{}/api", inner.url());
    let outer = Gateway::ready(&config(&url, "qualified = true")).await;
    for method in ["gone.f", "a.down", "a.fail"] {
        let (near, far) = (inner.rpc(method, json!([])).await, outer.rpc(method, json!([])).await);
        assert_eq!(near["error"], far["error"], "{method}");
    }
    let problem = outer.post("/call/gone/f", &[], "").await.json();
    assert_eq!(
        (&problem["kind"], &problem["outcome"]),
        (&json!("unavailable"), &json!("not_sent"))
    );
}

#[tokio::test]
async fn a_gateway_that_calls_itself_ends_in_a_fault() {
    let gateway = Gateway::start(&config("http://127.0.0.1:9/", "")).await;
    // By an address that is not in its tables, else it would refuse the file.
    let proxy = Proxy::to(gateway.http.clone()).await;
    let url = format!("http://{}/api", proxy.address());
    gateway.write_config(&config(&url, "qualified = true"));
    gateway.wait_until_ready().await;
    let fault = gateway.fault("a.f", json!([])).await;
    assert!(fault.message.contains("gateways"), "{fault:?}");
}

#[test]
fn explain_shows_the_request_without_credentials() {
    let folder = Folder::new();
    let file = folder.write(
        "genkan.toml",
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl = \"https://user:geheim@h.example/api?key=geheim\"\n\
         qualified = true\n[upstreams.web.headers]\nX-Api-Token = \"geheim\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n",
    );
    let mut command = genkan();
    command.args(["explain", "--config"]).arg(file).args(["a.f", "b:=1.10"]);
    command.env("GENKAN__UPSTREAMS__WEB__HEADERS__X_TENANT", "geheim");
    let (status, out, err) = run(&mut command);
    assert_eq!(status, 0, "{err}");
    let sent: Value = serde_json::from_str(&out).expect("JSON");
    let text = sent.to_string();
    assert!(!text.contains("geheim") && !text.contains("Basic"), "{text}");
    for words in [
        "POST /api",
        "https://h.example/api",
        r#"\"method\":\"a.f\",\"params\":{\"b\":1.10},\"id\":1"#,
        "\"x-api-token\"",
        "\"x-tenant\"",
        "\"authorization\"",
        "***",
        "\"host\"",
    ] {
        assert!(text.contains(words), "{words}: {text}");
    }
}

#[test]
fn explain_tells_from_which_file_the_place_comes() {
    let folder = Folder::new();
    let rows = ["web", "rabbit"]
        .map(|name| format!("[[routes]]\nmatch = \"{name}.*\"\nupstream = \"{name}\"\n"));
    let web = folder.write("web.url", "https://user:geheim@h.example/api?key=geheim");
    let rabbit = folder.write("rabbit.url", "amqp://user:geheim@h.example/%2f");
    let file = folder.write(
        "genkan.toml",
        &format!(
            "[upstreams.web]\nprotocol = \"jsonrpc\"\nurl_file = {web:?}\n\
             [upstreams.rabbit]\nprotocol = \"nameko\"\nurl_file = {rabbit:?}\n{}",
            rows.concat()
        ),
    );
    for (call, named) in [("web.f", &web), ("rabbit.f", &rabbit)] {
        let mut command = genkan();
        command.args(["explain", "--config"]).arg(&file).arg(call);
        let (status, out, err) = run(&mut command);
        assert_eq!(status, 0, "{err}");
        let sent: Value = serde_json::from_str(&out).expect("JSON");
        assert_eq!(sent["sent"]["address"]["url_file"], json!(named), "{sent}");
        assert!(sent["upstream_address"].as_str().is_some_and(|at| at.contains("h.example")));
        assert!(!out.contains("geheim"), "{out}");
    }
}

#[test]
fn a_table_that_cannot_work_is_told() {
    let folder = Folder::new();
    let file = folder.write(
        "genkan.toml",
        "[upstreams.web]\nprotocol = \"jsonrpc\"\nurls = [\"ftp://h\", \"http://h/a\", \"http://h/a\"]\n\
         ca_file = \"Cargo.toml\"\nmax_body = \"1MiB\"\n\
         forward_headers = [\"Authorization\", \"Host\", \"X-Forwarded-For\"]\n\
         [upstreams.web.headers]\n\"a b\" = \"x\"\nContent-Length = \"3\"\n\
         [upstreams.none]\nprotocol = \"jsonrpc\"\n\
         [[routes]]\nmatch = \"*\"\nupstream = \"web\"\n",
    );
    let mut command = genkan();
    command.arg("check").arg("--config").arg(file).current_dir(project());
    let (status, out, err) = run(&mut command);
    assert_eq!(status, 1, "{out}{err}");
    for words in [
        "must be a URL that begins with http://",
        "stands there twice",
        "has no effect without https://",
        "unknown key `max_body`",
        "is no name that a header can have",
        "is set by Genkan itself",
        "where `forward_authorization` of [http] says so",
        "Host\\\" is about the caller's own request",
        "X-Forwarded-For\\\" is about the caller's own request",
        "needs `url`",
    ] {
        assert!(out.contains(words), "{words}: {out}{err}");
    }
}
