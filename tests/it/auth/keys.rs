//! API keys: who has one comes in, and who does not learns no more than that.

use serde_json::json;

use super::{Guarded, new_key, rpc};
use crate::harness::as_fault;
use crate::harness::gateway::genkan;
use crate::harness::process::run;
use crate::harness::websocket::WebSocket;

const ALLOW: &str = "allow = [\"key:web\"]";

#[tokio::test]
async fn whoever_sends_a_key_that_the_row_allows_comes_in() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let bearer = format!("Bearer {key}");
    for header in [("Authorization", bearer.as_str()), ("X-API-Key", &key), ("x-api-key", &key)] {
        assert_eq!(guarded.status(&[header]).await, 200, "{header:?}");
        let answer = guarded.gateway.post("/api", &[header], rpc("echo.x")).await.json();
        assert_eq!(answer["result"], 1, "{answer}");
        let service = rpc("x");
        let answer = guarded.gateway.post("/api/echo", &[header], service).await.json();
        assert_eq!(answer["result"], 1, "{answer}");
    }
    assert_eq!(guarded.calls(), 9);
    assert!(!guarded.gateway.log_text().contains(&key));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_shows_the_key_that_is_in_the_environment() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let url = guarded.gateway.url();
    let call = |token: &str, more: &[&str]| {
        let mut command = genkan();
        command.args(["call", "--gateway", &url]).args(more).args(["echo", "x", "1"]);
        command.env("GENKAN_TOKEN", token);
        tokio::task::block_in_place(|| run(&mut command))
    };
    let (status, out, err) = call(&key, &["-v"]);
    assert_eq!((status, out.trim()), (0, "1"), "{err}");
    assert!(!err.contains(&key), "{err}");
    assert_eq!(call("", &[]).0, 1);
    let (status, _, err) = call("a\u{7f}b", &[]);
    assert_eq!(status, 2, "{err}");
    assert!(err.contains("GENKAN_TOKEN"), "{err}");
    // A file shows it to nobody who lists processes, and goes before the environment.
    let folder = crate::harness::process::Folder::new();
    let file = folder.write("key", &format!("{key}\n"));
    let named = ["--token-file", file.to_str().expect("UTF-8")];
    let (status, out, err) = call("wrong", &[&named[..], &["-v"]].concat());
    assert_eq!((status, out.trim()), (0, "1"), "{err}");
    assert!(!err.contains(&key), "{err}");
    let twice = call("", &[&named[..], &["-H", "X-API-Key: x"]].concat());
    assert!(twice.0 == 2 && twice.2.contains("one of them is enough"), "{}", twice.2);
    let nowhere = call("", &["--token-file", "/nowhere/key"]);
    assert!(nowhere.0 == 2 && nowhere.2.contains("/nowhere/key"), "{}", nowhere.2);
    // What is written goes before it.
    let header = format!("X-API-Key: {key}");
    assert_eq!(call("wrong", &["-H", &header]).0, 0);
}

#[tokio::test]
async fn whoever_nobody_knows_gets_a_401_and_a_challenge_and_nothing_runs() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let none = guarded.gateway.post("/call/echo/x", &[], "[1]").await;
    assert_eq!(none.status, 401);
    assert_eq!(none.header("www-authenticate"), Some("Bearer realm=\"genkan\""));
    assert_eq!(
        (&none.json()["kind"], &none.json()["status"]),
        (&json!("access_denied"), &json!(401))
    );
    let invalid = Some("Bearer realm=\"genkan\", error=\"invalid_token\"");
    let (long, twice) = ("x".repeat(20_000), format!("Bearer {key}"));
    let blank = format!("{} {}", &key[..10], &key[10..]);
    let blank_bearer = format!("Bearer {blank}");
    let cut = &key[..key.len() - 1];
    let bad: [&[(&str, &str)]; 7] = [
        &[("X-API-Key", "wrong")],
        &[("X-API-Key", cut)],
        &[("X-API-Key", &blank)],
        &[("Authorization", &blank_bearer)],
        &[("X-API-Key", &long)],
        &[("X-API-Key", &key), ("Authorization", &twice)],
        &[("Authorization", "Bearer")],
    ];
    for headers in bad {
        let refused = guarded.gateway.post("/call/echo/x", headers, "[1]").await;
        assert_eq!(refused.status, 401, "{refused:?}");
        assert_eq!(refused.header("www-authenticate"), invalid, "{refused:?}");
        let fault = guarded.gateway.post("/api", headers, rpc("echo.x")).await;
        assert_eq!(fault.status, 200, "{fault:?}");
        let fault = as_fault(&fault.json());
        fault.is("access_denied", "not_sent");
        assert_eq!(fault.code, -32001);
        assert!(!fault.message.contains("web"), "it tells of no key that there is: {fault:?}");
    }
    // What is no key and no token is a service's own, or nobody's.
    assert_eq!(guarded.status(&[("Authorization", "Basic dTpw")]).await, 401);
    assert_eq!(guarded.calls(), 0);
    let denied =
        guarded.gateway.metric("genkan_calls_total", &[("outcome", "access_denied")]).await;
    assert!(denied >= 15.0, "{denied}");
}

