//! Web pages in a real browser: what Chromium lets a page send, and what comes of it.

use serde_json::{Value, json};

use crate::harness::clients::node_client;
use crate::harness::{Echo, Gateway, Say, Web, eventually};

const CALL: &str = r#"{"jsonrpc":"2.0","method":"echo.x","params":["p"],"id":1}"#;
const FRAMES: &str = "{\"type\":1,\"requestId\":\"1\",\"moduleId\":\"evil\",\"version\":\"1.0.0\"}\n\
                      {\"type\":3,\"requestId\":\"2\",\"function\":\"shop.buy\"}\n";

/// A site that is not the gateway's.
async fn site() -> (Web, String) {
    let page = |_: &_| Say::status("200 OK", "Content-Type: text/html\r\n", "<body>a page</body>");
    let web = Web::serve(page).await;
    let origin = web.url.trim_end_matches("/api").to_owned();
    (web, origin)
}

/// Everything by which a page could call, but for a hub.
fn attempts(gateway: &str) -> Vec<Value> {
    let (api, bare) = (format!("{gateway}/api"), format!("{gateway}/call/echo/x"));
    let json_type = "application/json";
    let fetch = |what: &str, url: &str, mode: &str, kind: Option<&str>, body: Option<&str>| json!({"what": what, "kind": "fetch", "url": url, "mode": mode, "type": kind, "body": body});
    let mut all = vec![
        fetch("/api, JSON", &api, "cors", Some(json_type), Some(CALL)),
        fetch("/api, plain text", &api, "cors", Some("text/plain"), Some(CALL)),
        fetch("/api, no-cors", &api, "no-cors", Some("text/plain"), Some(CALL)),
        fetch("/call, JSON", &bare, "cors", Some(json_type), Some("[\"p\"]")),
        fetch("/call, no body", &bare, "cors", None, None),
        fetch("/call, no-cors", &bare, "no-cors", None, None),
        json!({"what": "an image", "kind": "image", "url": bare}),
        json!({"what": "a beacon", "kind": "beacon", "url": api, "body": CALL}),
        json!({"what": "a socket", "kind": "socket", "url": api.replace("http:", "ws:")}),
    ];
    for (what, url) in [("a form to /api", &api), ("a form to /call", &bare)] {
        for kind in ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data"] {
            let what = format!("{what}, {kind}");
            all.push(json!({"what": what, "kind": "form", "url": url, "type": kind, "body": CALL}));
        }
    }
    all
}

/// Opens pages, and shows what each attempt gave.
async fn open(hosts: &[&str], pages: Vec<Value>) -> Vec<Value> {
    let plan = json!({"hosts": hosts, "pages": pages}).to_string();
    let out = node_client("browser.js", &[&plan]).await;
    let out = out.as_array().expect("a list").clone();
    for (page, gave) in pages.iter().zip(&out) {
        println!("{}", page["url"]);
        for (what, gave) in gave.as_object().expect("attempts") {
            println!("    {what}: {gave}");
        }
    }
    out
}

/// What a page saw of an answer, if anything: the refusal of its mere reading is not enough.
fn answers(gave: &Value) -> Vec<&str> {
    let gave = gave.as_object().expect("attempts").values();
    gave.filter_map(Value::as_str).filter(|gave| gave.starts_with("200 ")).collect()
}

#[tokio::test]
async fn a_page_of_another_origin_runs_nothing() {
    let echo = Echo::start().await;
    let (_site, origin) = site().await;
    let own = echo.gateway.url();
    let foreign = json!({"url": format!("{origin}/page"), "attempts": attempts(&own)});
    let at_home = json!({"url": format!("{own}/page"), "here": true, "attempts": [
        {"what": "its own", "kind": "fetch", "url": format!("{own}/api"), "type": "application/json",
         "body": CALL},
    ]});
    let gave = open(&[], vec![foreign]).await;
    assert_eq!(answers(&gave[0]), Vec::<&str>::new());
    // Nobody waits for a beacon's answer, so it may still be on its way: what the gateway refused is
    // counted, and each attempt is among it but those that the browser did not send itself.
    eventually("they have come", async || {
        let refused = [("outcome", "access_denied")];
        (echo.gateway.metric("genkan_calls_total", &refused).await >= 12.0).then_some(())
    })
    .await;
    assert_eq!(echo.called(), Vec::<String>::new());
    // The same by a page of the listener's own origin is a call: the attempts would have run.
    let gave = open(&[], vec![at_home]).await;
    assert_eq!(answers(&gave[0]).len(), 1, "{gave:?}");
    assert_eq!(echo.called(), ["x"]);
}