#[tokio::test]
async fn whoever_is_known_and_not_allowed_gets_a_403() {
    let (key, lines) = new_key(&["other"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let header = [("X-API-Key", key.as_str())];
    let refused = guarded.gateway.post("/call/echo/x", &header, "[1]").await;
    assert_eq!((refused.status, refused.header("www-authenticate")), (403, None));
    let detail = refused.json()["detail"].as_str().expect("a text").to_owned();
    assert!(detail.contains("`key:other` may not call `echo.x`"), "{detail}");
    // A row that names nobody is closed, and so is what no row matches.
    for (path, headers, status) in [
        ("/call/closed/x", &header[..], 403),
        ("/call/closed/x", &[], 401),
        ("/call/nobody/x", &header[..], 403),
        ("/call/nobody/x", &[], 401),
    ] {
        assert_eq!(guarded.gateway.post(path, headers, "[1]").await.status, status, "{path}");
    }
    assert_eq!(guarded.calls(), 0);
}

#[tokio::test]
async fn a_row_for_any_takes_whoever_comes() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, "allow = [\"any\"]").await;
    for headers in [&[][..], &[("X-API-Key", "wrong")], &[("X-API-Key", key.as_str())]] {
        assert_eq!(guarded.status(headers).await, 200);
    }
}

#[tokio::test]
async fn a_key_ends_and_is_good_for_some_calls_alone() {
    let (late, mut lines) = new_key(&["web"]);
    lines.push_str("expires = 2020-01-01\n");
    let (some, more) = new_key(&["some", "--route", "echo.x", "--expires", "2999-12-31"]);
    lines.push_str(&more);
    let guarded = Guarded::start(&lines, "allow = [\"key:*\"]").await;
    let refused = guarded.gateway.post("/call/echo/x", &[("X-API-Key", &late)], "[1]").await;
    assert_eq!(refused.status, 401);
    assert!(refused.json()["detail"].as_str().is_some_and(|text| text.contains("has expired")));
    let counted = [("reason", "expired")];
    let gateway = &guarded.gateway;
    assert_eq!(gateway.metric("genkan_credentials_refused_total", &counted).await, 1.0);
    let header = [("X-API-Key", some.as_str())];
    assert_eq!(guarded.status(&header).await, 200);
    assert_eq!(guarded.gateway.post("/call/echo/y", &header, "[1]").await.status, 403);
    // Where everybody may, it still is.
    let mut guarded = guarded;
    guarded.change(&lines, "allow = [\"any\"]").await;
    assert_eq!(guarded.status(&header).await, 200);
    assert_eq!(guarded.gateway.post("/call/echo/y", &header, "[1]").await.status, 403);
    assert_eq!(guarded.gateway.post("/call/echo/y", &[], "[1]").await.status, 200);
}

#[tokio::test]
async fn each_call_of_a_batch_is_told_by_its_own_id() {
    let (key, lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let batch = r#"[{"jsonrpc":"2.0","method":"echo.x","id":"a"},
        {"jsonrpc":"2.0","method":"closed.x","id":"b"},{"jsonrpc":"2.0","method":"echo.note"}]"#;
    let answers = guarded.gateway.post("/api", &[("X-API-Key", &key)], batch).await.json();
    assert_eq!((&answers[0]["id"], answers[0].get("error")), (&json!("a"), None), "{answers}");
    assert_eq!(answers[1]["error"]["code"], -32001, "{answers}");
    let answers = guarded.gateway.post("/api", &[], batch).await.json();
    for (index, id) in ["a", "b"].into_iter().enumerate() {
        assert_eq!(answers[index]["id"], id);
        assert_eq!(answers[index]["error"]["data"]["kind"], "access_denied", "{answers}");
    }
}