#[tokio::test]
async fn a_page_whose_origin_is_configured_calls() {
    let (_site, origin) = site().await;
    let echo = Echo::with(&format!("[http.cors]\norigins = [\"{origin}\"]\n")).await;
    let page = json!({"url": format!("{origin}/page"), "attempts": attempts(&echo.gateway.url())});
    let gave = open(&[], vec![page]).await;
    for what in ["/api, JSON", "/call, JSON"] {
        let said = gave[0][what].as_str().expect("an answer");
        assert!(said.starts_with("200 ") && said.contains("\"p\""), "{what}: {said}");
    }
    assert!(echo.called().len() >= 2);
    // Another one is not meant, whatever its port or name.
    let (_other, other) = site().await;
    let before = echo.called();
    let page = json!({"url": format!("{other}/page"), "attempts": attempts(&echo.gateway.url())});
    assert_eq!(answers(&open(&[], vec![page]).await[0]), Vec::<&str>::new());
    assert_eq!(echo.called(), before);
}

/// The page's name led to its own server when it was loaded, and leads to this machine now: for the
/// browser the gateway is of the page's own origin.
#[tokio::test]
async fn a_name_that_was_rebound_to_this_machine_is_refused() {
    let echo = Echo::start().await;
    let port = echo.gateway.http.rsplit(':').next().expect("a port").to_owned();
    let at = format!("http://evil.example:{port}");
    let mut tries = attempts(&at);
    for path in ["metrics", "healthz", "hub/modules"] {
        let url = format!("{at}/{path}");
        tries.push(json!({"what": path, "kind": "fetch", "url": url, "mode": "same-origin"}));
    }
    let page = json!({"url": format!("{at}/page"), "here": true, "attempts": tries});
    let gave = open(&["evil.example"], vec![page]).await;
    assert_eq!(answers(&gave[0]), Vec::<&str>::new());
    let said = gave[0]["/api, JSON"].as_str().expect("an answer");
    assert!(said.starts_with("403 "), "it came through to the gateway: {said}");
    assert_eq!(echo.called(), Vec::<String>::new());
}

#[tokio::test]
async fn a_page_does_not_speak_to_the_hub() {
    let gateway = Gateway::start(crate::hub::HUB).await;
    let mut shop = crate::hub::Peer::module(&gateway, "shop", &["buy"]).await;
    let at = crate::hub::address(&gateway).await;
    let (_site, origin) = site().await;
    let hub = format!("http://{at}/");
    let plain = json!({"what": "plain text", "kind": "fetch", "url": hub, "mode": "no-cors",
                       "type": "text/plain", "body": FRAMES});
    let form = json!({"what": "a form", "kind": "form", "url": hub, "type": "text/plain",
                      "body": FRAMES});
    let beacon = json!({"what": "a beacon", "kind": "beacon", "url": hub, "body": FRAMES});
    let socket = json!({"what": "a socket", "kind": "socket", "url": format!("ws://{at}/")});
    let image = json!({"what": "an image", "kind": "image", "url": hub});
    let tries = json!([plain, form, beacon, socket, image]);
    let page = |url: String, here: bool| json!({"url": url, "here": here, "attempts": tries});
    let evil = format!("http://evil.example:{}/page", at.rsplit(':').next().expect("a port"));
    let pages = vec![page(format!("{origin}/page"), false), page(evil, true)];
    open(&["evil.example"], pages).await;
    let strangers = [("reason", "no_module")];
    gateway.wait_for_metric("genkan_hub_disconnects_total", &strangers, 8.0).await;
    gateway.wait_for_modules(1).await;
    assert_eq!(gateway.logged("module registered").len(), 1);
    shop.is_silent().await;
}