#[tokio::test]
async fn a_key_that_is_taken_out_is_good_no_more_on_open_connections_neither() {
    let ((web, lines), (other, more)) = (new_key(&["web"]), new_key(&["web2"]));
    let allow = "allow = [\"key:web*\"]";
    let mut guarded = Guarded::start(&format!("{lines}{more}"), allow).await;
    let address = guarded.gateway.http.clone();
    let open = |key: String| {
        let address = address.clone();
        async move { WebSocket::open_with(&address, "/api", &[("X-API-Key", &key)]).await }
    };
    let (mut goes, mut stays) = (open(web.clone()).await, open(other.clone()).await);
    for socket in [&mut goes, &mut stays] {
        assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    }
    guarded.change(&more, allow).await;
    assert_eq!(guarded.status(&[("X-API-Key", &web)]).await, 401);
    assert_eq!(guarded.status(&[("X-API-Key", &other)]).await, 200);
    as_fault(&goes.ask(rpc("echo.x")).await).is("access_denied", "not_sent");
    assert_eq!(stays.ask(rpc("echo.x")).await["result"], 1);
}

#[tokio::test]
async fn a_service_learns_who_calls_and_not_what_callers_say() {
    let (key, mut lines) = new_key(&["web"]);
    let guarded = Guarded::start(&lines, ALLOW).await;
    let seen = |guarded: &Guarded| guarded.echo.requests.last().headers.get("X-User-Id").cloned();
    let headers = [("X-API-Key", key.as_str()), ("X-User-Id", "root")];
    assert_eq!(guarded.status(&headers).await, 200);
    assert_eq!(seen(&guarded).as_deref(), Some("key:web"));
    assert_eq!(guarded.echo.requests.last().headers.get("X-API-Key"), None);
    let mut guarded = guarded;
    lines.push_str("user_id = \"7\"\n");
    guarded.change(&lines, "allow = [\"any\"]").await;
    assert_eq!(guarded.status(&headers).await, 200);
    assert_eq!(seen(&guarded).as_deref(), Some("7"));
    assert_eq!(guarded.status(&[("X-User-Id", "root")]).await, 200);
    assert_eq!(seen(&guarded), None);
}

#[tokio::test]
async fn a_service_is_not_told_who_is_not_known_any_more() {
    let ((web, lines), (other, more)) = (new_key(&["web"]), new_key(&["other"]));
    let (late, old) = new_key(&["old"]);
    let allow = "allow = [\"any\"]\nrate = \"3/d\"";
    let kept = format!("{more}{old}expires = 2020-01-01\n");
    let mut guarded = Guarded::start(&format!("{lines}{kept}"), allow).await;
    let seen = |guarded: &Guarded| guarded.echo.requests.last().headers.get("X-User-Id").cloned();
    let address = guarded.gateway.http.clone();
    let open = |key: String| {
        let address = address.clone();
        async move { WebSocket::open_with(&address, "/api", &[("X-API-Key", &key)]).await }
    };
    let (mut goes, mut stays) = (open(web).await, open(other).await);
    assert_eq!(goes.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(seen(&guarded).as_deref(), Some("key:web"));
    guarded.change(&kept, allow).await;
    assert_eq!(goes.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(seen(&guarded), None, "its key is gone");
    assert_eq!(stays.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(seen(&guarded).as_deref(), Some("key:other"));
    assert_eq!(guarded.status(&[("X-API-Key", &late)]).await, 200);
    assert_eq!(seen(&guarded), None, "its key has expired");
    assert_eq!(open(late.clone()).await.ask(rpc("echo.x")).await["result"], 1);
    // All of them are held to the limit of their address.
    assert_eq!(guarded.status(&[("X-API-Key", &late)]).await, 429);
    as_fault(&goes.ask(rpc("echo.x")).await).is("overloaded", "not_sent");
    assert_eq!(stays.ask(rpc("echo.x")).await["result"], 1);
}

#[tokio::test]
async fn a_key_that_is_edited_is_in_force_as_it_is_now_on_open_connections_too() {
    let (key, lines) = new_key(&["web"]);
    let allow = "allow = [\"key:web\"]";
    let mut guarded = Guarded::start(&lines, allow).await;
    let address = guarded.gateway.http.clone();
    let mut socket = WebSocket::open_with(&address, "/api", &[("X-API-Key", &key)]).await;
    let seen = |guarded: &Guarded| guarded.echo.requests.last().headers.get("X-User-Id").cloned();
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(seen(&guarded).as_deref(), Some("key:web"));
    guarded.change(&format!("{lines}user_id = \"7\"\nexpires = 2999-12-31\n"), allow).await;
    assert_eq!(socket.ask(rpc("echo.x")).await["result"], 1);
    assert_eq!(seen(&guarded).as_deref(), Some("7"));
    guarded.change(&format!("{lines}expires = 2020-01-01\n"), allow).await;
    let fault = as_fault(&socket.ask(rpc("echo.x")).await);
    fault.is("access_denied", "not_sent");
    assert!(fault.message.contains("has expired"), "{}", fault.message);
}
